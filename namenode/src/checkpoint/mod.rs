//! Checkpoints: the namespace at one record in one file, so that a start replays only the log after it.
//!
//! A checkpoint lies beside the log in every live directory. It is written under another name, synced and renamed, so that
//! a file with its name is whole, or damaged by the disk. The two newest are kept, and the log from the older of them on:
//! when the newest cannot be read, the one before it and a longer tail give the same namespace.
//!
//! [`mod@format`] has the bytes, [`Run`] writes, [`load`] reads, [`thread`](start) moves the writing off the namespace
//! thread. What is in a checkpoint is decided by the state ([`crate::state::Snapshot`]).

pub mod format;
mod read;
mod run;
#[cfg(test)]
mod tests;
mod thread;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ringfs_disk::Disk;
use ringfs_proto::ids::LogIndex;

use crate::wal::{WalError, segment};

pub use read::load;
pub use run::{Beside, Done, Kind, Run, Written};
pub use thread::{Handle, start};

/// Checkpoints that are kept.
pub const KEPT: usize = 2;
/// Under this name a checkpoint is written.
const PART: &str = "checkpoint.part";
const PREFIX: &str = "checkpoint-";
const DAMAGED: &str = ".damaged";

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It is not what was written.
    #[error("read {path} at offset {offset}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The directory of a backup is not what it has to be.
    #[error("back up to {path}: {reason}")]
    Target {
        /// The directory.
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
}

impl CheckpointError {
    /// What happened and why, in one line.
    pub fn chain(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

fn io_error(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.into();
    move |source| CheckpointError::Io { action, path, source }
}

/// The file of the checkpoint at `index`.
pub fn path(directory: &Path, index: LogIndex) -> PathBuf {
    directory.join(format!("{PREFIX}{:020}", index.0))
}

/// The checkpoints of a directory, ascending.
///
/// # Errors
/// What the operating system says.
pub fn list(disk: &dyn Disk, directory: &Path) -> io::Result<Vec<LogIndex>> {
    let mut found: Vec<LogIndex> = disk.list(directory)?.iter().filter_map(|name| parse_name(name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Puts a checkpoint that does not verify out of the way: it no longer counts as one that is kept.
///
/// # Errors
/// What the operating system says.
pub fn set_aside(disk: &dyn Disk, directory: &Path, index: LogIndex) -> io::Result<()> {
    let path = path(directory, index);
    let mut aside = path.clone().into_os_string();
    aside.push(DAMAGED);
    disk.rename(&path, Path::new(&aside))?;
    disk.sync_directory(directory)
}

/// Removes what the two newest checkpoints make needless: older checkpoints, and the log that the older of them covers.
///
/// # Errors
/// What the operating system says.
pub fn prune(disk: &dyn Disk, directory: &Path, kept: &BTreeSet<LogIndex>) -> Result<(), WalError> {
    let found = list(disk, directory).map_err(crate::wal::io_error("list", directory))?;
    let Some(oldest) = found.len().checked_sub(KEPT) else { return Ok(()) };
    for index in &found[..oldest] {
        let path = path(directory, *index);
        disk.remove(&path).map_err(crate::wal::io_error("remove", &path))?;
    }
    segment::remove_up_to(disk, directory, found[oldest], kept)?;
    Ok(())
}

fn parse_name(name: &str) -> Option<LogIndex> {
    let digits = name.strip_prefix(PREFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok().map(LogIndex))?
}
