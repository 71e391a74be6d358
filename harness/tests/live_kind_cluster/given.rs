//! Which clusters are used: our own by name, and one that somebody else made only when its very context was named.

use std::future::pending;

use gauntlet_harness::target::kind::lifecycle::UpOptions;
use gauntlet_harness::target::kind::ownership::{ExistingCluster, Origin, Selection, resolve};
use gauntlet_harness::target::kind::record::StateDirectory;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use crate::support::{Cluster, fixture};

const NAMESPACE: &str = "lifecycle-test";

async fn has_namespace(client: &Client) -> bool {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.get_opt(NAMESPACE).await.unwrap().is_some()
}

#[test]
fn a_cluster_that_others_made_needs_its_context_named() {
    let Some(fixture) = fixture() else { return };
    let named =
        |variable: &str| std::env::var(variable).unwrap_or_else(|_| panic!("{variable} goes with the kubeconfig"));
    let (context, name) = (named("GAUNTLET_TEST_CONTEXT"), named("GAUNTLET_TEST_CLUSTER"));
    let home = tempfile::tempdir().unwrap();
    let state = StateDirectory::at(home.path().join("gauntlet"));
    let selection = |said: Option<&str>, namespace: &str| {
        Selection::Existing(ExistingCluster {
            kubeconfig: fixture.foreign.clone(),
            said_context: said.map(str::to_owned),
            namespace: namespace.to_owned(),
        })
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for said in [None, Some("kind-other"), Some("")] {
            let refused = resolve(&state, &selection(said, NAMESPACE), &|_| (), pending()).await;
            let refused = refused.unwrap_err();
            assert!(
                refused.is_refusal() && refused.to_string().contains(&context),
                "{said:?}: {refused}"
            );
        }
        // A namespace that is there and not ours is refused as well.
        let refused = resolve(&state, &selection(Some(&context), "default"), &|_| (), pending()).await;
        let refused = refused.unwrap_err();
        assert!(
            refused.is_refusal() && refused.to_string().contains("namespace default"),
            "{refused}"
        );
        let resolved = resolve(&state, &selection(Some(&context), NAMESPACE), &|_| (), pending()).await;
        let cluster = resolved.unwrap();
        assert_eq!(cluster.origin, Origin::Given);
        assert_eq!(
            (cluster.version.as_str(), cluster.kind_name.as_deref()),
            ("v1.20.2", Some(name.as_str()))
        );
        let client = cluster.access.client().await.unwrap();
        assert_eq!(cluster.access.namespace, NAMESPACE);
        assert!(!has_namespace(&client).await, "that is the run's to make");
        cluster.release().await.unwrap();
        assert!(
            !home.path().join("gauntlet").exists(),
            "nothing was made, so nothing was written"
        );
    });
}

/// `resolve` finds a cluster of ours by name, and leaves it as it was.
pub(crate) async fn our_own_is_used_by_its_name(cluster: &Cluster) {
    let selection = Selection::Own {
        name: cluster.name.clone(),
        namespace: NAMESPACE.to_owned(),
        options: UpOptions::default(),
    };
    let resolved = resolve(&cluster.state, &selection, &|_| (), pending()).await.unwrap();
    assert_eq!(resolved.origin, Origin::Made(cluster.name.clone()));
    assert_eq!(resolved.kind_name.as_deref(), Some(cluster.name.as_str()));
    let client = resolved.access.client().await.unwrap();
    assert!(!has_namespace(&client).await, "that is the run's to make");
    resolved.release().await.unwrap();
    assert_eq!(cluster.record().holder, None, "it stays");
}
