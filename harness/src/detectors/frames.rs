//! The way of live frames: our detector writes them into a pipe, and every detector that asked gets each line.
//!
//! Lines pass unread; what a frame holds is no business of this module.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::stat::Mode;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::task::JoinSet;

use super::feed::FrameFeed;

/// Longest frame that is passed on; a frame of `shop` has 20 kB.
const FRAME_BYTES_MAX: u64 = 16 << 20;

/// A named pipe, for as long as it takes our detector to open it.
#[derive(Debug)]
pub(super) struct FramePipe {
    path: PathBuf,
    output: Receiver,
}

impl FramePipe {
    /// Makes the pipe in `directory`.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let path = directory.join("frames.pipe");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Open for writing as well, so that it neither ends before our detector has opened it nor makes it wait.
        let output = OpenOptions::new().read_write(true).open_receiver(&path)?;
        Ok(Self { path, output })
    }

    /// What our detector is told to write to.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Passes lines on until the task is aborted.
    pub(super) fn pass_on(self, feeds: Vec<FrameFeed>, task: &mut JoinSet<()>) {
        // Both ends are open; its name is of no more use.
        let _gone = std::fs::remove_file(&self.path);
        task.spawn(pass_on(BufReader::new(self.output), feeds));
    }
}

async fn pass_on(mut lines: BufReader<Receiver>, feeds: Vec<FrameFeed>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines).take(FRAME_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(1..) if line.ends_with(b"\n") => {
                let line: Arc<[u8]> = Arc::from(line.as_slice());
                feeds.iter().for_each(|feed| feed.frame(&line));
            }
            // Beyond the bound, or broken: nothing that follows can be trusted to begin a line.
            Ok(_) | Err(_) => return,
        }
    }
}
