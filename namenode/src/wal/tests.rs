//! The log on a real directory: restarts, torn tails, damage.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use ringfs_proto::ids::{CallId, LogIndex, SessionId, Term};

use super::format::{BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::record::{ChangeV1, DeleteV1, RecordV1};
use super::*;
use crate::config::IoUring;
use crate::directory::Directory;

const SEGMENT_BYTES: u64 = 4 * BATCH_BYTES_MAX as u64;

struct Fixture {
    temp: tempfile::TempDir,
    io_uring: IoUring,
}

struct Running {
    wal: WalHandle,
    completions: Receiver<Completion>,
    next: u64,
}

impl Fixture {
    fn new(io_uring: IoUring) -> Self {
        let temp = tempfile::tempdir().expect("temporary directory");
        Directory::format(&temp.path().join("nn"), "ann", "staff").expect("formatted");
        Self { temp, io_uring }
    }

    fn path(&self) -> PathBuf {
        self.temp.path().join("nn")
    }

    fn open(&self) -> Result<(Running, Vec<RecordV1>), WalError> {
        let directory = Directory::open(&self.path()).expect("opened");
        let options = Options { segment_bytes: SEGMENT_BYTES, io_uring: self.io_uring };
        let mut records = Vec::new();
        let (sender, completions) = channel();
        let on_complete = move |completion| drop(sender.send(completion));
        let (wal, last) = start(&directory, &options, &mut |record| records.push(record), on_complete)?;
        assert_eq!(last.0, records.len() as u64);
        Ok((Running { wal, completions, next: last.0 + 1 }, records))
    }

    fn segments(&self) -> Vec<PathBuf> {
        segment::list(&self.path()).expect("listed").into_iter().map(|(_, path)| path).collect()
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

fn record(index: u64, text_bytes: usize) -> RecordV1 {
    RecordV1 {
        index: LogIndex(index),
        term: Term(1),
        time_ms: index,
        session: SessionId([7; 16]),
        call: CallId(index),
        lowest_unanswered: CallId(index),
        user: "ann".to_owned(),
        change: ChangeV1::Delete(DeleteV1 {
            path: "x".repeat(text_bytes),
            recursive: index.is_multiple_of(2),
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
fn headers_have_these_bytes() {
    let header = SegmentHeader {
        cluster: ringfs_proto::ids::ClusterId([0xab; 16]),
        epoch: 5,
        first: LogIndex(9),
        bytes: 1 << 26,
    };
    let hex: String = header.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "5246535701000000",
            "abababababababababababababababab",
            "0500000000000000",
            "0900000000000000",
            "0000000400000000",
            "3298964b"
        )
    );
    let mut builder = BatchBuilder::default();
    builder.push(&record(9, 4));
    let batch = builder.seal(header.seed(), Term(1), LogIndex(8));
    let hex: String = batch.as_ref()[..56].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "52465342aa000000010000000000000009000000000000000100000000000000080000000000000000000000ca9c69e1720000004b9912a8"
    );
}

/// One record of each kind, as it lands on disk. A change of rkyv, of its features, or of a field's order shows here.
#[test]
fn records_have_these_bytes() {
    use ringfs_proto::checksum::{ChecksumType, crc32};
    use ringfs_proto::ids::{BlockId, InodeId, Stamp};
    use ringfs_proto::meta::namespace::BlockRefV1;
    use ringfs_proto::wire::Message;

    use super::record::*;

    let path = || "/data/part-0".to_owned();
    let (inode, block) = (InodeId(5), BlockRefV1 { block: BlockId(1), stamp: Stamp(2), length: 3 });
    let create = CreateV1 {
        path: path(),
        mode: 0o644,
        overwrite: true,
        create_parents: true,
        replication: 3,
        block_size: 1 << 27,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
    };
    let changes = [
        ChangeV1::Mkdirs(MkdirsV1 { path: path(), mode: 0o755, create_parents: true }),
        ChangeV1::Create(create),
        ChangeV1::AddBlock(AddBlockV1 { inode, previous: Some(block), block: BlockId(4), stamp: Stamp(5) }),
        ChangeV1::AbandonBlock(AbandonBlockV1 { inode, block: BlockId(4) }),
        ChangeV1::Complete(CompleteV1 { inode, last: Some(block) }),
        ChangeV1::Rename(RenameV1 { source: path(), target: "/x".to_owned(), overwrite: true }),
        ChangeV1::Delete(DeleteV1 { path: path(), recursive: true }),
    ];
    let mut found = Vec::new();
    for change in changes {
        let record = RecordV1 { change, ..record(9, 0) };
        let bytes = record.encode();
        assert_eq!(RecordV1::decode(&bytes), Ok(record));
        for len in 0..bytes.len() {
            assert!(RecordV1::decode(&bytes[..len]).ok().is_none_or(|cut| cut.encode() != bytes));
        }
        found.push((bytes.len(), crc32(&bytes)));
    }
    let golden = [
        (126, 4006545411),
        (126, 2933267524),
        (114, 1177517234),
        (114, 1878773629),
        (114, 1958373109),
        (126, 2261480710),
        (126, 634341201),
    ];
    assert_eq!(found, golden, "length and CRC-32 of each");
}
