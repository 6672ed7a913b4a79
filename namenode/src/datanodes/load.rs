//! What datanodes are busy with: new blocks, copies they send, copies they receive.

use ringfs_proto::meta::admin::DatanodeState;
use ringfs_proto::meta::data::PipelineNodeV1;

use super::{Datanode, Datanodes};
use crate::blocks::StorageIndex;

/// Bytes that one datanode may be copying beyond its streams: many small blocks go as one large one.
pub const COPY_BYTES_MAX: u64 = 64 << 20;
/// Copies that one datanode may have under way, however small.
pub const COPIES_MAX: u32 = 64;

/// Copies in one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    copies: u32,
    bytes: u64,
}

impl Load {
    fn add(&mut self, bytes: u64) {
        self.copies += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: u64) {
        self.copies = self.copies.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether one more copy fits: a stream is free, or it is small among small ones.
    fn has_room(self, bytes: u64, streams: u32) -> bool {
        self.copies < streams || (self.copies < COPIES_MAX && self.bytes + bytes <= COPY_BYTES_MAX)
    }
}

impl Datanode {
    /// Blocks that it writes, as it said and as it was told since, with copies that will come.
    pub(super) fn writes(&self) -> u64 {
        u64::from(self.writes_active) + u64::from(self.placed) + u64::from(self.receiving.copies)
    }

    /// Bytes that are on their way to it beyond what it knows.
    pub(super) fn promised_bytes(&self) -> u64 {
        self.promised_bytes + self.receiving.bytes
    }

    pub(super) fn is_usable(&self) -> bool {
        self.state == DatanodeState::Live && self.connection.is_some()
    }
}

impl Datanodes {
    /// The datanode of a storage.
    pub fn node_of(&self, storage: StorageIndex) -> usize {
        self.storages[storage as usize].datanode
    }

    /// The storages of a datanode.
    pub fn storages_of(&self, node: usize) -> &[StorageIndex] {
        &self.nodes[node].storages
    }

    /// On how many datanodes these storages are.
    pub fn distinct(&self, storages: &[StorageIndex]) -> usize {
        let is_first = |(at, storage): &(usize, &StorageIndex)| {
            !storages[..*at].iter().any(|other| self.node_of(*other) == self.node_of(**storage))
        };
        storages.iter().enumerate().filter(is_first).count()
    }

    /// Whether what is known of a storage is enough to delete replicas elsewhere: its datanode is heard, and it has been
    /// reported in full since it registered (HDFS: `DatanodeStorageInfo.areBlockContentsStale`).
    pub fn is_trusted(&self, storage: StorageIndex) -> bool {
        let storage = &self.storages[storage as usize];
        storage.is_reported && !storage.status.is_failed && self.nodes[storage.datanode].is_usable()
    }

    /// The least busy of the datanodes of `storages` that can copy `bytes` now, with at most `streams` large copies each.
    pub fn choose_source(&self, storages: &[StorageIndex], bytes: u64, streams: u32) -> Option<StorageIndex> {
        let node = |storage: &StorageIndex| &self.nodes[self.node_of(*storage)];
        let can_copy = |storage: &&StorageIndex| {
            let node = node(storage);
            node.is_usable() && node.sending.has_room(bytes, streams)
        };
        let busy = |storage: &&StorageIndex| {
            let node = node(storage);
            (node.sending.copies, node.reads_active, node.writes(), **storage)
        };
        storages.iter().filter(can_copy).min_by_key(busy).copied()
    }

    /// Whether a datanode can receive a copy now.
    pub(super) fn can_receive(&self, storage: StorageIndex, bytes: u64, streams: u32) -> bool {
        let node = &self.nodes[self.node_of(storage)];
        node.is_usable() && node.receiving.has_room(bytes, streams)
    }

    /// Whether a bad replica on a storage can be replaced by a copy in its place, and its datanode has no good one.
    pub fn can_replace(
        &self,
        storage: StorageIndex,
        existing: &[StorageIndex],
        bytes: u64,
        streams: u32,
    ) -> bool {
        let node = self.node_of(storage);
        let has_none = !existing.iter().any(|other| self.node_of(*other) == node);
        has_none && self.room(storage) >= bytes && self.can_receive(storage, bytes, streams)
    }

    /// A datanode will copy a block of `bytes` to the datanodes of `targets`.
    pub fn begin_copy(&mut self, source: usize, targets: &[StorageIndex], bytes: u64) {
        self.nodes[source].sending.add(bytes);
        for target in targets {
            let node = self.node_of(*target);
            self.nodes[node].receiving.add(bytes);
        }
    }

    /// A datanode copies one block less.
    pub fn end_sending(&mut self, source: usize, bytes: u64) {
        self.nodes[source].sending.remove(bytes);
    }

    /// A datanode receives one copy less.
    pub fn end_receiving(&mut self, target: StorageIndex, bytes: u64) {
        let node = self.node_of(target);
        self.nodes[node].receiving.remove(bytes);
    }

    /// Where a replica is, for datanodes.
    pub fn pipeline_node(&self, storage: StorageIndex) -> PipelineNodeV1 {
        let storage = &self.storages[storage as usize];
        let node = &self.nodes[storage.datanode];
        PipelineNodeV1 { datanode: node.id, storage: storage.id, host: node.host.clone(), port: node.port }
    }

    /// Whether no two datanodes can talk to each other about a copy.
    pub fn are_fewer_than_two_usable(&self) -> bool {
        self.nodes.iter().filter(|node| node.is_usable()).nth(1).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_copies_fit_beside_each_other_and_large_ones_take_streams() {
        let mut load = Load::default();
        load.add(128 << 20);
        assert!(load.has_room(128 << 20, 2));
        load.add(128 << 20);
        assert!(!load.has_room(1, 2));
        let mut load = Load::default();
        for _ in 0..COPIES_MAX {
            assert!(load.has_room(1024, 2));
            load.add(1024);
        }
        assert!(!load.has_room(1024, 2), "their number is bounded too");
        load.remove(1024);
        assert!(load.has_room(1024, 2) && !load.has_room(COPY_BYTES_MAX, 2));
    }
}
