//! Where replicas go: distinct datanodes, spread over racks, the emptier of two by chance.
//!
//! The rule of racks is HDFS's (`BlockPlacementPolicyDefault`): the first replica on the writer's host, the second on
//! another rack, the third on the rack of the second, more anywhere, but not too many on one rack.

use std::net::IpAddr;

use ringfs_proto::ids::DatanodeId;
use ringfs_proto::limits::PIPELINE_NODES_MAX;

use super::racks::RackIndex;
use super::{Datanode, Datanodes};
use crate::blocks::StorageIndex;

/// A datanode is avoided when it writes more than this many times the average (HDFS: `considerLoad.factor`)...
const LOAD_FACTOR: u64 = 2;
/// ...and this many blocks more than that.
const LOAD_SLACK: u64 = 4;

/// What a new block needs.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// Replicas wanted.
    pub replicas: usize,
    /// Bytes that each must have room for.
    pub bytes: u64,
    /// Where the writer is.
    pub writer: IpAddr,
    /// Datanodes that failed the writer.
    pub excluded: &'a [DatanodeId],
}

/// What a block that has replicas needs more of.
#[derive(Debug, Clone, Copy)]
pub struct CopyPlacement<'a> {
    /// Copies wanted.
    pub copies: usize,
    /// Bytes of each.
    pub bytes: u64,
    /// Large copies that a datanode receives at once.
    pub streams: u32,
    /// Where it is, or will be.
    pub existing: &'a [StorageIndex],
    /// Storages of datanodes that must not get it.
    pub avoided: &'a [StorageIndex],
    /// Whether only another rack is of use.
    pub must_spread: bool,
}

impl Datanodes {
    /// Chooses storages in the order of the pipeline: as many as wanted, or as many as there are, or as a pipeline takes.
    pub fn place(&mut self, placement: &Placement<'_>) -> Vec<StorageIndex> {
        let is_candidate = |node: &Datanode| !placement.excluded.contains(&node.id);
        let mut candidates = self.candidates(placement.bytes, is_candidate);
        let mut chosen = Vec::new();
        let writer = placement.writer.to_string();
        if let Some(at) = self.pick_local(&candidates, &writer) {
            chosen.push(candidates.swap_remove(at));
        }
        let wanted = placement.replicas.min(PIPELINE_NODES_MAX);
        while chosen.len() < wanted {
            let Some(next) = self.pick(&mut candidates, &chosen, wanted) else { break };
            chosen.push(next);
        }
        for storage in &chosen {
            let node = self.storages[*storage as usize].datanode;
            self.nodes[node].promised_bytes += placement.bytes;
            self.nodes[node].placed += 1;
        }
        chosen
    }

    /// Chooses where copies of a block go; fewer than wanted when there are not so many datanodes that can take one now.
    pub fn place_copies(&mut self, placement: &CopyPlacement<'_>) -> Vec<StorageIndex> {
        let CopyPlacement { copies, bytes, streams, existing, avoided, must_spread } = *placement;
        let taken: Vec<usize> =
            existing.iter().chain(avoided).map(|storage| self.node_of(*storage)).collect();
        let mut candidates = self.candidates(bytes, |node| !taken.contains(&node.index));
        candidates.retain(|storage| self.can_receive(*storage, bytes, streams));
        if must_spread {
            let racks: Vec<RackIndex> = existing.iter().map(|storage| self.rack_of(*storage)).collect();
            candidates.retain(|storage| !racks.contains(&self.rack_of(*storage)));
        }
        let mut chosen = existing.to_vec();
        let wanted = existing.len() + copies.min(PIPELINE_NODES_MAX);
        while chosen.len() < wanted {
            let Some(next) = self.pick(&mut candidates, &chosen, wanted) else { break };
            chosen.push(next);
        }
        chosen.split_off(existing.len())
    }

    /// What was promised to a block on these storages is free again.
    pub fn release(&mut self, storages: &[StorageIndex], bytes: u64) {
        for storage in storages {
            let node = &mut self.nodes[self.storages[*storage as usize].datanode];
            node.promised_bytes = node.promised_bytes.saturating_sub(bytes);
            node.placed = node.placed.saturating_sub(1);
        }
    }

    /// The roomiest storage of each datanode that may take the block.
    fn candidates(&self, bytes: u64, is_candidate: impl Fn(&Datanode) -> bool) -> Vec<StorageIndex> {
        let nodes = self.nodes.iter().filter(|node| node.is_usable() && is_candidate(node));
        let roomiest =
            nodes.filter_map(|node| node.storages.iter().copied().max_by_key(|storage| self.room(*storage)));
        roomiest.filter(|storage| self.room(*storage) >= bytes).collect()
    }

    /// A storage on the writer's host. Where several datanodes share the host there is none nearer than the others.
    fn pick_local(&self, candidates: &[StorageIndex], writer: &str) -> Option<usize> {
        let is_local =
            |storage: &StorageIndex| self.nodes[self.storages[*storage as usize].datanode].host == writer;
        let mut local =
            candidates.iter().enumerate().filter(|(_, storage)| is_local(storage)).map(|(at, _)| at);
        match (local.next(), local.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Takes the next replica's place from the candidates, by the rule of racks as far as it can be kept.
    fn pick(
        &mut self,
        candidates: &mut Vec<StorageIndex>,
        chosen: &[StorageIndex],
        wanted: usize,
    ) -> Option<StorageIndex> {
        let all: Vec<usize> = (0..candidates.len()).collect();
        let preferred = all.iter().copied().filter(|at| self.suits(candidates[*at], chosen, wanted));
        let preferred: Vec<usize> = preferred.collect();
        let places = if preferred.is_empty() { all } else { preferred };
        let places = self.without_busy(candidates, places);
        if places.is_empty() {
            return None;
        }
        let (first, second) = (self.next_random() as usize, self.next_random() as usize);
        let (first, second) = (places[first % places.len()], places[second % places.len()]);
        let at = if self.room(candidates[second]) > self.room(candidates[first]) { second } else { first };
        Some(candidates.swap_remove(at))
    }

    /// Whether a storage keeps to the rule of racks as the next replica behind `chosen`.
    fn suits(&self, storage: StorageIndex, chosen: &[StorageIndex], wanted: usize) -> bool {
        if self.racks_in_use() < 2 {
            return true;
        }
        let rack = self.rack_of(storage);
        let racks: Vec<RackIndex> = chosen.iter().map(|other| self.rack_of(*other)).collect();
        match racks[..] {
            [] => true,
            [first] => rack != first,
            [first, second] if first == second => rack != first,
            [_, second] => rack == second,
            _ => {
                // HDFS: BlockPlacementPolicyDefault.getMaxNodesPerRack.
                let per_rack_max = (wanted - 1) / self.racks_in_use() + 2;
                racks.iter().filter(|other| **other == rack).count() < per_rack_max
            }
        }
    }

    /// Leaves out datanodes that write far more than the others, unless there are no others.
    fn without_busy(&self, candidates: &[StorageIndex], places: Vec<usize>) -> Vec<usize> {
        let writes = |at: usize| self.nodes[self.node_of(candidates[at])].writes();
        let total: u64 = places.iter().map(|at| writes(*at)).sum();
        let limit = LOAD_FACTOR * total / (places.len() as u64).max(1) + LOAD_SLACK;
        let idle: Vec<usize> = places.iter().copied().filter(|at| writes(*at) <= limit).collect();
        if idle.is_empty() { places } else { idle }
    }

    /// Bytes that can still be promised on a storage.
    pub(super) fn room(&self, storage: StorageIndex) -> u64 {
        let storage = &self.storages[storage as usize];
        if storage.status.is_failed {
            return 0;
        }
        storage.status.remaining_bytes.saturating_sub(self.nodes[storage.datanode].promised_bytes())
    }
}
