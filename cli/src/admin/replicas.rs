//! `ringfs admin topology` and `copy-now`: where replicas may go, and whether they are made.

use std::collections::BTreeMap;

use ringfs_sdk::{Client, FsStats};
use serde_json::{Value, json};

use super::{connect, state_name};
use crate::output::outln;

/// Datanodes by rack.
pub(super) fn topology(fs: Option<&str>, is_json: bool) -> Result<(), String> {
    let client = connect(fs).map_err(|error| error.to_string())?;
    let datanodes = client.datanode_report().map_err(|error| error.to_string())?;
    let mut by_rack: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
    for node in &datanodes {
        let row = (format!("{}:{}", node.host, node.port), state_name(node.state));
        by_rack.entry(&node.rack).or_default().push(row);
    }
    by_rack.values_mut().for_each(|nodes| nodes.sort_unstable());
    if is_json {
        let nodes = |nodes: &[(String, &str)]| -> Vec<Value> {
            nodes.iter().map(|(address, state)| json!({ "address": address, "state": state })).collect()
        };
        let racks: Vec<Value> =
            by_rack.iter().map(|(rack, all)| json!({ "rack": rack, "datanodes": nodes(all) })).collect();
        outln!("{:#}", json!({ "racks": racks }));
        return Ok(());
    }
    for (rack, nodes) in by_rack {
        outln!("{rack}");
        for (address, state) in nodes {
            outln!("  {address:<22} {state}");
        }
    }
    Ok(())
}

/// Ends the wait for datanodes that vanished together.
pub(super) fn copy_now(fs: Option<&str>) -> Result<(), String> {
    let client = connect(fs).map_err(|error| error.to_string())?;
    match client.copying_waits(false).map_err(|error| error.to_string())?.as_str() {
        "" => outln!("nothing waits: blocks are copied as needed"),
        waits => {
            outln!("{waits}");
            client.copying_waits(true).map_err(|error| error.to_string())?;
            outln!("copying goes on now");
        }
    }
    Ok(())
}

/// The lines of the report about copies.
pub(super) fn report(client: &Client, stats: &FsStats) -> Result<(), String> {
    let waits = client.copying_waits(false).map_err(|error| error.to_string())?;
    outln!(
        "  replicas     {} blocks are being copied, {} replicas are too many or bad and will go",
        stats.pending_replication_blocks,
        stats.excess_replicas
    );
    if !waits.is_empty() {
        outln!("  COPYING WAITS: {waits}");
    }
    Ok(())
}
