//! Inventories made of objects as the API has them.

use serde_json::json;

use super::*;
use crate::target::local::cgroup::Hierarchies;

/// A pod of `namespace`; its UID is its name, as its cgroup and namespace are by.
fn pod(namespace: &str, name: &str, label: (&str, &str), ip: &str) -> Pod {
    let pod = json!({
        "metadata": {"namespace": namespace, "name": name, "uid": name, "labels": {label.0: label.1}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"containerPort": 6379}]}]},
        "status": {"phase": "Running", "podIP": ip},
    });
    serde_json::from_value(pod).expect("a pod")
}

fn service(namespace: &str, name: &str, ip: &str, pods: &[&str]) -> (Service, Endpoints) {
    let metadata = json!({"namespace": namespace, "name": name});
    let service = json!({"metadata": metadata, "spec": {"clusterIP": ip, "ports": [{"port": 6379}]}});
    let target =
        |pod: &&str| json!({"ip": "10.244.1.9", "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod}});
    let addresses: Vec<_> = pods.iter().map(target).collect();
    let endpoints = json!({"metadata": metadata, "subsets": [{"addresses": addresses}]});
    (
        serde_json::from_value(service).expect("a service"),
        serde_json::from_value(endpoints).expect("endpoints"),
    )
}

fn place(inode: u64) -> PodPlace {
    let hierarchies = Hierarchies::parse("30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").expect("one");
    let file = std::fs::File::open("/dev/null").expect("a file");
    PodPlace {
        cgroup: hierarchies.paths(&format!("/n1/pod{inode}")),
        netns: Arc::new(file.into()),
        netns_inode: inode,
    }
}

fn described(pods: Vec<Pod>, services: Vec<(Service, Endpoints)>, places: &[(&str, u64)]) -> Description {
    let node = json!({
        "metadata": {"name": "n1"},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.2"}]},
    });
    let node: Node = serde_json::from_value(node).expect("a node");
    let on = place(1);
    let handle = NodeHandle {
        name: NodeName::new("n1"),
        ip: node_ip(&node).expect("an address"),
        netns: on.netns,
        netns_inode: 1,
        cgroup: on.cgroup,
    };
    let (services, endpoints) = services
        .into_iter()
        .map(|(one, other)| (Arc::new(one), Arc::new(other)))
        .unzip();
    let seen = Seen {
        pods: pods.into_iter().map(Arc::new).collect(),
        services,
        endpoints,
        nodes: vec![Arc::new(node)],
    };
    let places = places
        .iter()
        .map(|(uid, inode)| ((*uid).to_owned(), place(*inode)))
        .collect();
    seen.describe("shop", &BTreeMap::from([(NodeName::new("n1"), handle)]), &places)
}

fn check(lines: impl IntoIterator<Item = InventoryLine>, expected: &expect_test::Expect) {
    let lines = lines
        .into_iter()
        .map(|line| serde_json::to_string(&line).expect("JSON"));
    expected.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
}

const CACHE: (&str, &str) = (NAME_LABEL, "cache");

#[test]
fn an_application_is_told_by_plain_names_and_the_name_server_is_dns() {
    let pods = vec![
        pod("shop", "cache-0", CACHE, "10.244.1.9"),
        pod("kube-system", "coredns-1", ("k8s-app", "kube-dns"), "10.244.1.2"),
        pod("kube-system", "proxy-1", ("k8s-app", "kube-proxy"), "172.18.0.2"),
    ];
    let services = vec![
        service("shop", "cache", "10.96.7.7", &["cache-0"]),
        service("kube-system", "kube-dns", "10.96.0.10", &["coredns-1"]),
        service("shop", "headless", "None", &["cache-0"]),
    ];
    let description = described(pods, services, &[("cache-0", 9), ("coredns-1", 2), ("proxy-1", 1)]);
    check(
        description.lines.into_values(),
        &expect_test::expect![[r#"
        {"type":"node","name":"n1","ips":["172.18.0.2","10.244.1.1"],"netns":1,"cgroup":"/n1/pod1"}
        {"type":"pod","name":"cache-0","service":"cache","node":"n1","ip":"10.244.1.9","netns":9,"cgroup":"/n1/pod9"}
        {"type":"pod","name":"kube-system/coredns-1","service":"dns","node":"n1","ip":"10.244.1.2","netns":2,"cgroup":"/n1/pod2"}
        {"type":"pod","name":"kube-system/proxy-1","service":"kube-proxy","node":"n1","ip":"172.18.0.2","netns":1,"cgroup":"/n1/pod1"}
        {"type":"service","name":"cache","clusterIp":"10.96.7.7","ports":[6379],"endpoints":["cache-0"]}
        {"type":"service","name":"dns","clusterIp":"10.96.0.10","ports":[6379],"endpoints":["kube-system/coredns-1"]}"#]],
    );
    let handles: Vec<_> = description.pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(
        handles,
        ["cache-0", "kube-system/coredns-1"],
        "system pods are nobody's to break"
    );
    assert_eq!(description.dials["cache"].port, 6379);
}

#[test]
fn a_pod_is_told_when_its_place_is_known_and_so_is_it_behind_a_service() {
    let of = |places: &[(&str, u64)]| {
        let pods = vec![pod("shop", "cache-0", CACHE, "10.244.1.9")];
        described(pods, vec![service("shop", "cache", "10.96.7.7", &["cache-0"])], places)
    };
    let (before, now) = (of(&[]), of(&[("cache-0", 9)]));
    assert!(before.pods.is_empty());
    check(
        changes(&before.lines, &now.lines),
        &expect_test::expect![[r#"
        {"type":"pod","name":"cache-0","service":"cache","node":"n1","ip":"10.244.1.9","netns":9,"cgroup":"/n1/pod9"}
        {"type":"service","name":"cache","clusterIp":"10.96.7.7","ports":[6379],"endpoints":["cache-0"]}"#]],
    );
    assert_eq!(changes(&now.lines, &now.lines), []);
}

#[test]
fn a_pod_that_is_replaced_is_gone_first() {
    let of = |ip: &str, inode| {
        described(
            vec![pod("shop", "cache-0", CACHE, ip)],
            Vec::new(),
            &[("cache-0", inode)],
        )
    };
    let (before, now) = (of("10.244.1.9", 9), of("10.244.1.10", 10));
    check(
        changes(&before.lines, &now.lines),
        &expect_test::expect![[r#"
        {"type":"pod-gone","name":"cache-0"}
        {"type":"pod","name":"cache-0","service":"cache","node":"n1","ip":"10.244.1.10","netns":10,"cgroup":"/n1/pod10"}"#]],
    );
    let nothing = described(Vec::new(), Vec::new(), &[]);
    check(
        changes(&before.lines, &nothing.lines),
        &expect_test::expect![[r#"{"type":"pod-gone","name":"cache-0"}"#]],
    );
}

#[test]
fn what_has_ended_has_no_place() {
    let mut ended = pod("shop", "job-1", CACHE, "10.244.1.9");
    assert_eq!(cgroup_uid(&ended).as_deref(), Some("job-1"));
    ended.status.as_mut().expect("a status").phase = Some("Succeeded".to_owned());
    assert_eq!(cgroup_uid(&ended), None);
    assert_eq!(gateway("10.244.1.0/24"), Some(Ipv4Addr::new(10, 244, 1, 1)));
}

/// Physics: the API says that a pod serves before it leads Services there.
#[test]
fn a_pod_that_is_not_found_or_not_behind_its_service_is_lacking() {
    let pods = || {
        ["cache-0", "cache-1"]
            .map(|name| pod("shop", name, CACHE, "10.244.1.9"))
            .to_vec()
    };
    let wanted = |label: (&str, &str)| -> Service {
        let service =
            json!({"metadata": {"namespace": "shop", "name": "cache"}, "spec": {"selector": {label.0: label.1}}});
        serde_json::from_value(service).expect("a service")
    };
    let lacks = |label, behind: &[&str], places: &[(&str, u64)]| {
        let services = vec![service("shop", "cache", "10.96.0.5", behind)];
        let api: Vec<_> = pods().into_iter().map(Arc::new).collect();
        described(pods(), services, places).lacks(&api, &[wanted(label)])
    };
    let (both, found) = (["cache-0", "cache-1"], [("cache-0", 5), ("cache-1", 6)]);
    assert_eq!(lacks(CACHE, &both, &found), None);
    assert_eq!(
        lacks(CACHE, &both, &found[..1]).as_deref(),
        Some("finding the processes of pod cache-1 on this machine")
    );
    assert_eq!(
        lacks(CACHE, &both[..1], &found).as_deref(),
        Some("leading Service cache to pod cache-1")
    );
    assert_eq!(lacks((NAME_LABEL, "db"), &[], &found), None, "it selects none of them");
}
