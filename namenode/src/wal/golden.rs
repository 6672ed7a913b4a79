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
    let batch = builder.seal(header.seed(), Term(1), LogIndex(8));
    let hex: String = batch.as_ref()[..56].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "52465342bc00000001000000000000000900000000000000010000000000000008000000000000000000000024fef7408400000076c0b3a7"
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
        ChangeV1::CloseFile(CloseFileV1 { inode, holder: SessionId([9; 16]), recovery_stamp, end })
    };
    let cut = CutV1 { old: block, block: BlockId(4), stamp: Stamp(5) };
    let version = ContentVersionV1 { inode, version: LogIndex(8) };
    let step = CommitStepV1 {
        conditions: vec![(path(), ExpectedV1::Version(version))],
        action: CommitActionV1::Delete(DeleteRequestV1 { path: path(), recursive: true }),
    };
    let xattr = XattrV1 { name: "user.a".to_owned(), value: vec![1, 2, 3] };
    let changes = [
        ChangeV1::Mkdirs(MkdirsV1 { path: path(), mode: 0o755, unmasked_mode: 0o755, create_parents: true }),
        ChangeV1::Create(create),
        ChangeV1::AddBlock(AddBlockV1 {
            inode,
            previous: Some(block),
            block: BlockId(4),
            stamp: Stamp(5),
            pipeline: pipeline(),
        }),
        ChangeV1::AbandonBlock(AbandonBlockV1 { inode, block: BlockId(4) }),
        ChangeV1::Complete(CompleteV1 { inode, last: Some(block) }),
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
        ChangeV1::EndTruncate(EndTruncateV1 { inode, block: BlockId(4) }),
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
        (144, 2847533462),
        (144, 4051538492),
        (164, 3203401902),
        (132, 1701696917),
        (132, 2257520624),
        (144, 2087011780),
        (144, 1226921275),
        (132, 3796910324),
        (164, 976518845),
        (132, 2041745790),
        (132, 2022232932),
        (132, 3349428177),
        (132, 4217807618),
        (176, 1238978850),
        (164, 3518670248),
        (144, 4074500772),
        (132, 5159129),
        (212, 2182010866),
        (132, 355199394),
        (144, 1041728186),
        (144, 253075459),
        (144, 1239260456),
        (132, 2174482132),
        (144, 1991969209),
        (147, 2252472201),
        (144, 507569324),
        (144, 1639325133),
    ];
    assert_eq!(found, golden, "length and CRC-32 of each");
}
