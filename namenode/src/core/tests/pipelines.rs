//! Pipelines that fail and go on: stamps, new pipelines, more datanodes.

use std::sync::Arc;

use ringfs_proto::Code;
use ringfs_proto::capability::Mode;
use ringfs_proto::ids::{BlockId, DatanodeId, InodeId, Stamp};
use ringfs_proto::meta::namespace::*;

use super::cluster::*;
use crate::calls::{Caller, Reply, Request};

pub fn new_stamp(
    cluster: &mut Cluster,
    writer: &Arc<Caller>,
    inode: InodeId,
    block: BlockRefV1,
) -> Result<UpdateBlockForPipelineReplyV1, Code> {
    let request = UpdateBlockForPipelineRequestV1 { inode, block };
    match cluster.ask(writer, Request::UpdateBlockForPipeline(request)) {
        Ok(Reply::UpdateBlockForPipeline(reply)) => Ok(reply),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

pub fn acked(nodes: &[Node]) -> Vec<AckedReplicaV1> {
    nodes.iter().map(|node| AckedReplicaV1 { datanode: node.id, storage: node.storage }).collect()
}

pub fn update_pipeline(
    cluster: &mut Cluster,
    writer: &Arc<Caller>,
    inode: InodeId,
    old: BlockRefV1,
    stamp: Stamp,
    nodes: &[Node],
) -> Result<(), Code> {
    let request = UpdatePipelineRequestV1 { inode, old, stamp, nodes: acked(nodes) };
    match cluster.ask(writer, Request::UpdatePipeline(request)) {
        Ok(Reply::UpdatePipeline(_)) => Ok(()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

/// A file whose first block is being written on all datanodes.
fn writing(cluster: &mut Cluster) -> (Arc<Caller>, InodeId, BlockRefV1) {
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/f").expect("created");
    let located = cluster.add_block(&writer, inode, None).expect("added");
    (writer, inode, located.block)
}

#[test]
fn a_block_has_its_new_stamp_when_the_pipeline_stands() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 3);
    let (writer, inode, block) = writing(&mut cluster);
    let acked = BlockRefV1 { length: 50, ..block };
    let given = new_stamp(&mut cluster, &writer, inode, acked).expect("given");
    assert!(given.stamp > block.stamp);
    assert_eq!(given.block, acked);
    let capability = key().verify(&given.capability, 1000).expect("genuine");
    assert_eq!(
        (capability.mode, capability.block, capability.stamp),
        (Mode::Write, block.block, given.stamp)
    );
    assert_eq!(cluster.located("/f").block.stamp, block.stamp, "not yet");
    update_pipeline(&mut cluster, &writer, inode, acked, given.stamp, &nodes[..2]).expect("updated");
    let located = cluster.located("/f");
    assert_eq!(located.block.stamp, given.stamp);
    assert_eq!(cluster.readers_go_to("/f"), ids(&nodes[..2]));
    // The datanode that was dropped has the old stamp: it does not count, and is no place to read from.
    cluster.store(&mut nodes[2], BlockRefV1 { length: 60, ..block });
    assert_eq!(cluster.readers_go_to("/f"), ids(&nodes[..2]));
    let whole = BlockRefV1 { length: 60, stamp: given.stamp, ..block };
    cluster.store(&mut nodes[0], whole);
    cluster.ask(&writer, complete(inode, Some(whole))).expect("closed");
    assert_eq!(cluster.readers_go_to("/f"), ids(&nodes[..1]));
}

#[test]
fn calls_that_come_again_get_the_same_stamp() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 3);
    let (writer, inode, block) = writing(&mut cluster);
    let request = Request::UpdateBlockForPipeline(UpdateBlockForPipelineRequestV1 { inode, block });
    for _ in 0..2 {
        cluster.send(&writer, 900, request.clone());
        cluster.sync();
    }
    let answers = cluster.answers();
    assert_eq!(answers[0].result, answers[1].result);
    let Ok(Reply::UpdateBlockForPipeline(first)) = &answers[0].result else { panic!("{answers:?}") };
    let next = new_stamp(&mut cluster, &writer, inode, block).expect("given");
    assert!(next.stamp > first.stamp, "another call gets another stamp");
}

#[test]
fn only_the_stamp_that_was_given_last_is_taken_and_nothing_acknowledged_is_given_up() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 3);
    let (writer, inode, block) = writing(&mut cluster);
    let old = BlockRefV1 { length: 50, ..block };
    let first = new_stamp(&mut cluster, &writer, inode, old).expect("given").stamp;
    let second = new_stamp(&mut cluster, &writer, inode, old).expect("given").stamp;
    let mut update = |old, stamp| update_pipeline(&mut cluster, &writer, inode, old, stamp, &nodes);
    assert_eq!(update(old, first), Err(Code::InvalidArgument));
    assert_eq!(update(old, Stamp(second.0 + 1)), Err(Code::InvalidArgument));
    assert_eq!(update(BlockRefV1 { stamp: first, ..old }, second), Err(Code::InvalidArgument));
    assert_eq!(update(old, second), Ok(()));
    let now = BlockRefV1 { stamp: second, ..old };
    let third = new_stamp(&mut cluster, &writer, inode, now).expect("given").stamp;
    let shorter = BlockRefV1 { length: 49, ..now };
    assert_eq!(
        update_pipeline(&mut cluster, &writer, inode, shorter, third, &nodes),
        Err(Code::InvalidArgument)
    );
    let stranger = cluster.caller(77, ELSEWHERE);
    assert_eq!(new_stamp(&mut cluster, &stranger, inode, now).expect_err("refused"), Code::LeaseLost);
    assert_eq!(update_pipeline(&mut cluster, &stranger, inode, now, third, &nodes), Err(Code::LeaseLost));
}

#[test]
fn more_datanodes_are_others_with_a_capability_for_the_present_stamp() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 4);
    let (writer, inode, block) = writing(&mut cluster);
    let add = |existing: &[Node], excluded: Vec<DatanodeId>, count, block: BlockId| {
        Request::AddDatanodes(AddDatanodesRequestV1 {
            inode,
            block,
            existing: acked(existing),
            excluded,
            count,
        })
    };
    let answer = cluster.ask(&writer, add(&nodes[..2], vec![nodes[2].id], 2, block.block));
    let Ok(Reply::AddDatanodes(reply)) = answer else { panic!("{answer:?}") };
    assert_eq!(reply.nodes.iter().map(|node| node.datanode).collect::<Vec<_>>(), [nodes[3].id]);
    assert_eq!(key().verify(&reply.capability, 1000).expect("genuine").stamp, block.stamp);
    let refused = |answer: Answered| answer.expect_err("refused").code;
    let none = cluster.ask(&writer, add(&nodes, Vec::new(), 1, block.block));
    assert_eq!(refused(none), Code::NoRoom);
    let wrong = cluster.ask(&writer, add(&nodes[..1], Vec::new(), 1, BlockId(block.block.0 + 1)));
    assert_eq!(refused(wrong), Code::InvalidArgument);
    let stranger = cluster.caller(77, ELSEWHERE);
    let lost = cluster.ask(&stranger, add(&nodes[..1], Vec::new(), 1, block.block));
    assert_eq!(refused(lost), Code::LeaseLost);
}

#[test]
fn after_a_restart_a_new_pipeline_waits_for_its_datanodes() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let (writer, inode, block) = writing(&mut cluster);
    let old = BlockRefV1 { length: 50, ..block };
    let stamp = new_stamp(&mut cluster, &writer, inode, old).expect("given").stamp;
    let mut cluster = cluster.restart(config());
    nodes[0] = cluster.join(1);
    let writer = cluster.writer();
    assert_eq!(update_pipeline(&mut cluster, &writer, inode, old, stamp, &nodes), Err(Code::Busy));
    nodes[1] = cluster.join(2);
    assert_eq!(update_pipeline(&mut cluster, &writer, inode, old, stamp, &nodes), Ok(()));
}
