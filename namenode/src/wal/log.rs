//! The log without threads: opened, appended to, marked.
//!
//! Everything that is written goes through [`Disk`], so that a simulated disk sees what a real one would. The one exception
//! is an append by io_uring, for files that have a descriptor (see `Appender`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use ringfs_disk::Disk;
use ringfs_proto::ids::{ClusterId, LogIndex, Term};

use super::appender::{Appender, SyncedFile};
use super::format::{BatchBuilder, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::marks::Marks;
use super::members::{Choice, Members};
use super::mirror::{mirror, repair};
use super::prepare::Preparer;
use super::record::RecordV1;
use super::replay::{Replayed, Tail, replay};
use super::values::ValuesAt;
use super::{Options, SEGMENT_BYTES_MIN, WalError, io_error, segment};
use ringfs_proto::buffer::ALIGN;

/// The only term until there are replicated namenodes.
const TERM: Term = Term(1);

/// What others may know of the log at any time.
#[derive(Debug)]
pub struct Status {
    has_room: Arc<AtomicBool>,
    failed: AtomicU32,
    live: Mutex<Vec<PathBuf>>,
}

impl Status {
    /// Whether the next segment is there: without it, changes are refused until the disk has room.
    pub fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    /// Directories of the configuration that are out of use.
    pub fn failed(&self) -> u32 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Directories in use.
    pub fn live(&self) -> Vec<PathBuf> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_live(&self, live: Vec<PathBuf>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }
}

/// One directory of the log.
struct Place {
    path: PathBuf,
    marks: Marks,
    file: SyncedFile,
}

/// The open log.
pub struct Log {
    disk: Arc<dyn Disk>,
    cluster: ClusterId,
    places: Vec<Place>,
    opening: u64,
    header: SegmentHeader,
    offset: u64,
    last: LogIndex,
    acknowledged: LogIndex,
    preparer: Preparer,
    status: Arc<Status>,
    seed: u64,
    replayed_bytes: u64,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("last", &self.last).field("status", &self.status).finish_non_exhaustive()
    }
}

impl Log {
    /// Replays the records above `from`, puts right what mirrors can put right, and makes all directories alike.
    ///
    /// # Errors
    /// [`WalError`]: the log is damaged, or the operating system refused. Damage is found before anything is changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        choice: &Choice,
        cluster: ClusterId,
        options: &Options,
        from: LogIndex,
        on_record: &mut dyn FnMut(RecordV1, ValuesAt),
    ) -> Result<Self, WalError> {
        let mut mark = LogIndex(0);
        for directory in &choice.trusted {
            mark = mark.max(Marks::open(&*disk, directory, cluster)?.1);
        }
        let replayed = replay(&*disk, &choice.trusted, cluster, from, mark, on_record)?;
        let (live, lost) = make_alike(&*disk, choice, &replayed)?;
        let opening = choice.opening + 1;
        let members = Members::new(opening, live.clone());
        live.iter().try_for_each(|directory| members.store(&*disk, directory))?;
        let segment_bytes = options.segment_bytes.max(SEGMENT_BYTES_MIN).next_multiple_of(ALIGN as u64);
        let mut preparer = Preparer::new(disk.clone(), live.clone(), segment_bytes);
        let failed = AtomicU32::new((choice.left_out.len() + lost) as u32);
        let status =
            Arc::new(Status { has_room: preparer.has_room(), failed, live: Mutex::new(live.clone()) });
        let (header, offset, files) =
            open_tail(&*disk, &live, cluster, &replayed, &mut preparer, options.seed)?;
        let mut places = Vec::new();
        for (path, file) in live.into_iter().zip(files) {
            let (marks, _) = Marks::open(&*disk, &path, cluster)?;
            places.push(Place { path, marks, file });
        }
        let last = replayed.last;
        Ok(Self {
            disk,
            cluster,
            places,
            opening,
            header,
            offset,
            last,
            acknowledged: last,
            preparer,
            status,
            seed: options.seed,
            replayed_bytes: replayed.bytes,
        })
    }

    /// The last record.
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// Bytes of the log that the opening has read for their records.
    pub fn replayed_bytes(&self) -> u64 {
        self.replayed_bytes
    }

    /// What others may know of it.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// Makes the next segment, now and after each switch, on a thread of its own.
    pub fn prepare_in_background(&mut self) {
        self.preparer.set_background();
        self.preparer.begin();
    }

    /// Writes a batch and returns when it is on stable storage in every live directory.
    ///
    /// A directory that fails is dropped, for good until the next start, as long as another is left.
    ///
    /// # Errors
    /// [`WalError`]: no directory is left, and what is on disk is unknown. The namenode must stop.
    pub fn append(&mut self, builder: &mut BatchBuilder) -> Result<(), WalError> {
        self.append_by(&mut Appender::Plain, builder)
    }

    /// As [`Log::append`], by an appender that belongs to the calling thread: always the same one.
    pub(super) fn append_by(
        &mut self,
        appender: &mut Appender,
        builder: &mut BatchBuilder,
    ) -> Result<(), WalError> {
        let (first, last) = (LogIndex(builder.last().0 + 1 - builder.count() as u64), builder.last());
        if self.offset + builder.padded_len() > self.header.bytes {
            self.switch(appender, first, builder.padded_len())?;
        }
        let buffer = builder.seal(&self.header, self.offset, TERM, self.acknowledged);
        let len = buffer.as_ref().len() as u64;
        let targets = self.places.iter().map(|place| &place.file);
        let (results, buffer) = appender.append(targets, buffer, self.offset);
        builder.reuse(buffer);
        let failed =
            results.into_iter().enumerate().filter_map(|(index, result)| Some((index, result.err()?)));
        let failed = failed
            .map(|(index, error)| (index, io_error("append to the log in", &self.places[index].path)(error)));
        let failed = failed.collect();
        self.drop_places(appender, failed)?;
        self.offset += len;
        self.last = last;
        Ok(())
    }

    /// Replies up to this record have left.
    pub fn acknowledged(&mut self, index: LogIndex) {
        self.acknowledged = index;
    }

    /// Nothing is to be written for a while: the mark is.
    pub fn idle(&mut self) {
        self.preparer.begin();
        for place in &mut self.places {
            // A mark only sharpens what a start can tell; a log that cannot write will fail at its next batch.
            if let Err(error) = place.marks.write(self.acknowledged) {
                tracing::warn!(error = &error as &dyn std::error::Error, "could not write the mark");
            }
        }
    }

    /// Takes a directory out of use that has failed elsewhere, as long as another is left.
    ///
    /// # Errors
    /// [`WalError`]: the others could not say so.
    pub fn fail_directory(&mut self, path: &Path, error: WalError) -> Result<(), WalError> {
        self.fail_directory_by(&mut Appender::Plain, path, error)
    }

    /// As [`Log::fail_directory`], by an appender that belongs to the calling thread.
    pub(super) fn fail_directory_by(
        &mut self,
        appender: &mut Appender,
        path: &Path,
        error: WalError,
    ) -> Result<(), WalError> {
        match self.places.iter().position(|place| place.path == path) {
            Some(index) if self.places.len() > 1 => self.drop_places(appender, vec![(index, error)]),
            _ => Ok(()),
        }
    }

    /// Goes on in a new segment, waiting for room if there is none.
    fn switch(&mut self, appender: &mut Appender, first: LogIndex, batch_bytes: u64) -> Result<(), WalError> {
        let bytes = self.preparer.take(SEGMENT_HEADER_BYTES + batch_bytes);
        let bytes = bytes.map_err(io_error("make a segment in", &self.places[0].path))?;
        let header = new_header(self.cluster, first, bytes, self.seed);
        let mut failed = Vec::new();
        for (index, place) in self.places.iter_mut().enumerate() {
            match segment::activate(&*self.disk, &place.path, &header) {
                // The file before it is closed only after the ring has forgotten its descriptor.
                Ok(file) => {
                    appender.switch();
                    place.file = file;
                }
                Err(error) => failed.push((index, error)),
            }
        }
        self.drop_places(appender, failed)?;
        (self.header, self.offset) = (header, SEGMENT_HEADER_BYTES);
        self.preparer.begin();
        Ok(())
    }

    /// Goes on without some directories, once the others say so.
    fn drop_places(
        &mut self,
        appender: &mut Appender,
        mut failed: Vec<(usize, WalError)>,
    ) -> Result<(), WalError> {
        while !failed.is_empty() {
            if failed.len() == self.places.len() {
                return Err(failed.swap_remove(0).1);
            }
            appender.switch();
            for (index, error) in failed.drain(..).rev() {
                let place = self.places.remove(index);
                tracing::error!(path = %place.path.display(), error = %error.chain(), left = self.places.len(), "a directory of the log has failed: the namenode goes on without it");
                self.status.failed.fetch_add(1, Ordering::Relaxed);
            }
            let live: Vec<PathBuf> = self.places.iter().map(|place| place.path.clone()).collect();
            self.opening += 1;
            let members = Members::new(self.opening, live.clone());
            let stores = live.iter().map(|directory| members.store(&*self.disk, directory));
            failed = stores.enumerate().filter_map(|(index, result)| Some((index, result.err()?))).collect();
            self.preparer.directories.clone_from(&live);
            self.status.set_live(live);
        }
        Ok(())
    }
}

/// Repairs the first trusted directory, cuts what was never finished, and copies to all others. Returns the directories
/// that are alike, and how many were lost on the way.
fn make_alike(
    disk: &dyn Disk,
    choice: &Choice,
    replayed: &Replayed,
) -> Result<(Vec<PathBuf>, usize), WalError> {
    let primary = &choice.trusted[0];
    repair(disk, primary, &replayed.repairs)?;
    if let (Some(Tail { header, offset }), Some(reason)) = (replayed.tail, &replayed.unfinished) {
        let path = segment::path(primary, header.first);
        segment::cut(disk, &path, offset)?;
        tracing::warn!(path = %path.display(), offset, reason, last = %replayed.last, "cut a batch that was never finished");
    }
    for (path, reason) in &choice.left_out {
        tracing::error!(path = %path.display(), reason, "a directory of the log cannot be used: the namenode starts without it");
    }
    let (mut live, mut lost) = (vec![primary.clone()], 0);
    // What is kept for its values alone was the same in all that are trusted; who reads them finds out what is bad. A
    // directory that is behind may lack the end of any segment.
    let trusted = choice.trusted[1..].iter().map(|other| (other, replayed.begin));
    let behind = choice.behind.iter().map(|other| (other, LogIndex(0)));
    for (other, compared_from) in trusted.chain(behind) {
        match mirror(disk, primary, other, compared_from) {
            Ok(0) => live.push(other.clone()),
            Ok(segments) => {
                tracing::info!(path = %other.display(), segments, "a directory of the log was brought up to date");
                live.push(other.clone());
            }
            Err(error) => {
                lost += 1;
                tracing::error!(path = %other.display(), error = %error.chain(), "a directory of the log cannot be written: the namenode starts without it");
            }
        }
    }
    Ok((live, lost))
}

/// Opens the segment to go on with, or begins one.
fn open_tail(
    disk: &dyn Disk,
    live: &[PathBuf],
    cluster: ClusterId,
    replayed: &Replayed,
    preparer: &mut Preparer,
    seed: u64,
) -> Result<(SegmentHeader, u64, Vec<SyncedFile>), WalError> {
    if let Some(Tail { header, offset }) = replayed.tail {
        let open = |directory: &PathBuf| -> Result<SyncedFile, WalError> {
            let path = segment::path(directory, header.first);
            let tail = segment::open_synced(disk, &path)?;
            // A process that was killed in its last append has left a batch that may be in no more than the disk's own memory.
            // From now on its records count: they have to survive the next power cut.
            tail.file.sync_data().map_err(io_error("sync", &path))?;
            Ok(tail)
        };
        return Ok((header, offset, live.iter().map(open).collect::<Result<_, _>>()?));
    }
    let bytes = preparer.take(0).map_err(io_error("make a segment in", &live[0]))?;
    let header = new_header(cluster, LogIndex(replayed.last.0 + 1), bytes, seed);
    let activate = |directory: &PathBuf| segment::activate(disk, directory, &header);
    Ok((header, SEGMENT_HEADER_BYTES, live.iter().map(activate).collect::<Result<_, _>>()?))
}

/// The epoch is another for each segment: `seed` is fresh at each opening, `first` rises within one.
fn new_header(cluster: ClusterId, first: LogIndex, bytes: u64, seed: u64) -> SegmentHeader {
    let epoch = seed.wrapping_add(first.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    SegmentHeader { cluster, epoch, first, bytes }
}

#[cfg(test)]
mod tests {
    use ringfs_disk::SimulatedDisk;
    use ringfs_proto::ids::{CallId, SessionId};

    use super::super::members::{Found, choose};
    use super::super::record::{ChangeV1, DeleteV1, RecordV1};
    use super::*;
    use crate::directory;

    fn open(disk: &SimulatedDisk, cluster: ClusterId) -> (Log, u64) {
        let found = [(PathBuf::from("/wal"), Found::Ours)];
        let choice = choose(disk, &found).expect("a directory");
        let (mut records, options) = (0, Options { segment_bytes: SEGMENT_BYTES_MIN, seed: choice.opening });
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut count = |_, _| records += 1;
        let log = Log::open(disk, &choice, cluster, &options, LogIndex(0), &mut count).expect("a log");
        (log, records)
    }

    fn batch(index: u64) -> BatchBuilder {
        let change = ChangeV1::Delete(DeleteV1 {
            path: "/a".to_owned(),
            recursive: false,
            is_subtree_permitted: true,
        });
        let (session, call) = (SessionId([1; 16]), CallId(index));
        let mut builder = BatchBuilder::default();
        builder.push(&RecordV1 {
            index: LogIndex(index),
            term: TERM,
            time_ms: index,
            session,
            call,
            lowest_unanswered: call,
            user: "ann".to_owned(),
            groups: Vec::new(),
            is_privileged: true,
            change,
        });
        builder
    }

    #[test]
    fn what_a_start_has_read_survives_a_power_cut() {
        let mut completed = 0;
        for seed in 0..60 {
            let disk = SimulatedDisk::new(seed);
            let made = directory::format(&disk, &[PathBuf::from("/wal")], "ann", "staff").expect("formatted");
            disk.sync_directory(Path::new("/")).expect("synced");
            let (mut log, _) = open(&disk, made.cluster);
            log.append(&mut batch(1)).expect("written");
            // The process is killed in its second append, which may have come to the disk as a whole.
            disk.stop_after(0);
            assert!(log.append(&mut batch(2)).is_err());
            drop(log);
            disk.kill();
            let (_, read) = open(&disk, made.cluster);
            disk.cut_power();
            let (_, left) = open(&disk, made.cluster);
            assert!((1..=2).contains(&read) && left == read, "seed {seed}: {read} records, then {left}");
            completed += u32::from(read == 2);
        }
        assert!(completed > 3, "{completed} appends had come to the disk as a whole");
    }
}
