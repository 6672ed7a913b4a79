use std::collections::BTreeSet;

use ringfs_proto::ids::{BlockId, Stamp};

use super::*;

fn block(length: u64) -> BlockRefV1 {
    BlockRefV1 { block: BlockId(1), stamp: Stamp(5), length }
}

fn replica(length: u64, state: ReplicaState) -> ReplicaV1 {
    ReplicaV1 { block: block(length), state }
}

fn committed(map: &mut BlockMap, slot: Slot, storages: impl IntoIterator<Item = StorageIndex>) {
    map.add(slot, Vec::new(), 0);
    map.commit(slot, block(10));
    storages.into_iter().for_each(|storage| map.insert(slot, storage));
}

fn slots_of(map: &BlockMap, storage: StorageIndex) -> Vec<Slot> {
    map.slots_of(storage).iter().collect()
}

#[test]
fn only_finalized_replicas_of_the_committed_length_count() {
    let mut map = BlockMap::default();
    map.add(0, vec![1, 2, 3, 4], 0);
    map.report_open(0, 1, replica(10, ReplicaState::Finalized));
    map.report_open(0, 2, replica(9, ReplicaState::Finalized));
    map.report_open(0, 3, replica(10, ReplicaState::BeingWritten));
    assert_eq!(map.finalized(0, block(10)), 1);
    assert_eq!(map.commit(0, block(10)), [3, 4], "these are still to come");
    assert_eq!(map.storages(0).collect::<Vec<_>>(), [1]);
    assert_eq!(map.corrupt_blocks(), 1);
}

#[test]
fn faults_are_those_that_do_not_mend_themselves() {
    let old = BlockRefV1 { stamp: Stamp(4), ..block(10) };
    let newer = BlockRefV1 { stamp: Stamp(6), ..block(10) };
    let found = |block, state| fault_of(&ReplicaV1 { block, state }, self::block(10));
    assert_eq!(found(block(10), ReplicaState::Finalized), None);
    assert_eq!(found(block(9), ReplicaState::Finalized), Some(Fault::Corrupt));
    assert_eq!(found(newer, ReplicaState::Finalized), Some(Fault::Corrupt));
    assert_eq!(found(old, ReplicaState::Finalized), Some(Fault::Outdated));
    assert_eq!(found(old, ReplicaState::BeingWritten), Some(Fault::Outdated));
    assert_eq!(found(block(9), ReplicaState::BeingWritten), None);
    assert_eq!(found(block(10), ReplicaState::WaitingForRecovery), Some(Fault::Outdated));
    assert_eq!(found(block(3), ReplicaState::Temporary), None);
}

#[test]
fn more_than_three_replicas_are_kept_and_all_are_told_of_a_removal() {
    let mut map = BlockMap::default();
    committed(&mut map, 0, 1..=5);
    committed(&mut map, 7, [4, 4]);
    assert_eq!((map.count(0), map.count(7)), (5, 1));
    map.set_bad(0, 2, block(10), Fault::Corrupt);
    map.forget(0, 5);
    assert_eq!(map.count(0), 3);
    assert_eq!(slots_of(&map, 4), [0, 7]);
    assert_eq!(map.remove(0), BTreeSet::from([1, 2, 3, 4]));
    assert_eq!((map.corrupt_blocks(), map.count(0)), (0, 0));
    assert_eq!((slots_of(&map, 4), slots_of(&map, 2)), (vec![7], vec![]));
}

#[test]
fn a_doomed_replica_counts_no_more_until_it_is_spared() {
    let mut map = BlockMap::default();
    committed(&mut map, 0, 1..=3);
    map.set_bad(0, 4, block(9), Fault::Corrupt);
    map.doom(0, 3, block(10));
    map.doom(0, 4, block(10));
    assert_eq!((map.count(0), map.doomed_count(), map.corrupt_blocks()), (2, 2, 1));
    map.set_sent(0, 3, true);
    assert_eq!(map.aside_on(0, 3), Some(Aside::Doomed { replica: block(10), fault: None, is_sent: true }));
    map.spare(0, 3, Some(block(10)));
    map.spare(0, 4, Some(block(10)));
    assert_eq!((map.count(0), map.doomed_count(), map.corrupt_blocks()), (3, 0, 1));
    assert!(matches!(map.aside_on(0, 4), Some(Aside::Bad { fault: Fault::Corrupt, .. })));
}

#[test]
fn a_doomed_replica_that_a_recovery_has_finished_since_is_spared_as_a_good_one() {
    let mut map = BlockMap::default();
    committed(&mut map, 0, 1..=2);
    map.set_bad(0, 3, block(9), Fault::Outdated);
    map.doom(0, 3, block(9));
    map.set_good(0, 3, block(10));
    map.spare(0, 3, Some(block(10)));
    assert_eq!((map.count(0), map.aside_on(0, 3)), (3, None));
}

#[test]
fn replicas_that_leave_count_no_more_and_are_forgotten_in_turns() {
    let mut map = BlockMap::default();
    (0..100).for_each(|slot| committed(&mut map, slot, [1, 2]));
    map.begin_leaving(2, map.slots_of(2));
    assert_eq!((map.count(0), map.count(99), map.leaving_count()), (1, 1, 100));
    assert_eq!(map.forget_leaving(30), (0..30).collect::<Vec<_>>());
    // One is heard of again, one goes with its file.
    map.insert(30, 2);
    map.remove(31);
    assert_eq!((map.count(30), map.leaving_count()), (2, 68));
    // The rest is back.
    map.keep(2);
    assert_eq!((map.count(0), map.count(50)), (1, 2));
    assert!(map.forget_leaving(30).is_empty());
    assert_eq!(slots_of(&map, 2).len(), 69);
}

#[test]
fn an_open_replica_that_leaves_is_not_committed() {
    let mut map = BlockMap::default();
    map.add(0, vec![1, 2], 0);
    map.report_open(0, 1, replica(10, ReplicaState::Finalized));
    map.report_open(0, 2, replica(10, ReplicaState::Finalized));
    map.begin_leaving(2, map.slots_of(2));
    map.commit(0, block(10));
    assert_eq!(map.storages(0).collect::<Vec<_>>(), [1]);
    assert_eq!(map.leaving_count(), 0);
}

#[test]
fn a_doomed_replica_of_what_a_block_was_before_it_was_written_again_is_outdated() {
    let mut map = BlockMap::default();
    committed(&mut map, 0, 1..=3);
    map.doom(0, 3, block(10));
    map.reopen(0, block(10));
    map.spare(0, 3, None);
    let outdated = Some(Aside::Bad { replica: block(10), fault: Fault::Outdated });
    assert_eq!((map.count(0), map.aside_on(0, 3)), (0, outdated));
    map.doom(0, 3, block(10));
    map.spare(0, 3, Some(block(20)));
    assert_eq!((map.count(0), map.aside_on(0, 3)), (0, outdated));
}
