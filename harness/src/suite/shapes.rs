//! Every field of the suite format: one table that checks the files and documents them.
//!
//! `scenarios/README.md` contains these tables; a test keeps the two equal.

use crate::scenario::reader::{Shape, may, must};

/// The whole file.
pub static SUITE: Shape = Shape {
    path: "suite",
    fields: &[
        must("apiVersion", "`gauntlet/v1`", "Version of this format.", "gauntlet/v1"),
        must("kind", "`Suite`", "What the file declares.", "Suite"),
        must(
            "metadata",
            "mapping",
            "Names for people and for lists.",
            "{name: nightly, …}",
        ),
        must("spec", "mapping", "What is to be run.", "{scenarios: […], trials: 3}"),
    ],
};

/// `metadata`.
pub static METADATA: Shape = Shape {
    path: "metadata",
    fields: &[
        must(
            "name",
            "name",
            "Unique among the suites, and the name of the file.",
            "nightly",
        ),
        must("title", "text", "One line for lists.", "All scenarios, three times"),
        may(
            "description",
            "text",
            "the title",
            "What the suite is good for.",
            "Before a release …",
        ),
    ],
};

/// `spec`.
pub static SPEC: Shape = Shape {
    path: "spec",
    fields: &[
        must(
            "scenarios",
            "list",
            "Which scenarios, in this order. One that several elements choose runs once, at its first place.",
            "[{class: cache}, {name: none}]",
        ),
        may(
            "trials",
            "number",
            "`1`, or the number of `seeds`",
            "How often each scenario runs, 1 to 1000, each time with another seed.",
            "3",
        ),
        may(
            "seed",
            "number",
            "`1`",
            "Seed of each first trial; trial k has seed + k − 1.",
            "201",
        ),
        may(
            "seeds",
            "list of numbers",
            "counted up from `seed`",
            "The seeds of the trials, where they are not to be consecutive.",
            "[3, 14, 15]",
        ),
        may(
            "retries",
            "number",
            "`1`",
            "How often a run that is not VALID is repeated, 0 to 5, with another seed. What a detector said is never a \
             reason.",
            "1",
        ),
    ],
};

/// An element of `spec.scenarios`.
pub static CHOICE: Shape = Shape {
    path: "spec.scenarios[]",
    fields: &[
        may(
            "name",
            "name, pattern or path",
            "every name of the catalogue",
            "Name in the catalogue, where `*` is any text; or the path of a file, seen from the suite.",
            "cache-*",
        ),
        may("class", "text", "every class", "The scenario's label `class`.", "cache"),
        may(
            "labels",
            "mapping of text",
            "any labels",
            "Labels that the scenario has, all of them.",
            "{story: seed}",
        ),
    ],
};

/// All of them, in the order of the documentation.
pub static ALL: &[&Shape] = &[&SUITE, &METADATA, &SPEC, &CHOICE];
