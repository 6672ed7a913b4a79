//! The ring of marks: up to which record replies have left, for a log that has gone idle.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringfs_disk::{Create, Disk, DiskFile, OpenOptions};
use ringfs_proto::ids::{ClusterId, LogIndex};

use super::format::{MARK_BYTES, decode_mark, encode_mark};
use super::{WalError, io_error};

const SLOTS: u64 = 8;
const FILE: &str = "marks";

/// The open ring.
#[derive(Debug)]
pub struct Marks {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    cluster: ClusterId,
    next_slot: u64,
    written: LogIndex,
}

impl Marks {
    /// Opens or makes the ring, and finds its highest mark.
    pub fn open(disk: &dyn Disk, directory: &Path, cluster: ClusterId) -> Result<(Self, LogIndex), WalError> {
        let path = directory.join(FILE);
        let options = OpenOptions::READ_WRITE.create(Create::IfMissing).synced();
        let file = disk.open(&path, options).map_err(io_error("open", &path))?;
        let mut bytes = vec![0; MARK_BYTES];
        let (mut highest, mut next_slot) = (LogIndex(0), 0);
        for slot in 0..SLOTS {
            let is_read = file.read_exact_at(&mut bytes, slot * MARK_BYTES as u64).is_ok();
            if let Some(index) = decode_mark(&bytes, cluster).filter(|index| is_read && *index > highest) {
                (highest, next_slot) = (index, (slot + 1) % SLOTS);
            }
        }
        Ok((Self { file, path, cluster, next_slot, written: highest }, highest))
    }

    /// Writes a mark, unless it is there already.
    pub fn write(&mut self, index: LogIndex) -> Result<(), WalError> {
        if index <= self.written {
            return Ok(());
        }
        let mut bytes = [0; MARK_BYTES];
        let mark = encode_mark(self.cluster, index);
        bytes[..mark.len()].copy_from_slice(&mark);
        let offset = self.next_slot * MARK_BYTES as u64;
        self.file.write_all_at(&bytes, offset).map_err(io_error("write mark to", &self.path))?;
        self.next_slot = (self.next_slot + 1) % SLOTS;
        self.written = index;
        Ok(())
    }
}
