//! `gauntlet doctor`: prints what the doctor found.

use crate::cli::{DoctorArgs, Exit, Format};
use crate::doctor::{Finding, Health, Report, examine};

/// Examines this machine and prints the report.
///
/// # Errors
/// When the report cannot be printed as JSON.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let report = examine();
    match args.format {
        Format::Human => print!("{}", text(&report)),
        Format::Json => println!("{}", serde_json::to_string(&report)?),
    }
    Ok(if report.can_run() { Exit::Pass } else { Exit::CannotHere })
}

fn text(report: &Report) -> String {
    let mut text = format!("Linux {}\n\nmachine\n", report.kernel);
    report.machine.iter().for_each(|finding| text += &line(finding));
    text += "\nhooks of the detector (each was attached)\n";
    report.hooks.iter().for_each(|finding| text += &line(finding));
    let count = |health| {
        report
            .machine
            .iter()
            .chain(&report.hooks)
            .filter(|finding| finding.health == health)
            .count()
    };
    text += &format!(
        "\n{} work, {} degraded, {} missing, {} fatal: {}\n",
        count(Health::Works),
        count(Health::Degraded),
        count(Health::Missing),
        count(Health::Fatal),
        if report.can_run() {
            "the main job can run here"
        } else {
            "the main job cannot run here (exit 69)"
        },
    );
    text
}

fn line(finding: &Finding) -> String {
    let mark = match finding.health {
        Health::Works => "ok      ",
        Health::Degraded => "degraded",
        Health::Missing => "missing ",
        Health::Fatal => "FATAL   ",
    };
    let mut line = format!("  {mark}  {:<30} {}\n", finding.name, finding.detail);
    if !finding.advice.is_empty() {
        line += &format!("            {:<30} → {}\n", "", finding.advice);
    }
    line
}
