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
