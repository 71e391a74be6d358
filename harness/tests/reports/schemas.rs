//! The shipped schemas are those of the types, and what is written keeps to them.

use std::path::Path;

use expect_test::expect_file;
use gauntlet_harness::schema::schemas;
use serde_json::{Value, json};

use crate::fixture;

fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(name);
    let text = std::fs::read_to_string(path).expect("a shipped schema");
    serde_json::from_str(&text).expect("JSON")
}

fn problems(schema: &Value, instance: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).expect("a schema");
    validator.iter_errors(instance).map(|error| error.to_string()).collect()
}

#[test]
fn shipped_schemas_are_those_of_the_types() {
    for (name, schema) in schemas() {
        let text = serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(name);
        expect_file![path].assert_eq(&text);
    }
}

#[test]
fn what_is_written_keeps_to_the_schema() {
    let result = serde_json::to_value(fixture::result()).expect("JSON");
    assert_eq!(problems(&schema("result.schema.json"), &result), Vec::<String>::new());
    let suite = serde_json::to_value(fixture::suite()).expect("JSON");
    assert_eq!(problems(&schema("suite.schema.json"), &suite), Vec::<String>::new());
    let gate = serde_json::to_value(fixture::gate_report()).expect("JSON");
    assert_eq!(
        problems(&schema("gate-report.schema.json"), &gate),
        Vec::<String>::new()
    );
}

#[test]
fn schemas_refuse_what_is_wrong() {
    let schema = schema("result.schema.json");
    let mut result = serde_json::to_value(fixture::result()).expect("JSON");
    result["truth"]["causes"][0]["mechanism"] = json!("network.gremlins");
    assert!(!problems(&schema, &result).is_empty(), "an unknown mechanism");
    let mut result = serde_json::to_value(fixture::result()).expect("JSON");
    result.as_object_mut().expect("an object").remove("validity");
    assert!(!problems(&schema, &result).is_empty(), "a missing field");
    let schema = self::schema("gate-report.schema.json");
    let mut gate = serde_json::to_value(fixture::gate_report()).expect("JSON");
    gate["metrics"][0]["verdict"] = json!("maybe");
    assert!(!problems(&schema, &gate).is_empty(), "an unknown verdict");
}
