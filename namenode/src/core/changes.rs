//! Changes of the namespace: filtered, logged, applied, answered.

use std::sync::Arc;

use ringfs_proto::ids::{BlockId, CallId, InodeId, LogIndex, SessionId, Stamp, Term};
use ringfs_proto::limits::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, REPLICATION_MAX,
};
use ringfs_proto::meta::admin::SafeModeReplyV1;
use ringfs_proto::meta::changes::{CommitReplyV1, TruncateReplyV1};
use ringfs_proto::meta::namespace::{
    AddBlockReplyV1, AddBlockRequestV1, BlockRefV1, CompleteRequestV1, CreateReplyV1, CreateRequestV1,
    DeleteReplyV1, DoneV1, SetReplicationReplyV1, SetReplicationRequestV1,
};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::{Core, Now, Pending, Promise};
use crate::calls::{Call, Credentials, Reply, Request};
use crate::datanodes::Placement;
use crate::state::{Applied, Effect, Outcome, StampGiven};
use crate::wal::BatchBuilder;
use crate::wal::record::{
    AbandonBlockV1, AddBlockV1, ChangeV1, CompleteV1, CreateV1, DeleteV1, MkdirsV1, RecordV1, RenameV1,
    SetReplicationV1,
};

/// The only term until there are replicated namenodes.
const TERM: Term = Term(1);

/// What becomes of a change before it is logged.
enum Filtered {
    Log(ChangeV1, Promise),
    /// It waits for reports of this block.
    Park(BlockId),
}

/// Whose change a record is.
struct By {
    session: SessionId,
    call: CallId,
    lowest_unanswered: CallId,
    user: String,
    credentials: Arc<Credentials>,
}

impl By {
    /// The namenode.
    fn myself() -> Self {
        Self {
            session: SessionId::default(),
            call: CallId(0),
            lowest_unanswered: CallId(0),
            user: String::new(),
            credentials: Credentials::privileged(),
        }
    }
}

impl Core {
    /// Takes a change: a retry is answered from the cache or joins the call in flight; the rest is filtered and logged.
    pub(super) fn change(&mut self, call: Call, now: Now) {
        self.take_change(call, now, None);
    }

    /// Looks again at the calls that wait for a block. One of two copies of a call may be logged by now.
    pub(super) fn wake_parked(&mut self, block: BlockId, now: Now) {
        for (deadline_ms, call) in self.parked.wake(block) {
            self.take_change(call, now, Some(deadline_ms));
        }
    }

    fn take_change(&mut self, call: Call, now: Now, parked_until: Option<u64>) {
        if let Some(call) = self.unknown(call, now) {
            self.filter_and_log(call, now, parked_until);
        }
    }

    /// Gives a call back that comes for the first time; every other is answered, or joins the one in flight.
    pub(super) fn unknown(&mut self, mut call: Call, now: Now) -> Option<Call> {
        let key = (call.caller.session, call.call);
        if let Some(outcome) = self.state.retry_result(key.0, key.1).cloned() {
            let result = self.reply_to(&call, &outcome, now);
            self.answer(call, result);
        } else if self.state.is_answered(key.0, key.1) {
            // A copy that was stuck somewhere: to carry it out now would undo what came after it.
            let message = format!("call {} of session {} was answered or given up before", key.1, key.0);
            self.answer(call, Err(WireError::new(Code::InvalidArgument, message)));
        } else if let Some(index) = self.in_flight.get(&key) {
            let first = self.pending.front().map_or(*index, |pending| pending.record.index);
            if let Some(pending) = self.pending.get_mut((index.0 - first.0) as usize) {
                // Its bytes are in the log by the copy before.
                drop(call.request.take_values());
                pending.waiters.push(call);
            }
        } else {
            return Some(call);
        }
        None
    }

    fn filter_and_log(&mut self, call: Call, now: Now, parked_until: Option<u64>) {
        match (self.filter(&call, now), parked_until) {
            (Err(error), _) => self.answer(call, Err(error)),
            (Ok(Filtered::Log(change, promise)), _) => self.permit_and_log(call, change, promise, now),
            (Ok(Filtered::Park(block)), Some(deadline_ms)) => self.parked.put_back(block, deadline_ms, call),
            (Ok(Filtered::Park(block)), None) => {
                if let Some(call) = self.parked.park(block, call, now.mono_ms) {
                    self.answer(
                        call,
                        Err(WireError::new(Code::Busy, "too many calls wait for block reports")),
                    );
                }
            }
        }
    }

    /// Refuses what cannot succeed, and decides what depends on soft state.
    fn filter(&mut self, call: &Call, now: Now) -> Result<Filtered, WireError> {
        let log = |change| Ok(Filtered::Log(change, Promise::default()));
        match &call.request {
            Request::Mkdirs(request) => {
                self.check_safe_mode(&format!("create directory {}", request.path))?;
                let path = made(&request.path)?;
                log(ChangeV1::Mkdirs(MkdirsV1 {
                    path,
                    mode: request.mode,
                    unmasked_mode: request.unmasked_mode,
                    create_parents: request.create_parents,
                }))
            }
            Request::Create(request) => log(ChangeV1::Create(self.created(request)?)),
            Request::Put(request) => log(self.filter_put(request)?),
            Request::AddBlock(request) => self.filter_add_block(request, call, now),
            Request::AbandonBlock(request) => {
                self.check_safe_mode(&format!("abandon block {}", request.block))?;
                self.check_not_recovering(request.inode, call.caller.session)?;
                log(ChangeV1::AbandonBlock(AbandonBlockV1 { inode: request.inode, block: request.block }))
            }
            Request::Complete(request) => self.filter_complete(request, call),
            Request::Rename(request) => {
                self.check_safe_mode(&format!("rename {}", request.source))?;
                let source = Components::parse(&request.source)?.canonical();
                let target = made(&request.target)?;
                log(ChangeV1::Rename(RenameV1 { source, target, overwrite: request.overwrite }))
            }
            Request::Delete(request) => {
                self.check_safe_mode(&format!("delete {}", request.path))?;
                let path = Components::parse(&request.path)?.canonical();
                let is_subtree_permitted = false;
                log(ChangeV1::Delete(DeleteV1 { path, recursive: request.recursive, is_subtree_permitted }))
            }
            Request::SetReplication(request) => self.filter_set_replication(request),
            Request::UpdateBlockForPipeline(request) => log(self.filter_new_stamp(request, call)?),
            Request::UpdatePipeline(request) => log(self.filter_update_pipeline(request, call)?),
            Request::Commit(request) => log(self.filter_commit(request)?),
            Request::Append(request) => log(self.filter_append(request, call)?),
            Request::Truncate(request) => log(self.filter_truncate(request, call)?),
            Request::Concat(request) => log(self.filter_concat(request)?),
            Request::SafeMode(_) => match self.accept_older_state()? {
                Some(change) => log(ChangeV1::RaiseIds(change)),
                None => Err(WireError::new(Code::Busy, "the state is older no more: ask again")),
            },
            other => match self.filter_attributes(call) {
                Some(change) => log(change?),
                None => Err(WireError::new(Code::Unsupported, format!("{} is no change", other.op().name()))),
            },
        }
    }

    fn filter_set_replication(&self, request: &SetReplicationRequestV1) -> Result<Filtered, WireError> {
        self.check_safe_mode(&format!("set the replication of {}", request.path))?;
        let SetReplicationRequestV1 { path, replication } = request;
        if *replication == 0 {
            let message = format!(
                "Requested replication factor of 0 is less than the required minimum of 1 for {path}"
            );
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        check_replication(*replication, path)?;
        let path = Components::parse(path)?.canonical();
        let change = SetReplicationV1 { path, replication: *replication };
        Ok(Filtered::Log(ChangeV1::SetReplication(change), Promise::default()))
    }

    /// The file that a request makes.
    pub(super) fn created(&self, request: &CreateRequestV1) -> Result<CreateV1, WireError> {
        self.check_safe_mode(&format!("create file {}", request.path))?;
        let path = made(&request.path)?;
        let invalid = |message| Err(WireError::new(Code::InvalidArgument, message));
        let (replication, block_size) =
            self.file_layout(&request.path, request.replication, request.block_size)?;
        let chunk = request.chunk_bytes;
        if chunk != 0 && !(chunk.is_power_of_two() && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk)) {
            return invalid(format!(
                "checksum chunk of {chunk} bytes is not a power of two from {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}"
            ));
        }
        Ok(CreateV1 {
            path,
            mode: request.mode,
            unmasked_mode: request.unmasked_mode,
            overwrite: request.overwrite,
            create_parents: request.create_parents,
            replication,
            block_size,
            checksum: request.checksum,
            chunk_bytes: chunk,
        })
    }

    /// Replication and block size of a new file: the default's where the caller says nothing.
    pub(super) fn file_layout(
        &self,
        path: &str,
        replication: u16,
        block_size: u64,
    ) -> Result<(u16, u64), WireError> {
        let invalid = |message| Err(WireError::new(Code::InvalidArgument, message));
        let replication = if replication == 0 { self.config.replication } else { replication };
        check_replication(replication, path)?;
        let block_size = if block_size == 0 { self.config.block_size } else { block_size };
        if block_size < BLOCK_BYTES_MIN {
            return invalid(format!(
                "Specified block size is less than configured minimum value: {block_size} < {BLOCK_BYTES_MIN}"
            ));
        }
        if block_size > BLOCK_BYTES_MAX || !block_size.is_multiple_of(u64::from(CHUNK_BYTES_MIN)) {
            return invalid(format!(
                "block size {block_size} is not a multiple of {CHUNK_BYTES_MIN} up to {BLOCK_BYTES_MAX}"
            ));
        }
        Ok((replication, block_size))
    }

    fn filter_add_block(
        &mut self,
        request: &AddBlockRequestV1,
        call: &Call,
        now: Now,
    ) -> Result<Filtered, WireError> {
        self.check_safe_mode(&format!("add a block to inode {}", request.inode))?;
        let previous = request.previous.or_else(|| self.last_complete(request.inode, call));
        self.check_writer(request.inode, call.caller.session, previous)?;
        let file = self.state.file(request.inode)?;
        if let Some(block) = self.unreported(previous) {
            return Ok(Filtered::Park(block));
        }
        let placement = Placement {
            replicas: file.replication as usize,
            bytes: file.block_size,
            writer: call.caller.address,
            excluded: &request.excluded,
        };
        let pipeline = self.nodes.place(&placement);
        if pipeline.len() < usize::from(self.config.replication_min.min(file.replication)) {
            self.nodes.release(&pipeline, file.block_size);
            return Err(self.no_room(request, file.block_size, now));
        }
        let (block, stamp) = self.next_block();
        let change = AddBlockV1 {
            inode: request.inode,
            previous,
            previous_crc: self.crc_of(previous),
            block,
            stamp,
            pipeline: pipeline.iter().map(|storage| self.nodes.storage_id(*storage)).collect(),
        };
        Ok(Filtered::Log(ChangeV1::AddBlock(change), Promise { pipeline, bytes: file.block_size }))
    }

    /// What comes before the first block that an HDFS client appends: it does not name it.
    fn last_complete(&self, inode: InodeId, call: &Call) -> Option<BlockRefV1> {
        let file = self.state.file(inode).ok().filter(|_| call.caller.renews_leases)?;
        let last = self.state.last_block_of(&file)?;
        if !last.is_open {
            return Some(last.block);
        }
        let before = last.offset.checked_sub(1)?;
        self.state.blocks_in(&file, before, 1).next().map(|view| view.block)
    }

    /// Why a block finds no place. A silent datanode may be back in a moment, as all are when the namenode was cut off
    /// itself; one that has not registered since a start is as good as silent until it is as good as lost; and when all
    /// are lost nothing is known of their room. Then the writer comes back until its deadline.
    fn no_room(&self, request: &AddBlockRequestV1, block_size: u64, now: Now) -> WireError {
        let [live, stale, dead] = self.nodes.counts();
        let are_silent = stale > 0 || (live == 0 && (dead > 0 || !self.is_unknown_lost(now)));
        let may_come_back = request.excluded.is_empty() && are_silent;
        let code = if may_come_back { Code::Busy } else { Code::NoRoom };
        let path = self.state.path_of_inode(request.inode).unwrap_or_default();
        let message = format!(
            "no datanode has room for a block of {path} ({block_size} bytes): {live} live, {stale} silent, {dead} lost, {} excluded by the writer",
            request.excluded.len()
        );
        WireError::new(code, message)
    }

    fn filter_complete(&mut self, request: &CompleteRequestV1, call: &Call) -> Result<Filtered, WireError> {
        self.check_safe_mode(&format!("close inode {}", request.inode))?;
        self.check_not_recovering(request.inode, call.caller.session)?;
        if let Some(block) = self.unreported(request.last) {
            return Ok(Filtered::Park(block));
        }
        let tail = request.tail.as_ref().map(|tail| self.filter_tail(tail)).transpose()?;
        let (last, crc) = (request.last, self.crc_of(request.last));
        let change = CompleteV1 { inode: request.inode, last, crc, tail };
        Ok(Filtered::Log(ChangeV1::Complete(change), Promise::default()))
    }

    /// The block, if it is open and not yet finalized on enough datanodes as its writer says it is.
    fn unreported(&self, block: Option<BlockRefV1>) -> Option<BlockId> {
        let block = block?;
        let (view, file) = self.state.block(block.block)?;
        let needed = usize::from(self.config.replication_min.min(file.replication));
        (view.is_open && self.blocks.finalized(view.slot, block) < needed).then_some(block.block)
    }

    /// The checksum of a block that is about to be committed.
    pub(super) fn crc_of(&self, block: Option<BlockRefV1>) -> Option<u32> {
        let (view, _) = self.state.block(block?.block)?;
        self.blocks.crc(view.slot, block?)
    }

    /// The next ids: above all that were applied or are logged.
    pub(super) fn next_block(&mut self) -> (BlockId, Stamp) {
        let (block, stamp) = self.last_ids;
        self.last_ids = (BlockId(block.0 + 1), Stamp(stamp.0 + 1));
        self.last_ids
    }

    /// Answers what is a refusal, or has nothing to do, whatever is logged: a program that makes sure of its directories
    /// again and again costs no write. While changes wait to be applied, nothing is foreseen.
    pub(super) fn log_unless_foreseen(&mut self, call: Call, change: ChangeV1, promise: Promise, now: Now) {
        let is_settled = self.pending.is_empty();
        match is_settled.then(|| self.state.foresee(&change, call.caller.session)).flatten() {
            Some(outcome) => {
                let result = self.reply_to(&call, &outcome, now);
                self.answer(call, result);
            }
            None => self.log(call, change, promise, now),
        }
    }

    fn log(&mut self, mut call: Call, change: ChangeV1, promise: Promise, now: Now) {
        let values = call.request.take_values();
        let Call { caller, call: id, lowest_unanswered, .. } = &call;
        let by = By {
            session: caller.session,
            call: *id,
            lowest_unanswered: *lowest_unanswered.min(id),
            user: caller.user.clone(),
            credentials: caller.credentials.clone(),
        };
        self.log_by(by, change, &values, vec![call], promise, now);
    }

    /// Logs a change of the namenode itself. `call` is answered when it is applied.
    pub(super) fn log_own(&mut self, change: ChangeV1, call: Option<Call>, now: Now) {
        self.log_by(By::myself(), change, &[], call.into_iter().collect(), Promise::default(), now);
    }

    /// Logs a change of the namenode itself that brings values.
    pub(super) fn log_own_with(&mut self, change: ChangeV1, values: &[Vec<u8>], now: Now) {
        self.log_by(By::myself(), change, values, Vec::new(), Promise::default(), now);
    }

    fn log_by(
        &mut self,
        by: By,
        mut change: ChangeV1,
        values: &[Vec<u8>],
        waiters: Vec<Call>,
        promise: Promise,
        now: Now,
    ) {
        if self.filling.is_full() {
            let empty: BatchBuilder = self.spare.pop().unwrap_or_default();
            self.full.push_back(core::mem::replace(&mut self.filling, empty));
        }
        for (value, bytes) in change.values_mut().into_iter().zip(values) {
            value.at = self.filling.push_value(bytes);
        }
        let last = self.pending.back().map(|pending| (pending.record.index, pending.record.time_ms));
        let (index, time_ms) = last.unwrap_or((self.state.applied(), self.state.time_ms()));
        let record = RecordV1 {
            index: LogIndex(index.0 + 1),
            term: TERM,
            time_ms: time_ms.max(now.wall_ms),
            session: by.session,
            call: by.call,
            lowest_unanswered: by.lowest_unanswered,
            user: by.user,
            groups: by.credentials.groups.clone(),
            is_privileged: by.credentials.is_privileged,
            change,
        };
        self.filling.push(&record);
        if record.session != SessionId::default() {
            self.in_flight.insert((record.session, record.call), record.index);
        }
        self.pending.push_back(Pending { record, waiters, promise });
    }

    /// Applies a durable change and answers everyone who waits for it.
    pub(super) fn apply(&mut self, pending: Pending, now: Now) {
        let Pending { record, waiters, promise } = pending;
        self.in_flight.remove(&(record.session, record.call));
        let mut effects = core::mem::take(&mut self.effects);
        let outcome = self.state.apply(&record, &mut effects);
        match &record.change {
            ChangeV1::RaiseIds(_) => self.ids_are_raised(),
            ChangeV1::Touch(change) => {
                self.touching.remove(&change.inode);
            }
            ChangeV1::MoveValues(change) => self.values_moved(change),
            _ => {}
        }
        if !effects.iter().any(|effect| matches!(effect, Effect::BlockAdded(..))) {
            // Refused, or the block that an earlier call has added.
            self.nodes.release(&promise.pipeline, promise.bytes);
        }
        for effect in effects.drain(..) {
            self.take_effect(effect, &promise, now);
        }
        self.effects = effects;
        self.leases_changed(&record, &outcome, now);
        self.is_freeing &= !matches!(record.change, ChangeV1::Free);
        self.go_on_freeing(now);
        for call in waiters {
            let result = self.reply_to(&call, &outcome, now);
            self.answer(call, result);
        }
    }

    /// Has more freed of what was deleted: one record at a time, so that others are applied in between.
    pub(super) fn go_on_freeing(&mut self, now: Now) {
        if self.state.has_detached() && !self.is_freeing && self.changes_are_accepted() {
            self.is_freeing = true;
            self.log_own(ChangeV1::Free, None, now);
        }
    }

    fn take_effect(&mut self, effect: Effect, promise: &Promise, now: Now) {
        match effect {
            Effect::BlockAdded(slot, _) => {
                self.blocks.add(slot, promise.pipeline.clone(), promise.bytes);
            }
            Effect::BlockCommitted(slot, block) => {
                self.release_room(slot);
                self.committed(slot, block, now);
            }
            Effect::BlockRemoved(slot, block) => {
                self.release_room(slot);
                self.removed(slot, block);
            }
            Effect::ReplicationChanged(slot) => self.judge(slot),
            Effect::PipelineUpdated(slot, block) => self.pipeline_updated(slot, block),
            Effect::BlockReopened(slot, block) => self.reopened(slot, block),
        }
    }

    /// A block that was being written takes no more than it has: what was promised to it is free again.
    pub(super) fn release_room(&mut self, slot: crate::state::Slot) {
        if let Some(open) = self.blocks.open(slot) {
            self.nodes.release(&open.pipeline, open.promised_bytes);
        }
    }

    /// What the caller gets for an outcome, now or when it asks again.
    fn reply_to(&mut self, call: &Call, outcome: &Outcome, now: Now) -> Result<Reply, WireError> {
        if matches!(call.request, Request::RecoverLease(_)) {
            return Ok(Self::lease_recovery(outcome));
        }
        let applied = outcome.clone()?;
        let done = DoneV1 { index: self.state.applied() };
        let gone = |inode| WireError::new(Code::NotFound, format!("inode {inode} was deleted"));
        match (&call.request, applied) {
            (Request::Create(_), Applied::Created(inode)) => {
                let status = self.state.stat_inode(inode).ok_or_else(|| gone(inode))?;
                Ok(Reply::Create(CreateReplyV1 { status, inline_bytes_max: self.inline_bytes_max() }))
            }
            (Request::Complete(_), Applied::Completed(inode)) => {
                self.state.stat_inode(inode).map(Reply::Complete).ok_or_else(|| gone(inode))
            }
            (Request::Put(_), Applied::Completed(inode)) => {
                self.state.stat_inode(inode).map(Reply::Put).ok_or_else(|| gone(inode))
            }
            (Request::AddBlock(request), Applied::BlockAdded(block)) => {
                let located = self.locate_for_writing(request.inode, block, call, now)?;
                Ok(Reply::AddBlock(AddBlockReplyV1 { located }))
            }
            (Request::Delete(_), Applied::Deleted(deleted)) => Ok(Reply::Delete(DeleteReplyV1 { deleted })),
            (Request::SetReplication(_), Applied::ReplicationSet(is_file)) => {
                Ok(Reply::SetReplication(SetReplicationReplyV1 { is_file }))
            }
            (Request::Append(_), Applied::Opened(inode)) => self.appended(inode, call, now),
            (Request::Truncate(_), Applied::Truncated(is_done)) => {
                Ok(Reply::Truncate(TruncateReplyV1 { is_done }))
            }
            (Request::Commit(_), Applied::Committed(versions)) => {
                Ok(Reply::Commit(CommitReplyV1 { index: done.index, versions }))
            }
            (Request::Concat(_), Applied::Done) => Ok(Reply::Concat(done)),
            (Request::SetPermission(_), Applied::Done) => Ok(Reply::SetPermission(done)),
            (Request::SetOwner(_), Applied::Done) => Ok(Reply::SetOwner(done)),
            (Request::SetTimes(_), Applied::Done) => Ok(Reply::SetTimes(done)),
            (Request::ChangeAcl(_), Applied::Done) => Ok(Reply::ChangeAcl(done)),
            (Request::SetXattr(_), Applied::Done) => Ok(Reply::SetXattr(done)),
            (Request::RemoveXattr(_), Applied::Done) => Ok(Reply::RemoveXattr(done)),
            (Request::SetStoragePolicy(_), Applied::Done) => Ok(Reply::SetStoragePolicy(done)),
            (Request::Mkdirs(_), Applied::Done) => Ok(Reply::Mkdirs(done)),
            (Request::Rename(_), Applied::Done) => Ok(Reply::Rename(done)),
            (Request::AbandonBlock(_), Applied::Done) => Ok(Reply::AbandonBlock(done)),
            (Request::UpdatePipeline(_), Applied::Done) => Ok(Reply::UpdatePipeline(done)),
            (Request::UpdateBlockForPipeline(request), Applied::StampGiven(StampGiven { block, stamp })) => {
                self.stamp_given(request.inode, block, stamp, call, now)
            }
            (Request::SafeMode(_), Applied::Done) => {
                Ok(Reply::SafeMode(SafeModeReplyV1 { reason: self.safe_mode_reason() }))
            }
            (request, applied) => {
                let message =
                    format!("call {} of the session was {applied:?}, not {}", call.call, request.op().name());
                Err(WireError::new(Code::InvalidArgument, message))
            }
        }
    }
}

/// The path of something that is to be made, in its shortest form.
pub(super) fn made(path: &str) -> Result<String, WireError> {
    let path = Components::parse(path)?;
    path.check_can_be_made()?;
    Ok(path.canonical())
}

fn check_replication(replication: u16, path: &str) -> Result<(), WireError> {
    if replication <= REPLICATION_MAX {
        return Ok(());
    }
    let message = format!(
        "Requested replication factor of {replication} exceeds maximum of {REPLICATION_MAX} for {path}"
    );
    Err(WireError::new(Code::InvalidArgument, message))
}
