//! Replicas are spread over racks, when they are written, copied and deleted, and when the topology is learnt late.

use std::collections::BTreeSet;

use ringfs_proto::ids::BlockId;
use ringfs_proto::meta::admin::DatanodeReportRequestV1;

use super::super::cluster::*;
use super::super::fleet::Fleet;
use super::DEAD_BEATS;
use crate::calls::{Reply, Request};
use crate::topology::Racks;

/// Datanodes by position, three racks of two.
const RACKS: [&str; 6] = ["/a", "/a", "/b", "/b", "/c", "/c"];

fn learn(fleet: &mut Fleet, racks: &[&str], is_whole: bool) {
    let racks = racks.iter().enumerate().map(|(at, rack)| (format!("10.0.0.{}", at + 1), (*rack).to_owned()));
    fleet.cluster.core.set_racks(&Racks { racks: racks.collect(), is_whole });
}

fn racked() -> Fleet {
    let mut fleet = Fleet::new(config(), 6);
    learn(&mut fleet, &RACKS, true);
    fleet
}

fn racks_of(fleet: &Fleet, block: BlockId) -> BTreeSet<&'static str> {
    fleet.live_holders(block).into_iter().map(|at| RACKS[at]).collect()
}

#[test]
fn the_second_replica_is_on_another_rack_and_the_third_beside_it() {
    let mut fleet = racked();
    let own = fleet.peers[0].node.caller.address;
    let writer = fleet.cluster.caller(200, own);
    for number in 0..50 {
        let inode = fleet.cluster.create(&writer, &format!("/{number}")).expect("created");
        let located = fleet.cluster.add_block(&writer, inode, None).expect("added");
        let at = |node: &ringfs_proto::meta::namespace::NodeV1| {
            fleet.peers.iter().position(|peer| peer.node.id == node.datanode).expect("a peer")
        };
        let [first, second, third] = located.nodes[..].iter().map(at).collect::<Vec<_>>()[..] else {
            panic!("three replicas")
        };
        assert_eq!(first, 0, "the writer's own");
        assert_ne!(RACKS[second], RACKS[first]);
        assert_eq!(RACKS[third], RACKS[second]);
    }
}

#[test]
fn copies_keep_replicas_on_two_racks() {
    let mut fleet = racked();
    let blocks: Vec<_> = (0..30).map(|number| fleet.write(&format!("/{number}"), 3).block).collect();
    fleet.kill(0);
    fleet.beats(DEAD_BEATS + 3);
    for block in &blocks {
        assert_eq!(fleet.live_holders(*block).len(), 3);
        assert!(racks_of(&fleet, *block).len() >= 2);
    }
}

#[test]
fn deletion_leaves_replicas_on_two_racks() {
    let mut fleet = racked();
    for number in 0..30 {
        let block = fleet.write(&format!("/{number}"), 3).block;
        fleet.set_replication(&format!("/{number}"), 2);
        fleet.beats(2);
        assert_eq!((fleet.live_holders(block).len(), racks_of(&fleet, block).len()), (2, 2));
    }
}

#[test]
fn what_was_written_before_the_racks_were_known_is_spread() {
    let mut fleet = Fleet::new(config(), 6);
    let blocks: Vec<_> = (0..30).map(|number| fleet.write(&format!("/{number}"), 2).block).collect();
    let on_one_rack = blocks.iter().filter(|block| racks_of(&fleet, **block).len() == 1).count();
    assert!(on_one_rack > 0, "by chance");
    learn(&mut fleet, &RACKS, false);
    fleet.beats(5);
    for block in &blocks {
        assert_eq!((fleet.live_holders(*block).len(), racks_of(&fleet, *block).len()), (2, 2));
    }
}

#[test]
fn a_datanode_is_on_the_rack_of_its_host_or_the_default_one() {
    let mut fleet = Fleet::new(config(), 2);
    assert_eq!(fleet.cluster.core.hosts_without_rack(), ["10.0.0.1", "10.0.0.2"]);
    learn(&mut fleet, &["/a"], false);
    assert_eq!(fleet.cluster.core.hosts_without_rack(), ["10.0.0.2"]);
    let racks = |fleet: &mut Fleet| -> Vec<String> {
        let reader = fleet.cluster.writer();
        let request = Request::DatanodeReport(DatanodeReportRequestV1 { flags: 0 });
        let Ok(Reply::DatanodeReport(reply)) = fleet.cluster.ask(&reader, request) else {
            panic!("no report")
        };
        reply.datanodes.into_iter().map(|info| info.rack).collect()
    };
    assert_eq!(racks(&mut fleet), ["/a", "/default-rack"]);
    // One that comes later is on the rack that was named for it; a whole table forgets what it does not name.
    fleet
        .cluster
        .core
        .set_racks(&Racks { racks: vec![("10.0.0.3".to_owned(), "/b".to_owned())], is_whole: true });
    fleet.add(3);
    assert_eq!(racks(&mut fleet), ["/default-rack", "/default-rack", "/b"]);
}
