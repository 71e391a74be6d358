//! Pods of two nodes reach each other by name, and the world beyond the cluster under their node's address.

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::{APPS_IMAGE, Cluster, docker_said};

/// A store on one worker, and on the other a client that finds it by name and then calls this process.
pub(crate) async fn serves(cluster: &Cluster) {
    let client = cluster.record().access("default").client().await.unwrap();
    let nodes = cluster.nodes();
    let gateway = docker_said(&[
        "network",
        "inspect",
        "kind",
        "--format",
        "{{range .IPAM.Config}}{{.Gateway}} {{end}}",
    ]);
    let gateway = gateway.split_whitespace().find(|word| word.contains('.')).unwrap();
    let outside = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = outside.local_addr().unwrap().port();
    let store = pod("store", &nodes[1], "exec redis-server --protected-mode no --save ''");
    let seek = format!("until redis-cli -h store ping; do sleep 0.2; done; nc -w 5 {gateway} {port} </dev/null");
    let seeker = pod("seeker", &nodes[2], &seek);
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service =
        json!({"metadata": {"name": "store"}, "spec": {"selector": {"app": "store"}, "ports": [{"port": 6379}]}});
    services.create(&PostParams::default(), &of(service)).await.unwrap();
    for wanted in [store, seeker] {
        pods.create(&PostParams::default(), &wanted).await.unwrap();
    }
    let caller = tokio::task::spawn_blocking(move || outside.accept().unwrap().1.ip());
    let caller = tokio::time::timeout(Duration::from_secs(90), caller).await;
    let caller = caller.expect("the client called").unwrap();
    assert_eq!(caller, address_of(&client, &nodes[2]).await);
    for name in ["store", "seeker"] {
        let at_once = DeleteParams::default().grace_period(0);
        pods.delete(name, &at_once).await.unwrap();
        let gone = await_condition(pods.clone(), name, |pod: Option<&Pod>| pod.is_none());
        tokio::time::timeout(Duration::from_secs(60), gone)
            .await
            .unwrap()
            .unwrap();
    }
    services.delete("store", &DeleteParams::default()).await.unwrap();
}

async fn address_of(client: &Client, node: &str) -> IpAddr {
    let nodes: Api<Node> = Api::all(client.clone());
    let addresses = nodes.get(node).await.unwrap().status.unwrap().addresses.unwrap();
    let internal = addresses.iter().find(|address| address.type_ == "InternalIP").unwrap();
    internal.address.parse().unwrap()
}

fn pod(name: &str, node: &str, script: &str) -> Pod {
    of(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": APPS_IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script]}],
        },
    }))
}

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}
