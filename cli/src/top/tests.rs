//! What is made of two samples, and how it looks.

use std::collections::BTreeMap;
use std::time::Duration;

use ringfs_proto::ids::{ClusterId, DatanodeId, LogIndex, StorageId};
use ringfs_proto::meta::inspect::{OperationActivityV1, UserActivityV1};
use ringfs_proto::ops::Op;
use ringfs_sdk::{Activity, DatanodeInfo, DatanodeState, FsStats, VolumeStatus};

use super::draw::History;
use super::plain;
use super::sample::{NodeSample, Sample};
use super::view::View;

fn stats() -> FsStats {
    FsStats {
        cluster: ClusterId([1; 16]),
        capacity_bytes: 4 << 40,
        used_bytes: 1 << 40,
        remaining_bytes: 3 << 40,
        files: 1_000_000,
        directories: 10,
        blocks: 1_200_000,
        open_files: 7,
        under_replicated_blocks: 12,
        missing_blocks: 0,
        corrupt_blocks: 0,
        pending_deletion_blocks: 0,
        datanodes_live: 3,
        datanodes_stale: 0,
        datanodes_dead: 1,
        safe_mode: String::new(),
        applied: LogIndex(9),
        namespace_bytes: 1,
        pending_replication_blocks: 5,
        excess_replicas: 0,
        checkpoint: LogIndex(0),
        wal_dirs_failed: 0,
    }
}

fn node(number: u8, state: DatanodeState, read_bytes: f64, active: f64) -> NodeSample {
    let volume = VolumeStatus {
        storage: StorageId([number; 16]),
        path: "/disk1".to_owned(),
        capacity_bytes: 100,
        used_bytes: 25,
        remaining_bytes: 75,
        reserved_bytes: 0,
        replicas: 1,
        is_failed: false,
        scrubbed_s: 0,
        bad_replicas: 0,
    };
    let info = DatanodeInfo {
        datanode: DatanodeId([number; 16]),
        host: format!("10.0.0.{number}"),
        port: 9866,
        http_port: 9864,
        state,
        last_heartbeat_ms: if state == DatanodeState::Live { 300 } else { 95_000 },
        software: "test".to_owned(),
        volumes: vec![volume],
        blocks: 1,
        rack: "/rack".to_owned(),
    };
    let metrics = BTreeMap::from([
        ("ringfs_datanode_read_bytes_total".to_owned(), read_bytes),
        ("ringfs_datanode_reads_active".to_owned(), active),
    ]);
    NodeSample { info, metrics: (state == DatanodeState::Live).then_some(metrics) }
}

fn sample(at_s: u64, factor: u64) -> Sample {
    let operation = |op: Op, calls, errors| OperationActivityV1 { op: op as u16, calls, errors };
    let user = |user: &str, calls, refused| UserActivityV1 {
        user: user.to_owned(),
        connections: 4,
        calls,
        refused,
        waited_us: calls * 20,
    };
    let bytes = |per_s: u64| (per_s * factor) as f64;
    Sample {
        at: Duration::from_secs(at_s),
        stats: stats(),
        activity: Activity {
            uptime_ms: 7_200_000 + at_s * 1000,
            operations: vec![
                operation(Op::Stat, 1000 + 500 * factor, 3 * factor),
                operation(Op::GetBlockLocations, 8000 * factor, 0),
                operation(Op::Delete, 5, 0),
            ],
            users: vec![
                user("ann", 8400 * factor, 0),
                user("bob", 100 * factor, 40 * factor),
                user("idle", 9, 0),
            ],
        },
        nodes: Some(vec![
            node(1, DatanodeState::Live, bytes(400 << 20), 8.0),
            node(2, DatanodeState::Live, bytes(380 << 20), 8.0),
            node(3, DatanodeState::Live, bytes(10 << 20), 8.0),
            node(4, DatanodeState::Dead, 0.0, 0.0),
        ]),
    }
}

#[test]
fn rates_are_what_was_added_in_the_interval() {
    let view = View::between(&sample(10, 1), &sample(12, 3));
    let operations: Vec<(&str, f64)> =
        view.operations.iter().map(|one| (one.operation.as_str(), one.calls_per_s)).collect();
    assert_eq!(operations, [("GetBlockLocations", 8000.0), ("Stat", 500.0)], "nobody deleted");
    let users: Vec<(&str, f64, f64)> =
        view.users.iter().map(|one| (one.user.as_str(), one.calls_per_s, one.refused_per_s)).collect();
    assert_eq!(users, [("ann", 8400.0, 0.0), ("bob", 100.0, 40.0)], "idle asked nothing");
    assert_eq!(view.users[0].waited_us, 20.0);
    assert_eq!(view.read_bytes_per_s, f64::from(790 << 20));
}

#[test]
fn datanodes_in_trouble_come_first() {
    let view = View::between(&sample(10, 1), &sample(12, 3));
    let nodes: Vec<(&str, &str)> = view
        .datanodes
        .as_ref()
        .expect("a superuser")
        .iter()
        .map(|node| (node.address.as_str(), node.trouble.as_str()))
        .collect();
    assert_eq!(
        nodes,
        [
            ("10.0.0.3:9866", "slow"),
            ("10.0.0.4:9866", "silent for 95 s"),
            ("10.0.0.1:9866", ""),
            ("10.0.0.2:9866", ""),
        ]
    );
}

#[test]
fn counters_that_begin_anew_give_no_absurd_rates() {
    let view = View::between(&sample(10, 3), &sample(12, 1));
    assert!(view.operations.iter().all(|one| one.calls_per_s <= 4000.0), "{:?}", view.operations);
    let unseen = Sample { nodes: None, ..sample(10, 1) };
    assert_eq!(View::between(&unseen, &sample(12, 3)).read_bytes_per_s, 0.0, "nothing is known of before");
}

#[test]
fn a_frame_shows_all_of_it() {
    let view = View::between(&sample(10, 1), &sample(12, 3));
    let mut history = History::default();
    (0..300).for_each(|_| history.add(&view));
    let text = plain("ringfs://nn:8020", &view, &history, (110, 40)).expect("drawn");
    for expected in [
        "RingFS ringfs://nn:8020   namenode up 2 hours   rates over 2.0 s",
        "1.00 TiB of 4.00 TiB used (25 %)   1000000 files, 7 open   1200000 blocks",
        "12 under-replicated   0 missing   0 corrupt   5 being copied",
        " read 790.00 MiB/s ",
        " 8500 calls/s ",
        "GetBlockLocations",
        " 4 datanodes, 2 in trouble ",
        "silent for 95 s",
        "10.0.0.1:9866",
    ] {
        assert!(text.contains(expected), "{expected} is in\n{text}");
    }
    let small = plain("ringfs://nn:8020", &view, &history, (20, 5)).expect("drawn in little room");
    assert!(small.lines().count() <= 5);
    let plain_user = View { datanodes: None, safe_mode: "because".to_owned(), ..view };
    let text = plain("ringfs://nn:8020", &plain_user, &history, (110, 40)).expect("drawn");
    assert!(text.contains("SAFE MODE, changes are refused: because"), "{text}");
    assert!(text.contains("Only superusers may ask for the datanodes."), "{text}");
}
