//! Checkpoints while operations go on: bounded turns, triggers, answers.

use ringfs_proto::Code;
use ringfs_proto::ids::LogIndex;
use ringfs_proto::meta::admin::{CheckpointReplyV1, CheckpointRequestV1};

use super::cluster::*;
use crate::calls::{Reply, Request};
use crate::checkpoint::{CheckpointError, Written};
use crate::config::Config;
use crate::core::{Copied, Order};
use crate::state::{Restorer, Section};

fn on_request() -> Config {
    Config { checkpoint_inodes_per_turn: 7, checkpoint_interval_ms: u64::MAX, ..config() }
}

fn request(target: &str) -> Request {
    Request::Checkpoint(CheckpointRequestV1 { target: target.to_owned() })
}

fn written(order: &Order) -> Result<Written, CheckpointError> {
    Ok(Written { directory: "/nn".into(), index: order.index, bytes: 1 })
}

fn begun(cluster: &mut Cluster, target: &str) -> Order {
    let operator = cluster.writer();
    let call = cluster.next_call();
    cluster.send(&operator, call, request(target));
    cluster.core.take_checkpoint().expect("begun")
}

#[test]
fn no_turn_copies_more_than_its_share_while_operations_go_on() {
    let mut cluster = Cluster::new(on_request());
    let writer = cluster.writer();
    for file in 0..100 {
        cluster.create(&writer, &format!("/f{file}")).expect("created");
    }
    let expected = cluster.core.state().digest();
    let order = begun(&mut cluster, "");
    let index = order.index;
    assert_eq!(index, LogIndex(100));
    let mut sections: Vec<Section> = Vec::new();
    let mut turns = 0;
    let last = written(&order);
    sections.extend(order.rest.into_sections());
    while let Copied::Some(section) = cluster.core.copy_checkpoint() {
        sections.extend(section);
        turns += 1;
        cluster.create(&writer, &format!("/new{turns}")).expect("operations go on");
        cluster.delete(&format!("/f{turns}"));
    }
    assert!(turns >= 100 / 7, "{turns}");
    assert!((1..=7).contains(&cluster.core.copied_in_turn_max()));
    cluster.core.checkpoint_done(last, cluster.now());
    let answers = cluster.answers();
    let reply = CheckpointReplyV1 { directory: "/nn".to_owned(), index, bytes: 1 };
    assert_eq!(
        answers.into_iter().map(|answer| answer.result).collect::<Vec<_>>(),
        [Ok(Reply::Checkpoint(reply))]
    );
    assert_eq!(cluster.stats().checkpoint, index);
    let mut restorer = Restorer::default();
    sections.iter().try_for_each(|section| restorer.section(section)).expect("good sections");
    assert_eq!(restorer.finish().expect("a namespace").digest(), expected);
}

#[test]
fn one_checkpoint_at_a_time_and_only_absolute_targets() {
    let mut cluster = Cluster::new(on_request());
    let operator = cluster.writer();
    let code = |answer: Answered| answer.expect_err("refused").code;
    assert_eq!(code(cluster.ask(&operator, request("relative/path"))), Code::InvalidArgument);
    let order = begun(&mut cluster, "/backup");
    assert_eq!(order.target.as_deref(), Some(std::path::Path::new("/backup")));
    assert_eq!(code(cluster.ask(&operator, request(""))), Code::Busy);
    let error = CheckpointError::Target { path: "/backup".into(), reason: "it is not empty".to_owned() };
    cluster.core.checkpoint_done(Err(error), cluster.now());
    assert_eq!(code(cluster.answers().remove(0).result), Code::InvalidArgument);
    assert_eq!(cluster.core.copy_checkpoint(), Copied::All, "what was begun is given up");
    assert_eq!(begun(&mut cluster, "").target, None);
}

#[test]
fn a_call_that_comes_again_waits_for_the_checkpoint_that_it_began() {
    let mut cluster = Cluster::new(on_request());
    let operator = cluster.writer();
    cluster.send(&operator, 77, request(""));
    let order = cluster.core.take_checkpoint().expect("begun");
    let again = cluster.writer();
    cluster.send(&again, 77, request(""));
    assert_eq!(cluster.answers().len(), 0);
    cluster.core.checkpoint_done(written(&order), cluster.now());
    let answers = cluster.answers();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].caller.connection, again.connection);
}

#[test]
fn records_bytes_and_time_begin_one_and_a_failure_waits() {
    let by = |records, log_bytes, interval_ms| Config {
        checkpoint_records: records,
        checkpoint_log_bytes: log_bytes,
        checkpoint_interval_ms: interval_ms,
        ..config()
    };
    for config in [by(3, u64::MAX, u64::MAX), by(u64::MAX, 3 * 4096, u64::MAX), by(u64::MAX, u64::MAX, 5000)]
    {
        let mut cluster = Cluster::new(config);
        let writer = cluster.writer();
        cluster.pass(4000);
        assert!(cluster.core.take_checkpoint().is_none());
        for file in 0..3 {
            assert!(cluster.core.take_checkpoint().is_none());
            cluster.create(&writer, &format!("/{file}")).expect("created");
            cluster.pass(100);
        }
        cluster.pass(1000);
        let order = cluster.core.take_checkpoint().expect("due");
        let io = || CheckpointError::Io {
            action: "write",
            path: "/nn".into(),
            source: std::io::ErrorKind::Other.into(),
        };
        cluster.core.checkpoint_done(Err(io()), cluster.now());
        cluster.pass(59_000);
        assert!(cluster.core.take_checkpoint().is_none(), "not at once again");
        cluster.pass(2000);
        let again = cluster.core.take_checkpoint().expect("tried again");
        assert_eq!(again.index, order.index);
        cluster.core.checkpoint_done(written(&again), cluster.now());
        cluster.pass(100_000);
        assert!(cluster.core.take_checkpoint().is_none(), "nothing has changed");
    }
}
