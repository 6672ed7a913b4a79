//! Examples of the messages about small files.

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::meta::namespace::{GetBlockLocationsReplyV1, LocatedBlockV1};
use ringfs_proto::meta::values::*;

use super::{Examples, create_request, located, status};

/// Put and batches.
pub fn all(examples: &mut Examples) {
    examples.add("PutRequest", &PutRequestV1 { file: create_request(), bytes: b"content".to_vec() });
    examples.add("BatchOpenRequest", &BatchOpenRequestV1 { paths: vec!["/a".to_owned(), "/b".to_owned()] });
    let inline = LocatedBlockV1 { nodes: Vec::new(), inline: Some(b"content".to_vec()), ..located() };
    let files = vec![
        OpenedV1::Open(GetBlockLocationsReplyV1 { status: status(), blocks: vec![inline] }),
        OpenedV1::Refused(2, "File does not exist: /b".to_owned()),
    ];
    examples.add("BatchOpenReply", &BatchOpenReplyV1 { files });
    let LocatedBlockV1 { capability, block, .. } = located();
    examples.add("ReadValueRequest", &ReadValueRequestV1 { capability, block });
    let (bytes, checksum, chunk_bytes) = (b"content".to_vec(), ChecksumType::Crc32c, 4096);
    examples.add("ReadValueReply", &ReadValueReplyV1 { bytes, checksum, chunk_bytes });
}
