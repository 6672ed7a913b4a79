//! The write-ahead log: every change of the namespace, durable before it is applied.
//!
//! A directory holds segments (`wal-<first index>.log`, written with zeros ahead of use) and a small ring of marks.
//! Records are appended in batches, each one synced write ([`mod@format`] describes the bytes). A mark says up to which
//! record replies have left: damage at or below it stops the start; above it, a batch that was never finished is cut.
//!
//! Several directories are mirrors of each other, byte for byte: a batch is sealed once and acknowledged when all of them
//! have it ([`members`] says which ones have everything). [`Log`] does the work without threads; [`start`] gives it the thread
//! that owns it. `io_uring` is named in one module, plain writes in another.

mod appender;
pub mod collect;
pub mod format;
#[cfg(test)]
mod golden;
pub mod log;
mod marks;
pub mod members;
pub(crate) mod mirror;
mod prepare;
pub mod record;
mod replay;
pub mod segment;
#[cfg(test)]
mod tests;
mod thread;
mod uring;
pub mod values;

use std::io;
use std::path::PathBuf;

use ringfs_proto::ids::LogIndex;

pub use format::BatchBuilder;
pub use log::{Log, Status};
pub use thread::{Completion, WalHandle, start};
pub use values::{ValuePlace, Values, ValuesAt};

/// Bytes of the largest batch.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes of all values of the largest batch.
pub const VALUES_BYTES_MAX: usize = 8 << 20;
/// Records of the largest batch.
pub const BATCH_RECORDS_MAX: u32 = 65_536;
/// Bytes of the smallest segment. A batch that does not fit gets a larger one.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// How the log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a segment; at least [`SEGMENT_BYTES_MIN`], rounded up to 4 KiB.
    pub segment_bytes: u64,
    /// From which the epochs of segments are made: another one at each opening.
    pub seed: u64,
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
    #[error(
        "replay {path} at offset 0: it begins at record {found}, expected {expected}: a segment is missing"
    )]
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
    /// A directory that was in use when the log was last written cannot be read.
    #[error(
        "open {path}: {reason}; it was in use when the log was last written, and may have gone on alone: bring it back, or take it out of wal_dirs if the others are known to have gone on without it"
    )]
    Member {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// io_uring was demanded and is not to be had.
    #[error("io_uring is configured `on` but not available: {reason}; set io_uring = \"auto\" or allow it")]
    IoUringUnavailable {
        /// What the kernel said.
        reason: String,
    },
}

impl WalError {
    /// What happened and why, in one line.
    pub fn chain(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

pub(crate) fn io_error(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> WalError {
    let path = path.into();
    move |source| WalError::Io { action, path, source }
}
