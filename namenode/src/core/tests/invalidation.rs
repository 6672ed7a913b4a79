//! When replicas are deleted: only after the delete is durable, not right after a start, not too many at once.

use ringfs_proto::limits::COMMAND_BLOCKS_MAX;
use ringfs_proto::meta::namespace::BlockRefV1;

use super::cluster::*;
use crate::config::Config;

#[test]
fn replicas_are_deleted_only_after_the_delete_is_durable() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let block = cluster.write("/a", &mut nodes);
    let writer = cluster.writer();
    let call = cluster.next_call();
    cluster.send(&writer, call, delete("/a"));
    let batch = cluster.core.take_batch().expect("logged");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes), "readers see what is durable");
    assert_eq!(cluster.deletions(&nodes[0]), []);
    cluster.core.durable(batch.last(), crate::wal::BatchBuilder::default(), cluster.now());
    assert_eq!(cluster.answers().len(), 1);
    cluster.pass(1000);
    for node in &nodes {
        assert_eq!(cluster.deletions(node), [block.block]);
        assert_eq!(cluster.deletions(node), [], "once");
    }
}

#[test]
fn replicas_of_an_abandoned_block_are_deleted_where_it_was_to_go() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 3);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    let located = cluster.add_block(&writer, inode, None).expect("added");
    cluster.delete("/a");
    for node in &nodes {
        assert_eq!(cluster.deletions(node), [located.block.block]);
    }
}

#[test]
fn a_replica_that_no_file_has_is_deleted_when_it_is_reported() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let block = cluster.write("/a", &mut nodes[..1]);
    cluster.delete("/a");
    // The last of the pipeline finished after the file was gone.
    cluster.store(&mut nodes[1], block);
    assert_eq!(cluster.deletions(&nodes[1]), [block.block]);
    // It comes back with a full report, as after a lost command.
    cluster.report(&mut nodes[1], &[finalized(block)]).expect("reported");
    cluster.pass(1000);
    assert_eq!(cluster.deletions(&nodes[1]), [block.block]);
}

#[test]
fn nothing_is_deleted_right_after_a_start() {
    let delayed = Config { invalidation_delay_ms: 5000, ..config() };
    let (mut cluster, mut nodes) = Cluster::with_nodes(delayed, 1);
    let block = cluster.write("/a", &mut nodes);
    cluster.delete("/a");
    cluster.pass(2000);
    assert_eq!(cluster.deletions(&nodes[0]), []);
    cluster.pass(2999);
    assert_eq!(cluster.deletions(&nodes[0]), []);
    assert_eq!(cluster.stats().pending_deletion_blocks, 1);
    cluster.pass(1);
    assert_eq!(cluster.deletions(&nodes[0]), [block.block]);
    assert_eq!(cluster.stats().pending_deletion_blocks, 0);
}

#[test]
fn deletions_keep_to_their_rate() {
    let slow = Config { invalidations_per_second: 10, ..config() };
    let (mut cluster, mut nodes) = Cluster::with_nodes(slow, 1);
    let blocks: Vec<BlockRefV1> =
        (0..30).map(|number| cluster.write(&format!("/d/{number}"), &mut nodes)).collect();
    cluster.delete("/d");
    let mut deleted = Vec::new();
    // What was allowed while nothing had to be deleted, a second's worth at most; then the rate.
    for allowed in [10, 5, 5, 5, 5, 0] {
        let now = cluster.deletions(&nodes[0]);
        assert_eq!(now.len(), allowed);
        deleted.extend(now);
        cluster.pass(500);
    }
    let expected: Vec<_> = blocks.iter().map(|block| block.block).collect();
    deleted.sort_unstable();
    assert_eq!(deleted, expected, "all of them, once each");
}

#[test]
fn a_command_is_never_longer_than_its_limit() {
    let fast = Config { invalidations_per_second: 1_000_000, ..config() };
    let (mut cluster, mut nodes) = Cluster::with_nodes(fast, 1);
    let count = COMMAND_BLOCKS_MAX + 1;
    for number in 0..count {
        cluster.write(&format!("/d/{number}"), &mut nodes);
    }
    cluster.delete("/d");
    cluster.pass(1000);
    assert_eq!(cluster.deletions(&nodes[0]).len(), COMMAND_BLOCKS_MAX);
    cluster.pass(1000);
    assert_eq!(cluster.deletions(&nodes[0]).len(), 1);
}

#[test]
fn a_replica_that_is_reported_again_before_it_is_deleted_is_named_once() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let block = cluster.write("/a", &mut nodes);
    cluster.delete("/a");
    cluster.report(&mut nodes[0], &[finalized(block)]).expect("reported");
    cluster.pass(1000);
    assert_eq!(cluster.deletions(&nodes[0]), [block.block]);
}
