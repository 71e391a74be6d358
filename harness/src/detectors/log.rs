//! A detector's standard error, copied to its log: bounded, and without the detector holding the file.
//!
//! The file's path names the run and its scenario, which a detector could read off an open descriptor.

use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Bytes of a detector's standard error that are kept; more is read and thrown away, so that it never blocks.
const LOG_BYTES_MAX: usize = 4 << 20;
const CHUNK_BYTES: usize = 16 << 10;

/// Creates the log and starts copying; the task ends with the stream.
pub(super) async fn copy(
    mut stream: impl AsyncRead + Unpin + Send + 'static,
    path: &Path,
) -> std::io::Result<JoinHandle<()>> {
    let mut file = File::create(path).await?;
    Ok(tokio::spawn(async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut room = LOG_BYTES_MAX;
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            let kept = length.min(room);
            room -= kept;
            if kept > 0 {
                // A full disk shows in the run's own files; the detector is not stopped for its log.
                let _unwritten = file.write_all(&chunk[..kept]).await;
                let _unwritten = file.flush().await;
            }
        }
    }))
}
