//! Which replicas are deleted, and when not.

use ringfs_proto::ids::Stamp;
use ringfs_proto::meta::membership::{ReplicaChangeV1, ReplicaState, ReplicaV1};
use ringfs_proto::meta::namespace::{BadReplicaV1, BlockRefV1, ReportBadBlocksRequestV1};

use super::super::cluster::*;
use super::super::fleet::{Fleet, OnDisk};
use super::DEAD_BEATS;
use crate::calls::Request;
use crate::config::Config;

#[test]
fn what_a_returning_datanode_has_beyond_what_is_wanted_goes() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 3);
    let lost = fleet.holders(block.block)[0];
    fleet.kill(lost);
    fleet.beats(DEAD_BEATS + 2);
    assert_eq!(fleet.live_holders(block.block).len(), 3);
    fleet.start(lost);
    assert_eq!(fleet.live_holders(block.block).len(), 4);
    fleet.beats(2);
    assert_eq!((fleet.live_holders(block.block).len(), fleet.deletions.len()), (3, 1));
}

#[test]
fn nothing_is_deleted_before_every_holder_has_reported() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 3);
    let [first, second, _] = fleet.holders(block.block)[..] else { panic!("three") };
    fleet.kill(first);
    fleet.beats(DEAD_BEATS + 2);
    // Another begins anew, and what it has is not known when the lost one comes back.
    fleet.register(second);
    fleet.start(first);
    fleet.beats(3);
    assert!(fleet.deletions.is_empty());
    fleet.report(second);
    fleet.beats(3);
    assert_eq!((fleet.live_holders(block.block).len(), fleet.deletions.len()), (3, 1));
}

#[test]
fn nothing_is_deleted_while_a_holder_is_silent() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 3);
    let [first, second, _] = fleet.holders(block.block)[..] else { panic!("three") };
    fleet.kill(first);
    fleet.beats(DEAD_BEATS + 2);
    fleet.peer(second).is_up = false;
    fleet.beats(4);
    fleet.start(first);
    fleet.beats(2);
    assert!(fleet.deletions.is_empty());
    fleet.peer(second).is_up = true;
    fleet.beats(3);
    assert_eq!(fleet.deletions.len(), 1);
}

#[test]
fn the_replica_with_the_least_room_beside_it_goes() {
    let mut fleet = Fleet::new(config(), 3);
    let block = fleet.write("/a", 3);
    fleet.peer(1).node.volumes[0].remaining_bytes = 1 << 30;
    fleet.beat();
    fleet.set_replication("/a", 2);
    fleet.beats(2);
    assert_eq!(fleet.holders(block.block), [0, 2]);
}

#[test]
fn a_replica_that_is_wanted_again_before_the_command_leaves_is_spared() {
    let mut fleet = Fleet::new(config(), 3);
    let block = fleet.write("/a", 3);
    fleet.set_replication("/a", 1);
    assert_eq!(fleet.cluster.stats().excess_replicas, 2);
    fleet.set_replication("/a", 3);
    assert_eq!(fleet.cluster.stats().excess_replicas, 0);
    fleet.beats(3);
    assert_eq!((fleet.live_holders(block.block).len(), fleet.deletions.len()), (3, 0));
}

#[test]
fn a_doomed_replica_that_is_reported_again_stays_doomed() {
    let mut fleet = Fleet::new(config(), 3);
    let block = fleet.write("/a", 3);
    fleet.set_replication("/a", 2);
    // The command leaves and is lost with the connection.
    fleet.cluster.pass(1000);
    let nodes: Vec<Node> = fleet.peers.iter().map(|peer| peer.node.clone()).collect();
    let told: Vec<usize> = (0..3).filter(|at| !fleet.cluster.deletions(&nodes[*at]).is_empty()).collect();
    let [doomed] = told[..] else { panic!("one is to be deleted: {told:?}") };
    fleet.start(doomed);
    assert_eq!(fleet.cluster.readers_go_to("/a").len(), 2);
    fleet.beats(2);
    assert!(!fleet.holders(block.block).contains(&doomed));
    assert_eq!(fleet.live_holders(block.block).len(), 2);
}

#[test]
fn a_corrupt_replica_is_replaced_and_then_deleted() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 3);
    let bad = fleet.holders(block.block)[0];
    fleet.spoil(bad, block.block);
    let id = fleet.peers[bad].node.id;
    assert!(!fleet.cluster.readers_go_to("/a").contains(&id), "never served");
    assert_eq!(fleet.cluster.stats().corrupt_blocks, 1);
    fleet.beats(3);
    assert_eq!(fleet.live_holders(block.block).len(), 3);
    assert_eq!(fleet.deletions, [(bad as u8 + 1, block.block)]);
    assert_eq!(fleet.cluster.stats().corrupt_blocks, 0);
}

#[test]
fn where_there_is_no_other_datanode_a_corrupt_replica_is_replaced_in_its_place() {
    let mut fleet = Fleet::new(config(), 3);
    let block = fleet.write("/a", 3);
    fleet.spoil(1, block.block);
    fleet.beats(3);
    assert_eq!(fleet.live_holders(block.block), [0, 1, 2]);
    assert_eq!((fleet.deletions.len(), fleet.cluster.stats().corrupt_blocks), (0, 0));
}

#[test]
fn corrupt_replicas_are_kept_while_no_good_one_is_left() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 2);
    let holders = fleet.holders(block.block);
    holders.iter().for_each(|at| fleet.spoil(*at, block.block));
    fleet.beats(DEAD_BEATS);
    assert!(fleet.deletions.is_empty() && fleet.transfers.is_empty());
    let stats = fleet.cluster.stats();
    assert_eq!((stats.missing_blocks, stats.corrupt_blocks), (1, 1));
    // Readers are told of both: parts may verify.
    assert_eq!(fleet.cluster.readers_go_to("/a").len(), 2);
    // A good one that appears after all is copied, and the bad ones go.
    let free = (0..4).find(|at| !holders.contains(at)).expect("one has none");
    fleet.peer(free).disk.insert(block.block, OnDisk { block, is_good: true });
    fleet.tell(free, ReplicaChangeV1::Stored(finalized(block)));
    fleet.beats(4);
    assert_eq!((fleet.live_holders(block.block).len(), fleet.deletions.len()), (2, 2));
}

#[test]
fn older_and_shorter_replicas_go_only_when_there_are_enough_good_ones() {
    let mut fleet = Fleet::new(config(), 3);
    let writer = fleet.cluster.writer();
    let inode = fleet.cluster.create(&writer, "/a").expect("created");
    let block = written(&fleet.cluster.add_block(&writer, inode, None).expect("added"), 10);
    let good = OnDisk { block, is_good: true };
    fleet.peer(0).disk.insert(block.block, good);
    fleet.tell(0, ReplicaChangeV1::Stored(finalized(block)));
    fleet.cluster.ask(&writer, complete(inode, Some(block))).expect("closed");
    let older = BlockRefV1 { stamp: Stamp(0), ..block };
    let shorter = BlockRefV1 { length: 9, ..block };
    fleet.peer(1).disk.insert(block.block, OnDisk { block: older, is_good: false });
    fleet.tell(1, ReplicaChangeV1::Stored(ReplicaV1 { block: older, state: ReplicaState::Finalized }));
    fleet.peer(2).disk.insert(block.block, OnDisk { block: shorter, is_good: false });
    fleet.tell(2, ReplicaChangeV1::Stored(finalized(shorter)));
    assert_eq!(fleet.cluster.readers_go_to("/a"), [fleet.peers[0].node.id]);
    fleet.kill(0);
    fleet.beats(DEAD_BEATS + 2);
    assert!(fleet.deletions.is_empty(), "they are all there is");
    fleet.start(0);
    fleet.beats(DEAD_BEATS + 5);
    assert_eq!(fleet.live_holders(block.block), [0, 1, 2], "each replaced in its place");
}

#[test]
fn a_readers_word_has_a_replica_verified_and_removes_nothing() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 3);
    let [liar, bad, _] = fleet.holders(block.block)[..] else { panic!("three") };
    fleet.spoil_unnoticed(bad, block.block);
    let of = |fleet: &Fleet, at: usize| {
        let node = &fleet.peers[at].node;
        BadReplicaV1 { block, datanode: node.id, storage: node.storage }
    };
    let stranger = BadReplicaV1 { datanode: fleet.peers[bad].node.id, ..of(&fleet, liar) };
    let replicas = vec![of(&fleet, liar), of(&fleet, bad), of(&fleet, bad), stranger];
    let reader = fleet.cluster.writer();
    let request = Request::ReportBadBlocks(ReportBadBlocksRequestV1 { replicas });
    fleet.cluster.ask(&reader, request).expect("taken");
    assert_eq!(fleet.cluster.readers_go_to("/a").len(), 3);
    fleet.beat();
    let mut verified = fleet.verifications.clone();
    verified.sort_unstable();
    assert_eq!(verified, [(liar as u8 + 1, block.block), (bad as u8 + 1, block.block)]);
    fleet.beats(3);
    assert_eq!(fleet.live_holders(block.block).len(), 3);
    assert!(fleet.live_holders(block.block).contains(&liar));
    assert_eq!(fleet.deletions, [(bad as u8 + 1, block.block)]);
}

#[test]
fn replicas_of_a_failed_volume_are_copied() {
    let mut fleet = Fleet::new(config(), 4);
    let block = fleet.write("/a", 3);
    let failed = fleet.holders(block.block)[0];
    fleet.peer(failed).node.volumes[0].is_failed = true;
    fleet.beats(3);
    let holders = fleet.live_holders(block.block);
    assert_eq!(holders.iter().filter(|at| **at != failed).count(), 3);
}

#[test]
fn doomed_replicas_keep_to_the_rate_of_deletions() {
    let slow = Config { invalidations_per_second: 5, ..config() };
    let mut fleet = Fleet::new(slow, 2);
    for number in 0..20 {
        fleet.write(&format!("/{number}"), 2);
        fleet.set_replication(&format!("/{number}"), 1);
    }
    let mut before = 0;
    for _ in 0..3 {
        fleet.beat();
        assert!(fleet.deletions.len() - before <= 10, "two datanodes, five each");
        before = fleet.deletions.len();
    }
    fleet.beats(5);
    assert_eq!(fleet.deletions.len(), 20);
}

#[test]
fn a_doomed_replica_is_spared_when_the_one_that_was_kept_goes_silent() {
    let mut fleet = Fleet::new(config(), 3);
    let block = fleet.write("/a", 3);
    fleet.set_replication("/a", 1);
    let kept = fleet.cluster.readers_go_to("/a");
    let kept = fleet.peers.iter().position(|peer| kept == [peer.node.id]).expect("one is kept");
    // Its disk is gone too, which nobody knows yet.
    fleet.kill(kept);
    fleet.peer(kept).disk.clear();
    fleet.beats(3);
    // Of the two others one is still too many, and one takes the place of the silent one.
    assert_eq!((fleet.deletions.len(), fleet.live_holders(block.block).len()), (1, 1));
}

#[test]
fn a_doomed_replica_that_is_bad_is_not_spared_as_a_good_one() {
    let mut fleet = Fleet::new(config(), 3);
    let block = fleet.write("/a", 3);
    fleet.set_replication("/a", 1);
    let kept = fleet.cluster.readers_go_to("/a");
    let kept = fleet.peers.iter().position(|peer| kept == [peer.node.id]).expect("one is kept");
    fleet.spoil((kept + 1) % 3, block.block);
    fleet.kill(kept);
    fleet.peer(kept).disk.clear();
    fleet.beats(3);
    assert_eq!(fleet.live_holders(block.block), [(kept + 2) % 3]);
}
