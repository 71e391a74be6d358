//! Real servers on loopback, and how they are started and ended.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a server may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// A server process, ended when dropped.
pub(crate) struct Server(pub(crate) Child);

impl Drop for Server {
    /// By its own way of shutting down, so that it reaps its children; killed when that takes too long.
    fn drop(&mut self) {
        let asked = Instant::now();
        for signal in [Signal::SIGCONT, Signal::SIGINT] {
            // Already gone is as good.
            let _ = kill(pid(&self.0), signal);
        }
        while asked.elapsed() < STOP_TIMEOUT {
            if matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The programs that this machine has.
pub(crate) struct Tools {
    postgres_directory: PathBuf,
    pub(crate) postgres_user: User,
}

impl Tools {
    pub(crate) fn find() -> Result<Self, String> {
        if !Uid::effective().is_root() {
            return Err("not root".to_owned());
        }
        let in_path = std::env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = std::env::split_paths(&in_path).collect();
        if !directories
            .iter()
            .any(|directory| directory.join("redis-server").exists())
        {
            return Err("no redis-server in PATH".to_owned());
        }
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        directories.extend(versions.map(|version| version.path().join("bin")));
        let postgres_directory = directories
            .into_iter()
            .find(|directory| directory.join("initdb").exists())
            .ok_or("no initdb")?;
        let user = User::from_name("postgres").ok().flatten().ok_or("no user postgres")?;
        Ok(Self {
            postgres_directory,
            postgres_user: user,
        })
    }

    pub(crate) fn redis(&self, port: u16, scratch: &Path) -> Server {
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
            &port.to_string(),
        ]);
        spawn(command.current_dir(scratch))
    }

    pub(crate) fn postgres(&self, port: u16, scratch: &Path, seed: &str) -> Server {
        let data = scratch.join("data");
        let data_text = data.to_str().expect("a plain path");
        let as_postgres = |program: &str| {
            let mut command = Command::new(self.postgres_directory.join(program));
            command
                .uid(self.postgres_user.uid.as_raw())
                .gid(self.postgres_user.gid.as_raw())
                .current_dir(scratch);
            command
        };
        let options = [
            "--no-sync",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
            data_text,
        ];
        output(as_postgres("initdb").args(options));
        let socket = format!("unix_socket_directories={}", scratch.display());
        let options = ["-D", data_text, "-h", "127.0.0.1", "-p", &port.to_string()];
        let settings = ["-c", &socket, "-c", "fsync=off", "-c", "max_connections=50"];
        let server = spawn(as_postgres("postgres").args(options).args(settings));
        wait_for_port(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let file = scratch.join("seed.sql");
        std::fs::write(&file, seed).expect("writable");
        let (port, file) = (port.to_string(), file.to_str().expect("a plain path").to_owned());
        let database = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-qf",
            &file,
        ];
        let started = Instant::now();
        // The port accepts a moment before the server is ready to answer.
        while !succeeds(Command::new("psql").args(&database[..8]).args(["-c", "SELECT 1"])) {
            assert!(started.elapsed() < START_TIMEOUT, "the database does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        output(Command::new("psql").args(["-v", "ON_ERROR_STOP=1"]).args(database));
        println!("seeded in {:?}", started.elapsed());
        server
    }
}

fn spawn(command: &mut Command) -> Server {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Server(silent.spawn().expect("the program is there"))
}

pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().expect("the program is there");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}

pub(crate) fn free_port() -> u16 {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

pub(crate) fn wait_for_port(address: SocketAddr) {
    let started = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(started.elapsed() < START_TIMEOUT, "nothing listens on {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
