//! Which words name a cluster, and which are refused.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    target: TargetArgs,
}

fn resolve(flags: &str) -> Result<Place, Refusal> {
    Line::try_parse_from(["run"].into_iter().chain(flags.split_whitespace()))
        .expect("flags")
        .target
        .resolve()
}

fn refused(flags: &str, words: &str) {
    let refusal = resolve(flags).expect_err(flags).to_string();
    assert!(refusal.contains(words), "{flags}: {refusal}");
}

#[test]
fn a_cluster_is_never_used_silently() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let context = "{name: production, context: {cluster: one, user: me}}";
    std::fs::write(
        file.path(),
        format!("apiVersion: v1\nkind: Config\ncurrent-context: production\ncontexts: [{context}]\n"),
    )
    .expect("written");
    let existing = format!(
        "--target kind --cluster existing --kubeconfig {}",
        file.path().display()
    );
    assert!(resolve("").expect("the default").is_local());
    refused("--cluster fixture", "--cluster is for --target kind");
    refused("--target kind --cluster existing", "needs --kubeconfig");
    refused("--target kind --kubeconfig f", "--kubeconfig is for --cluster existing");
    refused("--target kind --cluster No_Name", "--cluster No_Name");
    refused(&existing, "has the current context `production`");
    refused(
        &format!("{existing} --i-own-this-cluster staging"),
        "not the context `staging`",
    );
    let place = |flags: &str| match resolve(flags).expect(flags) {
        Place::Kind(place) => place.selection,
        Place::Local => panic!("not local"),
    };
    assert!(matches!(place("--target kind --cluster mine"), Selection::Own { name, .. } if name.as_str() == "mine"));
    assert!(matches!(
        place(&format!("{existing} --i-own-this-cluster production")),
        Selection::Existing(_)
    ));
}

#[test]
fn a_run_has_a_namespace_of_its_own_unless_one_is_named() {
    let namespace = |flags: &str| match resolve(flags).expect(flags) {
        Place::Kind(place) => match place.selection {
            Selection::Own { namespace, .. } => namespace,
            Selection::Existing(_) => panic!("our own"),
        },
        Place::Local => panic!("not local"),
    };
    assert_eq!(namespace("--target kind --namespace shop"), "shop");
    let new = namespace("--target kind");
    assert!(new.starts_with("gauntlet-"), "{new}");
    assert_ne!(new, namespace("--target kind"));
}
