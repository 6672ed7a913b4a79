//! Files that are being cut inside a block: a datanode with a replica is told to copy the first bytes into the new block;
//! when enough datanodes report that, the end is logged. Whoever does not bring it about in time is replaced.
//!
//! That a file is being cut, and where, is logged state. All here is soft and begun again after a restart.

use std::collections::BTreeMap;

use ringfs_proto::capability::Mode;
use ringfs_proto::ids::{BlockId, DatanodeId, InodeId, PrincipalId};
use ringfs_proto::meta::membership::{CommandV1, TransferV1};

use super::{Core, Now};
use crate::blocks::{StorageIndex, is_good};
use crate::datanodes::Placement;
use crate::state::{BlockView, FileView, Truncation};
use crate::wal::record::{ChangeV1, EndTruncateV1};

/// Files that are looked at in one tick, at most.
const TRUNCATIONS_PER_TICK_MAX: usize = 100;
/// A copy is taken to have at least this speed.
const SLOWEST_COPY_BYTES_PER_MS: u64 = 1000;

/// What is under way for one file.
#[derive(Debug, Default)]
struct Attempt {
    /// When it is given up.
    until_ms: u64,
    /// How many there were.
    count: usize,
    /// Who was told to copy.
    source: Option<StorageIndex>,
    /// Whether the end is logged.
    is_ending: bool,
}

/// All files that are being cut, as far as the datanodes are concerned.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    attempts: BTreeMap<InodeId, Attempt>,
    /// Where the next tick goes on.
    next: InodeId,
}

impl Core {
    /// Time has passed: every truncation goes on as far as it can.
    pub(super) fn look_at_truncations(&mut self, now: Now) {
        let truncations = self.state.truncations();
        self.cuts.attempts.retain(|inode, _| truncations.get(*inode).is_some());
        if truncations.count() == 0 || !self.changes_are_accepted() {
            return;
        }
        let all = truncations.iter().map(|(inode, _)| inode);
        let (before, from): (Vec<InodeId>, Vec<InodeId>) = all.partition(|inode| *inode < self.cuts.next);
        let turn: Vec<InodeId> = from.into_iter().chain(before).take(TRUNCATIONS_PER_TICK_MAX).collect();
        self.cuts.next = InodeId(turn.last().map_or(0, |last| last.0 + 1));
        turn.into_iter().for_each(|inode| self.drive_truncation(inode, now));
    }

    /// Something was reported of a block: it may be one that a truncation waits for.
    pub(super) fn tell_truncation(&mut self, block: BlockId, now: Now) {
        if self.state.truncations().count() == 0 || !self.changes_are_accepted() {
            return;
        }
        let Some((_, file)) = self.state.block(block) else { return };
        if self.state.truncations().get(file.inode).is_some_and(|ours| ours.new.block == block) {
            self.drive_truncation(file.inode, now);
        }
    }

    /// `EndTruncate` was applied, or refused as the file is gone.
    pub(super) fn truncation_ended(&mut self, change: &EndTruncateV1) {
        self.cuts.attempts.remove(&change.inode);
    }

    /// Does what a truncation needs now.
    pub(super) fn drive_truncation(&mut self, inode: InodeId, now: Now) {
        let Some(truncation) = self.state.truncations().get(inode).copied() else { return };
        let (Some((view, file)), Some((old, _))) =
            (self.state.block(truncation.new.block), self.state.block(truncation.old.block))
        else {
            return;
        };
        let attempt = self.cuts.attempts.entry(inode).or_default();
        if attempt.is_ending {
            return;
        }
        let needed = usize::from(self.config.replication_min.min(file.replication));
        if self.blocks.finalized(view.slot, truncation.new) >= needed {
            attempt.is_ending = true;
            let (block, crc) = (truncation.new.block, self.blocks.crc(view.slot, truncation.new));
            let change = EndTruncateV1 { inode, block, crc };
            return self.log_own(ChangeV1::EndTruncate(change), None, now);
        }
        let (until_ms, source) = (attempt.until_ms, attempt.source);
        let holders = self.holders_now(&old);
        // One whose replica was bad, or who is gone, brings nothing about.
        let has_lost = source.is_some_and(|source| !holders.contains(&source));
        if now.mono_ms >= until_ms || has_lost {
            self.begin_cut(&file, &truncation, &view, &holders, now);
        }
    }

    /// Tells a datanode that has the old block to make the new one; each time another, if there is one.
    fn begin_cut(
        &mut self,
        file: &FileView,
        truncation: &Truncation,
        new: &BlockView,
        holders: &[StorageIndex],
        now: Now,
    ) {
        let Some(attempt) = self.cuts.attempts.get(&file.inode) else { return };
        let count = attempt.count;
        if holders.is_empty() {
            return;
        }
        let source = holders[count % holders.len()];
        let bytes = truncation.new.length;
        let excluded = self.made_already(new, truncation);
        let Ok(writer) = self.nodes.node(source).host.parse() else { return };
        let replicas = usize::from(file.replication);
        self.release_room(new.slot);
        let targets = self.nodes.place(&Placement { replicas, bytes, writer, excluded: &excluded });
        self.blocks.set_pipeline(new.slot, targets.clone(), bytes);
        if targets.is_empty() {
            tracing::debug!(block = %truncation.new.block, "no datanode has room for the end of a truncated file");
            return;
        }
        let transfer = TransferV1 {
            block: truncation.new,
            cut_from: Some(truncation.old),
            capability: self.sign_for(file, new, Mode::Write, PrincipalId(u32::MAX), now),
            targets: targets.iter().map(|target| self.nodes.pipeline_node(*target)).collect(),
        };
        if self.nodes.command(source, CommandV1::Transfer(Box::new(transfer))) {
            let patience_ms = self.config.replication_timeout_ms + bytes / SLOWEST_COPY_BYTES_PER_MS;
            let attempt = self.cuts.attempts.entry(file.inode).or_default();
            (attempt.count, attempt.source) = (count + 1, Some(source));
            attempt.until_ms = now.mono_ms + patience_ms;
        }
    }

    /// Datanodes that have the new block from an attempt before.
    fn made_already(&self, new: &BlockView, truncation: &Truncation) -> Vec<DatanodeId> {
        let replicas = self.blocks.open(new.slot).map(|open| &open.replicas);
        let made = replicas.into_iter().flatten().filter(|(_, replica)| is_good(replica, truncation.new));
        made.map(|(storage, _): (&StorageIndex, _)| self.nodes.node(*storage).datanode).collect()
    }

    /// A datanode is lost: what it was to copy is given to another at once.
    pub(super) fn hurry_truncations(&mut self) {
        self.cuts.attempts.values_mut().for_each(|attempt| attempt.until_ms = 0);
    }
}
