//! The shipped schemas are those of the types, and what is really said fits them. `UPDATE_EXPECT=1` rewrites the files.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use gauntlet_detector::diagnosis::{DetectorLine, Mechanism};
use gauntlet_detector::feed::FeedLine;
use gauntlet_probes::entity::InventoryLine;
use gauntlet_probes::recording::{Record, RecordingReader};
use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

const RECORDING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/recordings/cache-network-misconfig.zst"
);

/// The schema of `T`, which the shipped file of this name must equal.
fn shipped<T: JsonSchema>(name: &str) -> Value {
    let mut schema = schema_for!(T);
    schema.insert(
        "$comment".to_owned(),
        json!("Made from the types; see detector/PROTOCOL.md."),
    );
    let made = serde_json::to_value(&schema).expect("a schema is JSON");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("schema")
        .join(format!("{name}.schema.json"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let text = serde_json::to_string_pretty(&made).expect("JSON");
        fs::write(&path, text + "\n").expect("the schema can be written");
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let shipped: Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!(
        shipped,
        made,
        "{} is not that of the types; run with UPDATE_EXPECT=1",
        path.display()
    );
    shipped
}

/// Every line fits the schema, and none of the others does.
fn check(schema: &Value, lines: &[Value], others: &[Value]) {
    let validator = jsonschema::validator_for(schema).expect("a schema");
    assert!(!lines.is_empty());
    for line in lines {
        let errors: Vec<String> = validator.iter_errors(line).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{line}");
    }
    for line in others {
        assert!(!validator.is_valid(line), "{line}");
    }
}

fn records() -> Vec<Record> {
    let reader = RecordingReader::new(File::open(RECORDING).expect("the recording is there")).expect("a recording");
    reader.collect::<Result<_, _>>().expect("it is whole")
}

fn value<T: serde::Serialize>(line: &T) -> Value {
    serde_json::to_value(line).expect("JSON")
}

#[test]
fn what_a_detector_says_fits() {
    let output = Command::new(env!("CARGO_BIN_EXE_gauntlet-detector"))
        .args(["--replay", RECORDING])
        .output()
        .expect("the detector starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let kinds = ["ready", "diagnosis", "summary"];
    assert!(
        kinds.iter().all(|kind| lines.iter().any(|line| line["type"] == *kind)),
        "{text}"
    );
    lines.push(value(&DetectorLine::Synced { id: 7 }));
    lines.push(json!({"type": "ready", "version": 1, "detector": "threshold 1.0", "frames": true}));
    lines.push(json!({"type": "summary", "cpuNs": 5}));
    let named = |mechanism: &str, confidence: Value| {
        let entity = json!({"kind": "edge", "caller": "web", "callee": "cache"});
        let candidate = json!({"entity": entity, "mechanism": mechanism, "confidence": confidence, "sinceNs": 1});
        json!({"type": "diagnosis", "atNs": 1, "detector": "x", "candidates": [candidate]})
    };
    lines.extend(Mechanism::ALL.map(|mechanism| named(mechanism.name(), json!(0.5))));
    let others = [
        named("network.filtr", json!(0.5)),
        named("network.filter", json!("high")),
        json!({"type": "diagnosis", "atNs": 1, "candidates": []}),
        json!({"type": "readdy", "version": 1, "detector": "x"}),
    ];
    check(&shipped::<DetectorLine>("diagnosis"), &lines, &others);
}

#[test]
fn what_a_detector_is_told_of_the_cluster_fits() {
    let mut lines: Vec<Value> = records()
        .iter()
        .filter_map(|record| match record {
            Record::Inventory(line) => Some(value(line)),
            Record::Frame(_) => None,
        })
        .collect();
    for kind in ["node", "pod", "service", "ready"] {
        assert!(lines.iter().any(|line| line["type"] == kind), "{kind}");
    }
    lines.push(json!({"type": "pod-gone", "name": "cache-0"}));
    lines.push(json!({"type": "service-gone", "name": "cache"}));
    let others = [
        json!({"type": "pod", "name": "cache-0"}),
        json!({"type": "pod-gone", "name": "cache-0", "why": "unknown fields are none of version 1"}),
        json!({"type": "ready"}),
    ];
    check(&shipped::<InventoryLine>("inventory"), &lines, &others);
}

#[test]
fn frames_fit() {
    let mut lines: Vec<Value> = records()
        .into_iter()
        .filter_map(|record| match record {
            Record::Frame(frame) => Some(value(&FeedLine::Frame(Box::new(frame)))),
            Record::Inventory(_) => None,
        })
        .collect();
    let first = lines[0].as_object().expect("an object");
    assert!(first.contains_key("spanNs") && first["type"] == "frame", "{first:?}");
    let mut torn = first.clone();
    torn.remove("edges");
    lines.push(json!({"type": "sync", "id": 1}));
    check(
        &shipped::<FeedLine>("frame"),
        &lines,
        &[Value::Object(torn), json!({"type": "sync"})],
    );
}
