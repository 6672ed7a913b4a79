//! A call that comes twice is carried out once: joined while it is in flight, answered from memory afterwards.

use ringfs_proto::Code;
use ringfs_proto::ids::{LogIndex, SessionId};

use super::cluster::*;
use crate::calls::{Reply, Request};

#[test]
fn a_call_in_flight_is_joined() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 1);
    let (first, second) = (cluster.writer(), cluster.writer());
    cluster.send(&first, 5, Request::Create(create("/a")));
    cluster.send(&second, 5, Request::Create(create("/a")));
    assert_eq!(cluster.sync(), 1, "one record");
    let answers = cluster.answers();
    let callers: Vec<_> = answers.iter().map(|answer| answer.caller.connection).collect();
    assert_eq!(callers, [first.connection, second.connection]);
    assert_eq!(answers[0].result, answers[1].result);
    assert!(answers[0].result.is_ok());
}

#[test]
fn a_call_joins_behind_others_in_flight() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 1);
    let writer = cluster.writer();
    for call in 1..=3 {
        cluster.send(&writer, call, Request::Create(create(&format!("/f{call}"))));
    }
    let batch = cluster.core.take_batch().expect("logged");
    for call in 4..=6 {
        cluster.send(&writer, call, Request::Create(create(&format!("/f{call}"))));
    }
    cluster.core.durable(LogIndex(2), batch, cluster.now());
    cluster.answers();
    cluster.send(&writer, 5, Request::Create(create("/f5")));
    cluster.core.durable(LogIndex(6), crate::wal::BatchBuilder::default(), cluster.now());
    let calls: Vec<_> = cluster.answers().iter().map(|answer| answer.header.call.0).collect();
    assert_eq!(calls, [3, 4, 5, 5, 6]);
}

#[test]
fn an_applied_call_is_answered_again_without_a_record() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 1);
    let writer = cluster.writer();
    cluster.create(&writer, "/a").expect("created");
    for call in [90, 90] {
        cluster.send(&writer, call, delete("/a"));
        cluster.sync();
    }
    let applied = cluster.core.state().applied();
    let answers = cluster.answers();
    let deleted: Vec<_> = answers
        .iter()
        .map(|answer| matches!(&answer.result, Ok(Reply::Delete(reply)) if reply.deleted))
        .collect();
    assert_eq!(deleted, [true, true], "the second answer is the first one, not `nothing to delete`");
    assert_eq!(applied, LogIndex(2));
}

#[test]
fn a_refusal_by_apply_is_answered_again() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 1);
    let writer = cluster.writer();
    cluster.create(&writer, "/a").expect("created");
    cluster.send(&writer, 90, Request::Create(create("/a")));
    cluster.sync();
    assert!(cluster.answers()[0].result.is_err());
    cluster.delete("/a");
    cluster.send(&writer, 90, Request::Create(create("/a")));
    assert_eq!(cluster.sync(), 0);
    let answers = cluster.answers();
    assert!(answers[0].result.is_err());
}

#[test]
fn a_parked_call_that_comes_twice_makes_one_record() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    let block = written(&cluster.add_block(&writer, inode, None).expect("added"), 10);
    cluster.send(&writer, 90, add_block(inode, Some(block)));
    cluster.send(&writer, 90, add_block(inode, Some(block)));
    assert_eq!(cluster.sync(), 0);
    cluster.store(&mut nodes[0], block);
    assert_eq!(cluster.sync(), 1);
    let answers = cluster.answers();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0].result, answers[1].result);
    assert!(answers[0].result.is_ok());
}

#[test]
fn a_late_copy_of_a_call_that_was_answered_changes_nothing() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 1);
    let writer = cluster.writer();
    cluster.send_with_lowest(&writer, 90, 90, delete("/a"));
    cluster.send_with_lowest(&writer, 91, 91, Request::Create(create("/a")));
    cluster.sync();
    cluster.answers();
    // A frame that was stuck on a connection which the caller had given up.
    cluster.send_with_lowest(&writer, 90, 90, delete("/a"));
    assert_eq!(cluster.sync(), 0);
    let answers = cluster.answers();
    assert_eq!(answers[0].result.as_ref().expect_err("too late").code, Code::InvalidArgument);
}

#[test]
fn a_retried_add_block_of_a_closed_file_forgets_no_replica() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 3);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    cluster.send(&writer, 90, add_block(inode, None));
    cluster.sync();
    let answers = cluster.answers();
    let Ok(Reply::AddBlock(first)) = &answers[0].result else { panic!("added") };
    let block = written(&first.located, 10);
    nodes.iter_mut().for_each(|node| cluster.store(node, block));
    cluster.ask(&writer, complete(inode, Some(block))).expect("closed");
    cluster.send(&writer, 90, add_block(inode, None));
    assert_eq!((cluster.sync(), cluster.answers().len()), (0, 1));
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes));
    assert_eq!(cluster.stats().missing_blocks, 0);
}

#[test]
fn a_retried_add_block_after_a_restart_keeps_what_was_reported() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 3);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    cluster.send(&writer, 90, add_block(inode, None));
    cluster.sync();
    let answers = cluster.answers();
    let Ok(Reply::AddBlock(first)) = &answers[0].result else { panic!("added") };
    let block = written(&first.located, 10);

    let mut cluster = cluster.restart(config());
    let mut nodes: Vec<_> = (1..=3).map(|number| cluster.join(number)).collect();
    cluster.store(&mut nodes[0], block);
    cluster.send(&writer, 90, add_block(inode, None));
    let answers = cluster.answers();
    assert!(matches!(&answers[0].result, Ok(Reply::AddBlock(reply)) if reply.located.nodes.len() == 3));
    cluster.ask(&writer, complete(inode, Some(block))).expect("closed at once");
    assert_eq!(cluster.readers_go_to("/a"), ids(&nodes[..1]));
}

#[test]
fn callers_without_a_session_are_never_joined() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 1);
    let (first, second) = (cluster.caller(0, ELSEWHERE), cluster.caller(0, ELSEWHERE));
    assert_eq!(first.session, SessionId::default());
    cluster.send(&first, 1, Request::Create(create("/a")));
    cluster.send(&second, 1, Request::Create(create("/b")));
    assert_eq!(cluster.sync(), 2);
    let inodes: Vec<_> = cluster
        .answers()
        .into_iter()
        .map(|answer| match answer.result {
            Ok(Reply::Create(reply)) => reply.status.inode.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(inodes, [2, 3]);
}

#[test]
fn ids_of_blocks_rise_over_calls_in_flight() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), 3);
    let writer = cluster.writer();
    let inodes: Vec<_> =
        (0..3).map(|number| cluster.create(&writer, &format!("/{number}")).expect("created")).collect();
    for (call, inode) in (90..).zip(&inodes) {
        cluster.send(&writer, call, add_block(*inode, None));
    }
    assert_eq!(cluster.sync(), 3);
    let blocks: Vec<_> = cluster
        .answers()
        .into_iter()
        .map(|answer| match answer.result {
            Ok(Reply::AddBlock(reply)) => reply.located.block.block.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(blocks, [1, 2, 3]);
}
