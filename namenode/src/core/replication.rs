//! Each committed block has as many good replicas as its file wants: what is missing is copied, what is too much or bad
//! is deleted. HDFS: `BlockManager`.
//!
//! Nothing here looks at all blocks: whatever changes what is known of a block judges that block again
//! ([`Core::judge`]), which puts it on its level of urgency; a tick takes a bounded number of blocks from the levels.
//! Two rules stand above all others. What counts as good is reported by a datanode. And a replica is deleted only while
//! enough others are on datanodes that are heard and that have reported in full since they registered.

mod copies;
mod levels;
mod schedule;

use ringfs_proto::meta::admin::{ReplicationAction, ReplicationReplyV1, ReplicationRequestV1};
use ringfs_proto::meta::namespace::BlockRefV1;
use roaring::RoaringBitmap;

use super::{Core, Now};
use crate::blocks::{Aside, StorageIndex};
use crate::state::Slot;
use crate::topology::Racks;

use copies::{Copies, Expected};
use levels::{Level, Levels, take_turn};

/// Replicas that are forgotten in one turn of the namespace thread when a datanode is lost.
pub const FORGOTTEN_PER_TURN_MAX: usize = 10_000;
/// Blocks with too many replicas, or bad ones, that are looked at again in one turn.
const POSTPONED_PER_TURN_MAX: usize = 1000;
/// Blocks that are looked at in one turn after the racks have changed.
const RESPREAD_PER_TURN_MAX: usize = 10_000;

/// What replication knows beyond the block map.
#[derive(Debug, Default)]
pub(super) struct Replication {
    levels: Levels,
    copies: Copies,
    /// Blocks with too many replicas or bad ones, where too little is known yet to delete any.
    postponed: RoaringBitmap,
    next_postponed: Slot,
    /// Blocks from here on are to be judged again, as the racks have changed.
    respread: Option<Slot>,
}

impl Replication {
    /// Committed blocks without a good replica.
    pub(super) fn missing(&self) -> u64 {
        self.levels.count(Level::Missing)
    }

    /// Committed blocks without a good replica, from a slot on.
    pub(super) fn missing_from(&self, slot: Slot) -> impl Iterator<Item = Slot> + '_ {
        self.levels.from(Level::Missing, slot)
    }

    /// Committed blocks with fewer good replicas than wanted, and at least one.
    pub(super) fn short(&self) -> u64 {
        self.levels.short()
    }

    /// Whether a block is being copied.
    pub(super) fn is_copied(&self, slot: Slot) -> bool {
        self.copies.is_copied(slot)
    }

    /// Blocks that are being copied.
    pub(super) fn copied(&self) -> u64 {
        self.copies.copied_blocks()
    }
}

impl Core {
    /// Something about a block has changed: it is put where it belongs, and its replicas beyond what is wanted go.
    pub(super) fn judge(&mut self, slot: Slot) {
        let Some((block, wanted)) = self.state.committed_in_slot(slot) else {
            self.replication.levels.set(slot, None);
            self.replication.postponed.remove(slot);
            return;
        };
        let wanted = usize::from(wanted);
        let mut good: Vec<StorageIndex> = self.blocks.storages(slot).collect();
        if self.nodes.distinct(&good) < wanted && self.spare_doomed(slot, block) {
            good = self.blocks.storages(slot).collect();
        }
        let count = self.nodes.distinct(&good);
        let level = Level::of(count, wanted, self.nodes.are_well_spread(&good, wanted));
        self.replication.levels.set(slot, level);
        let has_bad = self.blocks.aside(slot).any(|(_, aside)| matches!(aside, Aside::Bad { .. }));
        if good.len() > wanted || has_bad {
            self.trim(slot, block, wanted, &good);
        } else {
            self.replication.postponed.remove(slot);
        }
    }

    /// Replicas that were to be deleted are needed again: those whose command has not left.
    fn spare_doomed(&mut self, slot: Slot, block: BlockRefV1) -> bool {
        let is_unsent = |aside| matches!(aside, Aside::Doomed { is_sent: false, fault: None, .. });
        let spared: Vec<StorageIndex> = self
            .blocks
            .aside(slot)
            .filter(|(_, aside)| is_unsent(*aside))
            .map(|(storage, _)| storage)
            .collect();
        spared.iter().for_each(|storage| self.blocks.spare(slot, *storage, Some(block)));
        !spared.is_empty()
    }

    /// Dooms replicas beyond what is wanted, and bad ones once there are enough good ones; else the block is looked at
    /// again later (HDFS: `BlockManager.processExtraRedundancyBlock`, `postponeBlock`).
    fn trim(&mut self, slot: Slot, block: BlockRefV1, wanted: usize, good: &[StorageIndex]) {
        let mut trusted: Vec<StorageIndex> =
            good.iter().copied().filter(|storage| self.nodes.is_trusted(*storage)).collect();
        let may_delete = self.safe_mode.is_settled();
        if !may_delete || self.nodes.distinct(&trusted) < wanted {
            self.replication.postponed.insert(slot);
            return;
        }
        for storage in self.nodes.choose_excess(&trusted, wanted) {
            if self.doom(slot, storage, block) {
                trusted.retain(|other| *other != storage);
            }
        }
        let bad: Vec<(StorageIndex, BlockRefV1)> = self
            .blocks
            .aside(slot)
            .filter_map(|(storage, aside)| match aside {
                Aside::Bad { replica, .. } => Some((storage, replica)),
                Aside::Doomed { .. } => None,
            })
            .collect();
        for (storage, replica) in bad {
            let stamp = block.stamp.max(replica.stamp);
            self.doom(slot, storage, BlockRefV1 { stamp, ..replica });
        }
        let is_settled = self.blocks.count(slot) <= wanted;
        if is_settled {
            self.replication.postponed.remove(slot);
        } else {
            self.replication.postponed.insert(slot);
        }
    }

    fn doom(&mut self, slot: Slot, storage: StorageIndex, replica: BlockRefV1) -> bool {
        let is_queued = self.nodes.invalidate(storage, replica);
        if is_queued {
            self.blocks.doom(slot, storage, replica);
        }
        is_queued
    }

    /// Whether a replica that was to be deleted still is, now that the command leaves: one that was asked for again since
    /// then stays, and one that is needed because another datanode has gone silent.
    pub(super) fn confirm_deletion(&mut self, storage: StorageIndex, replica: BlockRefV1) -> bool {
        let Some((view, file)) = self.state.block(replica.block) else { return true };
        let doomed = self.blocks.aside_on(view.slot, storage);
        if !matches!(doomed, Some(Aside::Doomed { is_sent: false, .. })) {
            return false;
        }
        let trusted: Vec<StorageIndex> =
            self.blocks.storages(view.slot).filter(|storage| self.nodes.is_trusted(*storage)).collect();
        let are_enough = self.nodes.distinct(&trusted) >= usize::from(file.replication);
        if are_enough {
            self.blocks.set_sent(view.slot, storage, true);
        } else {
            self.blocks.spare(view.slot, storage, (!view.is_open).then_some(view.block));
            self.judge(view.slot);
        }
        are_enough
    }

    /// A replica that shall be deleted is reported as being there. Whether that report was made before the command
    /// arrived is not known: it goes on being doomed, and the datanode is told again.
    pub(super) fn is_doomed(&mut self, slot: Slot, storage: StorageIndex) -> bool {
        let Some(Aside::Doomed { replica, is_sent, .. }) = self.blocks.aside_on(slot, storage) else {
            return false;
        };
        if is_sent && self.nodes.invalidate(storage, replica) {
            self.blocks.set_sent(slot, storage, false);
        }
        true
    }

    /// A block has got its length: what its pipeline has not reported yet is awaited for as long as a datanode may be
    /// silent, then copied.
    pub(super) fn committed(&mut self, slot: Slot, block: BlockRefV1, now: Now) {
        let targets = self.blocks.commit(slot, block);
        if !targets.is_empty() {
            let until_ms = now.mono_ms + self.config.datanode_dead_ms;
            self.replication.copies.expect(slot, Expected { source: None, targets, bytes: 0, until_ms });
        }
        self.judge(slot);
    }

    /// A block is gone, and what was to become of it.
    pub(super) fn removed(&mut self, slot: Slot, block: BlockRefV1) {
        for storage in self.blocks.remove(slot) {
            self.nodes.invalidate(storage, block);
        }
        self.give_up_copies_to(slot);
        self.judge(slot);
    }

    /// Copies of a block are of no use any more.
    pub(super) fn give_up_copies_to(&mut self, slot: Slot) {
        for expected in self.replication.copies.cancel(slot) {
            self.end_copy(&expected);
        }
    }

    /// No replica of a storage counts any more. They are forgotten in turns.
    pub(super) fn forget_storage(&mut self, storage: StorageIndex) {
        let slots = self.blocks.slots_of(storage);
        self.blocks.begin_leaving(storage, slots);
        self.forget_turn();
    }

    /// Forgets some of the replicas that count no more.
    pub(super) fn forget_turn(&mut self) {
        let slots = self.blocks.forget_leaving(FORGOTTEN_PER_TURN_MAX);
        self.metrics.count_forgotten(slots.len());
        slots.into_iter().for_each(|slot| self.judge(slot));
    }

    /// What a datanode was to send or to receive will not come: it is lost, or begins anew.
    pub(super) fn give_up_copies_of(&mut self, node: usize) {
        let storages = self.nodes.storages_of(node).to_vec();
        for (_, expected) in self.replication.copies.cancel_node(node, &storages) {
            self.end_copy(&expected);
        }
    }

    /// Datanodes have come, gone, or moved to other racks.
    pub(super) fn look_at_racks(&mut self, have_moved: bool) {
        if self.nodes.count_racks() || have_moved {
            self.replication.respread = Some(0);
        }
    }

    /// Hosts are on these racks.
    pub fn set_racks(&mut self, learnt: &Racks) {
        if self.nodes.set_racks(&learnt.racks, learnt.is_whole) {
            self.look_at_racks(true);
        }
    }

    /// Hosts of datanodes whose rack was never told.
    pub fn hosts_without_rack(&self) -> Vec<String> {
        self.nodes.hosts_without_rack()
    }

    /// Answers an operator about copying.
    pub(super) fn ask_replication(&mut self, request: &ReplicationRequestV1, now: Now) -> ReplicationReplyV1 {
        if request.action == ReplicationAction::CopyNow {
            self.nodes.copy_now();
        }
        ReplicationReplyV1 { waits: self.copying_waits(now) }
    }

    /// Why nothing is copied; empty when blocks are copied as needed.
    fn copying_waits(&self, now: Now) -> String {
        self.nodes.copying_waits(now.mono_ms).map_or_else(String::new, |(vanished, all, left_ms)| {
            let left_s = left_ms.div_ceil(1000);
            format!(
                "{vanished} of {all} datanodes vanished at once: copying waits for them, {left_s} s more; \
                 `ringfs admin copy-now` ends the wait"
            )
        })
    }

    /// A turn of all that replication does by itself.
    pub(super) fn replicate(&mut self, now: Now) {
        self.forget_turn();
        let Replication { postponed, next_postponed, .. } = &mut self.replication;
        for slot in take_turn(postponed, next_postponed, POSTPONED_PER_TURN_MAX) {
            self.judge(slot);
        }
        if let Some(begin) = self.replication.respread {
            let end = begin.saturating_add(RESPREAD_PER_TURN_MAX as Slot).min(self.blocks.slots_end());
            (begin..end).for_each(|slot| self.judge(slot));
            self.replication.respread = (end < self.blocks.slots_end()).then_some(end);
        }
        self.copy_some(now);
    }
}
