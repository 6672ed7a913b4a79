//! Leases and recovery: who may take over when, what is fenced, which length is chosen, and who comes back.

use std::sync::Arc;

use ringfs_proto::Code;
use ringfs_proto::ids::{BlockId, InodeId, Stamp};
use ringfs_proto::meta::membership::*;
use ringfs_proto::meta::namespace::*;

use super::cluster::*;
use super::pipelines::{new_stamp, update_pipeline};
use crate::calls::{Caller, Reply, Request};
use crate::config::Config;

fn recover(cluster: &mut Cluster, path: &str) -> Result<bool, Code> {
    let other = cluster.caller(77, ELSEWHERE);
    let request = Request::RecoverLease(RecoverLeaseRequestV1 { path: path.to_owned() });
    match cluster.ask(&other, request) {
        Ok(Reply::RecoverLease(reply)) => Ok(reply.is_closed),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

fn is_open(cluster: &mut Cluster, path: &str) -> bool {
    status(cluster, path).is_open
}

fn status(cluster: &mut Cluster, path: &str) -> FileStatusV1 {
    let reader = cluster.caller(201, ELSEWHERE);
    match cluster.ask(&reader, Request::Stat(StatRequestV1 { path: path.to_owned() })) {
        Ok(Reply::Stat(status)) => status,
        other => panic!("{other:?}"),
    }
}

/// The recovery that a heartbeat tells a datanode to begin.
fn told_to_fence(cluster: &mut Cluster, node: &Node) -> Option<BeginRecoveryV1> {
    let commands = cluster.heartbeat(node).expect("heard");
    commands.into_iter().find_map(|command| match command {
        CommandV1::BeginRecovery(begin) => Some(begin),
        _ => None,
    })
}

fn told_to_finish(cluster: &mut Cluster, node: &Node) -> Option<BlockRefV1> {
    let commands = cluster.heartbeat(node).expect("heard");
    commands.into_iter().find_map(|command| match command {
        CommandV1::FinishRecovery(finish) => Some(finish.block),
        _ => None,
    })
}

/// A datanode says how far its replica is.
fn fence(
    cluster: &mut Cluster,
    node: &mut Node,
    block: BlockRefV1,
    state: ReplicaState,
    recovery_stamp: Stamp,
) {
    let fenced = FencedReplicaV1 { block, state, synced_length: 0, recovery_stamp };
    cluster.increment(node, &[ReplicaChangeV1::Fenced(fenced)]).expect("reported");
}

struct Writing {
    writer: Arc<Caller>,
    inode: InodeId,
    block: BlockRefV1,
}

/// A file whose first block is being written.
fn writing(cluster: &mut Cluster, path: &str) -> Writing {
    let writer = cluster.writer();
    let inode = cluster.create(&writer, path).expect("created");
    let block = cluster.add_block(&writer, inode, None).expect("added").block;
    Writing { writer, inode, block }
}

/// Recovers a file whose replicas are open with these lengths; returns its block as it was closed.
fn recovered(cluster: &mut Cluster, nodes: &mut [Node], block: BlockRefV1, lengths: &[u64]) -> BlockRefV1 {
    assert_eq!(recover(cluster, "/f"), Ok(false));
    let stamp = told_to_fence(cluster, &nodes[0]).expect("told").recovery_stamp;
    for (node, length) in nodes.iter_mut().zip(lengths) {
        fence(cluster, node, BlockRefV1 { length: *length, ..block }, ReplicaState::BeingWritten, stamp);
    }
    let closed = told_to_finish(cluster, &nodes[0]).expect("told");
    cluster.store(&mut nodes[0], closed);
    cluster.sync();
    closed
}

#[test]
fn a_lease_is_held_by_any_connection_and_recovered_after_the_hard_limit() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 3);
    let hard_ms = config().lease_hard_ms;
    let writer = cluster.writer();
    cluster.create(&writer, "/f").expect("created");
    cluster.pass(2 * hard_ms);
    cluster.sync();
    assert!(is_open(&mut cluster, "/f"), "its connection holds it");
    cluster.core.disconnected(writer.connection);
    cluster.pass(hard_ms - 1);
    cluster.sync();
    assert!(is_open(&mut cluster, "/f"));
    // Another connection of the same session.
    let again = cluster.writer();
    cluster.ask(&again, Request::RenewLease(RenewLeaseRequestV1 { told: None })).expect("renewed");
    cluster.pass(2 * hard_ms);
    cluster.sync();
    assert!(is_open(&mut cluster, "/f"));
    cluster.core.disconnected(again.connection);
    cluster.pass(hard_ms);
    cluster.sync();
    assert!(!is_open(&mut cluster, "/f"), "without blocks there is nothing to recover");
}

#[test]
fn what_a_writer_tells_of_its_last_block_is_in_the_status_until_the_block_ends() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 1);
    let Writing { writer, inode, block } = writing(&mut cluster, "/f");
    let tell = |length| Request::RenewLease(RenewLeaseRequestV1 { told: Some((inode, length)) });
    cluster.ask(&writer, tell(70)).expect("told");
    let told = status(&mut cluster, "/f");
    assert_eq!((told.length, told.told_bytes), (0, 70));
    cluster.ask(&writer, tell(u64::MAX)).expect("told");
    let told = status(&mut cluster, "/f");
    assert_eq!(told.told_bytes, told.block_size, "a block holds no more");
    cluster.ask(&writer, tell(70)).expect("told");
    let other = cluster.caller(7, ELSEWHERE);
    let refused = cluster.ask(&other, tell(80)).expect_err("of another's file");
    assert_eq!(refused.code, Code::LeaseLost);
    assert_eq!(status(&mut cluster, "/f").told_bytes, 70);
    let abandon = AbandonBlockRequestV1 { inode, block: block.block };
    cluster.ask(&writer, Request::AbandonBlock(abandon)).expect("abandoned");
    assert_eq!(status(&mut cluster, "/f").told_bytes, 0);
}

#[test]
fn blocks_that_are_written_renew_the_lease_of_their_file() {
    let config = Config { datanode_dead_ms: u64::MAX, ..config() };
    let (mut cluster, nodes) = Cluster::with_nodes(config.clone(), 1);
    let Writing { writer, block, .. } = writing(&mut cluster, "/f");
    cluster.core.disconnected(writer.connection);
    cluster.pass(config.lease_hard_ms - 1);
    let request = HeartbeatRequestV1 {
        epoch: nodes[0].epoch,
        volumes: nodes[0].volumes.clone(),
        reads_active: 0,
        writes_active: 1,
        copies_active: 0,
        written: vec![block.block],
    };
    cluster.ask(&nodes[0].caller, Request::Heartbeat(request)).expect("heard");
    cluster.pass(config.lease_hard_ms - 1);
    cluster.sync();
    assert!(told_to_fence(&mut cluster, &nodes[0]).is_none());
    cluster.pass(1);
    cluster.sync();
    assert!(told_to_fence(&mut cluster, &nodes[0]).is_some());
}

#[test]
fn after_the_soft_limit_whoever_wants_the_path_begins_recovery() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 1);
    let Writing { writer, .. } = writing(&mut cluster, "/f");
    let other = cluster.caller(77, ELSEWHERE);
    assert_eq!(cluster.create(&other, "/f"), Err(Code::LeaseHeld));
    cluster.sync();
    assert!(told_to_fence(&mut cluster, &nodes[0]).is_none(), "its writer lives");
    cluster.core.disconnected(writer.connection);
    cluster.pass(1000);
    assert_eq!(cluster.create(&other, "/f"), Err(Code::LeaseHeld));
    cluster.sync();
    assert!(told_to_fence(&mut cluster, &nodes[0]).is_none(), "not yet");
    cluster.mono_ms += config().lease_soft_ms;
    let node = cluster.join(1);
    cluster.pass(1);
    assert_eq!(cluster.create(&other, "/f"), Err(Code::LeaseHeld));
    cluster.sync();
    assert!(told_to_fence(&mut cluster, &node).is_some());
}

#[test]
fn the_shortest_unbroken_replica_decides_and_the_file_is_closed_when_one_has_it() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 3);
    let Writing { writer, inode, block } = writing(&mut cluster, "/f");
    assert_eq!(recover(&mut cluster, "/f"), Ok(false));
    assert_eq!(recover(&mut cluster, "/f"), Ok(false), "under way");
    let stamp = told_to_fence(&mut cluster, &nodes[0]).expect("told").recovery_stamp;
    assert!(stamp > block.stamp);
    assert_eq!(cluster.add_block(&writer, inode, Some(block)), Err(Code::Busy));
    fence(&mut cluster, &mut nodes[0], BlockRefV1 { length: 70, ..block }, ReplicaState::BeingWritten, stamp);
    fence(&mut cluster, &mut nodes[1], BlockRefV1 { length: 60, ..block }, ReplicaState::BeingWritten, stamp);
    assert!(told_to_finish(&mut cluster, &nodes[0]).is_none(), "the third may have less");
    fence(&mut cluster, &mut nodes[2], BlockRefV1 { length: 90, ..block }, ReplicaState::BeingWritten, stamp);
    let closed = BlockRefV1 { length: 60, stamp, ..block };
    for node in &nodes {
        assert_eq!(told_to_finish(&mut cluster, node), Some(closed));
    }
    assert!(is_open(&mut cluster, "/f"));
    cluster.store(&mut nodes[1], closed);
    assert_eq!(cluster.sync(), 1);
    let status = status(&mut cluster, "/f");
    assert_eq!((status.is_open, status.length), (false, 60));
    assert_eq!(recover(&mut cluster, "/f"), Ok(true));
    cluster.store(&mut nodes[0], closed);
    assert_eq!(cluster.readers_go_to("/f"), ids(&nodes[..2]));
}

#[test]
fn a_silent_datanode_is_waited_for_and_a_lost_one_is_not() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let Writing { block, .. } = writing(&mut cluster, "/f");
    assert_eq!(recover(&mut cluster, "/f"), Ok(false));
    let stamp = told_to_fence(&mut cluster, &nodes[0]).expect("told").recovery_stamp;
    let cut = BlockRefV1 { length: 10, ..block };
    fence(&mut cluster, &mut nodes[0], cut, ReplicaState::WaitingForRecovery, stamp);
    for _ in 0..29 {
        cluster.pass(1000);
        assert!(told_to_finish(&mut cluster, &nodes[0]).is_none(), "the other may have more");
    }
    cluster.pass(1000);
    assert_eq!(told_to_finish(&mut cluster, &nodes[0]), Some(BlockRefV1 { stamp, ..cut }));
}

#[test]
fn a_block_that_nobody_has_is_taken_back_only_when_all_have_said_so() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let Writing { writer, inode, block } = writing(&mut cluster, "/f");
    assert_eq!(recover(&mut cluster, "/f"), Ok(false));
    for node in &mut nodes {
        assert!(is_open(&mut cluster, "/f"));
        told_to_fence(&mut cluster, node).expect("told");
        cluster.increment(node, &[ReplicaChangeV1::Deleted(block)]).expect("reported");
        cluster.sync();
    }
    let status = status(&mut cluster, "/f");
    assert_eq!((status.is_open, status.length), (false, 0));
    // Its writer had nothing acknowledged: it takes the block back too, and goes on with another.
    let abandon = AbandonBlockRequestV1 { inode, block: block.block };
    cluster.ask(&writer, Request::AbandonBlock(abandon)).expect("gone already");
    let next = cluster.add_block(&writer, inode, None).expect("opened again");
    assert!(next.block.block > block.block);
}

#[test]
fn a_recovery_that_was_interrupted_begins_again_with_a_higher_stamp() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let Writing { block, .. } = writing(&mut cluster, "/f");
    assert_eq!(recover(&mut cluster, "/f"), Ok(false));
    let first = told_to_fence(&mut cluster, &nodes[0]).expect("told").recovery_stamp;
    let mut cluster = cluster.restart(config());
    for number in 1..=2 {
        nodes[usize::from(number) - 1] = cluster.join(number);
    }
    cluster.pass(100);
    cluster.sync();
    let second = told_to_fence(&mut cluster, &nodes[0]).expect("told again").recovery_stamp;
    assert!(second > first);
    fence(&mut cluster, &mut nodes[0], BlockRefV1 { length: 9, ..block }, ReplicaState::BeingWritten, first);
    fence(&mut cluster, &mut nodes[1], BlockRefV1 { length: 9, ..block }, ReplicaState::BeingWritten, second);
    assert!(told_to_finish(&mut cluster, &nodes[1]).is_none(), "an answer to the old one is none");
    // One had finished the first: what it has is what the others get.
    let done = BlockRefV1 { length: 8, stamp: first, ..block };
    fence(&mut cluster, &mut nodes[0], done, ReplicaState::Finalized, second);
    let closed = told_to_finish(&mut cluster, &nodes[1]).expect("told");
    assert_eq!(closed, BlockRefV1 { length: 8, stamp: second, ..block });
    cluster.pass(config().block_recovery_timeout_ms);
    cluster.sync();
    let third = told_to_fence(&mut cluster, &nodes[1]).expect("told again").recovery_stamp;
    assert!(third > second, "nobody finished in time");
}

#[test]
fn a_writer_that_comes_back_closes_or_continues_what_is_as_it_left_it() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let Writing { writer, inode, block } = writing(&mut cluster, "/f");
    let acked = BlockRefV1 { length: 60, ..block };
    let closed = recovered(&mut cluster, &mut nodes, block, &[60, 80]);
    assert_eq!(closed.length, 60);
    let complete_at = |length| complete(inode, Some(BlockRefV1 { length, ..block }));
    let answer = cluster.ask(&writer, complete_at(60));
    assert!(matches!(answer, Ok(Reply::Complete(status)) if !status.is_open && status.length == 60));
    let refused = cluster.ask(&writer, complete_at(61)).expect_err("refused");
    assert_eq!(refused.code, Code::LeaseLost);
    assert!(
        refused.message.contains("60 bytes") && refused.message.contains("61 bytes"),
        "{}",
        refused.message
    );
    // The next block: the file is open again.
    let next = cluster.add_block(&writer, inode, Some(acked)).expect("opened again");
    assert!(is_open(&mut cluster, "/f"));
    assert_eq!(next.offset, 60);
    let other = cluster.caller(77, ELSEWHERE);
    assert_eq!(cluster.create(&other, "/f"), Err(Code::LeaseHeld));
}

#[test]
fn a_writer_that_comes_back_goes_on_in_the_block_under_a_new_stamp() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let Writing { writer, inode, block } = writing(&mut cluster, "/f");
    let closed = recovered(&mut cluster, &mut nodes, block, &[60, 60]);
    let ahead = BlockRefV1 { length: 61, ..block };
    assert_eq!(new_stamp(&mut cluster, &writer, inode, ahead).expect_err("too far"), Code::LeaseLost);
    let acked = BlockRefV1 { length: 60, ..block };
    let given = new_stamp(&mut cluster, &writer, inode, acked).expect("opened again");
    assert_eq!(given.block, closed, "the stamp that the replicas have now");
    assert!(given.stamp > closed.stamp);
    assert!(is_open(&mut cluster, "/f"));
    update_pipeline(&mut cluster, &writer, inode, given.block, given.stamp, &nodes[..1]).expect("stands");
    let whole = BlockRefV1 { stamp: given.stamp, length: 100, ..block };
    cluster.store(&mut nodes[0], whole);
    cluster.ask(&writer, complete(inode, Some(whole))).expect("closed");
    assert_eq!(status(&mut cluster, "/f").length, 100);
}

#[test]
fn a_writer_that_comes_back_has_lost_what_another_opened_or_deleted() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let Writing { writer, inode, block } = writing(&mut cluster, "/f");
    recovered(&mut cluster, &mut nodes, block, &[60, 60]);
    cluster.delete("/f");
    let acked = BlockRefV1 { length: 60, ..block };
    assert_eq!(cluster.add_block(&writer, inode, Some(acked)), Err(Code::LeaseLost));
    assert_eq!(new_stamp(&mut cluster, &writer, inode, acked).expect_err("gone"), Code::LeaseLost);
}

#[test]
fn deleting_and_overwriting_end_a_recovery() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let Writing { block, .. } = writing(&mut cluster, "/f");
    assert_eq!(recover(&mut cluster, "/f"), Ok(false));
    let stamp = told_to_fence(&mut cluster, &nodes[0]).expect("told").recovery_stamp;
    cluster.delete("/f");
    fence(&mut cluster, &mut nodes[0], BlockRefV1 { length: 5, ..block }, ReplicaState::BeingWritten, stamp);
    cluster.pass(1000);
    assert_eq!(cluster.sync(), 0);
    assert_eq!(cluster.deletions(&nodes[0]), [block.block]);
    assert_eq!(recover(&mut cluster, "/f"), Err(Code::NotFound));
}

#[test]
fn a_replica_that_is_fenced_when_all_is_over_is_known_as_outdated() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 4);
    let Writing { block, .. } = writing(&mut cluster, "/f");
    assert_eq!(recover(&mut cluster, "/f"), Ok(false));
    let begun: Vec<_> = nodes.iter().map(|node| told_to_fence(&mut cluster, node)).collect();
    let stamp = begun.iter().flatten().next().expect("told").recovery_stamp;
    let mut members: Vec<usize> = (0..4).filter(|node| begun[*node].is_some()).collect();
    let late = members.pop().expect("three of them");
    let open = BlockRefV1 { length: 60, ..block };
    for node in &members {
        fence(&mut cluster, &mut nodes[*node], open, ReplicaState::BeingWritten, stamp);
    }
    cluster.pass(config().block_recovery_timeout_ms);
    let closed = told_to_finish(&mut cluster, &nodes[members[0]]).expect("told");
    for (_, node) in nodes.iter_mut().enumerate().filter(|(node, _)| *node != late) {
        cluster.store(node, closed);
    }
    cluster.sync();
    nodes.iter().for_each(|node| drop(cluster.heartbeat(node).expect("heard again")));
    fence(&mut cluster, &mut nodes[late], open, ReplicaState::BeingWritten, stamp);
    cluster.pass(1000);
    assert_eq!(cluster.deletions(&nodes[late]), [block.block], "three good ones are enough");
}

#[test]
fn a_close_that_was_under_way_succeeds_by_the_recovery() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let Writing { writer, inode, block } = writing(&mut cluster, "/f");
    let whole = BlockRefV1 { length: 100, ..block };
    cluster.send(&writer, 900, complete(inode, Some(whole)));
    assert_eq!((cluster.sync(), cluster.answers().len()), (0, 0), "parked");
    assert_eq!(recover(&mut cluster, "/f"), Ok(false));
    let stamp = told_to_fence(&mut cluster, &nodes[0]).expect("told").recovery_stamp;
    fence(&mut cluster, &mut nodes[0], whole, ReplicaState::Finalized, stamp);
    let codes: Vec<_> =
        cluster.answers().into_iter().map(|answer| answer.result.map_err(|e| e.code)).collect();
    assert_eq!(codes, [Err(Code::Busy)], "the caller asks again");
    fence(
        &mut cluster,
        &mut nodes[1],
        BlockRefV1 { length: 130, ..block },
        ReplicaState::BeingWritten,
        stamp,
    );
    let closed = told_to_finish(&mut cluster, &nodes[0]).expect("told");
    assert_eq!(closed.length, 100, "finalized replicas decide");
    cluster.store(&mut nodes[0], closed);
    cluster.sync();
    cluster.send(&writer, 900, complete(inode, Some(whole)));
    cluster.sync();
    assert!(cluster.answers()[0].result.is_ok());
    assert_eq!(status(&mut cluster, "/f").length, 100);
}

#[test]
fn only_open_files_have_leases() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    cluster.write("/closed", &mut nodes);
    assert_eq!(recover(&mut cluster, "/closed"), Ok(true));
    assert_eq!(recover(&mut cluster, "/missing"), Err(Code::NotFound));
    assert_eq!(recover(&mut cluster, "/"), Err(Code::IsADirectory));
    let writer = cluster.writer();
    cluster.create(&writer, "/empty").expect("created");
    assert_eq!(recover(&mut cluster, "/empty"), Ok(true), "closed at once");
    assert!(cluster.core.state().block(BlockId(9)).is_none());
}

#[test]
fn after_a_restart_readers_ask_those_that_the_log_names_before_they_report() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let Writing { writer, inode, block } = writing(&mut cluster, "/f");
    let mut cluster = cluster.restart(config());
    let whom_to_ask = |cluster: &mut Cluster| {
        let located = cluster.located("/f");
        (located.nodes.len(), located.are_all_nodes, located.is_begun)
    };
    assert_eq!(whom_to_ask(&mut cluster), (0, false, false), "nobody can be asked");
    nodes[0] = cluster.register(1).expect("registered");
    assert_eq!(whom_to_ask(&mut cluster), (1, false, false), "the other may have it");
    nodes[1] = cluster.register(2).expect("registered");
    assert_eq!(whom_to_ask(&mut cluster), (2, true, false));
    // Came back with another volume in its place: what was on the one that the log names is not known.
    cluster.register_as(2, vec![volume(9)], 2).expect("registered");
    assert_eq!(whom_to_ask(&mut cluster), (1, false, false));
    nodes[1] = cluster.register(2).expect("registered");
    assert_eq!(whom_to_ask(&mut cluster), (2, true, false));
    // A pipeline that was replaced has stood: there are replicas, whoever has them.
    for node in &mut nodes {
        cluster.report(node, &[]).expect("reported");
    }
    let old = BlockRefV1 { length: 5, ..block };
    let stamp = new_stamp(&mut cluster, &writer, inode, old).expect("given").stamp;
    update_pipeline(&mut cluster, &writer, inode, old, stamp, &nodes[..1]).expect("updated");
    assert_eq!(whom_to_ask(&mut cluster), (1, true, true));
}

#[test]
fn an_answer_to_a_recovery_that_a_full_report_has_overtaken_changes_nothing() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let Writing { block, .. } = writing(&mut cluster, "/f");
    let closed = recovered(&mut cluster, &mut nodes, block, &[10, 10]);
    cluster.store(&mut nodes[1], closed);
    assert_eq!(cluster.readers_go_to("/f"), ids(&nodes));
    fence(
        &mut cluster,
        &mut nodes[1],
        BlockRefV1 { length: 10, ..block },
        ReplicaState::BeingWritten,
        closed.stamp,
    );
    assert_eq!(cluster.readers_go_to("/f"), ids(&nodes));
}
