//! Debian's Alertmanager, started for a test: takes alerts over its own API, and notifies a webhook.
//!
//! Shared by tests of the receiver and by whole runs.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// It listens within a second, and groups for one more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A team's mapping from its alerts to what is wrong.
pub(crate) const MAPPING: &str = r#"
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
pub(crate) struct Alertmanager {
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

/// Its program, or `None` (said why) where it is not installed; in CI that is a failure.
pub(crate) fn program() -> Option<PathBuf> {
    let program = PathBuf::from("/usr/bin/prometheus-alertmanager");
    if !program.is_file() {
        let missing = "prometheus-alertmanager is not here (ci/setup --tests installs it)";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("skipped: {missing}");
        return None;
    }
    Some(program)
}

/// Starts it with one receiver.
pub(crate) fn start(program: &Path, webhook: &str) -> Alertmanager {
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
pub(crate) async fn post(url: &str, body: &Value) -> Option<u16> {
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
pub(crate) async fn alert(alertmanager: &Alertmanager, alerts: &Value) {
    let url = format!("http://127.0.0.1:{}/api/v2/alerts", alertmanager.port);
    let until = Instant::now() + PATIENCE;
    while post(&url, alerts).await != Some(200) {
        assert!(Instant::now() < until, "Alertmanager does not take alerts");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
