//! The open journal of a volume: appended at once, synced in groups.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ringfs_disk::{Create, Disk, DiskFile, OpenOptions};
use ringfs_proto::ids::StorageId;

use super::is_full;
use crate::format::journal::{Event, RECORD_BYTES, Record, Scanner, encode_header};

const NAME: &str = "journal";

/// Room that a journal takes before it needs it: on a full disk, replicas can still be deleted.
const AHEAD_BYTES: u64 = 256 << 10;

/// Records that are read at once at a start.
const PIECE_RECORDS: usize = 4096;

/// How a journal is at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// It has so many records.
    Records(u64),
    /// It is missing, or damaged at this offset: the block files have to tell.
    Unusable(Option<u64>),
}

#[derive(Debug)]
pub(super) struct Inner {
    pub file: Arc<dyn DiskFile>,
    /// Records in the file.
    pub records: u64,
    /// Bytes for which the file has room; all of them where room cannot be taken ahead.
    pub allocated: u64,
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

/// Reads the journal of a volume, a piece at a time, and hands its records over in order. They are worth nothing if it turns
/// out to be unusable in the end.
///
/// # Errors
/// What the operating system says, but for a missing file.
pub fn load(
    files: &dyn Disk,
    directory: &Path,
    storage: StorageId,
    mut take: impl FnMut(Record),
) -> io::Result<Loaded> {
    let file = match files.open(&path_in(directory), OpenOptions::READ) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Unusable(None)),
        Err(error) => return Err(error),
    };
    let mut header = [0; RECORD_BYTES];
    let filled = file.read_full_at(&mut header, 0)?;
    let Some(mut scanner) = Scanner::new(&header[..filled], storage) else {
        return Ok(Loaded::Unusable(Some(0)));
    };
    let (mut piece, mut offset) = (vec![0; PIECE_RECORDS * RECORD_BYTES], RECORD_BYTES as u64);
    loop {
        let filled = file.read_full_at(&mut piece, offset)?;
        piece[..filled]
            .chunks_exact(RECORD_BYTES)
            .filter_map(|bytes| scanner.record(bytes))
            .for_each(&mut take);
        if filled < piece.len() {
            break;
        }
        offset += filled as u64;
    }
    Ok(scanner.end().map_or_else(|offset| Loaded::Unusable(Some(offset)), Loaded::Records))
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
        live: impl Iterator<Item = Record>,
        compact_records: u64,
    ) -> io::Result<Self> {
        let (new, path) = (new_path_in(directory), path_in(directory));
        let file = files.open(&new, OpenOptions::WRITE.create(Create::Empty))?;
        let (mut bytes, mut offset, mut records) = (encode_header(storage).to_vec(), 0, 0);
        for record in live {
            records += 1;
            bytes.extend(record.encode(storage, records));
            if bytes.len() >= PIECE_RECORDS * RECORD_BYTES {
                file.write_all_at(&bytes, offset)?;
                offset += bytes.len() as u64;
                bytes.clear();
            }
        }
        file.write_all_at(&bytes, offset)?;
        file.sync_all()?;
        files.rename(&new, &path)?;
        files.sync_directory(directory)?;
        Ok(Self::new(file, directory, storage, records, compact_records))
    }

    /// Goes on with the journal that is there, of which so many records are good: there is no room for a new one.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn resume(
        files: &dyn Disk,
        directory: &Path,
        storage: StorageId,
        records: u64,
        compact_records: u64,
    ) -> io::Result<Self> {
        // What there was of a new one only takes room.
        let _removed = files.remove(&new_path_in(directory));
        let file = files.open(&path_in(directory), OpenOptions::WRITE)?;
        // A torn end stays until it is written over: cutting it off would give back the room that was taken ahead. What was
        // read is relied on from now on.
        file.sync_all()?;
        Ok(Self::new(file, directory, storage, records, compact_records))
    }

    fn new(
        file: Arc<dyn DiskFile>,
        directory: &Path,
        storage: StorageId,
        records: u64,
        compact_records: u64,
    ) -> Self {
        let inner = Inner {
            file,
            records,
            allocated: 0,
            appended: records,
            synced: records,
            long_at: long_at(records, compact_records),
            is_syncing: false,
            has_failed: false,
        };
        Self {
            directory: directory.to_owned(),
            storage,
            compact_records,
            is_long: AtomicBool::new(false),
            inner: Mutex::new(inner),
            synced: Condvar::new(),
        }
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
    /// What the operating system says. The volume has failed, if it is not only full; a full one still takes what is not of a
    /// new replica, for some time.
    pub fn append(&self, record: &Record) -> io::Result<u64> {
        let mut inner = self.lock();
        if inner.has_failed {
            return Err(self.failure());
        }
        let sequence = inner.records + 1;
        allocate_ahead(&mut inner, sequence, record.event)?;
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

/// Sees to it that there is room for record number `sequence` and many after it. Where there is no more, new replicas are
/// refused, and the rest of what was taken before is for all else.
fn allocate_ahead(inner: &mut Inner, sequence: u64, event: Event) -> io::Result<()> {
    let end = (sequence + 1) * RECORD_BYTES as u64;
    if end + AHEAD_BYTES / 2 <= inner.allocated {
        return Ok(());
    }
    match allocate(&*inner.file, end) {
        Ok(allocated) => inner.allocated = allocated,
        Err(error) if event == Event::BeingWritten => return Err(error),
        Err(_) => {}
    }
    Ok(())
}

/// Takes room behind the first `end` bytes of a journal. Returns how many bytes it has room for.
pub(super) fn allocate(file: &dyn DiskFile, end: u64) -> io::Result<u64> {
    match file.allocate(end + AHEAD_BYTES, true) {
        Ok(()) => Ok(end + AHEAD_BYTES),
        Err(error) if is_full(&error) => Err(error),
        // Not every file system can do it.
        Err(_) => Ok(u64::MAX),
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

    #[test]
    fn records_survive_and_concurrent_syncs_are_served() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let storage = StorageId([1; 16]);
        let record =
            |block| Record { event: Event::Finalized, block: BlockId(block), stamp: Stamp(1), length: block };
        let journal =
            Journal::rewrite(&SystemDisk, temp.path(), storage, [record(1)].into_iter(), 0).expect("made");
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
        let mut records = Vec::new();
        let loaded = load(&SystemDisk, temp.path(), storage, |record| records.push(record)).expect("read");
        assert_eq!((loaded, records.len(), records[0]), (Loaded::Records(401), 401, record(1)));
    }
}
