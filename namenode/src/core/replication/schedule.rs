//! Which blocks are copied next, from where to where. HDFS: `BlockManager.computeBlockReconstructionWork`.

use ringfs_proto::capability::Mode;
use ringfs_proto::ids::PrincipalId;
use ringfs_proto::meta::membership::{CommandV1, TransferV1};
use ringfs_proto::meta::namespace::BlockRefV1;

use super::copies::Expected;
use super::levels::Level;
use crate::blocks::{Aside, StorageIndex};
use crate::core::{Core, Now};
use crate::datanodes::CopyPlacement;
use crate::state::Slot;

/// Blocks of one level that are looked at in one turn.
const EXAMINED_PER_TURN_MAX: usize = 1000;
/// A copy is given up after `replication_timeout_ms` and the time that its bytes take at this rate, in bytes per ms.
const SLOWEST_COPY_BYTES_PER_MS: u64 = 4 << 10;

impl Core {
    /// Whether blocks are copied now. Not before a datanode can be silent for long enough to be lost: after a start
    /// those that have not come back are on their way.
    fn may_copy(&self, now: Now) -> bool {
        let is_settled = now.mono_ms.saturating_sub(self.started_ms) >= self.config.datanode_dead_ms;
        is_settled
            && self.safe_mode.is_settled()
            && self.nodes.copying_waits(now.mono_ms).is_none()
            && !self.nodes.are_fewer_than_two_usable()
    }

    /// Gives up what has not come in time, and has the most urgent blocks copied.
    pub(super) fn copy_some(&mut self, now: Now) {
        for (slot, expected) in self.replication.copies.expired(now.mono_ms) {
            if expected.source.is_some() {
                tracing::warn!(slot, targets = expected.targets.len(), "a copy was not reported in time");
            }
            self.end_copy(&expected);
        }
        if !self.may_copy(now) {
            return;
        }
        let mut budget = self.config.replication_work_per_tick;
        for level in Level::COPIED {
            for slot in self.replication.levels.turn(level, EXAMINED_PER_TURN_MAX.min(budget * 10)) {
                if budget == 0 {
                    return;
                }
                if self.copy(slot, level, now) {
                    budget -= 1;
                }
            }
        }
    }

    /// What was expected will not come, or has come.
    pub(super) fn end_copy(&mut self, expected: &Expected) {
        let Some(source) = expected.source else { return };
        self.nodes.end_sending(source, expected.bytes);
        expected.targets.iter().for_each(|target| self.nodes.end_receiving(*target, expected.bytes));
    }

    /// A good replica has appeared: it may be one that was expected.
    pub(in crate::core) fn arrived(&mut self, slot: Slot, storage: StorageIndex) {
        let Some(arrived) = self.replication.copies.arrived(slot, storage) else { return };
        if arrived.is_copy {
            self.nodes.end_receiving(storage, arrived.bytes);
            self.metrics.count_copied();
        }
        if let Some(source) = arrived.source {
            self.nodes.end_sending(source, arrived.bytes);
        }
    }

    /// Has a block copied, if a datanode is free to send it and one to receive it.
    fn copy(&mut self, slot: Slot, level: Level, now: Now) -> bool {
        let Some((block, wanted)) = self.state.committed_in_slot(slot) else { return false };
        let good: Vec<StorageIndex> = self.blocks.storages(slot).collect();
        let mut existing = good.clone();
        existing.extend(self.replication.copies.targets(slot));
        let present = self.nodes.distinct(&existing);
        let must_spread = level == Level::BadlySpread;
        let copies = match usize::from(wanted).saturating_sub(present) {
            0 if must_spread && present == good.len() => 1,
            copies => copies,
        };
        let streams = self.streams(level);
        if copies == 0 {
            return false;
        }
        let Some(source) = self.nodes.choose_source(&good, block.length, streams) else { return false };
        let targets = self.choose_targets(slot, block, &existing, copies, streams, must_spread);
        !targets.is_empty() && self.begin_copy(slot, block, source, targets, now)
    }

    /// Blocks with one replica left may use twice the streams (HDFS: `dfs.namenode.replication.max-streams-hard-limit`).
    fn streams(&self, level: Level) -> u32 {
        let streams = self.config.replication_streams_per_node;
        if level == Level::Highest { streams.saturating_mul(2) } else { streams }
    }

    /// Datanodes that have nothing of the block; where there are no more, those with a bad replica, which is replaced.
    fn choose_targets(
        &mut self,
        slot: Slot,
        block: BlockRefV1,
        existing: &[StorageIndex],
        copies: usize,
        streams: u32,
        must_spread: bool,
    ) -> Vec<StorageIndex> {
        let aside: Vec<(StorageIndex, Aside)> = self.blocks.aside(slot).collect();
        let avoided: Vec<StorageIndex> = aside.iter().map(|(storage, _)| *storage).collect();
        let bytes = block.length;
        let placement = CopyPlacement { copies, bytes, streams, existing, avoided: &avoided, must_spread };
        let mut targets = self.nodes.place_copies(&placement);
        if targets.is_empty() && !must_spread {
            let bad = aside.iter().filter(|(_, aside)| matches!(aside, Aside::Bad { .. }));
            let bad = bad.map(|(storage, _)| *storage);
            targets.extend(bad.filter(|storage| self.nodes.can_replace(*storage, existing, bytes, streams)));
            targets.truncate(1);
        }
        targets
    }

    fn begin_copy(
        &mut self,
        slot: Slot,
        block: BlockRefV1,
        source: StorageIndex,
        targets: Vec<StorageIndex>,
        now: Now,
    ) -> bool {
        let Some((view, file)) = self.state.block(block.block) else { return false };
        let transfer = TransferV1 {
            block,
            cut_from: None,
            capability: self.sign_for(&file, &view, Mode::Write, PrincipalId(u32::MAX), now),
            targets: targets.iter().map(|target| self.nodes.pipeline_node(*target)).collect(),
        };
        if !self.nodes.command(source, CommandV1::Transfer(Box::new(transfer))) {
            return false;
        }
        let node = self.nodes.node_of(source);
        let bytes = block.length;
        self.nodes.begin_copy(node, &targets, bytes);
        let patience_ms = self.config.replication_timeout_ms + bytes / SLOWEST_COPY_BYTES_PER_MS;
        let until_ms = now.mono_ms + patience_ms;
        self.replication.copies.expect(slot, Expected { source: Some(node), targets, bytes, until_ms });
        true
    }
}
