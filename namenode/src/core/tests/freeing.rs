//! Deletion of large trees: gone at once, freed in bounded turns.

use super::tree::{feed, wide_state};
use super::*;
use crate::state::FREE_STEPS_PER_RECORD_MAX;
use crate::wal::record::{AddBlockV1, ChangeV1, CompleteV1, DeleteV1};

fn counts(fixture: &Fixture) -> (u64, u64, u64) {
    let counts = fixture.core.state().counts();
    (counts.files, counts.directories, counts.blocks)
}

/// Applies what is durable, one batch.
fn one_batch(fixture: &mut Fixture) -> bool {
    let Some(batch) = fixture.core.take_batch() else { return false };
    fixture.core.durable(batch.last(), BatchBuilder::default(), fixture.now);
    true
}

#[test]
fn a_tree_of_100_000_is_gone_at_once_and_freed_in_turns() {
    let mut fixture = Fixture::with_state(wide_state(100, 1000));
    let client = fixture.client();
    fixture.send(&client, CallId(1), delete("/t"));
    assert!(one_batch(&mut fixture));
    assert!(matches!(fixture.answer(), Some(Ok(Reply::Delete(DeleteReplyV1 { deleted: true })))));
    let stat = |fixture: &mut Fixture| {
        fixture.send(
            &client,
            CallId(2),
            Request::Stat(StatRequestV1 { path: "/t/d0000/f000000".to_owned() }),
        );
        fixture.answer().expect("served in between").map_err(|error| error.code)
    };
    assert_eq!(stat(&mut fixture), Err(Code::NotFound));
    let mut turns = 0;
    while one_batch(&mut fixture) {
        assert_eq!(stat(&mut fixture), Err(Code::NotFound));
        turns += 1;
    }
    assert_eq!(counts(&fixture), (0, 1, 0));
    assert!(turns >= 2 * 100_000 / FREE_STEPS_PER_RECORD_MAX, "{turns} turns");
    let most = fixture.core.state().free_steps_in_one_record();
    assert!(most <= FREE_STEPS_PER_RECORD_MAX, "{most} steps in one record");
}

#[test]
fn a_file_of_many_blocks_is_freed_in_turns_too() {
    let mut state = wide_state(1, 1);
    let inode = state.stat(&ringfs_proto::path::Components::parse("/t/d0000/f000000").expect("valid"));
    let inode = inode.expect("there").inode;
    let mut previous = None;
    for number in 1..=5000 {
        let (block, stamp, pipeline) = (BlockId(number), Stamp(number), Vec::new());
        feed(
            &mut state,
            ChangeV1::AddBlock(AddBlockV1 { inode, previous, previous_crc: None, block, stamp, pipeline }),
        );
        previous = Some(BlockRefV1 { block, stamp, length: 10 });
    }
    feed(&mut state, ChangeV1::Complete(CompleteV1 { inode, last: previous, crc: None, tail: None }));
    let mut fixture = Fixture::with_state(state);
    fixture.core.safe_mode = SafeMode::default();
    let client = fixture.client();
    fixture.send(&client, CallId(1), delete("/t/d0000/f000000"));
    assert!(one_batch(&mut fixture));
    assert!(counts(&fixture).2 > 0, "some blocks are left");
    while one_batch(&mut fixture) {}
    assert_eq!(counts(&fixture), (0, 3, 0));
    let most = fixture.core.state().free_steps_in_one_record();
    assert!(most <= FREE_STEPS_PER_RECORD_MAX, "{most} steps in one record");
}

#[test]
fn what_is_deleted_and_not_freed_is_reached_by_nobody() {
    let mut state = wide_state(3, 1000);
    let open = state.stat(&ringfs_proto::path::Components::parse("/t/d0000/f000000").expect("valid"));
    let inode = open.expect("there").inode;
    feed(
        &mut state,
        ChangeV1::Delete(DeleteV1 { path: "/t".to_owned(), recursive: true, is_subtree_permitted: false }),
    );
    assert!(state.has_detached());
    assert!(state.leases().get(inode).is_some(), "it is not freed yet");
    let mut fixture = Fixture::with_state(state);
    let client = fixture.client();
    let writer = Arc::new(Caller {
        connection: 77,
        session: SessionId([9; 16]),
        user: "ann".to_owned(),
        credentials: crate::calls::Credentials::privileged(),
        address: [127, 0, 0, 1].into(),
        role: Role::Client,
        nonce: [3; 16],
        renews_leases: false,
        is_datanode: AtomicBool::new(false),
    });
    fixture.next_call = 10_000;
    let add = AddBlockRequestV1 { inode, previous: None, excluded: Vec::new() };
    assert_eq!(fixture.call(&writer, Request::AddBlock(add)), Err(Code::LeaseLost));
    let locate = GetBlockLocationsRequestV1 { file: FileRefV1::Inode(inode), offset: 0, length: 1 };
    assert_eq!(fixture.call(&client, Request::GetBlockLocations(locate)), Err(Code::NotFound));
    let list = ringfs_proto::meta::tree::ListOpenFilesRequestV1 {
        path: "/".to_owned(),
        after: InodeId(0),
        entries_max: 0,
    };
    let Ok(Reply::ListOpenFiles(reply)) = fixture.call(&client, Request::ListOpenFiles(list)) else {
        panic!("a list")
    };
    assert!(reply.files.is_empty());
    // A start goes on with what was left.
    fixture.pass(200);
    fixture.make_durable();
    assert_eq!(counts(&fixture), (0, 1, 0));
    assert_eq!(fixture.core.state().leases().count(), 0);
}

/// A caller without privileges.
fn ordinary(fixture: &mut Fixture) -> Arc<Caller> {
    let credentials = crate::calls::Credentials { groups: Vec::new(), is_privileged: false };
    Arc::new(fixture.client().with_credentials(Arc::new(credentials)))
}

/// Turns of a look at what is below, with a call of another that is served in each.
fn turns_of(fixture: &mut Fixture, other: &Arc<Caller>) -> usize {
    let mut turns = 0;
    while fixture.core.has_work() {
        assert!(fixture.core.take_batch().is_none(), "nothing is logged before all was looked at");
        fixture.send(other, CallId(2), Request::Stat(StatRequestV1 { path: "/t".to_owned() }));
        assert!(fixture.answer().expect("served in between").is_ok());
        fixture.core.work(fixture.now);
        turns += 1;
    }
    turns
}

#[test]
fn the_right_to_a_large_tree_is_looked_at_in_turns() {
    use crate::core::subtrees::INODES_PER_TURN_MAX;
    let mut fixture = Fixture::with_state(wide_state(100, 1000));
    let (ann, other) = (ordinary(&mut fixture), fixture.client());
    fixture.send(&ann, CallId(1), delete("/t"));
    let turns = turns_of(&mut fixture, &other);
    assert!(turns >= 100_000 / INODES_PER_TURN_MAX, "{turns} turns");
    // The same call, while the first is logged and not applied: it joins that one.
    fixture.send(&ann, CallId(1), delete("/t"));
    while fixture.core.has_work() {
        fixture.core.work(fixture.now);
    }
    assert!(one_batch(&mut fixture));
    let answers = fixture.core.take_answers();
    assert_eq!(answers.len(), 2, "the call came twice");
    for answer in answers {
        assert!(matches!(answer.result, Ok(Reply::Delete(DeleteReplyV1 { deleted: true }))));
    }
    fixture.make_durable();
    assert_eq!(counts(&fixture), (0, 1, 0));
}

#[test]
fn who_may_not_change_a_directory_below_deletes_nothing() {
    let mut state = wide_state(100, 1000);
    let protect = crate::wal::record::SetPermissionV1 { path: "/t/d0050".to_owned(), mode: 0o555 };
    feed(&mut state, ChangeV1::SetPermission(protect));
    let mut fixture = Fixture::with_state(state);
    let ann = ordinary(&mut fixture);
    let before = fixture.core.state().tree_digest();
    fixture.send(&ann, CallId(1), delete("/t"));
    while fixture.core.has_work() {
        fixture.core.work(fixture.now);
    }
    assert_eq!(fixture.make_durable(), 0);
    assert_eq!(fixture.answer().expect("an answer").expect_err("refused").code, Code::PermissionDenied);
    assert_eq!(fixture.core.state().tree_digest(), before);
    fixture.send(&ann, CallId(3), delete("/t/d0000"));
    assert!(!fixture.core.has_work(), "a small tree needs one turn");
    assert!(one_batch(&mut fixture));
    assert!(fixture.answer().expect("an answer").is_ok());
}
