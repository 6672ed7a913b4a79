//! Storages as the log names them: by id, whether or not they are here now.

use ringfs_proto::ids::StorageId;
use ringfs_proto::meta::admin::DatanodeState;

use super::Datanodes;
use crate::blocks::StorageIndex;

impl Datanodes {
    /// The number of a storage that has registered since the start.
    pub fn index_of(&self, storage: StorageId) -> Option<StorageIndex> {
        self.storage_by_id.get(&storage).copied()
    }

    /// The id of a storage.
    pub fn storage_id(&self, storage: StorageIndex) -> StorageId {
        self.storages[usize::from(storage)].id
    }

    /// Whether what is on a storage cannot be had: its datanode is taken as lost or came back without it, or it failed.
    pub fn is_lost(&self, storage: StorageIndex) -> bool {
        let status = &self.storages[usize::from(storage)];
        self.nodes[status.datanode].state == DatanodeState::Dead || self.is_gone(storage)
    }

    /// Whether the datanode of a storage has come back without it, or it failed: what the datanode says that it does not
    /// have may be there.
    pub fn is_gone(&self, storage: StorageIndex) -> bool {
        let status = &self.storages[usize::from(storage)];
        status.status.is_failed || !self.nodes[status.datanode].storages.contains(&storage)
    }
}
