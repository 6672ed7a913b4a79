//! ACLs, extended attributes and storage policies: what is refused before it is logged, and what readers are told.

use ringfs_proto::limits::XATTRS_PER_INODE_MAX;
use ringfs_proto::meta::attributes::{
    AclChangeV1, ChangeAclRequestV1, GetAclReplyV1, GetAclRequestV1, GetStoragePoliciesReplyV1,
    GetStoragePoliciesRequestV1, GetXattrsReplyV1, GetXattrsRequestV1, RemoveXattrRequestV1,
    SetStoragePolicyRequestV1, SetXattrRequestV1, StoragePolicyV1, XATTR_CREATE, XATTR_REPLACE, XattrV1,
};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::Core;
use super::permissions::check_principal;
use crate::calls::{Call, Reply, Request};
use crate::state::{Access, Asked, Author, STORAGE_POLICIES, STORAGE_POLICY_DEFAULT, check_xattr_size};
use crate::wal::record::{ChangeAclV1, ChangeV1, RemoveXattrV1, SetStoragePolicyV1, SetXattrV1};

/// Bytes of an attribute's name with its namespace.
const XATTR_NAME_BYTES_MAX: usize = 255;

impl Core {
    /// Answers a read of attributes; `None` for everything else.
    pub(super) fn attribute_read(&self, call: &Call) -> Option<Result<Reply, WireError>> {
        Some(match &call.request {
            Request::CheckAccess(request) => self.check_access(request, call).map(Reply::CheckAccess),
            Request::GetAcl(request) => self.acl(request, call).map(Reply::GetAcl),
            Request::GetXattrs(request) => self.xattrs(request, call).map(Reply::GetXattrs),
            Request::GetStoragePolicies(request) => {
                self.storage_policies(request, call).map(Reply::GetStoragePolicies)
            }
            _ => return None,
        })
    }

    /// The record of a change of attributes; `None` for everything else.
    pub(super) fn filter_attributes(&self, call: &Call) -> Option<Result<ChangeV1, WireError>> {
        Some(match &call.request {
            Request::SetPermission(request) => self.filter_set_permission(request),
            Request::SetOwner(request) => self.filter_set_owner(request),
            Request::SetTimes(request) => self.filter_set_times(request),
            Request::ChangeAcl(request) => self.filter_change_acl(request),
            Request::SetXattr(request) => self.filter_set_xattr(request, call),
            Request::RemoveXattr(request) => self.filter_remove_xattr(request, call),
            Request::SetStoragePolicy(request) => self.filter_set_storage_policy(request),
            _ => return None,
        })
    }

    fn filter_change_acl(&self, request: &ChangeAclRequestV1) -> Result<ChangeV1, WireError> {
        self.check_safe_mode(&format!("change the ACL of {}", request.path))?;
        let path = Components::parse(&request.path)?.canonical();
        if let AclChangeV1::Modify(entries) | AclChangeV1::Remove(entries) | AclChangeV1::Set(entries) =
            &request.change
        {
            entries.iter().filter_map(|entry| entry.name.as_deref()).try_for_each(check_principal)?;
        }
        Ok(ChangeV1::ChangeAcl(ChangeAclV1 { path, change: request.change.clone() }))
    }

    /// HDFS: `FSDirAclOp.getAclStatus`.
    fn acl(&self, request: &GetAclRequestV1, call: &Call) -> Result<GetAclReplyV1, WireError> {
        let path = self.path_for(call, &request.path, Asked::TRAVERSE)?;
        let status = self.state.stat(&path)?;
        let entries = self.state.acl_entries(status.inode).to_vec();
        Ok(GetAclReplyV1 { owner: status.owner, group: status.group, mode: status.mode, entries })
    }

    fn filter_set_xattr(&self, request: &SetXattrRequestV1, call: &Call) -> Result<ChangeV1, WireError> {
        let SetXattrRequestV1 { path, xattr, flags } = request;
        self.check_safe_mode(&format!("set XAttr on {path}"))?;
        if flags & (XATTR_CREATE | XATTR_REPLACE) == 0 {
            return Err(WireError::new(Code::InvalidArgument, "A flag must be specified."));
        }
        let name = xattr_name(&xattr.name, call.caller.author())?;
        let xattr = XattrV1 { name, value: xattr.value.clone() };
        check_xattr_size(&xattr)?;
        let path = Components::parse(path)?.canonical();
        Ok(ChangeV1::SetXattr(SetXattrV1 { path, xattr, flags: *flags }))
    }

    fn filter_remove_xattr(
        &self,
        request: &RemoveXattrRequestV1,
        call: &Call,
    ) -> Result<ChangeV1, WireError> {
        self.check_safe_mode(&format!("remove XAttr entry on {}", request.path))?;
        let name = xattr_name(&request.name, call.caller.author())?;
        let path = Components::parse(&request.path)?.canonical();
        Ok(ChangeV1::RemoveXattr(RemoveXattrV1 { path, name }))
    }

    /// HDFS: `FSDirXAttrOp.getXAttrs`, `listXAttrs`.
    fn xattrs(&self, request: &GetXattrsRequestV1, call: &Call) -> Result<GetXattrsReplyV1, WireError> {
        let author = call.caller.author();
        if request.names.len() > XATTRS_PER_INODE_MAX {
            let message =
                format!("{} attributes are asked for, at most {XATTRS_PER_INODE_MAX}", request.names.len());
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        let names = request.names.iter().map(|name| xattr_name(name, author));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let asked = if request.with_values { Asked::target(Access::READ) } else { Asked::TRAVERSE };
        let path = self.path_for(call, &request.path, asked)?;
        let all = self.state.xattrs(self.state.stat(&path)?.inode);
        let shown = |xattr: &XattrV1| XattrV1 {
            name: xattr.name.clone(),
            value: if request.with_values { xattr.value.clone() } else { Vec::new() },
        };
        if names.is_empty() {
            let visible = all.iter().filter(|xattr| xattr_name(&xattr.name, author).is_ok());
            return Ok(GetXattrsReplyV1 { xattrs: visible.map(shown).collect() });
        }
        let found = names.iter().map(|name| all.iter().find(|xattr| xattr.name == *name).map(shown));
        let missing =
            || WireError::new(Code::NotFound, "At least one of the attributes provided was not found.");
        Ok(GetXattrsReplyV1 { xattrs: found.collect::<Option<_>>().ok_or_else(missing)? })
    }

    fn filter_set_storage_policy(&self, request: &SetStoragePolicyRequestV1) -> Result<ChangeV1, WireError> {
        let SetStoragePolicyRequestV1 { path, policy } = request;
        self.check_safe_mode(&format!("set storage policy for {path}"))?;
        let policy = match policy {
            None => 0,
            Some(wanted) => {
                let found = STORAGE_POLICIES.iter().find(|(_, name)| name.eq_ignore_ascii_case(wanted));
                let unknown = || format!("Cannot find a block policy with the name {wanted}");
                found.ok_or_else(|| WireError::new(Code::InvalidArgument, unknown()))?.0
            }
        };
        let path = Components::parse(path)?.canonical();
        Ok(ChangeV1::SetStoragePolicy(SetStoragePolicyV1 { path, policy }))
    }

    /// HDFS: `FSDirAttrOp.getStoragePolicies`, `getStoragePolicy`.
    fn storage_policies(
        &self,
        request: &GetStoragePoliciesRequestV1,
        call: &Call,
    ) -> Result<GetStoragePoliciesReplyV1, WireError> {
        let named = |(id, name): (u8, &str)| StoragePolicyV1 { id, name: name.to_owned() };
        let of_path = match &request.path {
            None => None,
            Some(path) => {
                let path = self.path_for(call, path, Asked::target(Access::READ))?;
                let own = self.state.stat(&path)?.storage_policy;
                let id = if own == 0 { STORAGE_POLICY_DEFAULT } else { own };
                STORAGE_POLICIES.into_iter().find(|policy| policy.0 == id).map(named)
            }
        };
        Ok(GetStoragePoliciesReplyV1 { policies: STORAGE_POLICIES.into_iter().map(named).collect(), of_path })
    }
}

/// The name of an attribute with its namespace in small letters, if somebody may see and set it (HDFS:
/// `XAttrHelper.buildXAttr`, `XAttrPermissionFilter.checkPermissionForApi`).
fn xattr_name(name: &str, author: Author<'_>) -> Result<String, WireError> {
    let invalid = |message: String| Err(WireError::new(Code::InvalidArgument, message));
    let (namespace, short) = name.split_once('.').unwrap_or((name, ""));
    let namespace = namespace.to_ascii_lowercase();
    if !matches!(namespace.as_str(), "user" | "trusted" | "security" | "system" | "raw")
        || !name.contains('.')
    {
        return invalid(
            "An XAttr name must be prefixed with user/trusted/security/system/raw, followed by a '.'"
                .to_owned(),
        );
    }
    if short.is_empty() {
        return invalid("XAttr name cannot be empty.".to_owned());
    }
    if name.len() > XATTR_NAME_BYTES_MAX {
        return invalid(format!("an XAttr name of {} bytes exceeds {XATTR_NAME_BYTES_MAX}", name.len()));
    }
    match namespace.as_str() {
        "user" => Ok(format!("{namespace}.{short}")),
        "trusted" if author.is_privileged => Ok(format!("{namespace}.{short}")),
        _ => {
            let message = format!("User doesn't have permission for xattr: {name}");
            Err(WireError::new(Code::PermissionDenied, message))
        }
    }
}
