//! Values: the contents of small files, which lie in the log behind the records of their batch.
//!
//! A value is written once, with the record that names it and by the same synced write. It is read where it lies for as long
//! as a file has it: the segments of live values stay when their records are needed no more. Collection writes the values
//! that are left in a segment again, with records that say where they are from then on.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ringfs_disk::{Disk, DiskFile, OpenOptions};
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::LogIndex;
use ringfs_proto::{Code, WireError};

use super::log::Status;
use super::segment;

/// Files of segments that are kept open for reading.
const OPEN_FILES_MAX: usize = 64;

/// Where the values of a batch begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ValuesAt {
    /// First record of the segment.
    pub segment: LogIndex,
    /// Offset in it, bytes.
    pub offset: u64,
}

/// Where a value is, and how it is known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValuePlace {
    /// First record of the segment.
    pub segment: LogIndex,
    /// Offset in it, bytes.
    pub offset: u64,
    /// Its bytes.
    pub len: u32,
    /// CRC32C of them.
    pub crc: u32,
}

/// The checksum of a value.
pub fn crc_of(bytes: &[u8]) -> u32 {
    ChecksumType::Crc32c.of(bytes)
}

/// Reads values from any directory of the log that has them.
#[derive(Debug)]
pub struct Values {
    disk: Arc<dyn Disk>,
    status: Arc<Status>,
    files: Mutex<BTreeMap<(LogIndex, usize), Arc<dyn DiskFile>>>,
}

impl Values {
    /// The values of a log.
    pub fn new(disk: Arc<dyn Disk>, status: Arc<Status>) -> Self {
        Self { disk, status, files: Mutex::default() }
    }

    /// The directories that have them.
    pub fn live(&self) -> Vec<PathBuf> {
        self.status.live()
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Appends a value to `target`. Blocks.
    ///
    /// # Errors
    /// `Busy` when it has been moved since it was looked up: whoever asked looks again; `BlockCorrupt` when no directory has it
    /// as it was written. `target` is then as before.
    pub fn read(&self, place: ValuePlace, target: &mut Vec<u8>) -> Result<(), WireError> {
        let begin = target.len();
        let (mut failure, mut is_gone) = (None, false);
        for (number, directory) in self.status.live().iter().enumerate() {
            target.resize(begin + place.len as usize, 0);
            let read = self.file(place.segment, number, directory);
            let read = read.and_then(|file| file.read_exact_at(&mut target[begin..], place.offset));
            match read {
                Ok(()) if crc_of(&target[begin..]) == place.crc => return Ok(()),
                Ok(()) => failure = Some((directory.clone(), "checksum mismatch".to_owned())),
                Err(error) => {
                    is_gone |= error.kind() == io::ErrorKind::NotFound;
                    failure = Some((directory.clone(), error.to_string()));
                }
            }
            self.forget(place.segment, number);
        }
        target.truncate(begin);
        let (directory, reason) = failure.unwrap_or_default();
        let path = segment::path(&directory, place.segment);
        if is_gone {
            return Err(WireError::new(Code::Busy, format!("a value of {} was moved", path.display())));
        }
        let message = format!("value at {} of {}: {reason}", place.offset, path.display());
        tracing::error!(message, "a value cannot be read");
        Err(WireError::new(Code::BlockCorrupt, message))
    }

    fn file(&self, segment: LogIndex, number: usize, directory: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&(segment, number)) {
            return Ok(file.clone());
        }
        let file = self.disk.open(&segment::path(directory, segment), OpenOptions::READ)?;
        if files.len() >= OPEN_FILES_MAX {
            // The oldest segment: the newest are read most.
            files.pop_first();
        }
        files.insert((segment, number), file.clone());
        Ok(file)
    }

    /// Closes files, so that those of removed segments are gone.
    pub fn close(&self) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn forget(&self, segment: LogIndex, number: usize) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&(segment, number));
    }
}
