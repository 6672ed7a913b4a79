//! Where datanodes are: racks, as the topology names them. HDFS: `NetworkTopology`.

use std::collections::BTreeMap;

use super::Datanodes;
use crate::blocks::StorageIndex;

/// Where a datanode is when no topology says otherwise (HDFS: `NetworkTopology.DEFAULT_RACK`).
pub const DEFAULT_RACK: &str = "/default-rack";
/// Racks that are told apart; datanodes of further ones count as on the default rack.
const RACKS_MAX: usize = 4096;

/// Number of a rack; 0 is the default rack.
pub type RackIndex = u16;

/// The racks that were ever named, and the hosts that are on them.
#[derive(Debug)]
pub(super) struct Racks {
    names: Vec<String>,
    by_host: BTreeMap<String, RackIndex>,
}

impl Default for Racks {
    fn default() -> Self {
        Self { names: vec![DEFAULT_RACK.to_owned()], by_host: BTreeMap::new() }
    }
}

impl Racks {
    pub(super) fn name(&self, rack: RackIndex) -> &str {
        self.names.get(usize::from(rack)).map_or(DEFAULT_RACK, String::as_str)
    }

    pub(super) fn of_host(&self, host: &str) -> RackIndex {
        self.by_host.get(host).copied().unwrap_or(0)
    }

    fn number(&mut self, name: &str) -> RackIndex {
        if let Some(at) = self.names.iter().position(|other| other == name) {
            return at as RackIndex;
        }
        if self.names.len() >= RACKS_MAX {
            tracing::warn!(
                rack = name,
                racks = RACKS_MAX,
                "too many racks: its datanodes count as on the default rack"
            );
            return 0;
        }
        self.names.push(name.to_owned());
        (self.names.len() - 1) as RackIndex
    }
}

impl Datanodes {
    /// Hosts are on these racks. With `is_whole`, all others are on the default rack. True when a datanode is elsewhere
    /// than it was.
    pub fn set_racks(&mut self, racks: &[(String, String)], is_whole: bool) -> bool {
        if is_whole {
            self.racks.by_host.clear();
        }
        for (host, rack) in racks {
            let number = self.racks.number(rack);
            self.racks.by_host.insert(host.clone(), number);
        }
        let mut is_changed = false;
        for node in &mut self.nodes {
            let rack = self.racks.of_host(&node.host);
            if rack != node.rack {
                tracing::info!(datanode = %node.id, host = node.host, rack = self.racks.name(rack), "datanode is on another rack");
                (node.rack, is_changed) = (rack, true);
            }
        }
        self.count_racks();
        is_changed
    }

    /// Hosts of datanodes whose rack was never told.
    pub fn hosts_without_rack(&self) -> Vec<String> {
        let unknown = |host: &&String| !self.racks.by_host.contains_key(*host);
        let mut hosts: Vec<String> =
            self.nodes.iter().map(|node| &node.host).filter(unknown).cloned().collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// The rack of a storage.
    pub fn rack_of(&self, storage: StorageIndex) -> RackIndex {
        self.nodes[self.node_of(storage)].rack
    }

    /// Racks with datanodes that are not lost.
    pub fn racks_in_use(&self) -> usize {
        self.racks_in_use
    }

    /// Whether replicas are on as many racks as they should be: two, if there are two (HDFS:
    /// `BlockPlacementStatusDefault`).
    pub fn are_well_spread(&self, storages: &[StorageIndex], wanted: usize) -> bool {
        if self.racks_in_use < 2 || wanted < 2 {
            return true;
        }
        let mut racks = storages.iter().map(|storage| self.rack_of(*storage));
        let first = racks.next();
        racks.any(|rack| Some(rack) != first)
    }

    /// Counts the racks again after datanodes have come, gone or moved. True when there are more or fewer than two now
    /// and were not before: then every block has to be looked at.
    pub fn count_racks(&mut self) -> bool {
        let is_there = |node: &&super::Datanode| node.state != ringfs_proto::meta::admin::DatanodeState::Dead;
        let mut racks: Vec<RackIndex> = self.nodes.iter().filter(is_there).map(|node| node.rack).collect();
        racks.sort_unstable();
        racks.dedup();
        let had_several = self.racks_in_use > 1;
        self.racks_in_use = racks.len();
        had_several != (self.racks_in_use > 1)
    }
}
