//! What operators look into: the replicas of files as they are, in bounded answers, and what users asked.

use ringfs_proto::Code;
use ringfs_proto::ids::InodeId;
use ringfs_proto::limits::{BATCH_PATHS_MAX, LOCATED_BLOCKS_MAX, META_BYTES_MAX};
use ringfs_proto::meta::attributes::SetPermissionRequestV1;
use ringfs_proto::meta::inspect::*;
use ringfs_proto::meta::membership::ReplicaChangeV1;
use ringfs_proto::meta::namespace::{
    BlockRefV1, FileRefV1, GetBlockLocationsRequestV1, SetReplicationRequestV1,
};

use super::cluster::*;
use crate::activity::{Usage, Usages};
use crate::calls::{Credentials, Reply, Request};

fn check(cluster: &mut Cluster, files: &[(InodeId, u64)]) -> Vec<CheckedFileV1> {
    let caller = cluster.writer();
    let files = files.iter().map(|(inode, offset)| FileFromV1 { inode: *inode, offset: *offset }).collect();
    match cluster.ask(&caller, Request::CheckFiles(CheckFilesRequestV1 { files })) {
        Ok(Reply::CheckFiles(reply)) => reply.files,
        other => panic!("{other:?}"),
    }
}

fn inode(cluster: &mut Cluster, path: &str) -> InodeId {
    let caller = cluster.writer();
    let file = FileRefV1::Path(path.to_owned());
    match cluster
        .ask(&caller, Request::GetBlockLocations(GetBlockLocationsRequestV1 { file, offset: 0, length: 1 }))
    {
        Ok(Reply::GetBlockLocations(reply)) => reply.status.inode,
        other => panic!("{other:?}"),
    }
}

fn healths(file: &CheckedFileV1) -> Vec<ReplicaHealth> {
    file.blocks.iter().flat_map(|block| &block.replicas).map(|replica| replica.health).collect()
}

#[test]
fn replicas_are_told_with_what_they_are_worth() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 3);
    let block = cluster.write("/a", &mut nodes[..2]);
    let file = inode(&mut cluster, "/a");
    let found = check(&mut cluster, &[(file, 0), (InodeId(999), 0)]);
    assert_eq!((found.len(), found[0].is_there, found[1].is_there), (2, true, false));
    assert_eq!((healths(&found[0]), found[0].blocks[0].block), (vec![ReplicaHealth::Live; 2], block));
    cluster.increment(&mut nodes[0], &[ReplicaChangeV1::Corrupt(block)]).expect("taken");
    let found = check(&mut cluster, &[(file, 0)]);
    assert_eq!(healths(&found[0]), [ReplicaHealth::Corrupt, ReplicaHealth::Live]);
    let writer = cluster.writer();
    let open = cluster.create(&writer, "/open").expect("created");
    cluster.add_block(&writer, open, None).expect("added");
    let found = check(&mut cluster, &[(open, 0)]);
    assert!(found[0].blocks[0].is_open);
    assert!(healths(&found[0]).iter().all(|health| *health == ReplicaHealth::BeingWritten));
}

#[test]
fn an_answer_has_a_bounded_number_of_blocks_and_the_next_one_goes_on() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let writer = cluster.writer();
    let file = cluster.create(&writer, "/long").expect("created");
    let (mut previous, count) = (None, LOCATED_BLOCKS_MAX + 10);
    for _ in 0..count {
        let located = cluster.add_block(&writer, file, previous).expect("added");
        let block = BlockRefV1 { length: 1024, ..located.block };
        cluster.store(&mut nodes[0], block);
        previous = Some(block);
    }
    cluster.ask(&writer, complete(file, previous)).expect("closed");
    cluster.write("/short", &mut nodes);
    let short = inode(&mut cluster, "/short");
    let first = check(&mut cluster, &[(file, 0), (short, 0)]);
    assert_eq!(first.len(), 1, "the rest did not fit");
    let next = first[0].next_offset.expect("there is more");
    let rest = check(&mut cluster, &[(file, next), (short, 0)]);
    assert_eq!((rest.len(), rest[0].next_offset), (2, None));
    assert_eq!(first[0].blocks.len() + rest[0].blocks.len(), count);
    assert_eq!(first[0].blocks.len() as u64 * 1024, next);
}

#[test]
fn locations_of_many_replicas_fit_into_a_frame_and_the_next_call_goes_on() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 40);
    let writer = cluster.writer();
    let file = cluster.create(&writer, "/wide").expect("created");
    let wide = SetReplicationRequestV1 { path: "/wide".to_owned(), replication: 40 };
    cluster.ask(&writer, Request::SetReplication(wide)).expect("set");
    let (mut previous, count) = (None, 200);
    for _ in 0..count {
        let block = written(&cluster.add_block(&writer, file, previous).expect("added"), 1024);
        nodes.iter_mut().for_each(|node| cluster.store(node, block));
        previous = Some(block);
    }
    cluster.ask(&writer, complete(file, previous)).expect("closed");
    let mut ask = |offset| {
        let file = FileRefV1::Path("/wide".to_owned());
        let request = GetBlockLocationsRequestV1 { file, offset, length: u64::MAX };
        let reply = cluster.ask(&writer, Request::GetBlockLocations(request)).expect("located");
        let mut meta = Vec::new();
        reply.encode_into(&mut meta);
        assert!(meta.len() <= META_BYTES_MAX, "{} bytes", meta.len());
        let Reply::GetBlockLocations(reply) = reply else { panic!("{reply:?}") };
        assert_eq!(reply.blocks[0].nodes.len(), 40);
        reply.blocks.len()
    };
    let first = ask(0);
    assert!(first < count);
    assert_eq!(first + ask(first as u64 * 1024), count);
}

#[test]
fn who_may_not_search_a_directory_is_told_nothing_of_its_files() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    cluster.write("/secret/a", &mut nodes);
    let file = inode(&mut cluster, "/secret/a");
    let writer = cluster.writer();
    let closed = SetPermissionRequestV1 { path: "/secret".to_owned(), mode: 0o700 };
    cluster.ask(&writer, Request::SetPermission(closed)).expect("set");
    let stranger = {
        let caller = cluster.caller(201, ELSEWHERE);
        let known = caller.with_credentials(std::sync::Arc::new(Credentials::default()));
        std::sync::Arc::new(crate::calls::Caller { user: "eve".to_owned(), ..known })
    };
    let files = vec![FileFromV1 { inode: file, offset: 0 }];
    let denied = cluster.ask(&stranger, Request::CheckFiles(CheckFilesRequestV1 { files: files.clone() }));
    assert_eq!(denied.expect_err("denied").code, Code::PermissionDenied);
    let too_many = CheckFilesRequestV1 { files: files.repeat(BATCH_PATHS_MAX + 1) };
    let refused = cluster.ask(&writer, Request::CheckFiles(too_many));
    assert_eq!(refused.expect_err("refused").code, Code::InvalidArgument);
}

#[test]
fn activity_is_told_by_operation_and_by_user() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 1);
    let caller = cluster.writer();
    cluster.create(&caller, "/a").expect("created");
    cluster.create(&caller, "/a").expect_err("it is there");
    let mut usages = Usages::default();
    usages.add("ann", Usage { calls: 2, refused: 1, waited_us: 30 });
    cluster.core.note_usages(&usages);
    cluster.core.note_usages(&usages);
    let reply = match cluster.ask(&caller, Request::Activity(ActivityRequestV1 { users_max: 0 })) {
        Ok(Reply::Activity(reply)) => reply,
        other => panic!("{other:?}"),
    };
    let creates = reply.operations.iter().find(|one| one.op == ringfs_proto::ops::Op::Create as u16);
    assert_eq!(creates.map(|one| (one.calls, one.errors)), Some((2, 1)));
    let [ann] = &reply.users[..] else { panic!("{:?}", reply.users) };
    assert_eq!((ann.user.as_str(), ann.calls, ann.refused, ann.waited_us), ("ann", 4, 2, 60));
    assert!(ann.connections >= 1);
}
