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
        feed(&mut state, ChangeV1::AddBlock(AddBlockV1 { inode, previous, block, stamp, pipeline }));
        previous = Some(BlockRefV1 { block, stamp, length: 10 });
    }
    feed(&mut state, ChangeV1::Complete(CompleteV1 { inode, last: previous }));
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
    feed(&mut state, ChangeV1::Delete(DeleteV1 { path: "/t".to_owned(), recursive: true }));
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
