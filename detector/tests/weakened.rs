//! Each weakness costs answers: a judge that is made worse must be worse, or a gate that is tried on it proves nothing.

mod sim;

use expect_test::expect;
use gauntlet_detector::diagnosis::{Candidate, Mechanism};
use gauntlet_detector::pipeline::{Config, Pipeline};
use gauntlet_detector::weakness::Weakness;
use gauntlet_probes::frame::Frame;
use sim::Sim;
use sim::faults::Fault;
use sim::spec::App;

const SHOP: &str = "web*2 -> cache:redis*3, db:postgres";
const CHAIN: &str = "a -> b -> c -> d -> e -> store:postgres";

/// Simulated traffic is too even for beliefs to flicker: this one costs something only on recorded frames.
const ONLY_ON_RECORDINGS: Weakness = Weakness::NoHold;

const BASELINE_SECONDS: u64 = 12;
const FAULT_SECONDS: u64 = 20;
const AFTER_SECONDS: u64 = 4;

/// A story and its right answer: service and mechanism, at the head of a path that ends where users enter.
struct Story {
    app: &'static str,
    fault: &'static str,
    answer: Option<(&'static str, Mechanism)>,
    entrance: &'static str,
}

const fn story(app: &'static str, fault: &'static str, service: &'static str, mechanism: Mechanism) -> Story {
    let entrance = if app.len() == SHOP.len() { "web" } else { "a" };
    Story {
        app,
        fault,
        answer: Some((service, mechanism)),
        entrance,
    }
}

const STORIES: [Story; 9] = [
    story(SHOP, "filter cache-0+cache-1", "cache", Mechanism::NetworkFilter),
    story(SHOP, "silent cache-0+cache-2", "cache", Mechanism::NetworkFilter),
    story(SHOP, "pause cache-0", "cache", Mechanism::ProcessHang),
    story(SHOP, "kill cache-1 3", "cache", Mechanism::ProcessCrash),
    story(CHAIN, "delay c 6", "c", Mechanism::NetworkDelay),
    story(CHAIN, "mtu store 0.4", "store", Mechanism::NetworkMtu),
    story(CHAIN, "slow d 30", "d", Mechanism::AppSlow),
    story(CHAIN, "cpu store 8", "store", Mechanism::ResourceCpu),
    Story {
        app: SHOP,
        fault: "none",
        answer: None,
        entrance: "web",
    },
];

impl Story {
    /// Inventory, frames, and which of these belong to the fault.
    fn frames(&self) -> (Sim, Vec<(Frame, bool)>) {
        let mut sim = Sim::new(App::parse(self.app), 120.0, 5);
        let mut frames = Vec::new();
        for second in 0..BASELINE_SECONDS + FAULT_SECONDS + AFTER_SECONDS {
            let faulty = (BASELINE_SECONDS..BASELINE_SECONDS + FAULT_SECONDS).contains(&second);
            if second == BASELINE_SECONDS && self.answer.is_some() {
                let fault = Fault::parse(&sim, self.fault);
                sim.begin(fault);
            }
            if second == BASELINE_SECONDS + FAULT_SECONDS {
                sim.end();
            }
            frames.extend((0..sim::TICKS).map(|_| (sim.next_frame(), faulty)));
        }
        (sim, frames)
    }

    fn right(&self, first: Option<&Candidate>) -> bool {
        match (self.answer, first) {
            (Some((service, mechanism)), Some(first)) => {
                let path = || first.path.iter().map(|service| service.as_str());
                first.entity.to_string() == service
                    && first.mechanism == mechanism
                    && path().next() == Some(service)
                    && path().next_back() == Some(self.entrance)
            }
            (_, None) | (None, Some(_)) => false,
        }
    }

    /// Ticks at which the judge is not as it should be: not right during the fault, or not silent before it.
    fn ticks_lost(&self, weakness: Option<Weakness>, sim: &Sim, frames: &[(Frame, bool)]) -> usize {
        let mut pipeline = Pipeline::new(Config {
            weakness,
            ..Config::default()
        });
        sim.inventory().iter().for_each(|line| pipeline.apply(line));
        let mut said: Vec<Candidate> = Vec::new();
        let (mut lost, mut begun) = (0, false);
        for (frame, faulty) in frames {
            if let Some(diagnosis) = pipeline.step(frame) {
                said = diagnosis.candidates;
            }
            begun |= faulty;
            let right = if *faulty && self.answer.is_some() {
                self.right(said.first())
            } else {
                // After a fault, an answer may last for a while.
                said.is_empty() || (begun && self.answer.is_some())
            };
            lost += usize::from(!right);
        }
        lost
    }
}

#[test]
fn each_weakness_costs_answers() {
    let judges: Vec<Option<Weakness>> = std::iter::once(None).chain(Weakness::ALL.map(Some)).collect();
    let mut lost = vec![Vec::new(); judges.len()];
    for story in &STORIES {
        let (sim, frames) = story.frames();
        for (judge, lost) in judges.iter().zip(&mut lost) {
            lost.push(story.ticks_lost(*judge, &sim, &frames));
        }
    }
    let mut table = String::new();
    for (judge, lost) in judges.iter().zip(&lost) {
        let name = judge.map_or("sound", Weakness::name);
        let cells: Vec<String> = lost.iter().map(|ticks| format!("{ticks:3}")).collect();
        table += &format!("{name:20} {}\n", cells.join(" "));
    }
    expect![[r#"
        sound                  2   6   4   0   5   4  12   2   0
        no-filter-rule       100 100   4   0   5   4  12   2   0
        no-hang-rule           2   6 100   0   5   4  12   2   0
        drops-unread           6   6   4   0   5 100  12   2   0
        ends-unread            2   6   4 100   5   4  12   2   0
        callees-unseen         2   6 100   0 100   4  12   2   0
        doubled-window         2   6   4   0   5   4  16   2   0
        reversed-edges       100 100 100 100 100 100 100 100   0
        tripled-thresholds     2   6  11   0 100   4  13   2   0
        no-commonality         2 100   4   0 100 100  12   2   0
        no-residuals           2   6   4   0   5   4  14   2   0
        no-hold                2   2   4   0   3   3   5   0   0
        slow-belief            4  15   6   2   9   8  27   6   0
        shuffled-confidence    2   6   4   0   5   9  12  52   0
        frozen-baseline        2   6   4   0 100 100 100 100   0
        learns-faults          2   6   4   0  24   4  32  21   0
    "#]]
    .assert_eq(&table);
    let sound: usize = lost[0].iter().sum();
    for (judge, lost) in judges.iter().zip(&lost).skip(1) {
        let evenly = *judge == Some(ONLY_ON_RECORDINGS);
        assert!(evenly || lost.iter().sum::<usize>() > sound, "{judge:?} costs nothing");
    }
}

#[test]
fn names_lead_back_to_weaknesses() {
    for weakness in Weakness::ALL {
        assert_eq!(weakness.name().parse(), Ok(weakness));
    }
    assert!("no-such-weakness".parse::<Weakness>().is_err());
}
