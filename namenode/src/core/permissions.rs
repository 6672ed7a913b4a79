//! Permissions of calls: what each read asks, what only superusers may, and attributes that are checked before they are logged.

use ringfs_proto::limits::{PRINCIPAL_BYTES_MAX, TIME_MS_MAX};
use ringfs_proto::meta::admin::{ReplicationAction, SafeModeAction};
use ringfs_proto::meta::attributes::{
    CheckAccessRequestV1, SetOwnerRequestV1, SetPermissionRequestV1, SetTimesRequestV1,
};
use ringfs_proto::meta::namespace::{DoneV1, FileRefV1, FileStatusV1};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::{Core, Now};
use crate::calls::{Call, Request};
use crate::state::{Access, Asked};
use crate::wal::record::{ChangeV1, SetOwnerV1, SetPermissionV1, SetTimesV1, TouchV1};

/// Accesses that are logged and not yet applied, at most; more are not noted.
const TOUCHES_MAX: usize = 4096;

impl Core {
    /// Refuses what only superusers may (HDFS: `FSNamesystem.checkSuperuserPrivilege`).
    pub(super) fn check_superuser(&self, call: &Call) -> Result<(), WireError> {
        let is_reserved = match &call.request {
            Request::DatanodeReport(_)
            | Request::Checkpoint(_)
            | Request::ListOpenFiles(_)
            | Request::ListCorruptFiles(_) => true,
            Request::SafeMode(request) => request.action != SafeModeAction::Get,
            Request::Replication(request) => request.action != ReplicationAction::Get,
            _ => false,
        };
        if !is_reserved || call.caller.author().is_privileged {
            return Ok(());
        }
        let user = &call.caller.user;
        let message = format!("Access denied for user {user}. Superuser privilege is required");
        Err(WireError::new(Code::PermissionDenied, message))
    }

    /// A path of which the caller may have what is asked.
    pub(super) fn path_for<'p>(
        &self,
        call: &Call,
        path: &'p str,
        asked: Asked,
    ) -> Result<Components<'p>, WireError> {
        let path = Components::parse(path)?;
        self.state.check(call.caller.author(), &path, asked)?;
        Ok(path)
    }

    /// The caller may read a file, or holds its lease.
    pub(super) fn check_readable(&self, call: &Call, file: &FileRefV1) -> Result<(), WireError> {
        let read = Asked::target(Access::READ);
        match file {
            FileRefV1::Path(path) => self.path_for(call, path, read).map(|_path| ()),
            FileRefV1::Inode(inode) => {
                let is_writer = self.state.check_lease(*inode, call.caller.session).is_ok();
                if is_writer { Ok(()) } else { self.state.check_inode(call.caller.author(), *inode, read) }
            }
        }
    }

    /// HDFS: `FSNamesystem.checkAccess`.
    pub(super) fn check_access(
        &self,
        request: &CheckAccessRequestV1,
        call: &Call,
    ) -> Result<DoneV1, WireError> {
        let asked = Asked::target(Access::from_bits(request.access));
        let path = self.path_for(call, &request.path, asked)?;
        self.state.stat(&path)?;
        Ok(DoneV1 { index: self.state.applied() })
    }

    /// A file was opened: notes it, once in a while (HDFS: `dfs.namenode.accesstime.precision`).
    pub(super) fn note_access(&mut self, status: &FileStatusV1, now: Now) {
        let precision_ms = self.config.access_time_precision_ms;
        let is_due = precision_ms > 0 && now.wall_ms > status.atime_ms.saturating_add(precision_ms);
        if !is_due || !self.changes_are_accepted() || self.touching.len() >= TOUCHES_MAX {
            return;
        }
        if self.touching.insert(status.inode) {
            self.log_own(ChangeV1::Touch(TouchV1 { inode: status.inode }), None, now);
        }
    }

    pub(super) fn filter_set_permission(
        &self,
        request: &SetPermissionRequestV1,
    ) -> Result<ChangeV1, WireError> {
        let SetPermissionRequestV1 { path, mode } = request;
        self.check_safe_mode(&format!("set permission for {path}"))?;
        let path = Components::parse(path)?.canonical();
        Ok(ChangeV1::SetPermission(SetPermissionV1 { path, mode: *mode }))
    }

    pub(super) fn filter_set_owner(&self, request: &SetOwnerRequestV1) -> Result<ChangeV1, WireError> {
        let SetOwnerRequestV1 { path, owner, group } = request;
        self.check_safe_mode(&format!("set owner for {path}"))?;
        for name in [owner, group].into_iter().flatten() {
            check_principal(name)?;
        }
        let path = Components::parse(path)?.canonical();
        Ok(ChangeV1::SetOwner(SetOwnerV1 { path, owner: owner.clone(), group: group.clone() }))
    }

    pub(super) fn filter_set_times(&self, request: &SetTimesRequestV1) -> Result<ChangeV1, WireError> {
        let SetTimesRequestV1 { path, mtime_ms, atime_ms } = request;
        self.check_safe_mode(&format!("set times {path}"))?;
        let invalid = |message| Err(WireError::new(Code::InvalidArgument, message));
        if atime_ms.is_some() && self.config.access_time_precision_ms == 0 {
            return invalid(
                "Access time is not configured: access_time_precision_ms of the namenode is 0".to_owned(),
            );
        }
        if let Some(time_ms) = [mtime_ms, atime_ms].into_iter().flatten().find(|time| **time > TIME_MS_MAX) {
            return invalid(format!("time {time_ms} of {path} exceeds {TIME_MS_MAX} ms"));
        }
        let path = Components::parse(path)?.canonical();
        Ok(ChangeV1::SetTimes(SetTimesV1 { path, mtime_ms: *mtime_ms, atime_ms: *atime_ms }))
    }
}

/// Refuses a name that no user and no group can have.
pub(super) fn check_principal(name: &str) -> Result<(), WireError> {
    if !name.is_empty() && name.len() <= PRINCIPAL_BYTES_MAX {
        return Ok(());
    }
    let message =
        format!("a user or group name has 1 to {PRINCIPAL_BYTES_MAX} bytes, this one has {}", name.len());
    Err(WireError::new(Code::InvalidArgument, message))
}
