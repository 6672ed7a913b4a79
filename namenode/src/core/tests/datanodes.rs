//! Datanodes that come, go, fall silent, or are not who they say; where blocks are placed among them.

use ringfs_proto::Code;
use ringfs_proto::ids::DatanodeId;
use ringfs_proto::limits::PIPELINE_NODES_MAX;
use ringfs_proto::meta::membership::VolumeStatusV1;
use ringfs_proto::meta::namespace::{AddBlockRequestV1, CreateRequestV1, LocatedBlockV1};

use super::cluster::*;
use crate::calls::{Reply, Request};
use crate::config::Config;

fn pipeline(located: &LocatedBlockV1) -> Vec<DatanodeId> {
    located.nodes.iter().map(|node| node.datanode).collect()
}

#[test]
fn a_block_goes_to_distinct_datanodes() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 5);
    let writer = cluster.writer();
    for number in 0..20 {
        let inode = cluster.create(&writer, &format!("/f{number}")).expect("created");
        let mut chosen = pipeline(&cluster.add_block(&writer, inode, None).expect("added"));
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 3);
        assert!(chosen.iter().all(|id| ids(&nodes).contains(id)));
    }
}

#[test]
fn the_writers_own_datanode_comes_first() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 5);
    let writer = cluster.caller(200, nodes[3].caller.address);
    for number in 0..10 {
        let inode = cluster.create(&writer, &format!("/f{number}")).expect("created");
        let located = cluster.add_block(&writer, inode, None).expect("added");
        assert_eq!(pipeline(&located)[0], nodes[3].id);
    }
}

#[test]
fn excluded_silent_full_and_failed_datanodes_are_avoided() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 5);
    nodes[1].volumes[0].remaining_bytes = 1000;
    nodes[2].volumes[0].is_failed = true;
    cluster.core.disconnected(nodes[3].caller.connection);
    for at in [0, 1, 2, 4] {
        cluster.heartbeat(&nodes[at]).expect("heard");
    }
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    let excluded = vec![nodes[0].id];
    let request = Request::AddBlock(AddBlockRequestV1 { inode, previous: None, excluded });
    let Ok(Reply::AddBlock(reply)) = cluster.ask(&writer, request) else { panic!("added") };
    assert_eq!(pipeline(&reply.located), [nodes[4].id]);
}

#[test]
fn no_room_names_what_is_wrong() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    for node in &mut nodes {
        node.volumes[0].remaining_bytes = 1000;
    }
    nodes.iter().for_each(|node| assert!(cluster.heartbeat(node).is_ok()));
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/dir/a").expect("created");
    let error = cluster.ask(&writer, add_block(inode, None)).expect_err("full");
    assert_eq!(error.code, Code::NoRoom);
    assert!(error.message.contains("/dir/a") && error.message.contains("2 live"), "{}", error.message);
}

#[test]
fn while_datanodes_are_silent_nobody_is_told_that_there_is_no_room() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 2);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    nodes.iter().for_each(|node| cluster.core.disconnected(node.caller.connection));
    assert_eq!(cluster.add_block(&writer, inode, None), Err(Code::Busy), "they may be back in a moment");
    // A writer that excludes some itself decides itself what to do next.
    let request = AddBlockRequestV1 { inode, previous: None, excluded: vec![nodes[0].id] };
    let error = cluster.ask(&writer, Request::AddBlock(request)).expect_err("nobody");
    assert_eq!(error.code, Code::NoRoom);
}

#[test]
fn a_cluster_without_datanodes_has_no_room_once_all_that_live_would_have_registered() {
    let (mut cluster, _) = Cluster::with_nodes(config(), 0);
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    assert_eq!(cluster.add_block(&writer, inode, None), Err(Code::Busy));
    cluster.pass(config().datanode_dead_ms);
    assert_eq!(cluster.add_block(&writer, inode, None), Err(Code::NoRoom));
}

#[test]
fn a_refused_placement_promises_nothing() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(Config { replication_min: 2, ..config() }, 1);
    nodes[0].volumes[0].remaining_bytes = 3 << 29;
    cluster.heartbeat(&nodes[0]).expect("heard");
    let writer = cluster.writer();
    let inode = cluster.create(&writer, "/a").expect("created");
    // One datanode is too few for two replicas; the room on it stays free for a file that wants one.
    assert_eq!(cluster.add_block(&writer, inode, None), Err(Code::NoRoom));
    let single = CreateRequestV1 { replication: 1, ..create("/b") };
    let Ok(Reply::Create(reply)) = cluster.ask(&writer, Request::Create(single)) else { panic!("created") };
    assert!(cluster.add_block(&writer, reply.status.inode, None).is_ok());
}

#[test]
fn a_repeated_add_block_promises_no_more_room() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    nodes[0].volumes[0].remaining_bytes = 5 << 29;
    cluster.heartbeat(&nodes[0]).expect("heard");
    let writer = cluster.writer();
    let (first, second) = (cluster.create(&writer, "/a"), cluster.create(&writer, "/b"));
    let (first, second) = (first.expect("created"), second.expect("created"));
    let located = cluster.add_block(&writer, first, None).expect("added");
    let again = cluster.add_block(&writer, first, None).expect("the same again");
    assert_eq!((again.block, pipeline(&again)), (located.block, pipeline(&located)));
    // Room for two blocks and a half: one is promised, not two.
    assert!(cluster.add_block(&writer, second, None).is_ok());
}

#[test]
fn a_pipeline_is_never_longer_than_a_datanode_takes() {
    let (mut cluster, _nodes) = Cluster::with_nodes(config(), PIPELINE_NODES_MAX as u8 + 4);
    let writer = cluster.writer();
    let many = CreateRequestV1 { replication: 20, ..create("/a") };
    let Ok(Reply::Create(reply)) = cluster.ask(&writer, Request::Create(many)) else { panic!("created") };
    let located = cluster.add_block(&writer, reply.status.inode, None).expect("added");
    assert_eq!(located.nodes.len(), PIPELINE_NODES_MAX);
}

#[test]
fn a_silent_datanode_is_stale_then_lost_and_its_replicas_do_not_count() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    cluster.write("/a", &mut nodes);
    cluster.pass(3000);
    cluster.heartbeat(&nodes[1]).expect("heard");
    let located = cluster.located("/a");
    let late: Vec<_> = located.nodes.iter().map(|node| (node.datanode, node.is_stale)).collect();
    assert_eq!(late, [(nodes[1].id, false), (nodes[0].id, true)], "the live one is tried first");
    cluster.pass(15_000);
    cluster.heartbeat(&nodes[1]).expect("heard");
    cluster.pass(12_000);
    assert_eq!(cluster.readers_go_to("/a"), [nodes[1].id]);
    let stats = cluster.stats();
    assert_eq!((stats.datanodes_dead, stats.under_replicated_blocks), (1, 1));
}

#[test]
fn a_lost_datanode_that_wakes_up_must_join_again() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let block = cluster.write("/a", &mut nodes);
    // Stopped for longer than patience lasts, with its connection open.
    cluster.pass(30_000);
    assert_eq!(cluster.readers_go_to("/a"), []);
    assert_eq!(cluster.heartbeat(&nodes[0]).expect_err("fenced").code, Code::StaleEpoch);
    let increment = cluster.increment(&mut nodes[0], &[]);
    assert_eq!(increment.expect_err("fenced").code, Code::StaleEpoch);
    let mut again = cluster.register(1).expect("joined again");
    cluster.report(&mut again, &[finalized(block)]).expect("reported");
    assert_eq!(cluster.readers_go_to("/a"), [again.id]);
}

#[test]
fn an_older_connection_of_a_datanode_is_fenced() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 1);
    let again = cluster.register(1).expect("the same process joins again");
    assert!(again.epoch > nodes[0].epoch);
    assert_eq!(cluster.heartbeat(&nodes[0]).expect_err("old").code, Code::StaleEpoch);
    cluster.core.disconnected(nodes[0].caller.connection);
    assert!(cluster.heartbeat(&again).is_ok());
    assert_eq!(cluster.stats().datanodes_live, 1);
}

#[test]
fn a_datanode_that_never_registered_is_told_so() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 1);
    let mut stranger = nodes[0].clone();
    stranger.epoch = ringfs_proto::ids::RegistrationEpoch(77);
    assert_eq!(cluster.heartbeat(&stranger).expect_err("unknown").code, Code::NotRegistered);
}

#[test]
fn a_copied_datanode_or_volume_is_refused() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 2);
    let copied_node = cluster.register_as(1, vec![volume(1)], 999).err().expect("refused");
    assert_eq!(copied_node.code, Code::DuplicateId);
    let copied_volume = cluster.register_as(3, vec![volume(3), volume(2)], 3).err().expect("refused");
    assert_eq!(copied_volume.code, Code::DuplicateId);
    // Once the old process is gone, a new one takes over.
    cluster.core.disconnected(nodes[0].caller.connection);
    assert!(cluster.register_as(1, vec![volume(1)], 999).is_ok());
}

#[test]
fn a_volume_that_moved_belongs_to_its_new_datanode_alone() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
    let block = cluster.write("/a", &mut nodes);
    cluster.core.disconnected(nodes[0].caller.connection);
    let mut heir = cluster.register_as(2, vec![volume(1)], 2).expect("joined");
    cluster.report(&mut heir, &[finalized(block)]).expect("reported");
    for _ in 0..4 {
        cluster.pass(10_000);
        cluster.heartbeat(&heir).expect("heard");
    }
    assert_eq!(cluster.stats().datanodes_dead, 1);
    assert_eq!(cluster.readers_go_to("/a"), [heir.id]);
}

#[test]
fn replicas_of_a_volume_that_is_gone_or_failed_do_not_count() {
    let two = || -> Vec<VolumeStatusV1> { vec![volume(1), volume(101)] };
    let mut cluster = Cluster::new(config());
    let mut node = cluster.register_as(1, two(), 1).expect("joined");
    cluster.write("/a", std::slice::from_mut(&mut node));
    node.volumes[0].is_failed = true;
    cluster.heartbeat(&node).expect("heard");
    assert_eq!(cluster.readers_go_to("/a"), []);

    let mut node = cluster.register_as(1, two(), 1).expect("joined again");
    cluster.write("/b", std::slice::from_mut(&mut node));
    cluster.register_as(1, vec![volume(101)], 1).expect("joined without it");
    assert_eq!(cluster.readers_go_to("/b"), []);
}

#[test]
fn strangers_are_refused() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 1);
    let Node { id, caller, .. } = &nodes[0];
    let request = ringfs_proto::meta::membership::RegisterRequestV1 {
        datanode: *id,
        cluster: CLUSTER,
        nonce: [0; 16],
        proof: [0; 32],
        host: String::new(),
        port: 1,
        http_port: 0,
        software: String::new(),
        pid: 1,
        volumes: vec![volume(1)],
    };
    let wrong_cluster = ringfs_proto::meta::membership::RegisterRequestV1 {
        cluster: ringfs_proto::ids::ClusterId([8; 16]),
        ..request.clone()
    };
    let code = |answer: Answered| answer.expect_err("refused").code;
    assert_eq!(code(cluster.ask(caller, Request::Register(request))), Code::PermissionDenied);
    assert_eq!(code(cluster.ask(caller, Request::Register(wrong_cluster))), Code::WrongCluster);
}
