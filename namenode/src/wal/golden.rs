//! Bytes of the log, pinned.

use ringfs_proto::ids::{LogIndex, Term};

use super::BatchBuilder;
use super::format::SegmentHeader;
use super::tests::record;

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
    let batch = builder.seal(&header, 4096, Term(1), LogIndex(8));
    let hex: String = batch.as_ref()[..56].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "52465342c10000000100000000000000090000000000000001000000000000000800000000000000000000007aaf67e6890000001366a3e0"
    );
}

/// One record of each kind, as it lands on disk. A change of rkyv, of its features, or of a field's order shows here.
#[test]
fn records_have_these_bytes() {
    use ringfs_proto::checksum::{ChecksumType, crc32};
    use ringfs_proto::ids::{BlockId, InodeId, SessionId, Stamp, StorageId};
    use ringfs_proto::meta::attributes::{AclChangeV1, XattrV1};
    use ringfs_proto::meta::changes::{CommitActionV1, CommitStepV1, ContentVersionV1, ExpectedV1};
    use ringfs_proto::meta::namespace::{BlockRefV1, DeleteRequestV1};
    use ringfs_proto::wire::Message;

    use super::record::*;

    let path = || "/data/part-0".to_owned();
    let (inode, block) = (InodeId(5), BlockRefV1 { block: BlockId(1), stamp: Stamp(2), length: 3 });
    let create = CreateV1 {
        path: path(),
        mode: 0o644,
        unmasked_mode: 0o644,
        overwrite: true,
        create_parents: true,
        replication: 3,
        block_size: 1 << 27,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
    };
    let pipeline = || vec![StorageId([7; 16]), StorageId([8; 16])];
    let close = |recovery_stamp, end| {
        ChangeV1::CloseFile(CloseFileV1 { inode, holder: SessionId([9; 16]), recovery_stamp, end, crc: None })
    };
    let cut = CutV1 { old: block, block: BlockId(4), stamp: Stamp(5) };
    let version = ContentVersionV1 { inode, version: LogIndex(8) };
    let step = CommitStepV1 {
        conditions: vec![(path(), ExpectedV1::Version(version))],
        action: CommitActionV1::Delete(DeleteRequestV1 { path: path(), recursive: true }),
    };
    let xattr = XattrV1 { name: "user.a".to_owned(), value: vec![1, 2, 3] };
    let file = create.clone();
    let value = ValueV1 { at: 1, len: 2, crc: 3 };
    let tail = TailV1 { block: BlockId(4), value, replaces_last: true };
    let moved = MovedV1 { block: BlockId(4), offset: 4096, value };
    let changes = [
        ChangeV1::Mkdirs(MkdirsV1 { path: path(), mode: 0o755, unmasked_mode: 0o755, create_parents: true }),
        ChangeV1::Create(create),
        ChangeV1::AddBlock(AddBlockV1 {
            inode,
            previous: Some(block),
            previous_crc: Some(7),
            block: BlockId(4),
            stamp: Stamp(5),
            pipeline: pipeline(),
        }),
        ChangeV1::AbandonBlock(AbandonBlockV1 { inode, block: BlockId(4) }),
        ChangeV1::Complete(CompleteV1 { inode, last: Some(block), crc: Some(8), tail: None }),
        ChangeV1::Rename(RenameV1 { source: path(), target: "/x".to_owned(), overwrite: true }),
        ChangeV1::Delete(DeleteV1 { path: path(), recursive: true, is_subtree_permitted: true }),
        ChangeV1::NewStamp(NewStampV1 { inode, block, stamp: Stamp(5) }),
        ChangeV1::UpdatePipeline(UpdatePipelineV1 {
            inode,
            old: block,
            stamp: Stamp(5),
            pipeline: pipeline(),
        }),
        ChangeV1::FenceWriter(FenceWriterV1 { inode, block: BlockId(1), stamp: Stamp(6) }),
        close(None, FileEndV1::AsIs),
        close(Some(Stamp(6)), FileEndV1::Commit(block)),
        close(Some(Stamp(6)), FileEndV1::Remove(BlockId(1))),
        ChangeV1::Append(AppendV1 { path: path(), reopened: Some(block), pipeline: pipeline() }),
        ChangeV1::Concat(ConcatV1 { target: path(), sources: vec!["/data/part-1".to_owned()] }),
        ChangeV1::Truncate(TruncateV1 { path: path(), length: 2, cut: Some(cut) }),
        ChangeV1::EndTruncate(EndTruncateV1 { inode, block: BlockId(4), crc: None }),
        ChangeV1::Commit(CommitV1 { steps: vec![step] }),
        ChangeV1::Free,
        ChangeV1::SetPermission(SetPermissionV1 { path: path(), mode: 0o750 }),
        ChangeV1::SetOwner(SetOwnerV1 { path: path(), owner: Some("ann".to_owned()), group: None }),
        ChangeV1::SetTimes(SetTimesV1 { path: path(), mtime_ms: Some(7), atime_ms: None }),
        ChangeV1::Touch(TouchV1 { inode }),
        ChangeV1::ChangeAcl(ChangeAclV1 { path: path(), change: AclChangeV1::RemoveDefault }),
        ChangeV1::SetXattr(SetXattrV1 { path: path(), xattr, flags: 3 }),
        ChangeV1::RemoveXattr(RemoveXattrV1 { path: path(), name: "user.a".to_owned() }),
        ChangeV1::SetStoragePolicy(SetStoragePolicyV1 { path: path(), policy: 2 }),
        ChangeV1::Put(PutV1 { file, block: BlockId(4), value: Some(value) }),
        ChangeV1::Complete(CompleteV1 { inode, last: None, crc: None, tail: Some(tail) }),
        ChangeV1::MoveValues(MoveValuesV1 { segment: LogIndex(7), moved: vec![moved] }),
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
        (149, 2254039328),
        (149, 3828654154),
        (169, 323048207),
        (137, 2529939783),
        (137, 114154019),
        (149, 3152752184),
        (149, 4097071489),
        (137, 3765888611),
        (169, 2740879138),
        (137, 3172714419),
        (137, 2528217377),
        (137, 1166136793),
        (137, 1479449970),
        (181, 2909870413),
        (169, 2888451557),
        (149, 3367782793),
        (137, 3758435466),
        (217, 2305163176),
        (137, 4030962608),
        (149, 2208905104),
        (149, 1369237916),
        (149, 3696490638),
        (137, 3397687780),
        (149, 378740083),
        (152, 3092314933),
        (149, 2385764858),
        (149, 3370224753),
        (149, 3205825985),
        (137, 3175198903),
        (165, 3202027410),
    ];
    assert_eq!(found, golden, "length and CRC-32 of each");
}
