//! Where a new block goes: distinct datanodes, the writer's own first, the emptier of two by chance.

use std::net::IpAddr;

use ringfs_proto::ids::DatanodeId;
use ringfs_proto::limits::PIPELINE_NODES_MAX;
use ringfs_proto::meta::admin::DatanodeState;

use super::Datanodes;
use crate::blocks::StorageIndex;

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

impl Datanodes {
    /// Chooses storages in the order of the pipeline: as many as wanted, or as many as there are, or as a pipeline takes.
    pub fn place(&mut self, placement: &Placement<'_>) -> Vec<StorageIndex> {
        let mut candidates = self.candidates(placement);
        let mut chosen = Vec::new();
        let writer = placement.writer.to_string();
        if let Some(at) = self.pick_local(&candidates, &writer) {
            chosen.push(candidates.swap_remove(at));
        }
        let wanted = placement.replicas.min(PIPELINE_NODES_MAX);
        while chosen.len() < wanted && !candidates.is_empty() {
            let (first, second) = (self.next_random() as usize, self.next_random() as usize);
            let (first, second) = (first % candidates.len(), second % candidates.len());
            let at =
                if self.room(candidates[second]) > self.room(candidates[first]) { second } else { first };
            chosen.push(candidates.swap_remove(at));
        }
        for storage in &chosen {
            let node = self.storages[*storage as usize].datanode;
            self.nodes[node].promised_bytes += placement.bytes;
        }
        chosen
    }

    /// What was promised to a block on these storages is free again.
    pub fn release(&mut self, storages: &[StorageIndex], bytes: u64) {
        for storage in storages {
            let node = &mut self.nodes[self.storages[*storage as usize].datanode];
            node.promised_bytes = node.promised_bytes.saturating_sub(bytes);
        }
    }

    /// The roomiest storage of each datanode that may take the block.
    fn candidates(&self, placement: &Placement<'_>) -> Vec<StorageIndex> {
        let nodes = self.nodes.iter().filter(|node| {
            node.state == DatanodeState::Live
                && node.connection.is_some()
                && !placement.excluded.contains(&node.id)
        });
        let roomiest =
            nodes.filter_map(|node| node.storages.iter().copied().max_by_key(|storage| self.room(*storage)));
        roomiest.filter(|storage| self.room(*storage) >= placement.bytes).collect()
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

    fn room(&self, storage: StorageIndex) -> u64 {
        let storage = &self.storages[storage as usize];
        if storage.status.is_failed {
            return 0;
        }
        storage.status.remaining_bytes.saturating_sub(self.nodes[storage.datanode].promised_bytes)
    }
}
