//! Files of the log: named, listed, made ahead.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ringfs_proto::ids::{ClusterId, LogIndex};

use super::appender::SyncedFile;
use super::format::SegmentHeader;
use super::{WalError, io_error};
use crate::directory::sync_directory;
use ringfs_proto::buffer::ALIGN;

const PREPARED: &str = "next.prepared";
const ZEROS_BYTES: usize = 1 << 20;

/// The segments of a directory, by their first record.
pub fn list(directory: &Path) -> Result<Vec<(LogIndex, PathBuf)>, WalError> {
    let entries = fs::read_dir(directory).map_err(io_error("list", directory))?;
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", directory))?;
        if let Some(first) = entry.file_name().to_str().and_then(parse_name) {
            segments.push((first, entry.path()));
        }
    }
    segments.sort();
    Ok(segments)
}

/// Writes a file of zeros for the next segment: written blocks can be overwritten without a change of metadata.
pub fn prepare(directory: &Path, bytes: u64) -> io::Result<()> {
    let path = directory.join(PREPARED);
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let len = zeros.len().min((bytes - offset) as usize);
        file.write_all_at(&zeros[..len], offset)?;
        offset += len as u64;
    }
    file.sync_all()
}

/// Turns the prepared file into the segment that begins at `first`, and opens it.
pub fn activate(
    directory: &Path,
    cluster: ClusterId,
    first: LogIndex,
    bytes: u64,
) -> Result<(SegmentHeader, SyncedFile), WalError> {
    let mut epoch = [0; 8];
    getrandom::fill(&mut epoch).map_err(|error| WalError::Io {
        action: "make the epoch of a segment in",
        path: directory.to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    let header = SegmentHeader { cluster, epoch: u64::from_le_bytes(epoch), first, bytes };
    let (prepared, path) = (directory.join(PREPARED), directory.join(name(first)));
    let write = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&prepared)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        fs::rename(&prepared, &path)?;
        sync_directory(directory)
    };
    write().map_err(io_error("make segment", &path))?;
    Ok((header, open_synced(&path)?))
}

/// Opens a segment for synced appends: around the page cache where the file system allows it.
pub fn open_synced(path: &Path) -> Result<SyncedFile, WalError> {
    let open = |flags: i32| OpenOptions::new().write(true).custom_flags(flags).open(path);
    match open(libc::O_DIRECT | libc::O_DSYNC) {
        Ok(file) => Ok(SyncedFile { file, is_dsync: true }),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::info!(path = %path.display(), "no direct I/O on this file system: the log is written through the page cache");
            let file = open(0).map_err(io_error("open", path))?;
            Ok(SyncedFile { file, is_dsync: false })
        }
        Err(error) => Err(io_error("open", path)(error)),
    }
}

/// Zeroes a segment from `offset` on: what is there was never finished.
pub fn cut(path: &Path, offset: u64) -> Result<(), WalError> {
    let cut = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        let len = file.metadata()?.len();
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = offset;
        while at < len {
            let part = zeros.len().min((len - at) as usize);
            file.write_all_at(&zeros[..part], at)?;
            at += part as u64;
        }
        file.sync_all()
    };
    cut().map_err(io_error("cut", path))
}

/// Reads the header of a segment.
pub fn read_header(file: &File, path: &Path, cluster: ClusterId) -> Result<SegmentHeader, WalError> {
    let foreign = |reason: String| WalError::Foreign { path: path.to_owned(), reason };
    let mut bytes = [0; ALIGN];
    file.read_exact_at(&mut bytes, 0).map_err(io_error("read", path))?;
    let header = SegmentHeader::decode(&bytes).map_err(|error| foreign(error.to_string()))?;
    if header.cluster != cluster {
        return Err(foreign(format!("it belongs to cluster {}, this is {cluster}", header.cluster)));
    }
    Ok(header)
}

fn name(first: LogIndex) -> String {
    format!("wal-{:020}.log", first.0)
}

fn parse_name(name: &str) -> Option<LogIndex> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(LogIndex))?
}
