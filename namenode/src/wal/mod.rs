//! The write-ahead log: every change of the namespace, durable before it is applied.
//!
//! A directory holds segments (`wal-<first index>.log`, written with zeros ahead of use) and a small ring of marks.
//! Records are appended in batches, each one synced write ([`mod@format`] describes the bytes). A mark says up to which
//! record replies have left: damage at or below it stops the start; above it, a batch that was never finished is cut.
//! One thread owns the files; `io_uring` is named in one module, plain writes in another.

mod appender;
pub mod format;
mod marks;
pub mod record;
mod replay;
mod segment;
#[cfg(test)]
mod tests;
mod thread;
mod uring;

use std::io;
use std::path::PathBuf;

use ringfs_proto::ids::LogIndex;

pub use format::BatchBuilder;
pub use replay::Replayed;
pub use thread::{Completion, WalHandle, start};

/// Bytes of the largest batch.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Records of the largest batch.
pub const BATCH_RECORDS_MAX: u32 = 65_536;

/// How the log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a segment, a multiple of 4 KiB, at least twice [`BATCH_BYTES_MAX`].
    pub segment_bytes: u64,
    /// Whether io_uring is used.
    pub io_uring: crate::config::IoUring,
}

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A place that was acknowledged cannot be read back.
    #[error(
        "replay {path} at offset {offset}: {reason}; records up to {acknowledged} were acknowledged, the last good one is {last_good}"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the batch begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
        /// The highest mark.
        acknowledged: LogIndex,
        /// The last record before the damage.
        last_good: LogIndex,
    },
    /// A segment is missing.
    #[error("replay {path}: it begins at record {found}, expected {expected}: a segment is missing")]
    Gap {
        /// The segment.
        path: PathBuf,
        /// Its first record.
        found: LogIndex,
        /// The record that should come next.
        expected: LogIndex,
    },
    /// A file that is not ours.
    #[error("open {path}: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The operating system refused.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// io_uring was demanded and is not to be had.
    #[error("io_uring is configured `on` but not available: {reason}; set io_uring = \"auto\" or allow it")]
    IoUringUnavailable {
        /// What the kernel said.
        reason: String,
    },
}

fn io_error(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> WalError {
    let path = path.into();
    move |source| WalError::Io { action, path, source }
}
