//! A real Alertmanager, fed with alerts over its own API, notifies our receiver: what a team's alerting says is scored.
//!
//! Needs Debian's `prometheus-alertmanager` (`ci/setup --tests` installs it); skips with the reason without, except in CI.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gauntlet_harness::clock::monotonic_ns;
use gauntlet_harness::detectors::Received;
use gauntlet_harness::detectors::alertmanager::Config;
use gauntlet_harness::detectors::alertmanager::receiver::Receiver;
use gauntlet_harness::detectors::process::Said;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Alertmanager listens within a second, and groups for one more.
const PATIENCE: Duration = Duration::from_secs(20);
const MAPPING: &str = r#"
apiVersion: gauntlet/v1
kind: Alertmanager
metadata: {name: alerts}
spec:
  rules:
    - matchers: ['alertname="CacheUnreachable"']
      entity: {service: "{{service}}"}
      pods: "{{pod}}"
      mechanism: network.filter
      confidence: 80%
    - matchers: ['alertname=~"High.*"']
      entity: {caller: "{{source}}", callee: "{{destination}}"}
"#;

/// The daemon, which ends with its owner.
struct Alertmanager {
    child: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let program = PathBuf::from("/usr/bin/prometheus-alertmanager");
    if !program.is_file() {
        let missing = "prometheus-alertmanager is not here (ci/setup --tests installs it)";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("skipped: {missing}");
        return None;
    }
    Some(program)
}

fn start(program: &Path, webhook: &str) -> Alertmanager {
    let files = tempfile::tempdir().expect("a directory");
    let config = files.path().join("alertmanager.yml");
    let text = format!(
        "route: {{receiver: gauntlet, group_by: ['...'], group_wait: 100ms, group_interval: 200ms}}\n\
         receivers: [{{name: gauntlet, webhook_configs: [{{url: '{webhook}', send_resolved: true}}]}}]\n"
    );
    fs::write(&config, text).expect("written");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.expect("a free port").port();
    let log = fs::File::create(files.path().join("log")).expect("a file");
    let child = Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", files.path().display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        // One of one: it does not look for others.
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("it starts");
    Alertmanager {
        child,
        port,
        _files: files,
    }
}

/// Posts JSON; the status, or `None` if nobody listens yet.
async fn post(url: &str, body: &Value) -> Option<u16> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = hyper::Request::post(url)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a request");
    let answer = client.request(request).await.ok()?;
    let status = answer.status().as_u16();
    let _body = answer.into_body().collect().await;
    Some(status)
}

/// Posts alerts over the API of version 2, as Prometheus does.
async fn alert(alertmanager: &Alertmanager, alerts: &Value) {
    let url = format!("http://127.0.0.1:{}/api/v2/alerts", alertmanager.port);
    let until = Instant::now() + PATIENCE;
    while post(&url, alerts).await != Some(200) {
        assert!(Instant::now() < until, "Alertmanager does not take alerts");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

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
