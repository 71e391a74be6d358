//! The mapping file: where to listen, and rules from an alert's labels to what they blame.
//!
//! Read like scenarios: strict, and all that is wrong is said at once with line and caret.

use std::net::SocketAddr;
use std::path::Path;

use gauntlet_detector::diagnosis::Mechanism;

use super::matcher::Matcher;
use super::template::Template;
use crate::app::file::API_VERSION;
use crate::scenario::problem::Problems;
use crate::scenario::reader::{self, Fields, Shape, may, must};
use crate::scenario::tree::{Node, Span};
use crate::scenario::{ScenarioErrors, document};

const KIND: &str = "Alertmanager";
/// A free port that nobody but this machine reaches.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Confidence of a rule that states none: as likely right as wrong.
const CONFIDENCE: f64 = 0.5;

static FILE: Shape = Shape {
    path: "file",
    fields: &[
        must("apiVersion", "`gauntlet/v1`", "Version of this format.", "gauntlet/v1"),
        must("kind", "`Alertmanager`", "What the file declares.", "Alertmanager"),
        may(
            "metadata",
            "mapping",
            "the name `alertmanager`",
            "Its name in tables.",
            "{name: our-alerts}",
        ),
        must("spec", "mapping", "The mapping itself.", "{rules: […]}"),
    ],
};
static METADATA: Shape = Shape {
    path: "metadata",
    fields: &[must("name", "name", "Its name in tables.", "our-alerts")],
};
static SPEC: Shape = Shape {
    path: "spec",
    fields: &[
        may(
            "listen",
            "address:port",
            "a free port on loopback",
            "Where alerts are received.",
            "127.0.0.1:9099",
        ),
        must(
            "rules",
            "list",
            "The first rule that fits an alert says what it blames.",
            "[{…}]",
        ),
    ],
};
static RULE: Shape = Shape {
    path: "rule",
    fields: &[
        may(
            "matchers",
            "list of conditions",
            "fits every alert",
            "Conditions on labels.",
            "['severity=\"page\"']",
        ),
        must("entity", "mapping", "What is blamed.", "{service: \"{{service}}\"}"),
        may("pods", "template", "none", "The pod that is affected.", "\"{{pod}}\""),
        may(
            "mechanism",
            "mechanism or template",
            "`unknown`",
            "How it is wrong.",
            "network.filter",
        ),
        may("confidence", "share", "0.5", "How likely it is right.", "0.8"),
    ],
};
static ENTITY: Shape = Shape {
    path: "rule.entity",
    fields: &[
        may("service", "template", "another entity", "A service.", "\"{{service}}\""),
        may("pod", "template", "another entity", "A pod.", "\"{{pod}}\""),
        may("node", "template", "another entity", "A node.", "\"{{node}}\""),
        may(
            "caller",
            "template",
            "no edge",
            "The edge's caller; with `callee`.",
            "\"{{source}}\"",
        ),
        may(
            "callee",
            "template",
            "no edge",
            "The edge's callee; with `caller`.",
            "\"{{destination}}\"",
        ),
    ],
};

/// How alerts are received and what they mean.
#[derive(Clone, Debug)]
pub struct Config {
    /// The detector's name in tables.
    pub name: String,
    /// Where alerts are received; port 0 is a free one.
    pub listen: SocketAddr,
    /// The first that fits an alert says what it blames; their order is also the candidates'.
    pub rules: Vec<Rule>,
}

/// What the alerts blame to which it applies.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) matchers: Vec<Matcher>,
    pub(super) blame: Blame,
    pub(super) pods: Option<Template>,
    pub(super) mechanism: Template,
    pub(super) confidence: f64,
}

/// What is blamed, before labels are filled in.
#[derive(Clone, Debug)]
pub enum Blame {
    /// A service.
    Service(Template),
    /// A pod.
    Pod(Template),
    /// A node.
    Node(Template),
    /// What lies between two services.
    Edge {
        /// Who calls.
        caller: Template,
        /// Who is called.
        callee: Template,
    },
}

impl Config {
    /// Reads a mapping file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ScenarioErrors> {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&shown, &text),
            Err(error) => {
                let mut problems = Problems::default();
                let problem = problems.add(Span::default(), format!("failed to read the file: {error}"));
                problem.advise("check the path");
                Err(problems.into_errors(&shown, ""))
            }
        }
    }

    /// Reads a mapping from its text. `shown` is how reports call the file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(shown: &str, text: &str) -> Result<Self, ScenarioErrors> {
        let mut problems = Problems::default();
        let config = document(text, &mut problems).and_then(|root| read_file(&root, &mut problems));
        problems.done(config, shown, text)
    }
}

fn read_file(root: &Node, problems: &mut Problems) -> Option<Config> {
    let file = Fields::open(root, &[&FILE], &[&SPEC], problems)?;
    file.read("apiVersion", problems, reader::choice(&[(API_VERSION, ())]));
    file.read("kind", problems, reader::choice(&[(KIND, ())]));
    let metadata = file
        .get("metadata")
        .and_then(|node| Fields::open(node, &[&METADATA], &[], problems));
    let name = metadata.and_then(|metadata| metadata.read("name", problems, reader::name));
    let spec = Fields::open(file.get("spec")?, &[&SPEC], &[&RULE], problems)?;
    let listen = spec.read("listen", problems, address);
    let rules = spec.get("rules")?;
    let listed = reader::list(rules, problems, read_rule);
    if listed.is_empty() && problems.is_empty() {
        problems
            .add(rules.span, "there must be a rule")
            .advise("without one no alert blames anything");
    }
    Some(Config {
        name: name.map_or_else(|| "alertmanager".to_owned(), |name| name.value),
        listen: listen.map_or(LISTEN, |listen| listen.value),
        rules: listed.into_iter().map(|rule| rule.value).collect(),
    })
}

fn address(node: &Node, problems: &mut Problems) -> Option<SocketAddr> {
    let text = reader::text(node, problems)?;
    let address = text.parse().ok();
    if address.is_none() {
        let problem = problems.add(node.span, format!("`{text}` is no address with a port"));
        problem.advise("for example `127.0.0.1:9099`, or `0.0.0.0:9099` for all interfaces");
    }
    address
}

fn read_rule(node: &Node, problems: &mut Problems) -> Option<Rule> {
    let fields = Fields::open(node, &[&RULE], &[&ENTITY], problems)?;
    let matchers = fields
        .get("matchers")
        .map(|node| reader::list(node, problems, read_matcher))
        .unwrap_or_default();
    let entity = fields.get("entity").and_then(|node| read_entity(node, problems));
    let pods = fields.read("pods", problems, template).map(|pods| pods.value);
    let mechanism = fields
        .read("mechanism", problems, mechanism)
        .map(|mechanism| mechanism.value);
    let confidence = fields
        .read("confidence", problems, reader::ratio)
        .map(|confidence| confidence.value);
    Some(Rule {
        matchers: matchers.into_iter().map(|matcher| matcher.value).collect(),
        blame: entity?,
        pods,
        mechanism: mechanism.or_else(|| Template::parse(Mechanism::Unknown.name()))?,
        confidence: confidence.unwrap_or(CONFIDENCE),
    })
}

fn read_matcher(node: &Node, problems: &mut Problems) -> Option<Matcher> {
    let text = reader::text(node, problems)?;
    match Matcher::parse(&text) {
        Ok(matcher) => Some(matcher),
        Err(error) => {
            let problem = problems.add(node.span, error.to_string());
            problem.advise("as in Alertmanager: `severity=\"page\"`, `!=`, `=~` or `!~`; in YAML within single quotes");
            None
        }
    }
}

fn read_entity(node: &Node, problems: &mut Problems) -> Option<Blame> {
    let fields = Fields::open(node, &[&ENTITY], &[], problems)?;
    let mut read = |name| fields.read(name, problems, template).map(|template| template.value);
    let single = [read("service"), read("pod"), read("node")];
    let (caller, callee) = (read("caller"), read("callee"));
    match (single, caller, callee) {
        ([Some(service), None, None], None, None) => Some(Blame::Service(service)),
        ([None, Some(pod), None], None, None) => Some(Blame::Pod(pod)),
        ([None, None, Some(node)], None, None) => Some(Blame::Node(node)),
        ([None, None, None], Some(caller), Some(callee)) => Some(Blame::Edge { caller, callee }),
        _ => {
            let problem = problems.add(fields.span(), "an entity is one thing");
            problem.advise("one of `service`, `pod` and `node`, or `caller` with `callee`");
            None
        }
    }
}

fn template(node: &Node, problems: &mut Problems) -> Option<Template> {
    let text = reader::text(node, problems)?;
    let template = Template::parse(&text);
    if template.is_none() {
        let problem = problems.add(node.span, format!("`{text}` is no text with labels"));
        problem.advise("a label is written `{{service}}`, the whole in quotes");
    }
    template
}

fn mechanism(node: &Node, problems: &mut Problems) -> Option<Template> {
    let template = template(node, problems)?;
    match template.fixed() {
        Some(name) if name.parse::<Mechanism>().is_err() => {
            let problem = problems.add(node.span, format!("there is no mechanism `{name}`"));
            problem.advise_word(name, Mechanism::ALL.iter().map(|mechanism| mechanism.name()));
            None
        }
        _ => Some(template),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::scenario::problem::lines;

    fn check(text: &str, expected: Expect) {
        let errors = Config::parse("alerts.yaml", text).expect_err("it is wrong");
        expected.assert_eq(&lines(&errors));
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_place() {
        check(
            r#"apiVersion: gauntlet/v1
kind: Alerts
spec:
  listen: localhost
  rules:
    - matchers: ['severity', 'team=~"(a"']
      entity: {service: "{{service", pod: x}
      mechanism: network.filtr
      confidence: 2
    - entity: {caller: web}
      mechanismus: app.slow
"#,
            expect![[r#"
                2:7 `Alerts` is not possible here | did you mean `Alertmanager`?
                4:11 `localhost` is no address with a port | for example `127.0.0.1:9099`, or `0.0.0.0:9099` for all interfaces
                6:18 `severity` is no condition on a label | as in Alertmanager: `severity="page"`, `!=`, `=~` or `!~`; in YAML within single quotes
                6:30 `(a` is no regular expression: unclosed group | as in Alertmanager: `severity="page"`, `!=`, `=~` or `!~`; in YAML within single quotes
                7:25 `{{service` is no text with labels | a label is written `{{service}}`, the whole in quotes
                8:18 there is no mechanism `network.filtr` | did you mean `network.filter`?
                9:19 must be a share from 0 to 1 | for example `30%` or `0.3`
                10:16 an entity is one thing | one of `service`, `pod` and `node`, or `caller` with `callee`
                11:7 `rule` has no field `mechanismus` | did you mean `mechanism`?
            "#]],
        );
    }

    #[test]
    fn the_shipped_example_is_valid() {
        let text = include_str!("../../../../detector/examples/alertmanager.yaml");
        let config = Config::parse("alertmanager.yaml", text).expect("valid");
        assert_eq!((config.name.as_str(), config.rules.len()), ("our-alerts", 4));
    }
}
