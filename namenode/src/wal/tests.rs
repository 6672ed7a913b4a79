//! The log on a real directory: restarts, torn tails, damage.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use ringfs_proto::ids::{CallId, ClusterId, LogIndex, SessionId, Term};

use super::format::{BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::members::{Found, Members, choose};
use super::record::{ChangeV1, DeleteV1, RecordV1};
use super::*;
use crate::config::IoUring;
use crate::directory;
use ringfs_disk::{Disk, SystemDisk};

const SEGMENT_BYTES: u64 = 4 * BATCH_BYTES_MAX as u64;

struct Fixture {
    temp: tempfile::TempDir,
    io_uring: IoUring,
    directories: Vec<PathBuf>,
    cluster: ClusterId,
}

struct Running {
    wal: WalHandle,
    completions: Receiver<Completion>,
    next: u64,
}

impl Fixture {
    fn new(io_uring: IoUring) -> Self {
        Self::with_directories(io_uring, &["nn"])
    }

    fn with_directories(io_uring: IoUring, names: &[&str]) -> Self {
        let temp = tempfile::tempdir().expect("temporary directory");
        let directories: Vec<PathBuf> = names.iter().map(|name| temp.path().join(name)).collect();
        let made = directory::format(&SystemDisk, &directories, "ann", "staff").expect("formatted");
        Self { temp, io_uring, directories, cluster: made.cluster }
    }

    fn path(&self) -> PathBuf {
        self.directories[0].clone()
    }

    fn open(&self) -> Result<(Running, Vec<RecordV1>), WalError> {
        self.open_with(SEGMENT_BYTES)
    }

    fn open_with(&self, segment_bytes: u64) -> Result<(Running, Vec<RecordV1>), WalError> {
        let found: Vec<_> = self.directories.iter().map(|path| (path.clone(), Found::Ours)).collect();
        let choice = choose(&SystemDisk, &found)?;
        let options = Options { segment_bytes, seed: 77 + choice.opening };
        let mut records = Vec::new();
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let mut on_record = |record, _| records.push(record);
        let log = Log::open(disk, &choice, self.cluster, &options, LogIndex(0), &mut on_record)?;
        let last = log.last();
        assert_eq!(last.0, records.len() as u64);
        let (sender, completions) = channel();
        let wal = start(log, self.io_uring, move |completion| drop(sender.send(completion)))?;
        Ok((Running { wal, completions, next: last.0 + 1 }, records))
    }

    fn segments(&self) -> Vec<PathBuf> {
        self.segments_of(0)
    }

    fn segments_of(&self, index: usize) -> Vec<PathBuf> {
        let directory = &self.directories[index];
        let firsts = segment::list(&SystemDisk, directory).expect("listed");
        firsts.into_iter().map(|first| segment::path(directory, first)).collect()
    }
}

impl Running {
    fn append(&mut self, count: u64, text_bytes: usize) {
        let mut builder = BatchBuilder::default();
        for _ in 0..count {
            builder.push(&record(self.next, text_bytes));
            self.next += 1;
        }
        self.wal.append(builder);
        let completion = self.completions.recv().expect("completed");
        assert_eq!((completion.failure, completion.last.0), (None, self.next - 1));
    }
}

pub(super) fn record(index: u64, text_bytes: usize) -> RecordV1 {
    RecordV1 {
        index: LogIndex(index),
        term: Term(1),
        time_ms: index,
        session: SessionId([7; 16]),
        call: CallId(index),
        lowest_unanswered: CallId(index),
        user: "ann".to_owned(),
        groups: Vec::new(),
        is_privileged: true,
        change: ChangeV1::Delete(DeleteV1 {
            path: "x".repeat(text_bytes),
            recursive: index.is_multiple_of(2),
            is_subtree_permitted: true,
        }),
    }
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).expect("opened").write_all_at(bytes, offset).expect("written");
}

fn offsets_of_batches(path: &Path) -> Vec<u64> {
    let bytes = fs::read(path).expect("read");
    let seed = SegmentHeader::decode(&bytes).expect("a header").seed();
    let mut offsets = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES as usize;
    while let Ok(batch) = BatchHeader::decode(&bytes[at..], seed) {
        offsets.push(at as u64);
        at += batch.padded_len();
    }
    offsets
}

#[test]
fn records_come_back_in_order_over_many_segments_with_both_appenders() {
    for io_uring in [IoUring::Auto, IoUring::Off] {
        let fixture = Fixture::new(io_uring);
        let (mut running, records) = fixture.open().expect("an empty log");
        assert!(records.is_empty());
        for _ in 0..25 {
            running.append(3, 1 << 20);
        }
        running.append(1000, 20);
        running.wal.stop();
        assert!(fixture.segments().len() > 1);
        let (running, records) = fixture.open().expect("replayed");
        assert_eq!(running.next, 1076);
        assert!(records.iter().zip(1..).all(|(found, index)| found.index.0 == index));
        assert_eq!(records[1000], record(1001, 20));
    }
}

#[test]
fn an_unfinished_batch_is_cut_at_any_length() {
    let fixture = Fixture::new(IoUring::Off);
    let (mut running, _) = fixture.open().expect("opened");
    running.append(5, 100);
    running.append(40, 500);
    running.wal.stop();
    let path = &fixture.segments()[0];
    let whole = fs::read(path).expect("read");
    let offset = offsets_of_batches(path)[1];
    let end = (offset as usize + 40 * 600).next_multiple_of(4096);
    for keep in (0..40 * 560).step_by(512) {
        let mut torn = whole.clone();
        torn[offset as usize + keep..end].fill(0);
        fs::write(path, &torn).expect("written");
        let (running, records) = fixture.open().expect("cut");
        assert_eq!((records.len(), running.next), (5, 6), "kept {keep} bytes");
        running.wal.stop();
    }
    let (mut running, _) = fixture.open().expect("opened");
    running.append(2, 10);
    running.wal.stop();
    assert_eq!(fixture.open().expect("replayed").1.len(), 7);
}

#[test]
fn damage_at_or_below_the_mark_stops_the_start_with_file_and_offset() {
    let fixture = Fixture::new(IoUring::Auto);
    let (mut running, _) = fixture.open().expect("opened");
    for _ in 0..4 {
        running.append(2, 100);
        running.wal.acknowledged(LogIndex(running.next - 1));
    }
    running.wal.stop();
    let path = &fixture.segments()[0];
    let whole = fs::read(path).expect("read");
    for (index, offset) in offsets_of_batches(path).into_iter().enumerate() {
        for at in [offset, offset + 20, offset + 60, offset + 200] {
            let mut damaged = whole.clone();
            damaged[at as usize] ^= 0x10;
            fs::write(path, &damaged).expect("written");
            match fixture.open() {
                Err(WalError::Damaged { path: named, offset: found, acknowledged, last_good, .. }) => {
                    assert_eq!((&named, found, acknowledged.0), (path, offset, 8));
                    assert_eq!(last_good.0, index as u64 * 2);
                }
                other => panic!("damage at {at}: {:?}", other.map(|(_, records)| records.len())),
            }
        }
    }
    fs::write(path, &whole).expect("restored");
    assert_eq!(fixture.open().expect("replayed").1.len(), 8);
}

#[test]
fn a_batch_names_the_mark_of_those_before_it() {
    let fixture = Fixture::new(IoUring::Off);
    let (mut running, _) = fixture.open().expect("opened");
    for _ in 0..3 {
        running.append(1, 100);
        running.wal.acknowledged(LogIndex(running.next - 1));
    }
    running.wal.stop();
    fs::remove_file(fixture.path().join("marks")).expect("removed");
    let path = &fixture.segments()[0];
    let offsets = offsets_of_batches(path);
    // Without the ring, the third batch still says that the first two were acknowledged.
    write_at(path, offsets[2], &[0; 4096]);
    assert_eq!(fixture.open().expect("the third is cut").1.len(), 2);
    let whole = fs::read(path).expect("read");
    write_at(path, offsets[1] + 60, &[0xff]);
    fs::remove_file(fixture.path().join("marks")).expect("removed");
    assert_eq!(fixture.open().expect("the second is cut").1.len(), 1);
    fs::write(path, whole).expect("restored");
}

#[test]
fn foreign_and_missing_segments_are_refused() {
    let fixture = Fixture::new(IoUring::Off);
    let (mut running, _) = fixture.open().expect("opened");
    for _ in 0..8 {
        running.append(5, 1 << 20);
    }
    running.wal.stop();
    let segments = fixture.segments();
    assert!(segments.len() >= 2);
    let first = fs::read(&segments[0]).expect("read");
    fs::remove_file(&segments[0]).expect("removed");
    assert!(matches!(fixture.open(), Err(WalError::Gap { expected: LogIndex(1), .. })));
    fs::write(&segments[0], &first).expect("restored");
    let other = Fixture::new(IoUring::Off);
    fs::copy(&segments[0], other.path().join(segments[0].file_name().expect("named"))).expect("copied");
    assert!(matches!(other.open(), Err(WalError::Foreign { .. })));
}

#[test]
fn mirrors_hold_the_same_bytes_with_both_appenders() {
    for io_uring in [IoUring::Auto, IoUring::Off] {
        let fixture = Fixture::with_directories(io_uring, &["a", "b", "c"]);
        let (mut running, _) = fixture.open_with(SEGMENT_BYTES_MIN).expect("opened");
        for size in [10, 30_000, 100_000, 200] {
            running.append(3, size);
        }
        running.wal.stop();
        let segments = fixture.segments();
        assert!(segments.len() > 2, "{segments:?}");
        for other in [1, 2] {
            for (one, other) in segments.iter().zip(fixture.segments_of(other)) {
                assert_eq!(fs::read(one).expect("read"), fs::read(other).expect("read"));
            }
        }
        assert_eq!(fixture.open().expect("replayed").1.len(), 12);
    }
}

#[test]
fn damage_in_one_directory_heals_from_another_wherever_it_is() {
    let fixture = Fixture::with_directories(IoUring::Off, &["a", "b"]);
    let (mut running, _) = fixture.open_with(SEGMENT_BYTES_MIN).expect("opened");
    for _ in 0..6 {
        running.append(2, 20_000);
        running.wal.acknowledged(LogIndex(running.next - 1));
    }
    running.wal.stop();
    let whole: Vec<Vec<u8>> = fixture.segments().iter().map(|path| fs::read(path).expect("read")).collect();
    assert!(whole.len() >= 3);
    for damaged in [0, 1] {
        for (segment, path) in fixture.segments_of(damaged).iter().enumerate() {
            for offset in [5, 4096, 4096 + 60, 4096 + 9000] {
                write_at(path, offset, &[0xa5; 16]);
            }
            let (running, records) = fixture.open_with(SEGMENT_BYTES_MIN).expect("healed");
            assert_eq!(records.len(), 12);
            running.wal.stop();
            assert_eq!(fs::read(path).expect("read"), whole[segment], "segment {segment} of {damaged}");
            fs::remove_file(path).expect("removed");
            fixture.open_with(SEGMENT_BYTES_MIN).expect("healed").0.wal.stop();
            assert_eq!(fs::read(path).expect("read"), whole[segment], "segment {segment} of {damaged}");
        }
    }
    for directory in [0, 1] {
        write_at(&fixture.segments_of(directory)[1], 4096 + 60, &[0xa5; 16]);
    }
    match fixture.open_with(SEGMENT_BYTES_MIN) {
        Err(WalError::Damaged { path, offset, acknowledged, .. }) => {
            assert_eq!((path, offset, acknowledged.0), (fixture.segments()[1].clone(), 4096, 12));
        }
        other => panic!("damage in both: {:?}", other.map(|(_, records)| records.len())),
    }
}

#[test]
fn a_directory_that_was_left_behind_is_brought_up_to_date() {
    let mut fixture = Fixture::with_directories(IoUring::Off, &["a", "b"]);
    let (mut running, _) = fixture.open().expect("opened");
    running.append(5, 100);
    running.wal.stop();
    // "b" goes on alone, as if "a" had failed: its next batch differs from one that "a" may have kept.
    fixture.directories.remove(0);
    let (mut running, _) = fixture.open().expect("opened");
    running.append(1, 100);
    running.append(1, 300);
    running.wal.stop();
    let (a, b) = (fixture.temp.path().join("a"), fixture.temp.path().join("b"));
    fixture.directories = vec![a, b];
    let fork = fs::read(&fixture.segments_of(1)[0]).expect("read");
    let (mut running, records) = fixture.open().expect("opened");
    assert_eq!(records.len(), 7);
    assert_eq!(fs::read(&fixture.segments()[0]).expect("read"), fork);
    running.append(1, 10);
    running.wal.stop();
    fixture.directories.pop();
    assert_eq!(fixture.open().expect("opened").1.len(), 8, "the first has everything again");
}

#[test]
fn a_directory_that_fails_is_dropped_and_the_last_one_stops_the_log() {
    let fixture = Fixture::with_directories(IoUring::Off, &["a", "b"]);
    let (mut running, _) = fixture.open().expect("opened");
    running.append(1, 100);
    let failure = || io_error("sync", "a")(std::io::Error::other("the disk is gone"));
    running.wal.fail_directory(fixture.directories[0].clone(), failure());
    running.append(2, 100);
    let status = running.wal.status().clone();
    assert_eq!((status.failed(), status.live()), (1, vec![fixture.directories[1].clone()]));
    assert_eq!(
        Members::load(&SystemDisk, &fixture.directories[1]).expect("loaded").directories,
        fixture.directories[1..]
    );
    running.wal.fail_directory(fixture.directories[1].clone(), failure());
    running.append(1, 100);
    running.wal.stop();
    let (running, records) = fixture.open().expect("opened");
    assert_eq!((records.len(), running.wal.status().live().len()), (4, 2));
}
