//! Datanodes: registration, heartbeats, reports.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use ringfs_proto::ids::ReportSequence;
use ringfs_proto::limits::REPORT_PAGE_REPLICAS_MAX;
use ringfs_proto::meta::membership::{
    BlockReportRequestV1, CommandV1, FencedReplicaV1, FinalizedReplicaV1, HeartbeatReplyV1,
    HeartbeatRequestV1, IncrementalReportRequestV1, RegisterReplyV1, RegisterRequestV1, ReplicaChangeV1,
    ReplicaState, ReplicaV1, ReportReplyV1,
};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::{Code, WireError};
use roaring::RoaringBitmap;

use super::{Core, Now};
use crate::blocks::{Fault, StorageIndex, fault_of, is_good};
use crate::calls::{Call, Caller, Reply, Request};
use crate::datanodes::Reporting;
use crate::state::Slot;

impl Core {
    /// Answers a datanode, or a reader that tells of one; `None` for all other calls.
    pub(super) fn datanode_call(&mut self, call: &Call, now: Now) -> Option<Result<Reply, WireError>> {
        let caller = &call.caller;
        Some(match &call.request {
            Request::Register(request) => self.register(request, caller, now).map(Reply::Register),
            Request::Heartbeat(request) => self.heartbeat(request, caller, now).map(Reply::Heartbeat),
            Request::BlockReport(request) => self.block_report(request, caller, now).map(Reply::BlockReport),
            Request::Replication(request) => Ok(Reply::Replication(self.ask_replication(request, now))),
            Request::ReportBadBlocks(request) => self.report_bad_blocks(request).map(Reply::ReportBadBlocks),
            Request::IncrementalReport(request) => {
                self.incremental_report(request, caller, now).map(Reply::IncrementalReport)
            }
            _ => return None,
        })
    }

    fn register(
        &mut self,
        request: &RegisterRequestV1,
        caller: &Caller,
        now: Now,
    ) -> Result<RegisterReplyV1, WireError> {
        if request.cluster != self.cluster {
            let message = format!("datanode of cluster {}, this is {}", request.cluster, self.cluster);
            return Err(WireError::new(Code::WrongCluster, message));
        }
        if !self.key.is_proved("register", &caller.nonce, &request.datanode.0, &request.proof) {
            let message = format!("datanode {} does not have the cluster's key", request.datanode);
            return Err(WireError::new(Code::PermissionDenied, message));
        }
        let (epoch, gone) = self.nodes.register(request, caller.address, caller.connection, now.mono_ms)?;
        let node = self.nodes.check_epoch(caller.connection, epoch)?;
        // Commands that were meant for its former registration are lost, and copies with them.
        self.give_up_copies_of(node);
        let storages = self.nodes.storages_of(node).to_vec();
        storages.into_iter().for_each(|storage| self.blocks.keep(storage));
        gone.into_iter().for_each(|storage| self.forget_storage(storage));
        self.look_at_racks(false);
        caller.is_datanode.store(true, Ordering::Relaxed);
        tracing::info!(datanode = %request.datanode, address = %caller.address, port = request.port, volumes = request.volumes.len(), %epoch, "datanode registered");
        Ok(RegisterReplyV1 {
            epoch,
            proof: self.key.prove("accept", &request.nonce, &request.datanode.0),
            clock_s: now.wall_ms / 1000,
            last_stamp: self.last_ids.1,
            heartbeat_interval_ms: self.config.heartbeat_interval_ms,
        })
    }

    fn heartbeat(
        &mut self,
        request: &HeartbeatRequestV1,
        caller: &Caller,
        now: Now,
    ) -> Result<HeartbeatReplyV1, WireError> {
        let index = self.nodes.check_epoch(caller.connection, request.epoch)?;
        // A state that is older than the datanodes', or not yet compared with them, deletes nothing.
        let is_settled = now.mono_ms.saturating_sub(self.started_ms) >= self.config.invalidation_delay_ms;
        let may_invalidate = is_settled && self.safe_mode.is_settled();
        for storage in self.nodes.newly_failed(index, &request.volumes) {
            tracing::warn!(storage = %self.nodes.storage_mut(storage).id, "a volume has failed: its replicas do not count");
            self.forget_storage(storage);
        }
        let per_second = self.config.invalidations_per_second;
        self.renew_by_blocks(&request.written);
        let mut commands = self.nodes.heartbeat(index, request, now.mono_ms, per_second, may_invalidate);
        commands.retain_mut(|command| self.is_still_wanted(index, command));
        Ok(HeartbeatReplyV1 { clock_s: now.wall_ms / 1000, commands })
    }

    /// Whether a command is to be given: replicas that are needed again since they were doomed are taken off it.
    fn is_still_wanted(&mut self, index: usize, command: &mut CommandV1) -> bool {
        let CommandV1::Invalidate(invalidate) = command else { return true };
        // A storage that is not of this datanode any more is not its to delete from.
        let Ok(storage) = self.nodes.storage_index(index, invalidate.storage) else { return false };
        invalidate.replicas.retain(|replica| self.confirm_deletion(storage, *replica));
        !invalidate.replicas.is_empty()
    }

    fn incremental_report(
        &mut self,
        request: &IncrementalReportRequestV1,
        caller: &Caller,
        now: Now,
    ) -> Result<ReportReplyV1, WireError> {
        let index = self.nodes.check_epoch(caller.connection, request.epoch)?;
        let storage_index = self.nodes.storage_index(index, request.storage)?;
        let storage = self.nodes.storage_mut(storage_index);
        if request.sequence <= storage.sequence {
            return Ok(self.report_reply(index, request.sequence));
        }
        storage.sequence = request.sequence;
        for change in &request.changes {
            let block = match change {
                ReplicaChangeV1::Stored(replica) => replica.block,
                ReplicaChangeV1::Deleted(block) | ReplicaChangeV1::Corrupt(block) => *block,
                ReplicaChangeV1::Fenced(fenced) => fenced.block,
                ReplicaChangeV1::Finalized(finalized) => finalized.block,
            };
            if let Some(reporting) = &mut self.nodes.storage_mut(storage_index).reporting {
                reporting.changed.insert(block.block);
            }
            match change {
                ReplicaChangeV1::Stored(replica) => self.stored(storage_index, *replica),
                ReplicaChangeV1::Finalized(finalized) => self.finalized(storage_index, *finalized),
                ReplicaChangeV1::Deleted(block) => self.deleted(storage_index, *block),
                ReplicaChangeV1::Corrupt(block) => self.corrupt(storage_index, *block),
                ReplicaChangeV1::Fenced(fenced) if self.is_known_newer(storage_index, fenced.block) => {}
                // Late, it may be of a block that was closed or deleted: then it is known as what it is.
                ReplicaChangeV1::Fenced(FencedReplicaV1 { block, state, .. }) => {
                    self.stored(storage_index, ReplicaV1 { block: *block, state: *state });
                }
            }
            self.tell_recovery(storage_index, change, now);
            self.wake_parked(block.block, now);
            self.tell_truncation(block.block, now);
        }
        self.look_at_safe_mode();
        Ok(self.report_reply(index, request.sequence))
    }

    fn report_reply(&self, index: usize, sequence: ReportSequence) -> ReportReplyV1 {
        ReportReplyV1 { sequence, has_commands: self.nodes.has_commands(index) }
    }

    /// A page of a full report: a snapshot at its sequence. Nothing is forgotten before the last page.
    fn block_report(
        &mut self,
        request: &BlockReportRequestV1,
        caller: &Caller,
        now: Now,
    ) -> Result<ReportReplyV1, WireError> {
        let index = self.nodes.check_epoch(caller.connection, request.epoch)?;
        let storage_index = self.nodes.storage_index(index, request.storage)?;
        if request.replicas.len() > REPORT_PAGE_REPLICAS_MAX {
            let message =
                format!("a page of {} replicas exceeds {REPORT_PAGE_REPLICAS_MAX}", request.replicas.len());
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        let mut reporting = self.take_reporting(storage_index, request.sequence, request.page)?;
        for replica in &request.replicas {
            if reporting.changed.contains(&replica.block.block) {
                continue;
            }
            if let Some((view, _)) = self.state.block(replica.block.block) {
                reporting.seen.insert(view.slot);
            }
            self.stored(storage_index, *replica);
            self.tell_recovery(storage_index, &ReplicaChangeV1::Stored(*replica), now);
            self.wake_parked(replica.block.block, now);
            self.tell_truncation(replica.block.block, now);
        }
        if request.is_last {
            self.end_report(storage_index, &reporting);
        } else {
            reporting.next_page += 1;
            self.nodes.storage_mut(storage_index).reporting = Some(reporting);
        }
        self.look_at_safe_mode();
        Ok(self.report_reply(index, request.sequence))
    }

    /// The report that a page belongs to; page 0 begins a new one.
    fn take_reporting(
        &mut self,
        storage: StorageIndex,
        sequence: ReportSequence,
        page: u32,
    ) -> Result<Reporting, WireError> {
        let storage = self.nodes.storage_mut(storage);
        if page == 0 {
            if sequence < storage.sequence {
                // What changed since the snapshot is not known any more. Its datanode joins anew and takes another.
                let message =
                    format!("report {sequence} of storage {} is older than {}", storage.id, storage.sequence);
                return Err(WireError::new(Code::InvalidArgument, message));
            }
            // The snapshot contains every change up to its sequence.
            storage.sequence = sequence;
            return Ok(Reporting {
                sequence,
                next_page: 0,
                seen: RoaringBitmap::new(),
                changed: BTreeSet::new(),
            });
        }
        let expected = storage
            .reporting
            .take()
            .filter(|reporting| reporting.sequence == sequence && reporting.next_page == page);
        expected.ok_or_else(|| {
            let message =
                format!("page {page} of report {sequence} of storage {} does not follow", storage.id);
            WireError::new(Code::InvalidArgument, message)
        })
    }

    /// What a full report did not name, and no increment since it began, is not there.
    fn end_report(&mut self, storage: StorageIndex, reporting: &Reporting) {
        let mut unseen = self.blocks.slots_of(storage) - &reporting.seen;
        for block in &reporting.changed {
            if let Some((view, _)) = self.state.block(*block) {
                unseen.remove(view.slot);
            }
        }
        self.blocks.begin_leaving(storage, unseen);
        let storage = self.nodes.storage_mut(storage);
        storage.is_reported = true;
        tracing::info!(storage = %storage.id, replicas = reporting.seen.len(), "full block report");
        self.forget_turn();
    }

    fn stored(&mut self, storage: StorageIndex, replica: ReplicaV1) {
        let block = replica.block;
        if self.is_newer_than_the_log(block) {
            return;
        }
        let Some((view, _)) = self.state.block(block.block) else {
            self.nodes.invalidate(storage, block);
            return;
        };
        if self.nodes.storage_mut(storage).status.is_failed {
            return;
        }
        if view.is_open && block.stamp < view.block.stamp {
            self.blocks.set_bad(view.slot, storage, block, Fault::Outdated);
        } else if view.is_open {
            self.blocks.report_open(view.slot, storage, replica);
        } else if self.is_doomed(view.slot, storage) {
            if let Some(fault) = fault_of(&replica, view.block) {
                self.blocks.set_fault(view.slot, storage, fault);
            } else if is_good(&replica, view.block) {
                self.blocks.set_good(view.slot, storage, block);
                self.judge(view.slot);
            }
        } else {
            self.stored_committed(view.slot, view.block, storage, replica);
        }
    }

    /// A replica is complete.
    fn finalized(&mut self, storage: StorageIndex, finalized: FinalizedReplicaV1) {
        // First: the replica may be what a file waits for to be closed.
        if let Some((view, _)) = self.state.block(finalized.block.block) {
            self.blocks.report_crc(view.slot, storage, finalized);
        }
        self.stored(storage, ReplicaV1 { block: finalized.block, state: ReplicaState::Finalized });
    }

    /// Whether a newer replica is known where an older one is reported: a full report overtakes answers to a recovery, and
    /// the stamp of a replica never falls.
    fn is_known_newer(&self, storage: StorageIndex, found: BlockRefV1) -> bool {
        let Some((view, _)) = self.state.block(found.block) else { return false };
        let open = self.blocks.open(view.slot).and_then(|open| open.replicas.get(&storage));
        let is_good = self.blocks.storages(view.slot).any(|good| good == storage);
        open.is_some_and(|replica| replica.block.stamp > found.stamp)
            || (is_good && view.block.stamp > found.stamp)
    }

    fn stored_committed(&mut self, slot: Slot, block: BlockRefV1, storage: StorageIndex, replica: ReplicaV1) {
        match fault_of(&replica, block) {
            Some(fault) => {
                tracing::warn!(block = %block.block, found = ?replica, expected = ?block, "replica has a wrong length, stamp or state");
                self.blocks.set_bad(slot, storage, replica.block, fault);
            }
            None if is_good(&replica, block) => {
                self.blocks.insert(slot, storage);
                self.arrived(slot, storage);
            }
            // Still being written or copied.
            None => self.blocks.forget(slot, storage),
        }
        self.judge(slot);
    }

    fn deleted(&mut self, storage: StorageIndex, block: BlockRefV1) {
        if let Some((view, _)) = self.state.block(block.block) {
            self.blocks.forget(view.slot, storage);
            self.judge(view.slot);
        }
    }

    fn corrupt(&mut self, storage: StorageIndex, block: BlockRefV1) {
        let Some((view, _)) = self.state.block(block.block) else { return };
        tracing::warn!(block = %block.block, "a datanode reports a corrupt replica");
        if view.is_open {
            self.blocks.forget(view.slot, storage);
        } else if self.is_doomed(view.slot, storage) {
            self.blocks.set_fault(view.slot, storage, Fault::Corrupt);
        } else {
            self.blocks.set_bad(view.slot, storage, block, Fault::Corrupt);
            self.judge(view.slot);
        }
    }
}
