//! The open journal of a volume: appended at once, synced in groups.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ringfs_disk::{Create, Disk, DiskFile, OpenOptions};
use ringfs_proto::ids::StorageId;

use crate::format::journal::{RECORD_BYTES, Record, Scan, encode_header, scan};

const NAME: &str = "journal";

/// What a journal says at a start.
#[derive(Debug)]
pub enum Loaded {
    /// Its records, in order.
    Records(Vec<Record>),
    /// It is missing, or damaged at this offset: the block files have to tell.
    Unusable(Option<usize>),
}

#[derive(Debug)]
pub(super) struct Inner {
    pub file: Arc<dyn DiskFile>,
    /// Records in the file.
    pub records: u64,
    /// Records of this process, in whatever file: the numbers that callers know.
    pub appended: u64,
    /// How many of them are on stable storage.
    pub synced: u64,
    /// Records in the file at which it is worth being compacted.
    pub long_at: u64,
    is_syncing: bool,
    pub has_failed: bool,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    pub(super) directory: PathBuf,
    pub(super) storage: StorageId,
    /// The least number of records for which a compaction is made; 0: none is made.
    pub(super) compact_records: u64,
    pub(super) is_long: AtomicBool,
    inner: Mutex<Inner>,
    pub(super) synced: Condvar,
}

/// Reads the journal of a volume.
///
/// # Errors
/// What the operating system says, but for a missing file.
pub fn load(files: &dyn Disk, directory: &Path, storage: StorageId) -> io::Result<Loaded> {
    let bytes = match files.read(&directory.join(NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Unusable(None)),
        Err(error) => return Err(error),
    };
    Ok(match scan(&bytes, storage) {
        Scan::Good { records, .. } => Loaded::Records(records),
        Scan::Damaged { offset } => Loaded::Unusable(Some(offset)),
    })
}

/// Where the journal of a volume is.
pub(super) fn path_in(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// Where the journal is that will replace it.
pub(super) fn new_path_in(directory: &Path) -> PathBuf {
    directory.join("journal.new")
}

impl Journal {
    /// Writes a new journal that holds just `live`, replaces the old one, and opens it. `compact_records` says when it is
    /// compacted, see [`super::compaction`].
    ///
    /// # Errors
    /// What the operating system says; the old journal is then still there.
    pub fn rewrite(
        files: &dyn Disk,
        directory: &Path,
        storage: StorageId,
        live: &[Record],
        compact_records: u64,
    ) -> io::Result<Self> {
        let (new, path) = (new_path_in(directory), path_in(directory));
        let mut bytes = encode_header(storage).to_vec();
        bytes.reserve(live.len() * RECORD_BYTES);
        for (record, sequence) in live.iter().zip(1..) {
            bytes.extend(record.encode(storage, sequence));
        }
        let file = files.open(&new, OpenOptions::WRITE.create(Create::Empty))?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        files.rename(&new, &path)?;
        files.sync_directory(directory)?;
        let records = live.len() as u64;
        let inner = Inner {
            file,
            records,
            appended: records,
            synced: records,
            long_at: long_at(records, compact_records),
            is_syncing: false,
            has_failed: false,
        };
        Ok(Self {
            directory: directory.to_owned(),
            storage,
            compact_records,
            is_long: AtomicBool::new(false),
            inner: Mutex::new(inner),
            synced: Condvar::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failure(&self) -> io::Error {
        io::Error::other(format!("journal in {} has failed", self.directory.display()))
    }

    /// Appends a record: it survives the end of this process from now on. Returns its number, for [`Journal::sync`].
    ///
    /// # Errors
    /// What the operating system says. The volume has failed.
    pub fn append(&self, record: &Record) -> io::Result<u64> {
        let mut inner = self.lock();
        if inner.has_failed {
            return Err(self.failure());
        }
        let sequence = inner.records + 1;
        let bytes = record.encode(self.storage, sequence);
        inner.file.write_all_at(&bytes, sequence * RECORD_BYTES as u64)?;
        inner.records = sequence;
        inner.appended += 1;
        if inner.records >= inner.long_at {
            self.is_long.store(true, Ordering::Relaxed);
        }
        Ok(inner.appended)
    }

    /// Waits until everything appended so far is on stable storage, as [`Journal::sync`] does.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub fn sync_all(&self) -> io::Result<()> {
        let appended = self.lock().appended;
        self.sync(appended)
    }

    /// Waits until a record is on stable storage; one sync serves all who wait. Blocks: not for a shard.
    ///
    /// # Errors
    /// What the operating system says, to everyone from then on: a failed sync is never tried again.
    pub fn sync(&self, sequence: u64) -> io::Result<()> {
        let mut inner = self.lock();
        loop {
            if inner.has_failed {
                return Err(self.failure());
            }
            if inner.synced >= sequence {
                return Ok(());
            }
            if inner.is_syncing {
                inner = self.synced.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            inner.is_syncing = true;
            let (covered, file) = (inner.appended, inner.file.clone());
            drop(inner);
            let result = file.sync_data();
            inner = self.lock();
            inner.is_syncing = false;
            match &result {
                Ok(()) => inner.synced = inner.synced.max(covered),
                Err(_) => inner.has_failed = true,
            }
            self.synced.notify_all();
            result?;
        }
    }
}

/// At how many records a journal is worth being compacted that has so many now: when as much again has come, so that each
/// record pays for a few others, and at least the configured number.
pub(super) fn long_at(records: u64, compact_records: u64) -> u64 {
    match compact_records {
        0 => u64::MAX,
        least => records.saturating_add(records.max(least)),
    }
}

#[cfg(test)]
mod tests {
    use ringfs_disk::SystemDisk;
    use ringfs_proto::ids::{BlockId, Stamp};

    use super::*;
    use crate::format::journal::Event;

    #[test]
    fn records_survive_and_concurrent_syncs_are_served() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let storage = StorageId([1; 16]);
        let record =
            |block| Record { event: Event::Finalized, block: BlockId(block), stamp: Stamp(1), length: block };
        let journal = Journal::rewrite(&SystemDisk, temp.path(), storage, &[record(1)], 0).expect("made");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let journal = &journal;
                scope.spawn(move || {
                    for block in 0..50 {
                        let sequence = journal.append(&record(100 * thread + block)).expect("appended");
                        journal.sync(sequence).expect("synced");
                    }
                });
            }
        });
        match load(&SystemDisk, temp.path(), storage).expect("read") {
            Loaded::Records(records) => assert_eq!((records.len(), records[0]), (401, record(1))),
            Loaded::Unusable(offset) => panic!("unusable at {offset:?}"),
        }
    }
}
