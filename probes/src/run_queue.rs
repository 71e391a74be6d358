//! How long a cgroup's runnable tasks waited for a CPU, from the scheduler's statistics of each task.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Tasks of one cgroup whose statistics are kept open; the time of those beyond is not known.
const TASKS_MAX: usize = 512;
/// Depth to which cgroups below are searched for processes.
const DEPTH_MAX: u32 = 6;

/// The tasks of a cgroup and of those below it.
#[derive(Debug)]
pub(crate) struct RunQueue {
    directory: Option<PathBuf>,
    tasks: HashMap<u32, Task>,
    process_count: Option<u32>,
}

#[derive(Debug)]
struct Task {
    statistics: File,
    wait_ns: u64,
}

impl RunQueue {
    /// The tasks of the cgroup (v2) in `directory`.
    pub(crate) fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            tasks: HashMap::new(),
            process_count: None,
        }
    }

    /// Looks for new tasks.
    pub(crate) fn refresh(&mut self) {
        let Some(directory) = &self.directory else { return };
        let mut processes = Vec::new();
        self.process_count = collect(directory, DEPTH_MAX, &mut processes).then_some(processes.len() as u32);
        for tgid in processes {
            let Ok(entries) = fs::read_dir(format!("/proc/{tgid}/task")) else {
                continue;
            };
            for entry in entries.flatten() {
                let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                    continue;
                };
                if self.tasks.len() >= TASKS_MAX || self.tasks.contains_key(&tid) {
                    continue;
                }
                if let Ok(statistics) = File::open(entry.path().join("schedstat")) {
                    let wait_ns = read(&statistics).unwrap_or(0);
                    self.tasks.insert(tid, Task { statistics, wait_ns });
                }
            }
        }
    }

    /// Time waited since it was last asked for, nanoseconds; `None` where no process is known.
    pub(crate) fn wait_ns(&mut self) -> Option<u64> {
        let mut total = 0;
        self.tasks.retain(|_, task| match read(&task.statistics) {
            Some(wait_ns) => {
                total += wait_ns.saturating_sub(task.wait_ns);
                task.wait_ns = wait_ns;
                true
            }
            None => false,
        });
        (!self.tasks.is_empty()).then_some(total)
    }

    /// Number of processes.
    pub(crate) fn process_count(&self) -> Option<u32> {
        self.process_count
    }
}

/// The second number of `schedstat`: time spent waiting on a run queue.
fn read(statistics: &File) -> Option<u64> {
    let mut buffer = [0; 96];
    let length = statistics.read_at(&mut buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..length])
        .ok()?
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Processes of a cgroup and those below; false if it is gone.
fn collect(directory: &Path, depth: u32, into: &mut Vec<u32>) -> bool {
    let Ok(list) = fs::read_to_string(directory.join("cgroup.procs")) else {
        return false;
    };
    into.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
    if depth > 0 {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                collect(&entry.path(), depth - 1, into);
            }
        }
    }
    true
}
