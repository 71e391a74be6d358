//! The schemas of the files that Gauntlet writes for others to read, made from the types themselves.
//!
//! What is shipped lies in `harness/schema/`; a test compares it with what is made here, so a changed type that others
//! read cannot go unseen in a review.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::gate::report::GateReport;
use crate::run::result::RunResult;
use crate::suite::outcome::SuiteResult;

/// Every shipped schema: name of its file in `harness/schema/`, and the schema.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        (
            "result.schema.json",
            schema::<RunResult>("A run, measured and judged: result.json"),
        ),
        (
            "suite.schema.json",
            schema::<SuiteResult>("What came of a suite: suite.json"),
        ),
        (
            "gate-report.schema.json",
            schema::<GateReport>("What the gate found: gauntlet gate --format json"),
        ),
    ]
}

fn schema<T: JsonSchema>(title: &str) -> Schema {
    // As written, not as read: a field that is always written is required of whoever writes such a file.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema
}
