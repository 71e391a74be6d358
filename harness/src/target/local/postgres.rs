//! PostgreSQL data directories: made once for each version and schema, kept in a cache, copied for each cluster.
//!
//! `initdb` and the schema take seconds, a copy takes a tenth of one. The making runs in namespaces of its own, so that
//! nothing of it (processes, shared memory) survives whoever ordered it. How a server is run is said in [`super::pods`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User};

use super::protocol::UserIds;
use crate::app::servers::{INITDB_ARGUMENTS, POSTGRES_LETS_IN};
use crate::target::namespace::{Confine, confine};

/// The user as whom PostgreSQL runs: it refuses to be root.
pub const SYSTEM_USER: &str = "postgres";
/// Raised when the making of a data directory changes, so that old ones are not used.
const TEMPLATE_VERSION: u32 = 1;
/// Exists on every Linux, and nothing in it is needed by the maker, which hides it from itself.
const WORK_DIRECTORY: &str = "/run";
/// Where the server's socket is meanwhile.
const WORK_SOCKETS: &str = "/run/sockets";
/// How long the server may take to answer for the first time.
const SERVER_PATIENCE: Duration = Duration::from_secs(20);

/// A data directory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The user is missing.
    #[error("there is no user {SYSTEM_USER}; the package postgresql makes it: apt-get install -y postgresql")]
    NoUser,
    /// Something of the file system or of processes.
    #[error("failed to {operation} {}", path.display())]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The schema was refused, or PostgreSQL did not run.
    #[error("failed to make a PostgreSQL data directory: {message}")]
    Make {
        /// What the maker said.
        message: String,
    },
}

/// Arguments of the maker.
#[derive(Clone, Debug, clap::Args)]
pub struct TemplateArgs {
    /// Directory of PostgreSQL's programs.
    #[arg(long)]
    programs: PathBuf,
    /// Where to put it when it is made; the schema comes over standard input.
    #[arg(long)]
    directory: PathBuf,
}

/// The user as whom PostgreSQL runs.
pub fn system_user() -> Result<UserIds, TemplateError> {
    let user = User::from_name(SYSTEM_USER)
        .ok()
        .flatten()
        .ok_or(TemplateError::NoUser)?;
    Ok(UserIds {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    })
}

/// The data directory for `seed_sql`, from the cache or newly made with `maker` (the program of the cluster's pods).
pub fn template(programs: &Path, seed_sql: &str, maker: &Path) -> Result<PathBuf, TemplateError> {
    let at = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| TemplateError::Io {
            operation,
            path,
            source,
        }
    };
    let server = programs.join("postgres");
    let version = Command::new(&server)
        .arg("--version")
        .output()
        .map_err(at("run", &server))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let cache = cache_directory();
    let kept = cache.join(format!(
        "postgres-{:016x}",
        fingerprint(&[&TEMPLATE_VERSION.to_string(), &version, seed_sql])
    ));
    if kept.is_dir() {
        return Ok(kept);
    }
    fs::create_dir_all(&cache).map_err(at("make", &cache))?;
    let staged = cache.join(".making");
    // One maker at a time; what another left half made, it will not finish.
    let lock = File::create(cache.join(".lock")).map_err(at("make a file in", &cache))?;
    lock.lock().map_err(at("lock", &cache))?;
    if kept.is_dir() {
        return Ok(kept);
    }
    match fs::remove_dir_all(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &staged)(error)),
        Ok(()) | Err(_) => (),
    }
    let output = run_maker(maker, programs, &staged, seed_sql).map_err(at("run", maker))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(TemplateError::Make { message });
    }
    fs::rename(&staged, &kept).map_err(at("rename to", &kept))?;
    Ok(kept)
}

/// Runs the maker as first process of a PID namespace, on a thread whose end is its end.
fn run_maker(maker: &Path, programs: &Path, staged: &Path, seed_sql: &str) -> io::Result<Output> {
    let mut command = Command::new(maker);
    command
        .arg("__postgres-template")
        .arg("--programs")
        .arg(programs)
        .arg("--directory")
        .arg(staged);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    confine(
        &mut command,
        vec![Confine::Session, Confine::Ipc, Confine::DieWithParent],
    );
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWPID)?;
            let mut child = command.spawn()?;
            // A maker that does not read has failed, and says why.
            let _ = child.stdin.take().expect("piped").write_all(seed_sql.as_bytes());
            child.wait_with_output()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn cache_directory() -> PathBuf {
    let own = std::env::var_os("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    own.unwrap_or_else(|| PathBuf::from("/var/cache")).join("gauntlet")
}

/// FNV-1a over the parts and their lengths: a name for a cache entry, not a protection.
fn fingerprint(parts: &[&str]) -> u64 {
    let bytes = parts
        .iter()
        .flat_map(|part| part.len().to_le_bytes().into_iter().chain(part.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

/// The maker: `initdb`, the schema, a clean stop. First process of its PID namespace, so that its end ends everything.
pub fn run(args: &TemplateArgs) -> anyhow::Result<()> {
    ensure!(
        std::process::id() == 1,
        "this is the first process of a namespace; the harness starts it"
    );
    let user = system_user()?;
    let work = private_memory()?;
    let seed = work.join("seed.sql");
    let mut file = File::create(&seed).with_context(|| format!("failed to make {}", seed.display()))?;
    io::copy(&mut io::stdin().lock(), &mut file).context("failed to read the schema")?;
    let data = work.join("data");
    for directory in [data.as_path(), Path::new(WORK_SOCKETS)] {
        fs::create_dir(directory).with_context(|| format!("failed to make {}", directory.display()))?;
        chown(directory, Some(user.uid), Some(user.gid))
            .with_context(|| format!("failed to give away {}", directory.display()))?;
    }
    let program = |name: &str| as_user(&args.programs.join(name), &work, user);
    let mut initdb = program("initdb");
    succeed(initdb.args(INITDB_ARGUMENTS).arg("-D").arg(&data))?;
    let rules = fs::OpenOptions::new().append(true).open(data.join("pg_hba.conf"));
    let let_in = rules.and_then(|mut rules| writeln!(rules, "{POSTGRES_LETS_IN}"));
    let_in.context("failed to write pg_hba.conf")?;
    seed_data(&program, &data, &seed)?;
    copy_directory(&data, &args.directory)
        .with_context(|| format!("failed to copy the data to {}", args.directory.display()))
}

/// Starts a server that only we can reach, gives it the schema, and stops it cleanly.
fn seed_data(program: &impl Fn(&str) -> Command, data: &Path, seed: &Path) -> anyhow::Result<()> {
    let mut server = program("postgres");
    for setting in ["listen_addresses=", "fsync=off", "dynamic_shared_memory_type=sysv"] {
        server.args(["-c", setting]);
    }
    server.args(["-k", WORK_SOCKETS, "-D"]).arg(data).stdout(Stdio::null());
    let mut server = server.spawn().context("failed to start postgres")?;
    let psql = || {
        let mut psql = program("psql");
        psql.args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-h",
            WORK_SOCKETS,
        ]);
        psql
    };
    let begun = Instant::now();
    while !psql()
        .args(["-c", "SELECT 1"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        ensure!(begun.elapsed() < SERVER_PATIENCE, "postgres does not answer");
        if let Some(status) = server.try_wait().context("failed to watch postgres")? {
            bail!("postgres ended before its time ({status})");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    succeed(psql().arg("-f").arg(seed))?;
    // SIGINT is PostgreSQL's fast shutdown: a checkpoint, and no recovery at the next start.
    let tgid = Pid::from_raw(i32::try_from(server.id()).context("process id out of range")?);
    kill(tgid, Signal::SIGINT).context("failed to stop postgres")?;
    let status = server.wait().context("failed to wait for postgres")?;
    ensure!(status.success(), "postgres did not stop cleanly ({status})");
    Ok(())
}

/// Memory as a file system that dies with this process: nothing half made stays, and the server's user can reach it,
/// which need not be so for the cache.
fn private_memory() -> anyhow::Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNS).context("failed to make a mount namespace")?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing).context("failed to detach mounts")?;
    let work = PathBuf::from(WORK_DIRECTORY);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &work, Some("tmpfs"), flags, Some("mode=0755")).context("failed to mount memory")?;
    Ok(work)
}

fn as_user(program: &Path, directory: &Path, user: UserIds) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env("LC_ALL", "C").stdin(Stdio::null());
    confine(
        &mut command,
        vec![Confine::User(Uid::from_raw(user.uid), Gid::from_raw(user.gid))],
    );
    command
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("failed to run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let how = output
        .status
        .signal()
        .map_or_else(|| output.status.to_string(), |signal| format!("signal {signal}"));
    ensure!(output.status.success(), "{name} failed ({how}): {}", said.trim());
    Ok(())
}

/// Fails if the server's user could not reach `directory`, which PostgreSQL would only say in its log.
pub fn check_reachable(directory: &Path) -> Result<(), TemplateError> {
    for ancestor in directory.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        let io = |source| TemplateError::Io {
            operation: "use for a database",
            path: ancestor.to_owned(),
            source,
        };
        let mode = fs::metadata(ancestor).map_err(io)?.mode();
        if mode & 0o001 == 0 {
            let source = io::Error::new(io::ErrorKind::PermissionDenied, "other users may not pass through it");
            return Err(io(source));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_schema_is_another_cache_entry() {
        assert_eq!(fingerprint(&["1", "ab"]), fingerprint(&["1", "ab"]));
        assert_ne!(fingerprint(&["1", "ab"]), fingerprint(&["1a", "b"]));
        assert_ne!(fingerprint(&["1", "ab"]), fingerprint(&["1", "ac"]));
    }
}
