//! The trials of tools and kernel features. Does not try hooks; see the parent.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::{Finding, Health};

/// One ability and how it is tried.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    name: &'static str,
    attempt: fn() -> Result<String, String>,
    when_missing: Health,
    advice: &'static str,
}

impl Trial {
    /// Tries it.
    #[must_use]
    pub fn run(&self) -> Finding {
        let (health, detail, advice) = match (self.attempt)() {
            Ok(detail) => (Health::Works, detail, String::new()),
            Err(detail) => (self.when_missing, detail, self.advice.to_owned()),
        };
        Finding {
            name: self.name.to_owned(),
            health,
            detail,
            advice,
        }
    }
}

/// All trials, the most fundamental first.
#[must_use]
pub fn trials() -> [Trial; 14] {
    let trial = |name, attempt, when_missing, advice| Trial {
        name,
        attempt,
        when_missing,
        advice,
    };
    use Health::{Degraded, Fatal, Missing};
    [
        trial("root", root, Fatal, "run as root: namespaces, cgroups and eBPF need it"),
        trial(
            "network namespaces",
            namespaces,
            Fatal,
            "without them there is no local cluster",
        ),
        trial("cgroups", cgroups, Fatal, "pods need a cgroup each; mount cgroup2"),
        trial(
            "redis-server",
            || version("redis-server", "--version"),
            Fatal,
            "apt-get install -y redis-server",
        ),
        trial("postgres", postgres, Fatal, "apt-get install -y postgresql"),
        trial(
            "nft",
            || version("nft", "--version"),
            Fatal,
            "apt-get install -y nftables",
        ),
        trial(
            "nftables nat",
            nft_nat,
            Fatal,
            "Services are DNAT rules; the kernel needs nf_tables with nat and numgen",
        ),
        trial("tc", || version("tc", "-V"), Fatal, "apt-get install -y iproute2"),
        trial(
            "veth and bridge",
            veth_bridge,
            Fatal,
            "pods and nodes are joined by veth pairs and a bridge",
        ),
        trial(
            "tc clsact + bpf",
            clsact,
            Missing,
            "no network-loss fault where netem is missing too",
        ),
        trial("tc tbf", tbf, Missing, "no network-bandwidth fault"),
        trial(
            "tc netem",
            netem,
            Degraded,
            "delay is made with a netfilter queue and loss with clsact instead",
        ),
        trial(
            "netfilter queue",
            nfqueue,
            Missing,
            "no network-delay fault where netem is missing; apt-get install -y iptables",
        ),
        trial(
            "pressure stall information",
            pressure,
            Degraded,
            "no pressure signals; boot with psi=1",
        ),
    ]
}

/// Where a program is: the path, the administrator's directories, and PostgreSQL's own.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from));
    directories
        .into_iter()
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn version(program: &str, flag: &str) -> Result<String, String> {
    let path = find_program(program).ok_or_else(|| "not found".to_owned())?;
    let output = Command::new(&path)
        .arg(flag)
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let text = text.lines().next().unwrap_or_default().trim().to_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{} {flag}: {}", path.display(), output.status))
    }
}

fn root() -> Result<String, String> {
    let id = nix::unistd::geteuid();
    if id.is_root() {
        Ok("uid 0".to_owned())
    } else {
        Err(format!("uid {id}"))
    }
}

/// Runs `commands` in order in a network namespace of their own; the first failure is told.
fn in_namespace(commands: &[&str]) -> Result<String, String> {
    let commands: Vec<Vec<String>> = commands.iter().map(|command| words(command)).collect();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("unshare: {errno}"))?;
        for command in &commands {
            let program = find_program(&command[0]).ok_or_else(|| format!("{} not found", command[0]))?;
            let output = Command::new(program)
                .args(&command[1..])
                .stdin(Stdio::null())
                .output()
                .map_err(|error| format!("{}: {error}", command[0]))?;
            if !output.status.success() {
                let reason = String::from_utf8_lossy(&output.stderr)
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned();
                return Err(format!("{}: {reason}", command.join(" ")));
            }
        }
        Ok("tried in a namespace of its own".to_owned())
    })
    .join()
    .unwrap_or_else(|_| Err("the trial panicked".to_owned()))
}

/// Words of a command; single quotes hold one together.
fn words(command: &str) -> Vec<String> {
    command
        .split('\'')
        .enumerate()
        .flat_map(|(index, part)| {
            let quoted = index % 2 == 1;
            if quoted {
                vec![part.to_owned()]
            } else {
                part.split_whitespace().map(str::to_owned).collect()
            }
        })
        .collect()
}

fn namespaces() -> Result<String, String> {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
            .map(|()| "network, mount and process namespaces".to_owned())
            .map_err(|errno| format!("unshare: {errno}"))
    })
    .join()
    .unwrap_or_else(|_| Err("the trial panicked".to_owned()))
}

fn cgroups() -> Result<String, String> {
    let hybrid = Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists();
    let unified = if hybrid {
        "/sys/fs/cgroup/unified"
    } else {
        "/sys/fs/cgroup"
    };
    if !Path::new(unified).join("cgroup.procs").exists() {
        return Err(format!("no cgroup2 at {unified}"));
    }
    let trial = Path::new(unified).join(format!("gauntlet-doctor-{}", std::process::id()));
    std::fs::create_dir(&trial).map_err(|error| format!("{unified}: {error}"))?;
    std::fs::remove_dir(&trial).map_err(|error| format!("{unified}: {error}"))?;
    if !hybrid {
        return Ok(format!("v2 at {unified}"));
    }
    match ["cpu", "memory", "freezer"]
        .iter()
        .find(|name| !Path::new("/sys/fs/cgroup").join(name).is_dir())
    {
        None => Ok(format!("hybrid: v2 at {unified}, limits on v1")),
        Some(name) => Err(format!("hybrid, but the v1 controller {name} is not mounted")),
    }
}

fn postgres() -> Result<String, String> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| {
            ["postgres", "initdb", "psql"]
                .iter()
                .all(|name| bin.join(name).is_file())
        })
        .collect();
    found.sort();
    if let Some(bin) = found.last() {
        return Ok(bin.display().to_string());
    }
    for name in ["postgres", "initdb", "psql"] {
        find_program(name).ok_or_else(|| format!("{name} not found"))?;
    }
    Ok("in PATH".to_owned())
}

fn nft_nat() -> Result<String, String> {
    in_namespace(&[
        "nft add table ip doctor",
        "nft add chain ip doctor pre { type nat hook prerouting priority dstnat ; }",
        "nft add rule ip doctor pre ip daddr 10.96.0.1 tcp dport 80 dnat to numgen random mod 2 map { 0 : 10.244.1.2 , 1 : 10.244.1.3 }",
    ])
}

fn veth_bridge() -> Result<String, String> {
    in_namespace(&[
        "ip link add b0 type bridge",
        "ip link add v0 type veth peer name v1",
        "ip link set v0 master b0",
    ])
}

fn clsact() -> Result<String, String> {
    in_namespace(&[
        "tc qdisc add dev lo clsact",
        "tc filter add dev lo egress bpf da bytecode '1,6 0 0 0'",
    ])
}

fn tbf() -> Result<String, String> {
    in_namespace(&["tc qdisc add dev lo root tbf rate 1mbit burst 32kbit latency 50ms"])
}

fn netem() -> Result<String, String> {
    in_namespace(&["tc qdisc add dev lo root netem delay 1ms"])
}

fn nfqueue() -> Result<String, String> {
    in_namespace(&["iptables-legacy -t mangle -A PREROUTING -p udp -j NFQUEUE --queue-num 0 --queue-bypass"])
}

fn pressure() -> Result<String, String> {
    std::fs::read_to_string("/proc/pressure/cpu")
        .map(|text| text.lines().next().unwrap_or_default().to_owned())
        .map_err(|error| error.to_string())
}
