//! Opens the pages in a real browser, headless, in light and dark, wide and narrow, and measures what a person would meet:
//! sections that are there and have a height, nothing that runs out of its place, letters that can be read on their
//! ground, everything named for those who cannot see it, no error and no request.
//!
//! Skips, with a line that says so, where there is no browser; in CI (`CI=true`) that is a failure.

use std::path::{Path, PathBuf};
use std::process::Command;

use gauntlet_harness::report::files::{write_run, write_suite};
use gauntlet_harness::report::suite::{Beside, view};
use serde_json::Value;

use crate::fixture;

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Least contrast of text (WCAG 2.2, criterion 1.4.3).
const CONTRAST_MIN: f64 = 4.5;
/// Measures the page in the frame and leaves the result as text.
const MEASURE: &str = include_str!("measure.js");

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
struct Look {
    dark: bool,
    width: u32,
}

const LOOKS: [Look; 3] = [
    Look {
        dark: false,
        width: 1180,
    },
    Look {
        dark: true,
        width: 1180,
    },
    Look {
        dark: false,
        width: 390,
    },
];

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates = BROWSERS
        .iter()
        .flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    let found = candidates.into_iter().find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI has no browser: ci/setup installs chromium"
        );
        eprintln!("skipped: no browser ({}) on this machine", BROWSERS.join(", "));
    }
    found
}

/// Runs the browser on a page and returns what it printed: standard output, and its log.
fn browse(browser: &Path, home: &Path, look: Look, height: u32, arguments: &[&str], page: &Path) -> (String, String) {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--hide-scrollbars",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args(["--allow-file-access-from-files", "--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", home.join("profile").display()))
        .arg(format!("--window-size={},{height}", look.width))
        .arg(format!(
            "--blink-settings=preferredColorScheme={}",
            u8::from(!look.dark)
        ))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser starts");
    assert!(output.status.success(), "{output:?}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What `measure.js` found on a page.
fn measure(browser: &Path, page: &Path, look: Look) -> Value {
    let home = page.parent().expect("a directory");
    let wrapper = home.join("wrapper.html");
    let name = page.file_name().expect("a name").to_string_lossy();
    let html = format!(
        "<!doctype html><meta name=\"color-scheme\" content=\"light dark\"><style>body{{margin:0}}iframe{{border:0;width:{}px;height:3000px}}</style>\
         <pre id=\"measured\"></pre><iframe src=\"{name}\"></iframe><script>{MEASURE}</script>",
        look.width
    );
    std::fs::write(&wrapper, html).expect("written");
    let (dom, log) = browse(browser, home, look, 3000, &["--dump-dom"], &wrapper);
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(errors.is_empty(), "{look:?}: {errors:?}");
    let (_, after) = dom.split_once("<pre id=\"measured\">").expect("the wrapper's own text");
    let (text, _) = after.split_once("</pre>").expect("the wrapper's own text");
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{look:?}: {error}: {text}"))
}

fn check(page: &Path, sections: &[&str]) {
    let Some(browser) = browser() else { return };
    for look in LOOKS {
        let measured = measure(&browser, page, look);
        let found: Vec<&str> = measured["sections"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|section| section["height"].as_f64() > Some(60.0))
            .filter_map(|section| section["id"].as_str())
            .collect();
        assert_eq!(found, sections, "{look:?}: sections that can be seen");
        let problems = ["overflow", "outside", "unnamed", "duplicates", "requests", "scripts"];
        for problem in problems {
            assert_eq!(measured[problem], Value::Array(Vec::new()), "{look:?}: {problem}");
        }
        let faint: Vec<&Value> = measured["contrasts"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|one| one["ratio"].as_f64() < Some(CONTRAST_MIN))
            .collect();
        assert!(faint.is_empty(), "{look:?}: hard to read: {faint:?}");
        assert!(
            measured["texts"].as_u64() > Some(100),
            "{look:?}: nearly nothing was looked at: {measured}"
        );
        assert_eq!(measured["dark"], Value::Bool(look.dark), "{look:?}");
        // Way-around links, tables and drawings that scroll, and what unfolds.
        assert!(measured["focusable"].as_u64() > Some(8), "{look:?}: {measured}");
    }
    for look in &LOOKS[..2] {
        assert_painted(&browser, page, *look);
    }
}

/// The picture of the page has many colours, and its ground is that of its scheme.
fn assert_painted(browser: &Path, page: &Path, look: Look) {
    let home = page.parent().expect("a directory");
    let picture = home.join("picture.png");
    let screenshot = format!("--screenshot={}", picture.display());
    browse(browser, home, look, 2000, &[&screenshot], page);
    let wrapper = home.join("picture.html");
    let html = "<!doctype html><pre id=\"measured\"></pre><img id=\"picture\" src=\"picture.png\"><script>\
        onload=()=>{const i=document.getElementById('picture'),c=document.createElement('canvas');\
        c.width=i.naturalWidth;c.height=i.naturalHeight;const x=c.getContext('2d');x.drawImage(i,0,0);\
        const d=x.getImageData(0,0,c.width,c.height).data,n={};\
        for(let p=0;p<d.length;p+=4){const k=(d[p]>>4)+','+(d[p+1]>>4)+','+(d[p+2]>>4);n[k]=(n[k]||0)+1}\
        document.getElementById('measured').textContent=JSON.stringify({colours:Object.keys(n).length,\
        ground:Math.max(...Object.values(n))/(d.length/4),first:d[0]})}</script>";
    std::fs::write(&wrapper, html).expect("written");
    let (dom, _) = browse(browser, home, look, 2000, &["--dump-dom"], &wrapper);
    let text = dom
        .split_once("<pre id=\"measured\">")
        .and_then(|(_, after)| after.split_once("</pre>"));
    let (text, _) = text.unwrap_or_else(|| panic!("{look:?}: {dom}"));
    let painted: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{look:?}: {error}: {text}"));
    assert!(painted["colours"].as_u64() > Some(20), "{look:?}: {painted}");
    assert!(
        painted["ground"].as_f64() < Some(0.99),
        "{look:?}: nearly nothing is painted: {painted}"
    );
    assert_eq!(painted["first"].as_u64() < Some(128), look.dark, "{look:?}: {painted}");
}

#[test]
fn the_page_of_a_run_can_be_read() {
    let directory = fixture::run_directory();
    write_run(directory.path()).expect("reports");
    let sections = ["timeline", "topology", "answers", "score", "proof", "run"];
    check(&directory.path().join("report.html"), &sections);
}

#[test]
fn the_page_of_a_suite_can_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let (now, before) = (fixture::suite(), fixture::older_suite());
    let gate = fixture::gate_report();
    let beside = Beside {
        baseline: Some(&before),
        gate: Some(&gate),
    };
    let page = write_suite(directory.path(), &now, &view(&now, beside)).expect("reports");
    check(
        &page,
        &["matrix", "baseline", "scores", "times", "confusion", "validity", "run"],
    );
}
