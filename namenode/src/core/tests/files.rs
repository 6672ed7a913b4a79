//! Append, truncate, concat and commit as calls: replicas, leases, retries, restarts.

use std::sync::Arc;

use ringfs_proto::Code;
use ringfs_proto::ids::InodeId;
use ringfs_proto::meta::changes::*;
use ringfs_proto::meta::namespace::*;

use super::cluster::*;
use super::fleet::Fleet;
use super::pipelines::{new_stamp, update_pipeline};
use crate::calls::{Caller, Reply, Request};

fn append_of(path: &str) -> Request {
    Request::Append(AppendRequestV1 { path: path.to_owned(), new_block: false })
}

fn truncate_of(path: &str, length: u64) -> Request {
    Request::Truncate(TruncateRequestV1 { path: path.to_owned(), length })
}

fn append(cluster: &mut Cluster, writer: &Arc<Caller>, path: &str) -> Result<AppendReplyV1, Code> {
    match cluster.ask(writer, append_of(path)) {
        Ok(Reply::Append(reply)) => Ok(reply),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

fn truncate(cluster: &mut Cluster, path: &str, length: u64) -> Result<bool, Code> {
    let caller = cluster.writer();
    match cluster.ask(&caller, truncate_of(path, length)) {
        Ok(Reply::Truncate(reply)) => Ok(reply.is_done),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

fn status(cluster: &mut Cluster, path: &str) -> FileStatusV1 {
    let reader = cluster.caller(201, ELSEWHERE);
    match cluster.ask(&reader, Request::Stat(StatRequestV1 { path: path.to_owned() })) {
        Ok(Reply::Stat(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_appender_gets_the_replicas_and_goes_on_under_a_new_stamp() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 3);
    let block = cluster.write("/f", &mut nodes);
    let writer = cluster.writer();
    let reply = append(&mut cluster, &writer, "/f").expect("opened");
    let last = reply.last.expect("a block");
    assert_eq!((last.block, last.is_open, last.nodes.len()), (block, true, 3));
    assert!(reply.status.is_open && reply.status.length == 0);
    assert_eq!(cluster.readers_go_to("/f"), ids(&nodes), "old bytes are read where they were");
    let inode = reply.status.inode;
    let given = new_stamp(&mut cluster, &writer, inode, block).expect("given");
    update_pipeline(&mut cluster, &writer, inode, block, given.stamp, &nodes[..2]).expect("updated");
    assert_eq!(cluster.readers_go_to("/f"), ids(&nodes[..2]));
    let longer = BlockRefV1 { stamp: given.stamp, length: 25, ..block };
    cluster.store(&mut nodes[0], longer);
    cluster.ask(&writer, complete(inode, Some(longer))).expect("closed");
    assert_eq!(status(&mut cluster, "/f").length, 25);
    assert_eq!(cluster.readers_go_to("/f"), ids(&nodes[..1]), "replicas of the old stamp do not count");
}

#[test]
fn a_file_without_a_known_replica_is_not_opened_or_cut_yet() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    cluster.write("/f", &mut nodes);
    let mut cluster = cluster.restart(config());
    // Changes are accepted although nothing is reported.
    cluster.core.safe_mode = Default::default();
    let writer = cluster.writer();
    assert_eq!(append(&mut cluster, &writer, "/f").map(|_| ()), Err(Code::NotReplicatedYet));
    assert_eq!(truncate(&mut cluster, "/f", 5), Err(Code::NotReplicatedYet));
    assert_eq!(truncate(&mut cluster, "/f", 0), Ok(true), "no replica is needed for that");
}

#[test]
fn an_appender_takes_over_after_the_soft_limit() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    cluster.write("/f", &mut nodes);
    let lost = cluster.caller(7, ELSEWHERE);
    append(&mut cluster, &lost, "/f").expect("opened");
    cluster.core.disconnected(lost.connection);
    let writer = cluster.writer();
    assert_eq!(append(&mut cluster, &writer, "/f").map(|_| ()), Err(Code::LeaseHeld));
    assert_eq!(cluster.core.recoveries.count(), 0, "too early");
    cluster.pass(config().lease_soft_ms + 200);
    assert_eq!(append(&mut cluster, &writer, "/f").map(|_| ()), Err(Code::LeaseHeld));
    assert_eq!(cluster.core.recoveries.count(), 1, "its recovery has begun");
}

#[test]
fn calls_that_come_twice_are_carried_out_once() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    for path in ["/f", "/g", "/h"] {
        cluster.write(path, &mut nodes);
    }
    let writer = cluster.writer();
    let create = CreateEmptyV1 {
        path: "/e".to_owned(),
        mode: 0o644,
        unmasked_mode: 0o644,
        replication: 0,
        block_size: 0,
    };
    let step = CommitStepV1 { conditions: Vec::new(), action: CommitActionV1::CreateEmpty(create) };
    let concat = ConcatRequestV1 { target: "/g".to_owned(), sources: vec!["/h".to_owned()] };
    let requests = [
        append_of("/f"),
        Request::Concat(concat),
        truncate_of("/g", 5),
        Request::Commit(CommitRequestV1 { steps: vec![step] }),
    ];
    for (call, request) in (900..).zip(requests) {
        cluster.send(&writer, call, request.clone());
        assert_eq!(cluster.sync(), 1, "{request:?}");
        cluster.send(&writer, call, request.clone());
        assert_eq!(cluster.sync(), 0, "{request:?}");
        let answers = cluster.answers();
        assert!(answers.len() == 2 && answers[0].result.is_ok(), "{answers:?}");
        assert_eq!(answers[0].result, answers[1].result);
    }
}

#[test]
fn a_cut_is_made_by_a_datanode_and_ends_when_it_is_reported() {
    let mut fleet = Fleet::new(config(), 4);
    let old = fleet.write("/f", 3);
    assert_eq!(truncate(&mut fleet.cluster, "/f", 7), Ok(false));
    let before = status(&mut fleet.cluster, "/f");
    assert_eq!((before.length, before.is_open), (10, true), "as it was");
    fleet.beats(2);
    fleet.cluster.sync();
    let (source, transfer) = fleet.transfers[0].clone();
    assert_eq!((transfer.cut_from, transfer.block.length), (Some(old), 7));
    assert!(source > 0 && transfer.targets.len() == 3, "{transfer:?}");
    let after = status(&mut fleet.cluster, "/f");
    assert_eq!((after.length, after.is_open), (7, false));
    assert_eq!(fleet.holders(transfer.block.block).len(), 3);
    fleet.beats(5);
    assert!(fleet.holders(old.block).is_empty(), "the block that was cut is deleted");
}

#[test]
fn another_datanode_makes_the_cut_when_one_dies_and_a_restart_goes_on() {
    let mut fleet = Fleet::new(config(), 4);
    let old = fleet.write("/f", 2);
    fleet.copies_arrive = false;
    assert_eq!(truncate(&mut fleet.cluster, "/f", 7), Ok(false));
    fleet.beats(2);
    let (first, _) = fleet.transfers[0].clone();
    let at = fleet.peers.iter().position(|peer| peer.number == first).expect("a peer");
    fleet.kill(at);
    fleet.transfers.clear();
    fleet.beats(40);
    fleet.cluster.sync();
    let (second, transfer) =
        fleet.transfers.iter().find(|(_, one)| one.cut_from.is_some()).cloned().expect("told");
    assert!(second != first && transfer.cut_from == Some(old));
    let mut cluster = fleet.cluster.restart(config());
    assert!(status(&mut cluster, "/f").is_open, "a restart forgets nothing");
    let mut node = cluster.join(second);
    cluster.report(&mut node, &[finalized(old), finalized(transfer.block)]).expect("reported");
    cluster.pass(200);
    cluster.sync();
    let after = status(&mut cluster, "/f");
    assert_eq!((after.length, after.is_open), (7, false), "what was made before counts");
}

#[test]
fn a_replica_that_turns_out_bad_is_not_waited_for() {
    let mut fleet = Fleet::new(config(), 3);
    let old = fleet.write("/f", 2);
    let holders = fleet.holders(old.block);
    holders.iter().skip(1).for_each(|at| fleet.spoil_unnoticed(*at, old.block));
    assert_eq!(truncate(&mut fleet.cluster, "/f", 7), Ok(false));
    fleet.beats(6);
    fleet.cluster.sync();
    assert_eq!(status(&mut fleet.cluster, "/f").length, 7, "the other made it, long before the deadline");
    let mut fleet = Fleet::new(config(), 3);
    let old = fleet.write("/f", 2);
    let holders = fleet.holders(old.block);
    fleet.spoil_unnoticed(holders[0], old.block);
    assert_eq!(truncate(&mut fleet.cluster, "/f", 7), Ok(false));
    fleet.beats(6);
    fleet.cluster.sync();
    assert_eq!(status(&mut fleet.cluster, "/f").length, 7, "whichever was asked first");
}

#[test]
fn blocks_of_a_source_get_the_replication_of_the_target() {
    let mut fleet = Fleet::new(config(), 4);
    fleet.write("/t", 3);
    let moved = fleet.write("/s", 1);
    let caller = fleet.cluster.writer();
    let concat = ConcatRequestV1 { target: "/t".to_owned(), sources: vec!["/s".to_owned()] };
    fleet.cluster.ask(&caller, Request::Concat(concat)).expect("moved");
    fleet.beats(5);
    assert_eq!(fleet.holders(moved.block).len(), 3);
}

#[test]
fn a_writer_of_a_file_that_is_cut_is_nobody() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    cluster.write("/f", &mut nodes);
    assert_eq!(truncate(&mut cluster, "/f", 5), Ok(false));
    let writer = cluster.writer();
    let inode: InodeId = status(&mut cluster, "/f").inode;
    assert_eq!(cluster.add_block(&writer, inode, None).map(|_| ()), Err(Code::LeaseLost));
    let recover = Request::RecoverLease(RecoverLeaseRequestV1 { path: "/f".to_owned() });
    let Ok(Reply::RecoverLease(reply)) = cluster.ask(&writer, recover) else { panic!("an answer") };
    assert!(!reply.is_closed, "ask again");
}
