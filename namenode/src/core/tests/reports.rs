//! Full and incremental reports, and the calls that wait for them.

use ringfs_proto::Code;
use ringfs_proto::meta::membership::{ReplicaChangeV1, ReplicaState, ReplicaV1};

use super::super::parked::PARKED_MS;
use super::cluster::*;

#[test]
fn a_full_report_adds_and_forgets() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 3);
    let block = cluster.write("/a", &mut nodes);
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes));
    cluster.report(&mut nodes[0], &[]).expect("reported");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes[1..]));
    cluster.report(&mut nodes[0], &[finalized(block)]).expect("reported");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes));
}

#[test]
fn half_a_report_removes_nothing() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let first = cluster.write("/a", &mut nodes);
    cluster.write("/b", &mut nodes);
    cluster.page(&nodes[0], 10, 0, false, &[finalized(first)]).expect("first page");
    assert_eq!(cluster.readers_go_to("/b"), ids(&nodes));
    cluster.page(&nodes[0], 10, 1, true, &[]).expect("last page");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes));
    assert_eq!(cluster.readers_go_to("/b"), []);
    assert_eq!(cluster.stats().missing_blocks, 1);
}

#[test]
fn pages_out_of_order_are_refused_and_remove_nothing() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    cluster.write("/a", &mut nodes);
    cluster.page(&nodes[0], 10, 0, false, &[]).expect("first page");
    for (sequence, page) in [(10, 2), (10, 1), (9, 1)] {
        let refused = cluster.page(&nodes[0], sequence, page, true, &[]).expect_err("refused");
        assert_eq!(refused.code, Code::InvalidArgument);
    }
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes));
}

#[test]
fn increments_between_the_pages_of_a_report_win() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let old = cluster.write("/old", &mut nodes);
    cluster.page(&nodes[0], 10, 0, false, &[]).expect("first page");
    nodes[0].sequence = 10;
    // Written and deleted after the snapshot was taken.
    cluster.write("/new", &mut nodes);
    cluster.increment(&mut nodes[0], &[ReplicaChangeV1::Deleted(old)]).expect("reported");
    cluster.page(&nodes[0], 10, 1, true, &[finalized(old)]).expect("last page");
    assert_eq!(cluster.readers_go_to("/new"), ids(&nodes));
    assert_eq!(cluster.readers_go_to("/old"), []);
}

#[test]
fn a_report_older_than_an_increment_is_refused() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    nodes[0].sequence = 20;
    cluster.write("/a", &mut nodes);
    let refused = cluster.page(&nodes[0], 15, 0, true, &[]).expect_err("too old");
    assert_eq!(refused.code, Code::InvalidArgument);
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes));
}

#[test]
fn an_increment_that_comes_twice_counts_once() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let block = cluster.write("/a", &mut nodes);
    let stored = nodes[0].sequence;
    cluster.increment(&mut nodes[0], &[ReplicaChangeV1::Deleted(block)]).expect("reported");
    let again = [ReplicaChangeV1::Stored(finalized(block))];
    cluster.increment_at(&nodes[0], stored, &again).expect("acknowledged again");
    assert_eq!(cluster.readers_go_to("/a"), []);
}

#[test]
fn increments_that_a_report_contains_do_not_count_again() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let block = cluster.write("/a", &mut nodes);
    cluster.page(&nodes[0], 10, 0, true, &[finalized(block)]).expect("reported");
    cluster.increment_at(&nodes[0], 9, &[ReplicaChangeV1::Deleted(block)]).expect("acknowledged");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes));
}

#[test]
fn replicas_that_are_not_what_was_committed_do_not_count() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 3);
    let block = cluster.write("/a", &mut nodes);
    let short = finalized(ringfs_proto::meta::namespace::BlockRefV1 { length: 9, ..block });
    cluster.report(&mut nodes[0], &[short]).expect("reported");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes[1..]));
    assert_eq!(cluster.stats().corrupt_blocks, 1);
    // Its datanode lost power before the end was on disk.
    let cut = ReplicaV1 { block, state: ReplicaState::WaitingForRecovery };
    cluster.report(&mut nodes[1], &[cut]).expect("reported");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes[2..]));
    cluster.report(&mut nodes[0], &[finalized(block)]).expect("reported");
    assert_eq!(cluster.stats().corrupt_blocks, 0);
    assert_eq!(cluster.readers_go_to("/a").len(), 2);
}

#[test]
fn a_replica_that_ended_too_short_is_corrupt_once_the_block_is_committed() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    let block = written(&cluster.add_block(&writer, inode, None).expect("added"), 10);
    let short = ringfs_proto::meta::namespace::BlockRefV1 { length: 9, ..block };
    cluster.store(&mut nodes[0], block);
    cluster.store(&mut nodes[1], short);
    cluster.ask(&writer, complete(inode, Some(block))).expect("closed");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes[..1]));
    assert_eq!(cluster.stats().corrupt_blocks, 1);
}

#[test]
fn corrupt_replicas_are_not_read_and_do_not_close_a_file() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let block = cluster.write("/a", &mut nodes);
    cluster.increment(&mut nodes[0], &[ReplicaChangeV1::Corrupt(block)]).expect("reported");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes[1..]));

    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/open").expect("created");
    let open = written(&cluster.add_block(&writer, inode, None).expect("added"), 10);
    cluster.store(&mut nodes[0], open);
    cluster.increment(&mut nodes[0], &[ReplicaChangeV1::Corrupt(open)]).expect("reported");
    let call = cluster.next_call();
    cluster.send(&writer, call, complete(inode, Some(open)));
    assert_eq!((cluster.sync(), cluster.answers().len()), (0, 0), "it waits for a good replica");
}

#[test]
fn complete_waits_for_the_reports_that_it_needs() {
    let (mut cluster, mut nodes) =
        Cluster::with_nodes(crate::config::Config { replication_min: 2, ..config() }, 3);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    let block = written(&cluster.add_block(&writer, inode, None).expect("added"), 10);
    let call = cluster.next_call();
    cluster.send(&writer, call, complete(inode, Some(block)));
    let being_written = ReplicaV1 { block, state: ReplicaState::BeingWritten };
    let [first, second, third] = &mut nodes[..] else { panic!("three") };
    cluster.store(first, block);
    cluster.increment(second, &[ReplicaChangeV1::Stored(being_written)]).expect("reported");
    assert_eq!((cluster.sync(), cluster.answers().len()), (0, 0), "one good replica is not enough");
    cluster.store(third, block);
    assert_eq!(cluster.sync(), 1);
    let answers = cluster.answers();
    assert!(matches!(&answers[..], [answer] if answer.result.is_ok()), "{answers:?}");
    assert_eq!(cluster.readers_go_to("/a"), [first.id, third.id]);
    cluster.store(second, block);
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes));
}

#[test]
fn add_block_waits_for_the_block_before_and_gives_up_in_time() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    let block = written(&cluster.add_block(&writer, inode, None).expect("added"), 10);
    let call = cluster.next_call();
    cluster.send(&writer, call, add_block(inode, Some(block)));
    cluster.pass(PARKED_MS - 1);
    assert_eq!(cluster.answers().len(), 0);
    cluster.pass(1);
    let answers = cluster.answers();
    let error = answers[0].result.as_ref().expect_err("gave up");
    assert_eq!((answers.len(), error.code), (1, Code::NotReplicatedYet));
    // A report of something else wakes it, but does not lengthen its patience.
    let call = cluster.next_call();
    cluster.send(&writer, call, add_block(inode, Some(block)));
    cluster.pass(PARKED_MS / 2);
    let being_written = ReplicaV1 { block, state: ReplicaState::BeingWritten };
    cluster.increment(&mut nodes[0], &[ReplicaChangeV1::Stored(being_written)]).expect("reported");
    cluster.pass(PARKED_MS / 2);
    assert_eq!(cluster.answers().len(), 1);
    cluster.store(&mut nodes[0], block);
    cluster.heartbeat(&nodes[0]).expect("heard");
    let second = cluster.add_block(&writer, inode, Some(block)).expect("added");
    assert_eq!((second.offset, second.block.block), (10, ringfs_proto::ids::BlockId(2)));
}
