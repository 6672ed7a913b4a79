//! Leases by age: whose writer is lost for too long, and who may take over.
//!
//! A lease is held as long as its session has a connection. When the last one is gone, its soft limit begins: after it,
//! whoever wants the file gets it by recovery; after the hard limit it is recovered without being asked for. HDFS:
//! `LeaseManager`, with `recoverLease` and overwriting taking over at any time.

use ringfs_proto::ids::{BlockId, InodeId, SessionId};
use ringfs_proto::meta::namespace::{
    BlockRefV1, DoneV1, FileRefV1, RecoverLeaseReplyV1, RecoverLeaseRequestV1,
};
use ringfs_proto::{Code, WireError};

use super::recovery::Recoveries;
use super::sessions::Sessions;
use super::{Core, Now};
use crate::calls::{Call, Reply, Request};
use crate::state::{Access, Applied, Asked, Leases, Outcome};
use crate::wal::record::{ChangeV1, RecordV1};

/// Recoveries that begin by themselves in one tick, at most: a namenode that lost all its writers is not swamped.
pub const EXPIRED_PER_TICK_MAX: usize = 20;

/// Who keeps a file from being written by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// Nobody: it is closed.
    Closed,
    /// A truncation, which ends by itself.
    Truncation,
    /// A writer.
    Writer(InodeId),
}

/// What a start knows of leases: everyone who has one is lost from now on, and what was begun goes on.
pub(super) fn after_start(leases: &Leases, now: Now) -> (Sessions, Recoveries) {
    let mut sessions = Sessions::default();
    sessions.tick(now.mono_ms, |_| true);
    leases.iter().for_each(|(_, file)| sessions.hold(file.session));
    let begun = leases.iter().filter(|(_, file)| file.recovery_stamp.is_some());
    (sessions, Recoveries::begun_before(begun.map(|(inode, _)| inode)))
}

impl Core {
    /// Carries out a call about leases that is no plain change; gives back every other.
    pub(super) fn lease_call(&mut self, call: Call, now: Now) -> Option<Call> {
        match &call.request {
            Request::RecoverLease(request) => {
                let request = request.clone();
                self.recover_lease(&request, call, now);
            }
            Request::RenewLease(request) => {
                self.sessions.renew(call.caller.session);
                let told = request.told.map_or(Ok(()), |(inode, length)| {
                    self.state.check_lease(inode, call.caller.session)?;
                    self.state.tell_length(inode, length);
                    Ok(())
                });
                let reply = Reply::RenewLease(DoneV1 { index: self.state.applied() });
                self.answer(call, told.map(|()| reply));
            }
            Request::AddDatanodes(request) => {
                let request = request.clone();
                let result = self.add_datanodes(&request, &call, now);
                self.answer(call, result.map(Reply::AddDatanodes));
            }
            _ => return Some(call),
        }
        None
    }

    /// HDFS: `FSNamesystem.recoverLease`.
    fn recover_lease(&mut self, request: &RecoverLeaseRequestV1, call: Call, now: Now) {
        match self.lease_to_recover(request, &call) {
            Err(error) => self.answer(call, Err(error)),
            Ok(Lease::Writer(inode)) => self.recover(inode, Some(call), now),
            Ok(lease) => {
                let is_closed = lease == Lease::Closed;
                self.answer(call, Ok(Reply::RecoverLease(RecoverLeaseReplyV1 { is_closed })));
            }
        }
    }

    fn lease_to_recover(&self, request: &RecoverLeaseRequestV1, call: &Call) -> Result<Lease, WireError> {
        let path = self.path_for(call, &request.path, Asked::TRAVERSE)?;
        let file = self.state.file_ref(&FileRefV1::Path(path.canonical()))?;
        if file.session.is_none() {
            let is_cut = self.state.truncations().get(file.inode).is_some();
            return Ok(if is_cut { Lease::Truncation } else { Lease::Closed });
        }
        // Only for a lease that there is (HDFS: `FSNamesystem.recoverLease`).
        self.state.check(call.caller.author(), &path, Asked::target(Access::WRITE))?;
        self.check_safe_mode(&format!("recover the lease of {}", request.path))?;
        Ok(Lease::Writer(file.inode))
    }

    /// Refuses calls of a writer that does not have its file, unless it gets the file back by this call.
    ///
    /// # Errors
    /// `Busy` while its lease is recovered, then `LeaseLost`.
    pub(super) fn check_writer(
        &self,
        inode: InodeId,
        session: SessionId,
        acked: Option<BlockRefV1>,
    ) -> Result<(), WireError> {
        self.check_not_recovering(inode, session)?;
        match self.state.returning(inode, session, acked)? {
            Some(_) => Ok(()),
            None => self.state.check_lease(inode, session),
        }
    }

    /// The writer of a file that is being recovered hears how that ended, not that it lost its lease.
    pub(super) fn check_not_recovering(&self, inode: InodeId, session: SessionId) -> Result<(), WireError> {
        let file = self.state.leases().get(inode).filter(|file| file.session == session);
        if file.is_some() && self.recoveries.contains(inode) {
            let path = self.state.path_of_inode(inode).unwrap_or_default();
            let message = format!("the lease of {path} is being recovered: ask again");
            return Err(WireError::new(Code::Busy, message));
        }
        Ok(())
    }

    /// Blocks that were written lately renew the leases of their files.
    pub(super) fn renew_by_blocks(&mut self, written: &[BlockId]) {
        for block in written {
            let file = self.state.block(*block).map(|(_, file)| file);
            if let Some(session) = file.and_then(|file| file.session) {
                self.sessions.renew(session);
            }
        }
    }

    /// Looks what a record that was applied means for leases and recoveries.
    pub(super) fn leases_changed(&mut self, record: &RecordV1, outcome: &Outcome, now: Now) {
        match &record.change {
            ChangeV1::Create(change) => {
                self.sessions.hold(record.session);
                self.take_over_if_held(&change.path, record.session, outcome, now);
            }
            ChangeV1::Put(change) => self.take_over_if_held(&change.file.path, record.session, outcome, now),
            ChangeV1::Append(change) => {
                self.sessions.hold(record.session);
                self.take_over_if_held(&change.path, record.session, outcome, now);
            }
            ChangeV1::Truncate(change) => {
                self.take_over_if_held(&change.path, record.session, outcome, now);
                if let (Ok(Applied::Truncated(false)), Some(cut)) = (outcome, &change.cut) {
                    self.tell_truncation(cut.block, now);
                }
            }
            ChangeV1::EndTruncate(change) => self.truncation_ended(change),
            ChangeV1::AddBlock(_) | ChangeV1::NewStamp(_) => self.sessions.hold(record.session),
            ChangeV1::FenceWriter(change) => self.writer_fenced(change, outcome, now),
            ChangeV1::CloseFile(change) => self.file_closed(change, outcome, now),
            _ => {}
        }
    }

    /// Somebody wanted a file whose writer is lost (HDFS: `FSNamesystem.recoverLeaseInternal`).
    fn take_over_if_held(&mut self, path: &str, session: SessionId, outcome: &Outcome, now: Now) {
        if !outcome.as_ref().is_err_and(|error| error.code == Code::LeaseHeld) {
            return;
        }
        let Ok(file) = self.state.file_ref(&FileRefV1::Path(path.to_owned())) else { return };
        let holder = file.session.filter(|holder| *holder != session);
        if holder.is_some_and(|holder| self.sessions.is_lost_for(holder, self.config.lease_soft_ms)) {
            self.recover(file.inode, None, now);
        }
    }

    /// Time has passed: leases beyond the hard limit are recovered.
    pub(super) fn look_at_leases(&mut self, now: Now) {
        let leases = self.state.leases();
        self.sessions.tick(now.mono_ms, |session| leases.files_of(session).next().is_some());
        if !self.changes_are_accepted() {
            return;
        }
        let files = self
            .sessions
            .lost_for(self.config.lease_hard_ms)
            .flat_map(|session| leases.files_of(session))
            .filter(|inode| !self.recoveries.contains(*inode));
        let expired: Vec<InodeId> = files.take(EXPIRED_PER_TICK_MAX).collect();
        for inode in expired {
            let path = self.state.path_of_inode(inode).unwrap_or_default();
            tracing::warn!(path, %inode, "the writer is gone for too long: its lease is recovered");
            self.recover(inode, None, now);
        }
    }
}
