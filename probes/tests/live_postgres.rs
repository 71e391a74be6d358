//! A real PostgreSQL server and client, and exactly as many queries and errors seen.
//!
//! Needs root, PostgreSQL's server programs and a kernel that takes the probes; says so and passes where it cannot run.

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use gauntlet_probes::frame::Protocol;
use support::{SERVER, Server, clients, cluster, servers, total_l7};
use tokio_postgres::NoTls;

/// Where the distribution keeps `initdb` and `postgres`.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    versions.sort();
    versions.pop().map(|version| version.join("bin"))
}

/// Data of a server that goes with the test.
struct Data(PathBuf);

impl Drop for Data {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Connects until the server has started up.
fn await_ready() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = format!("host={SERVER} user=postgres dbname=postgres");
        for _ in 0..500 {
            if tokio_postgres::connect(&config, NoTls).await.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the server did not start up");
    });
}

#[test]
fn every_query_and_error_is_counted_on_both_sides() {
    let Some(mut cluster) = cluster() else { return };
    let Some(programs) = programs() else {
        println!("skipped: no PostgreSQL server is installed");
        return;
    };
    let data = Data(std::env::temp_dir().join(format!("gauntlet-test-postgres-{}", std::process::id())));
    let status = Command::new("setpriv")
        .args(["--reuid", "postgres", "--clear-groups"])
        .arg(programs.join("initdb"))
        .args(["--auth=trust", "--no-sync", "-D"])
        .arg(&data.0)
        .current_dir("/")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::write(data.0.join("pg_hba.conf"), "host all all 0.0.0.0/0 trust\n").unwrap();
    let mut command = cluster.server.command("setpriv");
    command.args(["--reuid", "postgres", "--clear-groups", "--pdeathsig", "KILL"]);
    command.arg(programs.join("postgres")).arg("-D").arg(&data.0);
    command.args([
        "-h",
        SERVER,
        "-p",
        "5432",
        "-c",
        "unix_socket_directories=",
        "-c",
        "fsync=off",
    ]);
    let mut server = Server(command.stderr(Stdio::null()).spawn().unwrap());
    cluster.await_port(5432);
    // It listens before it is ready; asked from the node, so that the client's edge stays untouched.
    cluster.node.run(await_ready).join().unwrap();
    let work = cluster.client.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let config = format!("host={SERVER} user=postgres dbname=postgres");
            let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
            tokio::spawn(connection);
            for _ in 0..40 {
                client.simple_query("select 1").await.unwrap();
            }
            for _ in 0..5 {
                assert!(client.simple_query("select nonsense").await.is_err());
            }
            let statement = client.prepare("select $1::int4").await.unwrap();
            for index in 0..30 {
                client.query(&statement, &[&index]).await.unwrap();
            }
        });
    });
    work.join().unwrap();
    let frames = cluster.watch(4);
    for sides in [clients(&frames, 5432), servers(&frames, 5432)] {
        let count = |number: fn(&gauntlet_probes::frame::L7Sample) -> u32| total_l7(&sides, Protocol::Postgres, number);
        assert_eq!((count(|l7| l7.requests), count(|l7| l7.responses)), (75, 75));
        assert_eq!((count(|l7| l7.errors), count(|l7| l7.unparsed)), (5, 0));
    }
    // A quick end, so that its shared memory goes too; the handle's own kill would leave it.
    let tgid = nix::unistd::Pid::from_raw(i32::try_from(server.0.id()).unwrap());
    nix::sys::signal::kill(tgid, nix::sys::signal::Signal::SIGINT).unwrap();
    server.0.wait().unwrap();
}
