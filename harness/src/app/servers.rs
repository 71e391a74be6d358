//! How the real servers of an application are told to behave: the same on every target.
//!
//! Arguments only; where the programs are and who starts them is the target's.

use super::postgres::CONNECTION_COUNT_MAX;

/// How a database's directory is made; its place (`-D`) follows.
pub const INITDB_ARGUMENTS: [&str; 7] = [
    "--no-sync",
    "--auth=trust",
    "--username=postgres",
    "--wal-segsize=1",
    "--encoding=UTF8",
    "--locale=C",
    "--no-instructions",
];
/// The line of `pg_hba.conf` that lets the application's services in.
pub const POSTGRES_LETS_IN: &str = "host all all 0.0.0.0/0 trust";

/// Arguments of `redis-server` that listens on `addresses` (separated by spaces) and holds at most `max_memory_mib`.
#[must_use]
pub fn redis_arguments(addresses: &str, port: u16, max_memory_mib: Option<u32>) -> Vec<String> {
    let port = port.to_string();
    let mut arguments = strings(&["--port", &port, "--bind", addresses, "--save", "", "--appendonly", "no"]);
    arguments.extend(strings(&["--protected-mode", "no", "--daemonize", "no"]));
    if let Some(mebibytes) = max_memory_mib {
        let bytes = (u64::from(mebibytes) << 20).to_string();
        arguments.extend(strings(&["--maxmemory", &bytes, "--maxmemory-policy", "allkeys-lru"]));
    }
    arguments
}

/// Arguments of `postgres` that listens on `addresses`; its data (`-D`) come before them.
#[must_use]
pub fn postgres_settings(addresses: &str, port: u16) -> Vec<String> {
    let settings = [
        format!("listen_addresses={addresses}"),
        format!("port={port}"),
        "unix_socket_directories=".to_owned(),
        format!("max_connections={CONNECTION_COUNT_MAX}"),
        "shared_buffers=32MB".to_owned(),
        // Dies with the pod's IPC namespace.
        "dynamic_shared_memory_type=sysv".to_owned(),
        // The data need not outlive the run.
        "fsync=off".to_owned(),
        "synchronous_commit=off".to_owned(),
        "full_page_writes=off".to_owned(),
        "jit=off".to_owned(),
    ];
    settings
        .into_iter()
        .flat_map(|setting| ["-c".to_owned(), setting])
        .collect()
}

fn strings(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|&part| part.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_memory_evicts_and_none_is_none() {
        assert!(!redis_arguments("0.0.0.0", 6379, None).contains(&"--maxmemory".to_owned()));
        let bounded = redis_arguments("10.0.0.1 127.0.0.1", 6379, Some(64)).join(" ");
        assert!(bounded.contains("--bind 10.0.0.1 127.0.0.1 "), "{bounded}");
        assert!(
            bounded.ends_with("--maxmemory 67108864 --maxmemory-policy allkeys-lru"),
            "{bounded}"
        );
    }
}
