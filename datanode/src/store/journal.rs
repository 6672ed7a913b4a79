//! The open journal of a volume: appended at once, synced in groups.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

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
struct Inner {
    file: Arc<dyn DiskFile>,
    records: u64,
    synced: u64,
    is_syncing: bool,
    has_failed: bool,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    storage: StorageId,
    inner: Mutex<Inner>,
    synced: Condvar,
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

impl Journal {
    /// Writes a new journal that holds just `live`, replaces the old one, and opens it.
    ///
    /// # Errors
    /// What the operating system says; the old journal is then still there.
    pub fn rewrite(
        files: &dyn Disk,
        directory: &Path,
        storage: StorageId,
        live: &[Record],
    ) -> io::Result<Self> {
        let (new, path) = (directory.join("journal.new"), directory.join(NAME));
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
        let inner = Inner { file, records, synced: records, is_syncing: false, has_failed: false };
        Ok(Self {
            directory: directory.to_owned(),
            storage,
            inner: Mutex::new(inner),
            synced: Condvar::new(),
        })
    }

    /// Appends a record: it survives the end of this process from now on. Returns its number, for [`Journal::sync`].
    ///
    /// # Errors
    /// What the operating system says. The volume has failed.
    pub fn append(&self, record: &Record) -> io::Result<u64> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = inner.records + 1;
        let bytes = record.encode(self.storage, sequence);
        inner.file.write_all_at(&bytes, sequence * RECORD_BYTES as u64)?;
        inner.records = sequence;
        Ok(sequence)
    }

    /// Waits until everything appended so far is on stable storage, as [`Journal::sync`] does.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub fn sync_all(&self) -> io::Result<()> {
        let appended = self.inner.lock().unwrap_or_else(PoisonError::into_inner).records;
        self.sync(appended)
    }

    /// Waits until a record is on stable storage; one sync serves all who wait. Blocks: not for a shard.
    ///
    /// # Errors
    /// What the operating system says, to everyone from then on: a failed sync is never tried again.
    pub fn sync(&self, sequence: u64) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if inner.has_failed {
                return Err(io::Error::other(format!("journal in {} has failed", self.directory.display())));
            }
            if inner.synced >= sequence {
                return Ok(());
            }
            if inner.is_syncing {
                inner = self.synced.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            inner.is_syncing = true;
            let (covered, file) = (inner.records, inner.file.clone());
            drop(inner);
            let result = file.sync_data();
            inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
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
        let journal = Journal::rewrite(&SystemDisk, temp.path(), storage, &[record(1)]).expect("made");
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
