//! Compaction of a volume's journal while the datanode runs: what it says is written once more without what later records
//! have undone, and takes its place in one step.
//!
//! Work comes in turns of at most [`TURN_RECORDS_MAX`] records, and appending goes on between and during them; only the last
//! turn, which copies what was appended meanwhile and changes the names, holds it up for as long as two syncs take. A crash
//! at any moment leaves the old journal or the new one, both with everything that was appended.
//!
//! Only the journal itself is looked at, never the replicas in memory: what a start makes of the new one is by construction
//! what it would have made of the old one.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringfs_disk::{Create, Disk, DiskFile, OpenOptions};
use ringfs_proto::ids::BlockId;

use super::journal::{Inner, Journal, allocate, long_at, new_path_in, path_in};
use super::recovery::DELETED_LOOKED_AT_MAX;
use super::{Store, is_full};
use crate::format::journal::{Event, RECORD_BYTES, Record, encode_header};

/// Records that one turn reads and writes.
pub const TURN_RECORDS_MAX: u64 = 4096;
/// So few records that were appended meanwhile are left to the last turn.
const LAST_RECORDS_MAX: u64 = 64;
/// After so many turns behind appends, the last turn takes what is left, however much it is.
const CATCH_UP_TURNS_MAX: u32 = 64;

/// Why a compaction was given up. The old journal is in use as before, but for what is said here.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// The disk; or it is only full.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Changing the names failed: nobody knows which journal the next start will find, so neither takes any more records.
    #[error("change the name of the new journal: {0}")]
    Names(#[source] io::Error),
    /// A record that this process or one before wrote cannot be read back.
    #[error("read record {0} of the journal: it is damaged")]
    Damaged(u64),
}

/// What a turn has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Another turn is needed.
    More,
    /// The new journal is in place. It held so many records before and holds so many now.
    Done {
        /// Records of the old journal.
        before: u64,
        /// Records of the new one.
        after: u64,
    },
}

/// A compaction in progress.
#[derive(Debug)]
pub struct Compaction {
    old: Arc<dyn DiskFile>,
    new: Arc<dyn DiskFile>,
    /// Records of the new journal.
    written: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Reads backwards, for the last record of a block is the one that counts. `left` records are before.
    Mark { left: u64, seen: HashSet<BlockId>, deletions: usize, kept: Marks },
    /// Writes the marked ones, in order. `next` of them are done.
    Copy { next: u64, kept: Marks },
    /// Copies what has been appended since it began.
    CatchUp { next: u64, turns: u32 },
}

/// A bit for each record.
#[derive(Debug)]
struct Marks {
    words: Vec<u64>,
    len: u64,
}

impl Marks {
    fn new(len: u64) -> Self {
        Self { words: vec![0; len.div_ceil(64) as usize], len }
    }

    fn set(&mut self, index: u64) {
        self.words[(index / 64) as usize] |= 1 << (index % 64);
    }

    fn has(&self, index: u64) -> bool {
        self.words[(index / 64) as usize] >> (index % 64) & 1 == 1
    }
}

impl Compaction {
    /// Whether only what was appended meanwhile is left.
    #[cfg(test)]
    pub(super) fn is_catching_up(&self) -> bool {
        matches!(self.phase, Phase::CatchUp { .. })
    }
}

impl Store {
    /// Whether the journal of a volume is worth being compacted. Does not block.
    pub fn is_journal_long(&self, volume: usize) -> bool {
        let disk = self.disks.get(volume);
        disk.is_some_and(|disk| disk.journal.is_long.load(Ordering::Relaxed) && !disk.volume.has_failed())
    }

    /// Begins to compact the journal of a volume. `None`: it is not worth it, or cannot be done now. Blocks.
    pub fn begin_compaction(&self, volume: usize) -> Option<Compaction> {
        let disk = self.disks.get(volume)?;
        let begun = disk.journal.begin_compaction(self.machine.files());
        begun.unwrap_or_else(|error| {
            self.gave_up(volume, &error);
            None
        })
    }

    /// One turn of it. `None`: it is given up, and the journal in use is the old one. Blocks.
    pub fn compact(&self, volume: usize, compaction: &mut Compaction) -> Option<Turn> {
        let disk = self.disks.get(volume).filter(|disk| !disk.volume.has_failed())?;
        match disk.journal.compact(self.machine.files(), compaction) {
            Ok(turn) => {
                if let Turn::Done { before, after } = turn {
                    tracing::info!(path = %disk.volume.path().display(), before, after, "journal compacted");
                }
                Some(turn)
            }
            Err(error) => {
                self.gave_up(volume, &error);
                None
            }
        }
    }

    fn gave_up(&self, volume: usize, error: &CompactionError) {
        let volume = &self.disks[volume].volume;
        let path = volume.path().display();
        match error {
            CompactionError::Io(source) if is_full(source) => {
                tracing::warn!(%path, %error, "the journal is not compacted: no room");
            }
            CompactionError::Io(source) | CompactionError::Names(source) => volume.fail(source),
            CompactionError::Damaged(_) => {
                tracing::error!(%path, %error, "the journal is not compacted: the next start rebuilds it from the block files");
            }
        }
    }
}

impl Journal {
    /// Whether it has been compacted since it was opened.
    #[cfg(test)]
    pub(super) fn was_compacted(&self) -> bool {
        let inner = self.lock();
        inner.appended > inner.records
    }

    /// Begins a compaction if the journal is long enough to be worth it, and none is in progress. Blocks.
    ///
    /// # Errors
    /// [`CompactionError::Io`].
    pub fn begin_compaction(&self, files: &dyn Disk) -> Result<Option<Compaction>, CompactionError> {
        if !self.is_long.swap(false, Ordering::Relaxed) {
            return Ok(None);
        }
        let records = {
            let mut inner = self.lock();
            // Until this one has ended.
            inner.long_at = u64::MAX;
            inner.records
        };
        let begin = || -> io::Result<Compaction> {
            let old = files.open(&path_in(&self.directory), OpenOptions::READ)?;
            let new = files.open(&new_path_in(&self.directory), OpenOptions::WRITE.create(Create::Empty))?;
            new.write_all_at(&encode_header(self.storage), 0)?;
            let kept = Marks::new(records);
            let phase = Phase::Mark { left: records, seen: HashSet::new(), deletions: 0, kept };
            Ok(Compaction { old, new, written: 0, phase })
        };
        begin().map(Some).map_err(|error| self.give_up(files, error.into()))
    }

    /// One turn of a compaction. Blocks.
    ///
    /// # Errors
    /// [`CompactionError`]: it is given up.
    pub fn compact(&self, files: &dyn Disk, compaction: &mut Compaction) -> Result<Turn, CompactionError> {
        self.turn(files, compaction).map_err(|error| self.give_up(files, error))
    }

    fn turn(&self, files: &dyn Disk, compaction: &mut Compaction) -> Result<Turn, CompactionError> {
        let Compaction { old, new, written, phase } = compaction;
        match phase {
            Phase::Mark { left: 0, kept, .. } => {
                let kept = std::mem::replace(kept, Marks::new(0));
                *phase = Phase::Copy { next: 0, kept };
            }
            Phase::Mark { left, seen, deletions, kept } => {
                let first = left.saturating_sub(TURN_RECORDS_MAX);
                let records = self.read_records(&**old, first, *left)?;
                for (record, index) in records.iter().rev().zip((first..*left).rev()) {
                    if is_kept(record, seen, deletions) {
                        kept.set(index);
                    }
                }
                *left = first;
            }
            Phase::Copy { next, kept } if *next == kept.len => {
                *phase = Phase::CatchUp { next: *next, turns: 0 };
            }
            Phase::Copy { next, kept } => {
                let until = kept.len.min(*next + TURN_RECORDS_MAX);
                let mut records = self.read_records(&**old, *next, until)?;
                let mut index = *next..;
                records.retain(|_| index.next().is_some_and(|index| kept.has(index)));
                self.write_records(&**new, &records, written)?;
                *next = until;
            }
            Phase::CatchUp { next, turns } => {
                let appended = self.lock().records;
                if appended - *next <= LAST_RECORDS_MAX || *turns == CATCH_UP_TURNS_MAX {
                    let end = (*written + appended - *next + 1) * RECORD_BYTES as u64;
                    let allocated = allocate(&**new, end)?;
                    // What is durable now need not be made so while appends wait.
                    new.sync_data()?;
                    return self.replace(files, compaction, allocated);
                }
                let until = appended.min(*next + TURN_RECORDS_MAX);
                let records = self.read_records(&**old, *next, until)?;
                self.write_records(&**new, &records, written)?;
                (*next, *turns) = (until, *turns + 1);
            }
        }
        Ok(Turn::More)
    }

    /// Copies the last records and puts the new journal in place, while nobody appends.
    fn replace(
        &self,
        files: &dyn Disk,
        compaction: &mut Compaction,
        allocated: u64,
    ) -> Result<Turn, CompactionError> {
        let Compaction { old, new, written, phase } = compaction;
        let Phase::CatchUp { mut next, .. } = *phase else { return Ok(Turn::More) };
        let mut inner = self.lock();
        if inner.has_failed {
            return Err(self.failure().into());
        }
        let before = inner.records;
        while next < before {
            let until = before.min(next + TURN_RECORDS_MAX);
            let records = self.read_records(&**old, next, until)?;
            self.write_records(&**new, &records, written)?;
            next = until;
        }
        new.sync_all()?;
        if let Err(error) = self.change_names(files) {
            inner.has_failed = true;
            self.synced.notify_all();
            return Err(CompactionError::Names(error));
        }
        let Inner { file, records, allocated: room, appended, synced, long_at: at, .. } = &mut *inner;
        (*file, *records, *synced) = (new.clone(), *written, *appended);
        *room = allocated;
        *at = long_at(*written, self.compact_records);
        self.synced.notify_all();
        Ok(Turn::Done { before, after: *written })
    }

    fn change_names(&self, files: &dyn Disk) -> io::Result<()> {
        files.rename(&new_path_in(&self.directory), &path_in(&self.directory))?;
        files.sync_directory(&self.directory)
    }

    /// The old journal stays, and grows; another attempt is made when it has grown as much again, if it can be read at all.
    fn give_up(&self, files: &dyn Disk, error: CompactionError) -> CompactionError {
        let mut inner = self.lock();
        if !inner.has_failed {
            // What cannot be removed is emptied by the next attempt.
            let _removed = files.remove(&new_path_in(&self.directory));
        }
        inner.long_at = match error {
            CompactionError::Damaged(_) | CompactionError::Names(_) => u64::MAX,
            CompactionError::Io(_) => long_at(inner.records, self.compact_records),
        };
        error
    }

    /// Records with the indexes from `first` to before `until`; the first record of a journal has the index 0.
    fn read_records(
        &self,
        file: &dyn DiskFile,
        first: u64,
        until: u64,
    ) -> Result<Vec<Record>, CompactionError> {
        let mut bytes = vec![0; (until - first) as usize * RECORD_BYTES];
        file.read_exact_at(&mut bytes, (first + 1) * RECORD_BYTES as u64)?;
        let records = bytes.chunks_exact(RECORD_BYTES).zip(first + 1..);
        let decode = |(bytes, sequence)| {
            Record::decode(bytes, self.storage, sequence).ok_or(CompactionError::Damaged(sequence))
        };
        records.map(decode).collect()
    }

    fn write_records(&self, file: &dyn DiskFile, records: &[Record], written: &mut u64) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(records.len() * RECORD_BYTES);
        for (record, sequence) in records.iter().zip(*written + 1..) {
            bytes.extend(record.encode(self.storage, sequence));
        }
        file.write_all_at(&bytes, (*written + 1) * RECORD_BYTES as u64)?;
        *written += records.len() as u64;
        Ok(())
    }
}

/// Whether a record says something that no later one undoes, which `seen` and `deletions` are about. The last deletions stay:
/// a start looks whether their files are gone.
fn is_kept(record: &Record, seen: &mut HashSet<BlockId>, deletions: &mut usize) -> bool {
    if !seen.insert(record.block) {
        return false;
    }
    if record.event != Event::Deleted {
        return true;
    }
    *deletions += 1;
    *deletions <= DELETED_LOOKED_AT_MAX
}
