//! The namenode's log: headers of segments, batches, records, marks.

use ringfs_namenode::wal::format::{
    BATCH_HEADER_BYTES, BatchHeader, SegmentHeader, decode_mark, decode_records, encode_mark,
};
use ringfs_namenode::wal::record::{
    AbandonBlockV1, AddBlockV1, ChangeV1, CloseFileV1, CompleteV1, CreateV1, DeleteV1, FenceWriterV1,
    FileEndV1, MkdirsV1, MoveValuesV1, MovedV1, NewStampV1, PutV1, RaiseIdsV1, RecordV1, RenameV1,
    SetReplicationV1, UpdatePipelineV1, ValueV1,
};
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, CallId, ClusterId, InodeId, LogIndex, SessionId, Stamp, StorageId, Term};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::wire::Message;

use crate::input::{Input, push_piece};
use crate::wire::seal;

const SEED: u32 = 0x1234_5678;
const CLUSTER: ClusterId = ClusterId([7; 16]);
/// A file that is closed by its writer.
const FIRST: &str = "/a directory/file";

/// Headers of segments, and marks.
pub fn segments(data: &[u8]) {
    let mut sealed = data.to_vec();
    sealed.resize(sealed.len().max(52), 0);
    sealed[..8].copy_from_slice(b"RFSW\x01\0\0\0");
    seal(&mut sealed, 48);
    for bytes in [data, &sealed] {
        if let Ok(header) = SegmentHeader::decode(bytes) {
            assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header), "a header survives");
        }
    }
    sealed[..4].copy_from_slice(b"RFSM");
    sealed[8..24].copy_from_slice(&CLUSTER.0);
    seal(&mut sealed, 32);
    let _mark = decode_mark(data, CLUSTER);
    let mark = decode_mark(&sealed, CLUSTER).expect("a sealed mark is good");
    assert_eq!(encode_mark(CLUSTER, mark), sealed[..36]);
    assert_eq!(decode_mark(&sealed, ClusterId([8; 16])), None, "a mark of another cluster is none");
}

/// A batch: its bytes as they are, and a batch made of the input's pieces, with checksums that are right.
pub fn batches(data: &[u8]) {
    read_batch(data);
    read_batch(&sealed_batch(Input(data)));
}

fn read_batch(bytes: &[u8]) {
    let Ok(header) = BatchHeader::decode(bytes, SEED) else { return };
    assert!(header.padded_len() >= header.len && header.last() >= header.first);
    let Ok(records) = decode_records(&header, bytes, SEED) else { return };
    assert_eq!(records.len(), header.count as usize, "a batch has as many records as it says");
    for (record, index) in records.iter().zip(header.first.0..) {
        assert_eq!(record.index.0, index);
        assert_eq!(RecordV1::decode(&record.encode()).as_ref(), Ok(record), "a record survives");
    }
}

/// Index of the first record, a count to add to the true one, then the records as pieces.
fn sealed_batch(mut input: Input<'_>) -> Vec<u8> {
    let (first, more) = (input.u64(), u32::from(input.byte()));
    let (mut records, mut count) = (Vec::new(), more);
    while !input.is_empty() {
        let record = input.piece();
        records.extend((record.len() as u32).to_le_bytes());
        records.extend(ChecksumType::Crc32.append(SEED, record).to_le_bytes());
        records.extend(record);
        count += 1;
    }
    let mut batch = vec![0; BATCH_HEADER_BYTES];
    batch[..4].copy_from_slice(b"RFSB");
    batch[4..8].copy_from_slice(&((BATCH_HEADER_BYTES + records.len()) as u32).to_le_bytes());
    batch[8..12].copy_from_slice(&count.to_le_bytes());
    batch[16..24].copy_from_slice(&first.to_le_bytes());
    let crc = ChecksumType::Crc32.append(SEED, &batch[..44]);
    batch[44..].copy_from_slice(&crc.to_le_bytes());
    batch.extend(records);
    batch
}

/// A segment's header and a mark.
pub fn segment_seeds() -> Vec<Vec<u8>> {
    let header = SegmentHeader { cluster: CLUSTER, epoch: 9, first: LogIndex(1), bytes: 64 << 20 };
    vec![header.encode().to_vec(), encode_mark(CLUSTER, LogIndex(5)).to_vec()]
}

/// A batch with every kind of record, and one of each alone.
pub fn batch_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut all = batch_of_none();
    for (change, index) in changes().into_iter().zip(1..) {
        push_piece(&mut all, &record(index, change.clone()).encode());
        let mut alone = batch_of_none();
        push_piece(&mut alone, &record(1, change).encode());
        seeds.push(sealed_batch(Input(&alone)));
        seeds.push(alone);
    }
    seeds.push(all);
    seeds
}

fn batch_of_none() -> Vec<u8> {
    [&1u64.to_le_bytes()[..], &[0]].concat()
}

fn record(index: u64, change: ChangeV1) -> RecordV1 {
    RecordV1 {
        index: LogIndex(index),
        term: Term(1),
        time_ms: 1_000_000 + index,
        session: SessionId([5; 16]),
        call: CallId(index),
        lowest_unanswered: CallId(0),
        user: "ann".to_owned(),
        groups: Vec::new(),
        is_privileged: true,
        change,
    }
}

/// Every kind of change, in an order in which most of them succeed: two files, of which the second loses its writer.
pub fn changes() -> Vec<ChangeV1> {
    let inode = InodeId(3);
    let first = BlockRefV1 { block: BlockId(1), stamp: Stamp(1), length: 4096 };
    let mut changes = vec![
        ChangeV1::Mkdirs(MkdirsV1 {
            path: "/a directory".to_owned(),
            mode: 0o755,
            unmasked_mode: 0o755,
            create_parents: true,
        }),
        create(FIRST),
        add_block(inode, None, first),
        ChangeV1::Complete(CompleteV1 { inode, last: Some(first), crc: None, tail: None }),
        ChangeV1::SetReplication(SetReplicationV1 { path: FIRST.to_owned(), replication: 2 }),
        ChangeV1::Rename(RenameV1 { source: FIRST.to_owned(), target: "/b".to_owned(), overwrite: true }),
    ];
    changes.extend(lost_writer());
    let value = ValueV1 { at: 0, len: 7, crc: 8 };
    let moved = MovedV1 { block: BlockId(10), offset: 4096, value };
    let delete = DeleteV1 { path: "/a directory".to_owned(), recursive: true, is_subtree_permitted: true };
    changes.extend([
        ChangeV1::RaiseIds(RaiseIdsV1 { block: BlockId(9), stamp: Stamp(9) }),
        ChangeV1::Put(PutV1 { file: created("/small"), block: BlockId(10), value: Some(value) }),
        ChangeV1::MoveValues(MoveValuesV1 { segment: LogIndex(1), moved: vec![moved] }),
        ChangeV1::Delete(delete),
    ]);
    changes
}

/// A file whose pipeline breaks and stands again, and whose writer then vanishes: its block is recovered, and kept. Another
/// block is given back, and ways to end a recovery that change nothing follow.
fn lost_writer() -> Vec<ChangeV1> {
    let (inode, block) = (InodeId(4), BlockId(2));
    let holder = SessionId([5; 16]);
    let at = |stamp, length| BlockRefV1 { block, stamp: Stamp(stamp), length };
    let close = |end, recovery_stamp| {
        ChangeV1::CloseFile(CloseFileV1 { inode, holder, recovery_stamp, end, crc: None })
    };
    let update = UpdatePipelineV1 { inode, old: at(2, 100), stamp: Stamp(3), pipeline: pipeline() };
    vec![
        create("/a directory/lost"),
        add_block(inode, None, at(2, 0)),
        ChangeV1::NewStamp(NewStampV1 { inode, block: at(2, 100), stamp: Stamp(3) }),
        ChangeV1::UpdatePipeline(update),
        ChangeV1::FenceWriter(FenceWriterV1 { inode, block, stamp: Stamp(4) }),
        close(FileEndV1::Commit(at(4, 100)), Some(Stamp(4))),
        close(FileEndV1::AsIs, None),
        close(FileEndV1::Remove(block), Some(Stamp(4))),
        create("/a directory/open"),
        add_block(InodeId(5), None, BlockRefV1 { block: BlockId(3), stamp: Stamp(5), length: 0 }),
        ChangeV1::AbandonBlock(AbandonBlockV1 { inode: InodeId(5), block: BlockId(3) }),
    ]
}

fn create(path: &str) -> ChangeV1 {
    ChangeV1::Create(created(path))
}

fn created(path: &str) -> CreateV1 {
    CreateV1 {
        path: path.to_owned(),
        mode: 0o644,
        unmasked_mode: 0o644,
        overwrite: false,
        create_parents: false,
        replication: 3,
        block_size: 1 << 27,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
    }
}

fn add_block(inode: InodeId, previous: Option<BlockRefV1>, new: BlockRefV1) -> ChangeV1 {
    let BlockRefV1 { block, stamp, .. } = new;
    ChangeV1::AddBlock(AddBlockV1 { inode, previous, previous_crc: None, block, stamp, pipeline: pipeline() })
}

fn pipeline() -> Vec<StorageId> {
    vec![StorageId([1; 16]), StorageId([2; 16])]
}
