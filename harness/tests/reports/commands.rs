//! `gauntlet report`: what it writes, and how it refuses.

use std::path::Path;
use std::process::{Command, Output};

use crate::fixture;

fn report(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
    command
        .arg("report")
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_run_directory_gets_all_its_reports_and_the_same_ones_again() {
    let directory = fixture::run_directory();
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).expect("written");
    let mut made = Vec::new();
    for _ in 0..2 {
        let output = report(&[&text(directory.path())]);
        assert!(output.status.success(), "{output:?}");
        made.push(["report.html", "junit.xml", "summary.md"].map(read));
    }
    assert_eq!(made[0], made[1]);
    let [page, junit, markdown] = &made[0];
    for word in [
        "true cause",
        "web → cache",
        "users → web",
        "network filter",
        "alert-count",
    ] {
        assert!(page.contains(word), "`{word}` is missing in the page");
    }
    assert!(!page.contains("<script"), "a page works without scripts");
    assert!(
        junit.contains("tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"0\""),
        "{junit}"
    );
    assert!(markdown.contains("**PASS**"), "{markdown}");
}

#[test]
fn one_report_goes_where_it_is_sent() {
    let directory = fixture::run_directory();
    let out = directory.path().join("elsewhere.md");
    let output = report(&[&text(directory.path()), "--format", "markdown", "--out", &text(&out)]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let printed = report(&[&text(directory.path()), "--format", "markdown"]);
    assert_eq!(printed.stdout, std::fs::read(&out).expect("written"));
}

#[test]
fn a_suite_is_shown_beside_its_baseline_and_its_gate() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        text(&path)
    };
    let now = write("suite.json", &serde_json::to_vec(&fixture::suite()).expect("JSON"));
    let before = write(
        "older.json",
        &serde_json::to_vec(&fixture::older_suite()).expect("JSON"),
    );
    let gate = write("gate.json", &serde_json::to_vec(&fixture::gate_report()).expect("JSON"));
    let arguments = ["--baseline", &before, "--gate", &gate, "--format"];
    let page = report(&[&[now.as_str()][..], &arguments[..], &["html"]].concat());
    let page = String::from_utf8(page.stdout).expect("UTF-8");
    for word in [
        "<h3>The gate</h3>",
        "✗ FAIL",
        "90 % interval",
        "Hard limits",
        "▲ gained",
        "▼ lost",
        "gauntlet-detector 0.0.9",
        "&lt;script&gt;",
    ] {
        assert!(page.contains(word), "`{word}` is missing in the page");
    }
    assert!(!page.contains("<script"), "names of others are text");
    let markdown = write("gate.md", b"### Detection gate: PASS\n");
    let refused = report(&[&now, "--gate", &markdown]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    let written = report(&[&text(directory.path())]);
    assert!(written.status.success(), "{written:?}");
    assert!(directory.path().join("report.html").is_file());
}

#[test]
fn what_is_no_run_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let refused = report(&[&text(directory.path())]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("result.json"),
        "{refused:?}"
    );
    std::fs::write(directory.path().join("suite.json"), "{\"version\": 9}").expect("written");
    let newer = report(&[&text(directory.path())]);
    assert_eq!(newer.status.code(), Some(64), "{newer:?}");
    assert!(
        String::from_utf8_lossy(&newer.stderr).contains("version 9"),
        "{newer:?}"
    );
}

#[test]
fn a_recording_that_breaks_off_or_lacks_is_said_on_the_page() {
    let directory = fixture::run_directory();
    let frames = directory.path().join("frames.zst");
    let bytes = std::fs::read(&frames).expect("a recording");
    std::fs::write(&frames, &bytes[..bytes.len() / 2]).expect("written");
    let page =
        |directory: &Path| String::from_utf8(report(&[&text(directory), "--format", "html"]).stdout).expect("UTF-8");
    let half = page(directory.path());
    assert!(
        half.contains("not read to its end") && half.contains("web → cache"),
        "the readable half is shown"
    );
    std::fs::remove_file(&frames).expect("removed");
    assert!(page(directory.path()).contains("nothing was recorded"));
}
