//! Prints what the probes see: inventory lines (NDJSON) on standard input, one frame per tick (JSON) on standard output.
//!
//! `watch [TICKS] [TICK_MS]`; what works without which hook, and what each program cost, go to standard error.

use std::io::{BufRead as _, Write as _};
use std::sync::mpsc;
use std::time::Duration;

use gauntlet_probes::{Options, Probes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let ticks: u64 = arguments.next().map_or(Ok(u64::MAX), |text| text.parse())?;
    let tick_ms: u64 = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let mut probes = Probes::attach(&Options::default())?;
    for capability in probes.capabilities() {
        eprintln!(
            "{:20} {:24} {:?}",
            capability.program, capability.hook, capability.state
        );
    }
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut output = std::io::stdout().lock();
    for _ in 0..ticks {
        std::thread::sleep(Duration::from_millis(tick_ms));
        for line in lines.try_iter().filter(|line| !line.trim().is_empty()) {
            probes.apply(&serde_json::from_str(&line)?);
        }
        serde_json::to_writer(&mut output, &probes.tick()?)?;
        output.write_all(b"\n")?;
    }
    for cost in probes.program_costs().iter().filter(|cost| cost.run_count > 0) {
        eprintln!(
            "{:20} {:10} runs {:6} ns each",
            cost.name,
            cost.run_count,
            cost.run_ns / cost.run_count
        );
    }
    Ok(())
}
