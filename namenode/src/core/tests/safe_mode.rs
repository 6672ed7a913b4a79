//! Safe mode: until enough blocks are reported, when the log has no room, when the log is older than the datanodes.

use ringfs_proto::Code;
use ringfs_proto::ids::{BlockId, Stamp};
use ringfs_proto::meta::admin::{SafeModeAction, SafeModeRequestV1};
use ringfs_proto::meta::namespace::BlockRefV1;

use super::cluster::*;
use crate::calls::{Reply, Request};
use crate::config::Config;

fn is_safe(cluster: &mut Cluster) -> bool {
    let writer = cluster.writer();
    let path = format!("/probe{}", cluster.next_call());
    match cluster.create(&writer, &path) {
        Ok(_) => false,
        Err(code) => {
            assert_eq!(code, Code::SafeMode);
            true
        }
    }
}

#[test]
fn an_empty_namespace_does_not_wait() {
    let mut cluster = Cluster::new(config());
    assert!(!is_safe(&mut cluster));
    assert_eq!(cluster.stats().safe_mode, "");
}

#[test]
fn safe_mode_ends_when_enough_blocks_are_reported() {
    let half = || Config { safe_mode_threshold_permille: 500, ..config() };
    let (mut cluster, mut nodes) = Cluster::with_nodes(half(), 1);
    let blocks: Vec<_> = (0..4).map(|number| cluster.write(&format!("/{number}"), &mut nodes)).collect();
    let mut cluster = cluster.restart(half());
    assert!(is_safe(&mut cluster));
    assert!(cluster.stats().safe_mode.contains("0 of 4"));
    let mut node = cluster.register(1).expect("joined");
    cluster.page(&node, 1, 0, false, &[finalized(blocks[0])]).expect("first page");
    assert!(is_safe(&mut cluster));
    let reader = cluster.caller(201, ELSEWHERE);
    let stat = ringfs_proto::meta::namespace::StatRequestV1 { path: "/0".to_owned() };
    assert!(cluster.ask(&reader, Request::Stat(stat)).is_ok(), "reads go on");
    cluster.page(&node, 1, 1, true, &[finalized(blocks[1])]).expect("last page");
    assert!(!is_safe(&mut cluster), "half of the blocks are half of the blocks");
    // Once it is over it stays over.
    node.sequence = 1;
    cluster.report(&mut node, &[]).expect("reported");
    assert!(!is_safe(&mut cluster));
}

#[test]
fn every_change_is_refused_in_safe_mode_and_nothing_is_logged() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let block = cluster.write("/a", &mut nodes);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/open").expect("created");
    let mut cluster = cluster.restart(config());
    let rename = ringfs_proto::meta::namespace::RenameRequestV1 {
        source: "/a".to_owned(),
        target: "/b".to_owned(),
        overwrite: false,
    };
    let mkdirs = ringfs_proto::meta::namespace::MkdirsRequestV1 {
        path: "/d".to_owned(),
        mode: 0o755,
        unmasked_mode: 0o755,
        create_parents: true,
    };
    let abandon = ringfs_proto::meta::namespace::AbandonBlockRequestV1 { inode, block: block.block };
    let changes = [
        Request::Create(create("/c")),
        Request::Mkdirs(mkdirs),
        Request::Rename(rename),
        Request::AbandonBlock(abandon),
        add_block(inode, None),
        complete(inode, None),
        delete("/a"),
    ];
    let applied = cluster.core.state().applied();
    for change in changes {
        let error = cluster.ask(&writer, change.clone()).expect_err("refused");
        assert_eq!(error.code, Code::SafeMode, "{change:?}");
    }
    assert_eq!(cluster.core.state().applied(), applied);
}

#[test]
fn a_call_that_was_applied_is_answered_in_safe_mode() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    cluster.write("/a", &mut nodes);
    let writer = cluster.writer();
    cluster.send(&writer, 90, Request::Create(create("/b")));
    cluster.sync();
    let mut cluster = cluster.restart(config());
    cluster.send(&writer, 90, Request::Create(create("/b")));
    assert!(cluster.answers()[0].result.is_ok());
}

#[test]
fn a_block_above_the_log_stops_changes_and_deletes_nothing() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let block = cluster.write("/a", &mut nodes);
    cluster.delete("/a");
    cluster.pass(1000);
    let newer = super::cluster::block(block.block.0 + 5, 10);
    cluster.report(&mut nodes[0], &[finalized(block), finalized(newer)]).expect("reported");
    assert!(is_safe(&mut cluster));
    assert_eq!(cluster.deletions(&nodes[0]), []);
    let reason = cluster.stats().safe_mode;
    assert!(reason.contains("block 6") && reason.contains("block 1") && reason.contains("older"), "{reason}");
    // Neither room nor more reports end it.
    cluster.core.set_log_has_room(false);
    cluster.core.set_log_has_room(true);
    cluster.report(&mut nodes[0], &[]).expect("reported");
    cluster.pass(60_000);
    assert!(is_safe(&mut cluster));
}

#[test]
fn a_log_without_room_refuses_changes_until_it_has_some() {
    let mut cluster = Cluster::new(config());
    cluster.core.set_log_has_room(false);
    assert!(is_safe(&mut cluster));
    cluster.core.set_log_has_room(true);
    assert!(!is_safe(&mut cluster));
}

#[test]
fn nothing_is_deleted_while_blocks_are_awaited() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let gone = cluster.write("/gone", &mut nodes);
    let kept = cluster.write("/kept", &mut nodes);
    cluster.delete("/gone");
    let mut cluster = cluster.restart(config());
    let mut node = cluster.register(1).expect("joined");
    cluster.page(&node, 1, 0, false, &[finalized(gone)]).expect("first page");
    assert_eq!(cluster.deletions(&node), []);
    cluster.page(&node, 1, 1, true, &[finalized(kept)]).expect("last page");
    assert_eq!(cluster.deletions(&node), [gone.block]);
    node.sequence = 1;
    assert!(!is_safe(&mut cluster));
}

fn set(cluster: &mut Cluster, action: SafeModeAction) -> Result<String, Code> {
    let operator = cluster.writer();
    match cluster.ask(&operator, Request::SafeMode(SafeModeRequestV1 { action })) {
        Ok(Reply::SafeMode(reply)) => Ok(reply.reason),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

#[test]
fn an_operator_begins_and_ends_it() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    cluster.write("/a", &mut nodes);
    assert_eq!(set(&mut cluster, SafeModeAction::Get), Ok(String::new()));
    assert!(set(&mut cluster, SafeModeAction::Enter).expect("entered").contains("operator"));
    assert!(is_safe(&mut cluster));
    assert_eq!(set(&mut cluster, SafeModeAction::Leave), Ok(String::new()));
    assert!(!is_safe(&mut cluster));
    let mut cluster = cluster.restart(config());
    assert!(is_safe(&mut cluster), "no block is reported");
    assert_eq!(set(&mut cluster, SafeModeAction::Leave), Ok(String::new()));
    assert!(!is_safe(&mut cluster));
    cluster.core.set_log_has_room(false);
    assert!(set(&mut cluster, SafeModeAction::Leave).expect("asked").contains("full"));
    assert!(is_safe(&mut cluster), "nobody can order room");
}

#[test]
fn an_older_state_is_left_by_its_own_command_only_and_ids_are_not_given_out_again() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let known = cluster.write("/a", &mut nodes);
    let newer = BlockRefV1 { block: BlockId(9), stamp: Stamp(12), length: 10 };
    cluster.report(&mut nodes[0], &[finalized(known), finalized(newer)]).expect("reported");
    let reason = cluster.core.older_state().expect("older");
    for part in ["block 9", "stamp 12", "block 1", "ringfs admin safemode leave --accept-older-state"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(set(&mut cluster, SafeModeAction::Leave), Err(Code::InvalidArgument));
    assert!(is_safe(&mut cluster));
    cluster.pass(1000);
    cluster.report(&mut nodes[0], &[finalized(known), finalized(newer)]).expect("reported");
    assert_eq!(cluster.deletions(&nodes[0]), [], "not without the operator");
    assert_eq!(set(&mut cluster, SafeModeAction::LeaveDespiteOlderState), Ok(String::new()));
    assert!(!is_safe(&mut cluster) && cluster.core.older_state().is_none());
    let state = cluster.core.state();
    assert_eq!((state.last_block(), state.last_stamp()), (BlockId(9), Stamp(12)));
    let next = cluster.write("/b", &mut nodes);
    assert!(next.block > BlockId(9) && next.stamp > Stamp(12), "{next:?}");
    cluster.report(&mut nodes[0], &[finalized(known), finalized(newer), finalized(next)]).expect("reported");
    assert_eq!(cluster.deletions(&nodes[0]), [newer.block]);
    let mut cluster = cluster.restart(config());
    let mut node = cluster.register(1).expect("joined");
    node.sequence = 9;
    cluster.report(&mut node, &[finalized(known), finalized(newer), finalized(next)]).expect("reported");
    assert!(!is_safe(&mut cluster), "the log has it");
}

#[test]
fn a_stamp_above_the_log_is_a_newer_state_too() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let known = cluster.write("/a", &mut nodes);
    let newer = BlockRefV1 { stamp: Stamp(known.stamp.0 + 3), ..known };
    cluster.report(&mut nodes[0], &[finalized(newer)]).expect("reported");
    assert!(is_safe(&mut cluster));
    assert_eq!(cluster.deletions(&nodes[0]), []);
}
