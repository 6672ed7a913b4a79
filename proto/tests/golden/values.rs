//! Examples of the messages about small files.

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
}
