//! Examples of what operators look into.

use ringfs_proto::ids::*;
use ringfs_proto::meta::inspect::*;

use super::{Examples, block, located};

/// Replicas of files, and what users ask.
pub fn all(examples: &mut Examples) {
    let files =
        vec![FileFromV1 { inode: InodeId(5), offset: 6 }, FileFromV1 { inode: InodeId(7), offset: 0 }];
    examples.add("CheckFilesRequest", &CheckFilesRequestV1 { files });
    let healths = [
        ReplicaHealth::Live,
        ReplicaHealth::Corrupt,
        ReplicaHealth::Outdated,
        ReplicaHealth::Excess,
        ReplicaHealth::BeingWritten,
    ];
    let node = located().nodes.remove(0);
    let replicas = healths.map(|health| CheckedReplicaV1 { node: node.clone(), health }).into();
    let checked = CheckedBlockV1 {
        block: block(),
        offset: 4,
        is_open: false,
        is_misplaced: true,
        is_copied: false,
        value_copies: 0,
        replicas,
    };
    let file = CheckedFileV1 { is_there: true, blocks: vec![checked], next_offset: Some(9) };
    let gone = CheckedFileV1 { is_there: false, blocks: Vec::new(), next_offset: None };
    examples.add("CheckFilesReply", &CheckFilesReplyV1 { files: vec![file, gone] });
    examples.add("ActivityRequest", &ActivityRequestV1 { users_max: 3 });
    let operations = vec![OperationActivityV1 { op: 16, calls: 2, errors: 1 }];
    let user = "ann".to_owned();
    let users = vec![UserActivityV1 { user, connections: 1, calls: 2, refused: 3, waited_us: 4 }];
    examples.add("ActivityReply", &ActivityReplyV1 { uptime_ms: 5, operations, users });
}
