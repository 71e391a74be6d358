//! A real Alertmanager, fed with alerts over its own API, notifies our receiver: what a team's alerting says is scored.
//!
//! Needs Debian's `prometheus-alertmanager` (`ci/setup --tests` installs it); skips with the reason without, except in CI.

mod daemon;

use std::sync::Arc;

use gauntlet_harness::clock::monotonic_ns;
use gauntlet_harness::detectors::Received;
use gauntlet_harness::detectors::alertmanager::Config;
use gauntlet_harness::detectors::alertmanager::receiver::Receiver;
use gauntlet_harness::detectors::process::Said;
use serde_json::{Value, json};

use daemon::{MAPPING, PATIENCE, alert, post, program, start};

async fn statement(receiver: &mut Receiver) -> Received {
    match tokio::time::timeout(PATIENCE, receiver.next()).await {
        Ok(Said::Statement(received)) => received,
        other => panic!("no statement: {other:?}"),
    }
}

fn receiver_config() -> Arc<Config> {
    Arc::new(Config::parse("mapping", MAPPING).expect("a mapping"))
}

#[tokio::test]
async fn what_a_real_alertmanager_says_becomes_a_diagnosis() {
    let Some(program) = program() else { return };
    let mut receiver = Receiver::start(receiver_config(), &[]).await.expect("a free port");
    let alertmanager = start(&program, &format!("http://{}/any/path", receiver.address()));
    let before_ns = monotonic_ns();
    let unreachable = |more: Value| {
        let mut alert = json!({
            "labels": {"alertname": "CacheUnreachable", "service": "cache", "pod": "cache-1", "severity": "page"},
            "annotations": {"summary": "no answer from cache-1"},
        });
        alert
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        alert
    };
    alert(&alertmanager, &json!([unreachable(json!({}))])).await;
    let first = statement(&mut receiver).await;
    assert!(first.received_ns > before_ns && first.received_ns <= monotonic_ns());
    let candidate = serde_json::to_value(&first.diagnosis.candidates[0]).expect("JSON");
    assert_eq!(candidate["entity"], json!({"kind": "service", "name": "cache"}));
    assert_eq!(
        (&candidate["mechanism"], &candidate["pods"]),
        (&json!("network.filter"), &json!(["cache-1"]))
    );
    assert_eq!(
        candidate["evidence"],
        json!(["alert CacheUnreachable, page, no answer from cache-1"])
    );
    let since_ns = candidate["sinceNs"].as_u64().expect("a time");
    assert!(
        since_ns <= first.received_ns && since_ns + 20_000_000_000 > first.received_ns,
        "{since_ns}"
    );

    // A second alert ranks below, by the order of the rules; one without a rule is counted.
    let more = json!([
        {"labels": {"alertname": "HighLatency", "source": "web", "destination": "cache"}},
        {"labels": {"alertname": "Watchdog"}},
    ]);
    alert(&alertmanager, &more).await;
    let second = statement(&mut receiver).await;
    let named: Vec<String> = second
        .diagnosis
        .candidates
        .iter()
        .map(|one| one.entity.to_string())
        .collect();
    assert_eq!(named, ["cache", "web → cache"]);

    // Prometheus resolves an alert by its end.
    let end = json!({"endsAt": "2020-01-01T00:00:01Z", "startsAt": "2020-01-01T00:00:00Z"});
    alert(&alertmanager, &json!([unreachable(end)])).await;
    let third = statement(&mut receiver).await;
    let named: Vec<String> = third
        .diagnosis
        .candidates
        .iter()
        .map(|one| one.entity.to_string())
        .collect();
    assert_eq!(named, ["web → cache"]);
    let (_, end) = receiver.finish(monotonic_ns()).await;
    assert_eq!((end.unmatched_count, end.failure.as_deref()), (1, None), "{end:?}");
}

#[tokio::test]
async fn what_is_no_notification_is_refused_and_is_a_failure() {
    let mut receiver = Receiver::start(receiver_config(), &[]).await.expect("a free port");
    let url = format!("http://{}/", receiver.address());
    assert_eq!(post(&url, &json!({"version": "3", "alerts": []})).await, Some(400));
    assert_eq!(post(&url, &json!({"hello": "world"})).await, Some(400));
    assert_eq!(post(&url, &json!({"version": "4", "alerts": []})).await, Some(200));
    assert!(matches!(receiver.next().await, Said::Nonsense(text) if text.contains("\"3\"")));
    let (statements, end) = receiver.finish(monotonic_ns()).await;
    assert!(statements.is_empty(), "nothing fires: {statements:?}");
    assert_eq!(end.nonsense_count, 2);
    assert!(end.failure.is_some_and(|failure| failure.contains("2 notifications")));
}
