//! The `gauntlet` command.

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("__fault-agent") => gauntlet_harness::fault::agent::agent_main(),
        _ => anyhow::bail!("no command given"),
    }
}
