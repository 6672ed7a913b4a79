//! What is missing is copied, what is too much or bad is deleted, and never more than that.

mod deletion;
mod property;
mod racks;

use ringfs_proto::capability::Mode;
use ringfs_proto::ids::StorageId;
use ringfs_proto::meta::admin::{ReplicationAction, ReplicationRequestV1};
use ringfs_proto::meta::membership::ReplicaChangeV1;
use ringfs_proto::meta::namespace::SetReplicationRequestV1;

use super::cluster::*;
use super::fleet::Fleet;
use crate::calls::{Reply, Request};
use crate::config::Config;

/// Heartbeats after which a datanode that died is lost.
const DEAD_BEATS: usize = 30;

#[test]
fn a_lost_datanodes_blocks_are_copied_to_others() {
    let mut fleet = Fleet::new(config(), 4);
    let blocks: Vec<_> = (0..20).map(|number| fleet.write(&format!("/{number}"), 3)).collect();
    fleet.kill(0);
    fleet.beats(DEAD_BEATS - 1);
    assert!(fleet.transfers.is_empty(), "silent is not lost");
    fleet.beats(3);
    for block in &blocks {
        assert_eq!(fleet.live_holders(block.block), [1, 2, 3]);
    }
    let stats = fleet.cluster.stats();
    assert_eq!((stats.under_replicated_blocks, stats.pending_replication_blocks), (0, 0));
}

#[test]
fn a_copy_opens_its_block_for_writing_and_goes_where_none_is() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 3);
    let before = fleet.holders(block.block);
    let lost = before[0];
    let free = (0..4).find(|at| !before.contains(at)).expect("one has none");
    fleet.kill(lost);
    fleet.beats(DEAD_BEATS + 2);
    let [(source, transfer)] = &fleet.transfers[..] else { panic!("{:?}", fleet.transfers) };
    assert!(before[1..].contains(&(usize::from(*source) - 1)));
    let targets: Vec<StorageId> = transfer.targets.iter().map(|target| target.storage).collect();
    assert_eq!(targets, [fleet.peers[free].node.storage]);
    let capability = key().verify(&transfer.capability, 0).expect("signed");
    assert_eq!((capability.mode, capability.block), (Mode::Write, block.block));
    assert_eq!((capability.stamp, transfer.block), (block.stamp, block));
}

#[test]
fn nothing_is_copied_right_after_a_start() {
    let mut fleet = Fleet::new(config(), 3);
    let block = fleet.write("/a", 2);
    let [first, _] = fleet.holders(block.block)[..] else { panic!("two replicas") };
    let Fleet { cluster, mut peers, .. } = fleet;
    let mut fleet = Fleet { cluster: cluster.restart(config()), ..Fleet::new(config(), 0) };
    // One of the two is late.
    std::mem::swap(&mut fleet.peers, &mut peers);
    fleet.peers[first].is_up = false;
    (0..3).filter(|at| *at != first).for_each(|at| fleet.start(at));
    fleet.beats(DEAD_BEATS - 1);
    assert!(fleet.transfers.is_empty());
    fleet.beats(3);
    assert_eq!(fleet.transfers.len(), 1, "it is lost by now");
}

#[test]
fn blocks_with_one_replica_left_come_first() {
    let one_at_a_time = Config { replication_work_per_tick: 1, ..config() };
    let mut fleet = Fleet::new(one_at_a_time, 5);
    fleet.copies_arrive = false;
    let low: Vec<_> = (0..5).map(|number| fleet.write(&format!("/low{number}"), 3)).collect();
    let highest = fleet.write("/highest", 2);
    let lost = fleet.holders(highest.block)[0];
    fleet.kill(lost);
    fleet.beats(DEAD_BEATS + 2);
    assert!(fleet.transfers.len() > 1 && low.len() > 1);
    let mut order: Vec<_> = fleet.transfers.iter().map(|(_, transfer)| transfer.block.block).collect();
    order.dedup();
    assert!(order.contains(&highest.block));
    // Commands of one beat come by datanode: that of the highest level is the first of its datanode.
    let source = fleet.transfers.iter().find(|(_, t)| t.block.block == highest.block).expect("copied").0;
    let first = fleet.transfers.iter().find(|(number, _)| *number == source).expect("one");
    assert_eq!(first.1.block.block, highest.block);
}

#[test]
fn copies_at_once_are_bounded_and_go_on_when_they_arrive() {
    let streams = Config { replication_streams_per_node: 2, block_size: 1 << 30, ..config() };
    let mut fleet = Fleet::new(streams, 3);
    fleet.copies_arrive = false;
    // Large blocks: two streams, or four for those with one replica left.
    let writer = fleet.cluster.writer();
    for number in 0..10 {
        let path = format!("/{number}");
        let request = ringfs_proto::meta::namespace::CreateRequestV1 { replication: 2, ..create(&path) };
        let Ok(Reply::Create(reply)) = fleet.cluster.ask(&writer, Request::Create(request)) else {
            panic!("created")
        };
        let inode = reply.status.inode;
        let block = written(&fleet.cluster.add_block(&writer, inode, None).expect("added"), 1 << 30);
        fleet.tell(0, ReplicaChangeV1::Stored(finalized(block)));
        fleet.cluster.ask(&writer, complete(inode, Some(block))).expect("closed");
    }
    // The pipelines' other replicas never come.
    fleet.beats(DEAD_BEATS + 5);
    assert_eq!(fleet.transfers.len(), 4);
    assert_eq!(fleet.cluster.stats().pending_replication_blocks, 4);
    let (_, arrived) = fleet.transfers[0].clone();
    let target = fleet.peers.iter().position(|peer| peer.node.storage == arrived.targets[0].storage);
    fleet.tell(target.expect("a peer"), ReplicaChangeV1::Stored(finalized(arrived.block)));
    fleet.beats(2);
    assert_eq!(fleet.transfers.len(), 5);
}

#[test]
fn many_small_blocks_are_copied_at_once() {
    let mut fleet = Fleet::new(config(), 4);
    for number in 0..200 {
        fleet.write(&format!("/{number}"), 3);
    }
    fleet.kill(0);
    fleet.beats(DEAD_BEATS + 3);
    let stats = fleet.cluster.stats();
    assert_eq!(stats.under_replicated_blocks, 0, "{} copies in three beats", fleet.transfers.len());
}

#[test]
fn a_copy_that_does_not_come_is_asked_for_again() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 3);
    let lost = fleet.holders(block.block)[0];
    fleet.copies_arrive = false;
    fleet.kill(lost);
    fleet.beats(DEAD_BEATS + 10);
    assert_eq!(fleet.transfers.len(), 1);
    fleet.copies_arrive = true;
    fleet.beats(60);
    assert_eq!(fleet.transfers.len(), 2);
    assert_eq!(fleet.live_holders(block.block).len(), 3);
}

#[test]
fn a_copy_whose_datanode_begins_anew_is_asked_for_again_at_once() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 3);
    let lost = fleet.holders(block.block)[0];
    fleet.copies_arrive = false;
    fleet.kill(lost);
    fleet.beats(DEAD_BEATS + 2);
    let source = usize::from(fleet.transfers[0].0) - 1;
    fleet.copies_arrive = true;
    fleet.start(source);
    fleet.beats(2);
    assert_eq!(fleet.transfers.len(), 2);
    assert_eq!(fleet.live_holders(block.block).len(), 3);
}

#[test]
fn a_closed_files_last_replicas_are_awaited_before_they_are_copied() {
    let mut fleet = Fleet::new(config(), 4);
    let writer = fleet.cluster.writer();
    let inode = fleet.cluster.create(&writer, "/a").expect("created");
    let located = fleet.cluster.add_block(&writer, inode, None).expect("added");
    let block = written(&located, 10);
    let at = fleet.peers.iter().position(|peer| peer.node.id == located.nodes[0].datanode).expect("a peer");
    fleet.peer(at).disk.insert(block.block, super::fleet::OnDisk { block, is_good: true });
    fleet.tell(at, ReplicaChangeV1::Stored(finalized(block)));
    fleet.cluster.ask(&writer, complete(inode, Some(block))).expect("closed");
    fleet.beats(DEAD_BEATS - 1);
    assert!(fleet.transfers.is_empty());
    fleet.beats(3);
    assert_eq!(fleet.live_holders(block.block).len(), 3);
}

#[test]
fn replication_is_raised_and_lowered() {
    let mut fleet = Fleet::new(config(), 5);
    let block = fleet.write("/a", 2);
    fleet.set_replication("/a", 4);
    assert_eq!(fleet.cluster.stats().under_replicated_blocks, 1);
    fleet.beats(2);
    assert_eq!(fleet.live_holders(block.block).len(), 4);
    fleet.set_replication("/a", 1);
    assert_eq!(fleet.cluster.stats().excess_replicas, 3);
    fleet.beats(2);
    assert_eq!((fleet.live_holders(block.block).len(), fleet.cluster.stats().excess_replicas), (1, 0));
    assert_eq!(fleet.cluster.readers_go_to("/a").len(), 1);
}

#[test]
fn replication_beyond_the_datanodes_is_served_by_fewer() {
    let mut fleet = Fleet::new(config(), 2);
    let block = fleet.write("/a", 3);
    fleet.beats(5);
    assert_eq!(fleet.live_holders(block.block).len(), 2);
    assert_eq!((fleet.transfers.len(), fleet.cluster.stats().under_replicated_blocks), (0, 1));
    fleet.add(3);
    fleet.beats(2);
    assert_eq!(fleet.live_holders(block.block).len(), 3);
}

#[test]
fn set_replication_refuses_nonsense_and_knows_directories() {
    let mut cluster = Cluster::new(config());
    let writer = cluster.writer();
    cluster.create(&writer, "/d/a").expect("created");
    let mut set = |path: &str, replication| {
        let request = SetReplicationRequestV1 { path: path.to_owned(), replication };
        match cluster.ask(&writer, Request::SetReplication(request)) {
            Ok(Reply::SetReplication(reply)) => Ok(reply.is_file),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code),
        }
    };
    use ringfs_proto::Code;
    assert_eq!(set("/d/a", 0), Err(Code::InvalidArgument));
    assert_eq!(set("/d/a", 513), Err(Code::InvalidArgument));
    assert_eq!(set("/d/none", 2), Err(Code::NotFound));
    assert_eq!(set("/d", 2), Ok(false));
    assert_eq!(set("/d/a", 2), Ok(true));
}

#[test]
fn a_namenode_that_stood_still_takes_nobody_for_lost() {
    let mut fleet = Fleet::new(config(), 3);
    fleet.write("/a", 3);
    fleet.cluster.stall(120_000);
    let stats = fleet.cluster.stats();
    assert_eq!((stats.datanodes_live, stats.datanodes_dead), (3, 0));
    fleet.beats(3);
    // Those that are silent still are lost in time.
    fleet.peer(0).is_up = false;
    fleet.beats(DEAD_BEATS - 1);
    assert_eq!(fleet.cluster.stats().datanodes_dead, 0);
    fleet.beats(2);
    assert_eq!(fleet.cluster.stats().datanodes_dead, 1);
}

#[test]
fn when_many_vanish_at_once_copying_waits() {
    let mut fleet = Fleet::new(config(), 6);
    let blocks: Vec<_> = (0..10).map(|number| fleet.write(&format!("/{number}"), 3)).collect();
    fleet.kill(0);
    fleet.beats(2);
    fleet.kill(1);
    fleet.beats(DEAD_BEATS + 10);
    assert_eq!(fleet.cluster.stats().datanodes_dead, 2);
    assert!(fleet.transfers.is_empty());
    assert!(asked(&mut fleet, ReplicationAction::Get).contains("2 of 6 datanodes vanished"));
    // One comes back: one lost datanode is no mass failure.
    fleet.start(0);
    fleet.beats(8);
    for block in &blocks {
        assert_eq!(fleet.live_holders(block.block).len(), 3);
    }
}

fn asked(fleet: &mut Fleet, action: ReplicationAction) -> String {
    let operator = fleet.cluster.writer();
    match fleet.cluster.ask(&operator, Request::Replication(ReplicationRequestV1 { action })) {
        Ok(Reply::Replication(reply)) => reply.waits,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operator_ends_the_wait() {
    let mut fleet = Fleet::new(config(), 6);
    let block = fleet.write("/a", 5);
    fleet.kill(0);
    fleet.kill(1);
    fleet.beats(DEAD_BEATS + 10);
    assert!(fleet.transfers.is_empty());
    assert_eq!(asked(&mut fleet, ReplicationAction::CopyNow), "");
    fleet.beats(3);
    assert_eq!(fleet.live_holders(block.block).len(), 4);
}

#[test]
fn copying_waits_for_ten_minutes_at_most() {
    let mut fleet = Fleet::new(config(), 6);
    let blocks: Vec<_> = (0..10).map(|number| fleet.write(&format!("/{number}"), 3)).collect();
    fleet.kill(0);
    fleet.kill(1);
    fleet.beats(DEAD_BEATS + 595);
    assert!(fleet.transfers.is_empty());
    fleet.beats(15);
    for block in &blocks {
        assert_eq!(fleet.live_holders(block.block).len(), 3);
    }
}

#[test]
fn one_in_five_that_vanishes_is_copied_without_waiting() {
    let mut fleet = Fleet::new(config(), 10);
    for number in 0..10 {
        fleet.write(&format!("/{number}"), 3);
    }
    fleet.kill(0);
    fleet.kill(1);
    fleet.beats(DEAD_BEATS + 5);
    assert_eq!(fleet.cluster.stats().under_replicated_blocks, 0);
}
