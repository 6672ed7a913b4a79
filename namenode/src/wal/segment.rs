//! Files of the log: named, listed, made ahead, cut.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ringfs_disk::{Create, Disk, DiskFile, OpenOptions};
use ringfs_proto::ids::{ClusterId, LogIndex};

use super::appender::SyncedFile;
use super::format::SegmentHeader;
use super::{WalError, io_error};
use ringfs_proto::buffer::ALIGN;

/// The file of zeros that becomes the next segment.
const PREPARED: &str = "next.prepared";
const ZEROS_BYTES: usize = 1 << 20;

/// The first records of the segments of a directory, ascending.
pub fn list(disk: &dyn Disk, directory: &Path) -> Result<Vec<LogIndex>, WalError> {
    let names = disk.list(directory).map_err(io_error("list", directory))?;
    let mut segments: Vec<LogIndex> = names.iter().filter_map(|name| parse_name(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// The file of the segment that begins at `first`.
pub fn path(directory: &Path, first: LogIndex) -> PathBuf {
    directory.join(format!("wal-{:020}.log", first.0))
}

/// Writes a file of zeros for the next segment: written blocks can be overwritten without a change of metadata.
pub fn prepare(disk: &dyn Disk, directory: &Path, bytes: u64) -> io::Result<()> {
    let file = disk.open(&directory.join(PREPARED), OpenOptions::WRITE.create(Create::Empty))?;
    write_zeros(&*file, 0, bytes)?;
    file.sync_all()
}

/// Turns the prepared file into a segment with this header, and opens it.
pub fn activate(disk: &dyn Disk, directory: &Path, header: &SegmentHeader) -> Result<SyncedFile, WalError> {
    let (prepared, path) = (directory.join(PREPARED), path(directory, header.first));
    let write = || -> io::Result<()> {
        let file = disk.open(&prepared, OpenOptions::WRITE)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        disk.rename(&prepared, &path)?;
        disk.sync_directory(directory)
    };
    write().map_err(io_error("make segment", &path))?;
    open_synced(disk, &path)
}

/// Opens a segment for synced appends: around the page cache where the file system allows it.
pub fn open_synced(disk: &dyn Disk, path: &Path) -> Result<SyncedFile, WalError> {
    match disk.open(path, OpenOptions::WRITE.direct().synced()) {
        Ok(file) => Ok(SyncedFile { file, is_dsync: true }),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            tracing::info!(path = %path.display(), "no direct I/O on this file system: the log is written through the page cache");
            let file = disk.open(path, OpenOptions::WRITE).map_err(io_error("open", path))?;
            Ok(SyncedFile { file, is_dsync: false })
        }
        Err(error) => Err(io_error("open", path)(error)),
    }
}

/// Zeroes a segment from `offset` on: what is there was never finished.
pub fn cut(disk: &dyn Disk, path: &Path, offset: u64) -> Result<(), WalError> {
    let cut = || -> io::Result<()> {
        let file = disk.open(path, OpenOptions::WRITE)?;
        write_zeros(&*file, offset, file.len()?)?;
        file.sync_all()
    };
    cut().map_err(io_error("cut", path))
}

/// Reads the header of a segment.
pub fn read_header(file: &dyn DiskFile, path: &Path, cluster: ClusterId) -> Result<SegmentHeader, WalError> {
    let foreign = |reason: String| WalError::Foreign { path: path.to_owned(), reason };
    let mut bytes = [0; ALIGN];
    file.read_exact_at(&mut bytes, 0).map_err(io_error("read", path))?;
    let header = SegmentHeader::decode(&bytes).map_err(|error| foreign(error.to_string()))?;
    if header.cluster != cluster {
        return Err(foreign(format!("it belongs to cluster {}, this is {cluster}", header.cluster)));
    }
    Ok(header)
}

/// Removes the segments that hold no record above `index`, but for those that are `kept` for their values. The newest always
/// stays.
///
/// # Errors
/// What the operating system says; some may be gone then, the oldest first.
pub fn remove_up_to(
    disk: &dyn Disk,
    directory: &Path,
    index: LogIndex,
    kept: &BTreeSet<LogIndex>,
) -> Result<usize, WalError> {
    let segments = list(disk, directory)?;
    let mut removed = 0;
    let covered = segments.windows(2).take_while(|pair| pair[1].0 <= index.0 + 1);
    for pair in covered.filter(|pair| !kept.contains(&pair[0])) {
        let path = path(directory, pair[0]);
        disk.remove(&path).map_err(io_error("remove", &path))?;
        removed += 1;
    }
    if removed > 0 {
        disk.sync_directory(directory).map_err(io_error("sync", directory))?;
    }
    Ok(removed)
}

fn write_zeros(file: &dyn DiskFile, begin: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(end.saturating_sub(begin)).unwrap_or(ZEROS_BYTES))];
    let mut at = begin;
    while at < end {
        let part = zeros.len().min((end - at) as usize);
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

fn parse_name(name: &str) -> Option<LogIndex> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(LogIndex))?
}
