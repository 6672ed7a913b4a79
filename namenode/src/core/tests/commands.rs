//! Commands reach their datanode with its next heartbeat, once; a datanode that is lost gets none.

use ringfs_proto::meta::membership::CommandV1;

use super::cluster::*;
use crate::blocks::StorageIndex;
use crate::calls::Reply;

const FIRST: StorageIndex = 0;

fn waits(answer: Answered) -> bool {
    match answer {
        Ok(Reply::BlockReport(reply) | Reply::IncrementalReport(reply)) => reply.has_commands,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_waits_for_the_next_heartbeat_which_reports_ask_for() {
    let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 2);
    let command = CommandV1::Report(nodes[0].storage);
    assert!(!waits(cluster.increment(&mut nodes[0], &[])));
    assert!(cluster.core.nodes.command(FIRST, command.clone()));
    assert!(waits(cluster.increment(&mut nodes[0], &[])));
    assert!(!waits(cluster.increment(&mut nodes[1], &[])));
    assert_eq!(cluster.heartbeat(&nodes[1]), Ok(Vec::new()));
    assert_eq!(cluster.heartbeat(&nodes[0]), Ok(vec![command]));
    assert_eq!(cluster.heartbeat(&nodes[0]), Ok(Vec::new()));
}

#[test]
fn a_datanode_that_was_lost_or_came_back_gets_no_old_command() {
    let (mut cluster, nodes) = Cluster::with_nodes(config(), 1);
    let command = CommandV1::Report(nodes[0].storage);
    assert!(cluster.core.nodes.command(FIRST, command.clone()));
    let node = cluster.join(1);
    assert_eq!(cluster.heartbeat(&node), Ok(Vec::new()));
    assert!(cluster.core.nodes.command(FIRST, command.clone()));
    cluster.core.disconnected(node.caller.connection);
    assert!(!cluster.core.nodes.command(FIRST, command.clone()), "nobody is there to take it");
    cluster.pass(config().datanode_dead_ms);
    let node = cluster.join(1);
    assert_eq!(cluster.heartbeat(&node), Ok(Vec::new()));
    assert!(cluster.core.nodes.command(FIRST, command));
}
