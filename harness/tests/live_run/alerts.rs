//! A team's own alerting in a whole run: a real Alertmanager hears of the harm and notifies the run's receiver.

use std::fs;

use gauntlet_harness::run::event::RunEvent;
use serde_json::json;

use crate::daemon::{MAPPING, alert, program, start};
use crate::play::{Play, turn};
use crate::short::{FAULTS, short_scenario};
use crate::{RUN_PATIENCE, read_json};

#[test]
fn the_alerts_of_a_real_alertmanager_are_scored() {
    let Some(_turn) = turn() else { return };
    let Some(program) = program() else { return };
    let files = tempfile::tempdir().expect("a directory");
    let mapping = files.path().join("alerts.yaml");
    fs::write(&mapping, MAPPING).expect("written");
    let scenario = short_scenario(files.path(), &FAULTS[0]).display().to_string();
    let detector = format!("alerts=alertmanager:{}", mapping.display());
    let mut play = Play::start(&[&scenario, "--seed", "4", "--detector", &detector]);
    // Users must have been harmed before an alert can be right: it is raised by their first failed request.
    play.wait_for(RUN_PATIENCE, |event| matches!(event, RunEvent::EffectProven { .. }));
    let directory = play.directory().expect("a run directory");
    let webhook = fs::read_to_string(directory.join("alertmanager.url")).expect("the run says where it listens");
    let alertmanager = start(&program, webhook.trim());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let raised = json!([{"labels": {"alertname": "CacheUnreachable", "service": "cache"}}]);
    runtime.block_on(alert(&alertmanager, &raised));
    play.wait_for(
        RUN_PATIENCE,
        |event| matches!(event, RunEvent::Diagnosed(one) if one.diagnosis.detector == "alerts"),
    );
    let status = play.end(RUN_PATIENCE);
    let answer = play.answer();
    let run = &answer["runs"][0];
    assert_eq!(
        (&run["validity"], &run["rank"]),
        (&json!("VALID"), &json!(1.0)),
        "{answer}"
    );
    assert_eq!((status.code(), &run["verdict"]), (Some(0), &json!("pass")), "{answer}");
    let result = read_json(&directory.join("result.json"));
    assert_eq!(result["detector"]["score"]["detector"], "alerts");
    assert_eq!(result["detector"]["score"]["alertsBeforeOnset"], json!(null));
}
