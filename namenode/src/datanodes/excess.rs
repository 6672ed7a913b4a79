//! Which replicas go when a block has too many. HDFS: `BlockPlacementPolicyDefault.chooseReplicasToDelete`.

use super::Datanodes;
use crate::blocks::StorageIndex;

impl Datanodes {
    /// Chooses replicas to delete, so that `wanted` are left on distinct datanodes: second ones on a datanode first, then
    /// those that share their rack with others, then those with the least room beside them.
    pub fn choose_excess(&self, storages: &[StorageIndex], wanted: usize) -> Vec<StorageIndex> {
        let mut kept = storages.to_vec();
        kept.sort_unstable();
        let mut excess = Vec::new();
        while kept.len() > wanted.max(1) {
            let (at, _) = kept
                .iter()
                .enumerate()
                .min_by_key(|(_, storage)| self.worth(**storage, &kept))
                .expect("there is more than one");
            excess.push(kept.remove(at));
        }
        excess
    }

    /// What a replica is worth beside the others; the least worthy goes.
    fn worth(&self, storage: StorageIndex, kept: &[StorageIndex]) -> (bool, bool, u64, StorageIndex) {
        let others = || kept.iter().filter(|other| **other != storage);
        let is_only_on_node = !others().any(|other| self.node_of(*other) == self.node_of(storage));
        // With two racks or more, a replica that is alone on its rack stays while others share theirs.
        let is_only_on_rack =
            self.racks_in_use() > 1 && !others().any(|other| self.rack_of(*other) == self.rack_of(storage));
        (is_only_on_node, is_only_on_rack, self.room(storage), storage)
    }
}
