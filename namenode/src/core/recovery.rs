//! Recovery of files whose writers are gone: the namenode fences, asks, decides and closes (docs/decisions/0005).
//!
//! What must survive a restart is logged: that the writer is fenced, with the stamp of the recovery, and the end. All
//! else is soft and begun again with a higher stamp. A recovery goes: `FenceWriter` is logged; whoever may have a replica
//! is told to fence it; from their answers [`length`] chooses; the participants are told to finish; when enough of them
//! report the block as it was decided, `CloseFile` is logged.

mod length;

use std::collections::{BTreeMap, BTreeSet};

use ringfs_proto::ids::{BlockId, InodeId, Stamp};
use ringfs_proto::meta::membership::{BeginRecoveryV1, CommandV1, FinishRecoveryV1, ReplicaChangeV1};
use ringfs_proto::meta::namespace::{BlockRefV1, RecoverLeaseReplyV1};

use super::{Core, Now};
use crate::blocks::{StorageIndex, is_good};
use crate::calls::{Call, Reply};
use crate::state::{BlockView, FileView, OpenFile, Outcome};
use crate::wal::record::{ChangeV1, CloseFileV1, FenceWriterV1, FileEndV1};

use length::{Answer, Question, Verdict};

/// Recoveries at once; beyond, whoever asks for one asks again.
pub const RECOVERIES_MAX: usize = 1000;
/// A round that did not end doubles the patience of the next, this often.
const DOUBLINGS_MAX: u32 = 3;
/// Heartbeats after which a datanode that did not answer is told again.
const HEARTBEATS_PER_COMMAND: u64 = 3;

/// What a recovery waits for.
#[derive(Debug)]
enum Phase {
    /// For changes to be accepted: it was begun before a restart.
    Wanted,
    /// For its record to be applied.
    Logged,
    /// For answers of those who may have a replica.
    Fencing(Round),
    /// For reports of those who finish it.
    Finishing(Round, BlockRefV1, Vec<StorageIndex>),
}

/// One attempt, under one stamp.
#[derive(Debug)]
struct Round {
    block: BlockId,
    stamp: Stamp,
    deadline_ms: u64,
    /// When a datanode was told last.
    told_ms: BTreeMap<StorageIndex, u64>,
    answers: BTreeMap<StorageIndex, Answer>,
}

impl Round {
    /// Whether something that a datanode said answers what it was told in this round.
    fn is_answered_by(&self, storage: StorageIndex, block: BlockId, answer: Answer) -> bool {
        let is_ours = match answer {
            Answer::Fenced(fenced) => fenced.recovery_stamp == self.stamp,
            Answer::Missing | Answer::Corrupt => self.told_ms.contains_key(&storage),
        };
        self.block == block && is_ours
    }
}

#[derive(Debug)]
struct Recovery {
    phase: Phase,
    rounds: u32,
}

/// All recoveries, by file.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    by_inode: BTreeMap<InodeId, Recovery>,
}

impl Recoveries {
    /// Those that a restart has interrupted.
    pub fn begun_before(inodes: impl Iterator<Item = InodeId>) -> Self {
        let wanted = |inode| (inode, Recovery { phase: Phase::Wanted, rounds: 0 });
        Self { by_inode: inodes.map(wanted).collect() }
    }

    pub fn contains(&self, inode: InodeId) -> bool {
        self.by_inode.contains_key(&inode)
    }

    pub fn count(&self) -> usize {
        self.by_inode.len()
    }

    fn round_of(&mut self, inode: InodeId) -> Option<&mut Round> {
        match &mut self.by_inode.get_mut(&inode)?.phase {
            Phase::Fencing(round) => Some(round),
            _ => None,
        }
    }
}

impl Core {
    /// Takes a file from its writer. `call` is answered when that is durable, or at once when it is under way.
    pub(super) fn recover(&mut self, inode: InodeId, call: Option<Call>, now: Now) {
        let is_full = self.recoveries.count() >= RECOVERIES_MAX;
        if self.recoveries.contains(inode) || is_full {
            if let Some(call) = call {
                self.answer(call, Ok(Reply::RecoverLease(RecoverLeaseReplyV1 { is_closed: false })));
            }
            return;
        }
        self.recoveries.by_inode.insert(inode, Recovery { phase: Phase::Wanted, rounds: 0 });
        self.log_recovery(inode, call, now);
    }

    /// Logs that a recovery begins, or that there is nothing to recover and the file is closed.
    fn log_recovery(&mut self, inode: InodeId, call: Option<Call>, now: Now) {
        let Some((file, last)) = self.open_for_recovery(inode) else {
            self.recoveries.by_inode.remove(&inode);
            if let Some(call) = call {
                self.answer(call, Ok(Reply::RecoverLease(RecoverLeaseReplyV1 { is_closed: false })));
            }
            return;
        };
        let change = match last.filter(|last| last.is_open) {
            Some(last) => {
                let stamp = self.next_stamp();
                ChangeV1::FenceWriter(FenceWriterV1 { inode, block: last.block.block, stamp })
            }
            None => {
                let (holder, recovery_stamp) = (file.session, file.recovery_stamp);
                let end = FileEndV1::AsIs;
                ChangeV1::CloseFile(CloseFileV1 { inode, holder, recovery_stamp, end, crc: None })
            }
        };
        if let Some(recovery) = self.recoveries.by_inode.get_mut(&inode) {
            recovery.phase = Phase::Logged;
        }
        self.log_own(change, call, now);
    }

    fn open_for_recovery(&self, inode: InodeId) -> Option<(OpenFile, Option<BlockView>)> {
        let open = self.state.leases().get(inode)?.clone();
        let file = self.state.file(inode).ok()?;
        Some((open, self.state.last_block_of(&file)))
    }

    /// The answer to a call of `RecoverLease` whose record was applied.
    pub(super) fn lease_recovery(outcome: &Outcome) -> Reply {
        let is_closed = matches!(outcome, Ok(crate::state::Applied::Completed(_)));
        Reply::RecoverLease(RecoverLeaseReplyV1 { is_closed })
    }

    /// `FenceWriter` was applied: nobody writes any more, and whoever may have a replica is asked.
    pub(super) fn writer_fenced(&mut self, change: &FenceWriterV1, outcome: &Outcome, now: Now) {
        if self.drop_if_refused(change.inode, outcome) {
            return;
        }
        let heartbeat_ms = u64::from(self.config.heartbeat_interval_ms);
        let Some(recovery) = self.recoveries.by_inode.get_mut(&change.inode) else { return };
        let patience_ms = self.config.block_recovery_timeout_ms.max(heartbeat_ms);
        recovery.phase = Phase::Fencing(Round {
            block: change.block,
            stamp: change.stamp,
            deadline_ms: now.mono_ms + (patience_ms << recovery.rounds.min(DOUBLINGS_MAX)),
            told_ms: BTreeMap::new(),
            answers: BTreeMap::new(),
        });
        recovery.rounds += 1;
        let path = self.state.path_of_inode(change.inode).unwrap_or_default();
        tracing::info!(path, block = %change.block, stamp = %change.stamp, "block recovery begins");
        self.drive(change.inode, now);
    }

    /// `CloseFile` was applied.
    pub(super) fn file_closed(&mut self, change: &CloseFileV1, outcome: &Outcome, now: Now) {
        self.recoveries.by_inode.remove(&change.inode);
        match (change.end, outcome) {
            (FileEndV1::Commit(block), Ok(_)) => {
                let path = self.state.path_of_inode(change.inode).unwrap_or_default();
                tracing::info!(path, block = %block.block, length = block.length, "recovered: the file is closed");
                self.wake_parked(block.block, now);
            }
            (FileEndV1::Remove(block), Ok(_)) => self.wake_parked(block, now),
            // The file is gone, or its writer was faster.
            _ => {}
        }
    }

    fn drop_if_refused(&mut self, inode: InodeId, outcome: &Outcome) -> bool {
        if outcome.is_err() {
            self.recoveries.by_inode.remove(&inode);
        }
        outcome.is_err()
    }

    /// Something was reported of a block: it may be what its recovery waits for.
    pub(super) fn tell_recovery(&mut self, storage: StorageIndex, change: &ReplicaChangeV1, now: Now) {
        if self.recoveries.by_inode.is_empty() {
            return;
        }
        let (block, answer) = match change {
            ReplicaChangeV1::Stored(replica) => (replica.block, None),
            ReplicaChangeV1::Finalized(finalized) => (finalized.block, None),
            ReplicaChangeV1::Deleted(block) => (*block, Some(Answer::Missing)),
            ReplicaChangeV1::Corrupt(block) => (*block, Some(Answer::Corrupt)),
            ReplicaChangeV1::Fenced(fenced) => (fenced.block, Some(Answer::Fenced(*fenced))),
        };
        let Some((_, file)) = self.state.block(block.block) else { return };
        if let (Some(round), Some(answer)) = (self.recoveries.round_of(file.inode), answer)
            && round.is_answered_by(storage, block.block, answer)
        {
            round.answers.insert(storage, answer);
        }
        self.drive(file.inode, now);
    }

    /// Time has passed: every recovery goes on as far as it can.
    pub(super) fn look_at_recoveries(&mut self, now: Now) {
        if !self.changes_are_accepted() {
            return;
        }
        let inodes: Vec<InodeId> = self.recoveries.by_inode.keys().copied().collect();
        for inode in inodes {
            self.drive(inode, now);
        }
    }

    /// Does what a recovery needs now.
    fn drive(&mut self, inode: InodeId, now: Now) {
        if !self.changes_are_accepted() {
            return;
        }
        let Some(recovery) = self.recoveries.by_inode.get_mut(&inode) else { return };
        match core::mem::replace(&mut recovery.phase, Phase::Logged) {
            Phase::Wanted => self.log_recovery(inode, None, now),
            Phase::Logged => {}
            Phase::Fencing(round) => self.drive_fencing(inode, round, now),
            Phase::Finishing(round, block, participants) => {
                self.drive_finishing(inode, round, block, participants, now);
            }
        }
    }

    fn set_phase(&mut self, inode: InodeId, phase: Phase) {
        if let Some(recovery) = self.recoveries.by_inode.get_mut(&inode) {
            recovery.phase = phase;
        }
    }

    /// The file and the block that a round is about, if they are as they were when it began.
    fn in_recovery(&mut self, inode: InodeId, round: &Round) -> Option<(FileView, BlockView, OpenFile)> {
        let open = self.state.leases().get(inode).cloned();
        let found = self.state.block(round.block).filter(|(view, file)| view.is_open && file.inode == inode);
        match (open, found) {
            (Some(open), Some((view, file))) if open.recovery_stamp == Some(round.stamp) => {
                Some((file, view, open))
            }
            // Deleted or overwritten.
            _ => {
                self.recoveries.by_inode.remove(&inode);
                None
            }
        }
    }

    fn drive_fencing(&mut self, inode: InodeId, mut round: Round, now: Now) {
        let Some((_, view, open)) = self.in_recovery(inode, &round) else { return };
        let holders = self.holders(&view, &open, &round);
        let mut waiting = open.pipeline.iter().filter(|id| self.nodes.index_of(**id).is_none()).count();
        let mut lost = 0;
        if self.is_unknown_lost(now) {
            (waiting, lost) = (0, waiting);
        }
        for storage in holders.iter().copied().filter(|holder| !round.answers.contains_key(holder)) {
            if self.nodes.is_lost(storage) {
                lost += 1;
            } else {
                waiting += 1;
            }
        }
        let question = Question {
            stamp: view.block.stamp,
            acked_length: open.acked_length,
            has_stood: open.has_stood,
            answers: &round.answers,
            waiting,
            lost,
            is_late: now.mono_ms >= round.deadline_ms,
        };
        match length::decide(&question) {
            Verdict::Finish(length, participants) => {
                debug_assert!(length >= open.acked_length, "acknowledged bytes are never given up");
                let block = BlockRefV1 { stamp: round.stamp, length, ..view.block };
                round.told_ms.clear();
                round.deadline_ms = now.mono_ms + self.config.block_recovery_timeout_ms;
                self.drive_finishing(inode, round, block, participants, now);
            }
            Verdict::Remove => self.log_end(inode, &open, FileEndV1::Remove(round.block), now),
            Verdict::Wait | Verdict::Missing => {
                let unheard =
                    holders.into_iter().filter(|holder| !round.answers.contains_key(holder)).collect();
                let (block, recovery_stamp) = (round.block, round.stamp);
                self.tell(&mut round, unheard, now, |storage| {
                    CommandV1::BeginRecovery(BeginRecoveryV1 { block, storage, recovery_stamp })
                });
                self.set_phase(inode, Phase::Fencing(round));
            }
        }
    }

    /// Whoever may have a replica that counts: those that the log names, and those that reported one.
    fn holders(&self, view: &BlockView, open: &OpenFile, round: &Round) -> BTreeSet<StorageIndex> {
        let logged = open.pipeline.iter().filter_map(|id| self.nodes.index_of(*id));
        let mut holders: BTreeSet<StorageIndex> = logged.chain(round.answers.keys().copied()).collect();
        if let Some(known) = self.blocks.open(view.slot) {
            holders.extend(&known.pipeline);
            let current =
                known.replicas.iter().filter(|(_, replica)| replica.block.stamp >= view.block.stamp);
            holders.extend(current.map(|(storage, _)| *storage));
        }
        holders
    }

    /// Whether a datanode that has not registered since the start would be taken as lost by now.
    pub(super) fn is_unknown_lost(&self, now: Now) -> bool {
        now.mono_ms.saturating_sub(self.started_ms) >= self.config.datanode_dead_ms
    }

    fn drive_finishing(
        &mut self,
        inode: InodeId,
        mut round: Round,
        block: BlockRefV1,
        participants: Vec<StorageIndex>,
        now: Now,
    ) {
        let Some((file, view, open)) = self.in_recovery(inode, &round) else { return };
        let replicas = self.blocks.open(view.slot).map(|open| &open.replicas);
        let is_done = |storage: &StorageIndex| {
            let replica = replicas.and_then(|replicas| replicas.get(storage));
            replica.is_some_and(|replica| is_good(replica, block))
        };
        let (done, undone): (Vec<StorageIndex>, Vec<StorageIndex>) =
            participants.iter().copied().partition(is_done);
        let needed = usize::from(self.config.replication_min.min(file.replication)).min(participants.len());
        if done.len() >= needed.max(1) {
            return self.log_end(inode, &open, FileEndV1::Commit(block), now);
        }
        if now.mono_ms >= round.deadline_ms {
            tracing::warn!(block = %block.block, stamp = %block.stamp, done = done.len(), needed, "block recovery did not end in time: it begins again");
            return self.log_recovery(inode, None, now);
        }
        self.tell(&mut round, undone, now, |storage| {
            CommandV1::FinishRecovery(FinishRecoveryV1 { block, storage })
        });
        self.set_phase(inode, Phase::Finishing(round, block, participants));
    }

    /// Tells datanodes, again if they were told some heartbeats ago.
    fn tell(
        &mut self,
        round: &mut Round,
        storages: Vec<StorageIndex>,
        now: Now,
        command: impl Fn(ringfs_proto::ids::StorageId) -> CommandV1,
    ) {
        let pause_ms = u64::from(self.config.heartbeat_interval_ms) * HEARTBEATS_PER_COMMAND;
        for storage in storages {
            let told_ms = round.told_ms.get(&storage);
            if told_ms.is_some_and(|told_ms| now.mono_ms < told_ms + pause_ms) {
                continue;
            }
            let id = self.nodes.storage_id(storage);
            if self.nodes.command(storage, command(id)) {
                round.told_ms.insert(storage, now.mono_ms);
            }
        }
    }

    fn log_end(&mut self, inode: InodeId, open: &OpenFile, end: FileEndV1, now: Now) {
        let (holder, recovery_stamp) = (open.session, open.recovery_stamp);
        let crc = match end {
            FileEndV1::Commit(block) => self.crc_of(Some(block)),
            FileEndV1::AsIs | FileEndV1::Remove(_) => None,
        };
        let change = CloseFileV1 { inode, holder, recovery_stamp, end, crc };
        self.log_own(ChangeV1::CloseFile(change), None, now);
    }

    /// Whether a record may be logged now.
    pub(super) fn changes_are_accepted(&self) -> bool {
        self.check_safe_mode("recover leases").is_ok()
    }
}
