//! ACLs, extended attributes, storage policies.

use ringfs_proto::limits::{XATTR_BYTES_MAX, XATTRS_PER_INODE_MAX};
use ringfs_proto::meta::attributes::{XATTR_CREATE, XATTR_REPLACE, XattrV1};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::acl::{self, Kept};
use super::super::arena::Slot;
use super::super::{Applied, Outcome, State};
use super::MODE_MASK;
use crate::wal::record::{ChangeAclV1, RemoveXattrV1, SetStoragePolicyV1, SetXattrV1};

/// HDFS: `HdfsConstants.MEMORY_STORAGE_POLICY_ID`, whose files get it when they are made and at no other time.
const LAZY_PERSIST: u8 = 15;

impl State {
    /// HDFS: `FSDirAclOp`.
    pub(super) fn change_acl(&mut self, change: &ChangeAclV1) -> Outcome {
        let slot = self.find_existing(&Components::parse(&change.path)?)?;
        let is_directory = self.inodes.get(slot).is_directory();
        let kept = acl::changed(&self.kept_acl(slot), &change.change, is_directory)?;
        self.keep_acl(slot, kept);
        Ok(Applied::Done)
    }

    /// A new inode gets the default ACL of its directory (HDFS: `FSDirectory.copyINodeDefaultAcl`).
    pub(in super::super) fn inherit_acl(&mut self, slot: Slot, parent: Slot, unmasked_mode: u16) {
        let Some(extra) = self.extra_of(parent) else { return };
        let is_directory = self.inodes.get(slot).is_directory();
        if let Some(kept) = acl::inherited(&extra.acl, unmasked_mode & MODE_MASK, is_directory) {
            self.keep_acl(slot, kept);
        }
    }

    pub(in super::super) fn kept_acl(&self, slot: Slot) -> Kept {
        let entries = self.extra_of(slot).map_or_else(Vec::new, |extra| extra.acl.clone());
        Kept { mode: self.inodes.get(slot).mode & MODE_MASK, entries }
    }

    fn keep_acl(&mut self, slot: Slot, kept: Kept) {
        let inode = self.inodes.get_mut(slot);
        inode.mode = inode.mode & !MODE_MASK | kept.mode & MODE_MASK;
        self.change_extra(slot, |extra| extra.acl = kept.entries);
    }

    /// HDFS: `FSDirXAttrOp.setINodeXAttrs`.
    pub(super) fn set_xattr(&mut self, change: &SetXattrV1) -> Outcome {
        let SetXattrV1 { path, xattr, flags } = change;
        let slot = self.find_existing(&Components::parse(path)?)?;
        let mut xattrs = self.extra_of(slot).map_or_else(Vec::new, |extra| extra.xattrs.clone());
        let found = xattrs.binary_search_by(|other| other.name.cmp(&xattr.name));
        let short = short_name(&xattr.name);
        match found {
            Ok(_) if flags & XATTR_REPLACE == 0 => {
                let message = format!("XAttr: {short} already exists. The REPLACE flag must be specified.");
                return Err(WireError::new(Code::AlreadyExists, message));
            }
            Err(_) if flags & XATTR_CREATE == 0 => {
                let message = format!("XAttr: {short} does not exist. The CREATE flag must be specified.");
                return Err(WireError::new(Code::NotFound, message));
            }
            Err(_) if xattrs.len() >= XATTRS_PER_INODE_MAX => {
                let message = format!(
                    "Cannot add additional XAttr to inode, would exceed limit of {XATTRS_PER_INODE_MAX}"
                );
                return Err(WireError::new(Code::LimitExceeded, message));
            }
            Ok(at) => xattrs[at] = xattr.clone(),
            Err(at) => xattrs.insert(at, xattr.clone()),
        }
        self.change_extra(slot, |extra| extra.xattrs = xattrs);
        Ok(Applied::Done)
    }

    /// HDFS: `FSDirXAttrOp.removeXAttr`.
    pub(super) fn remove_xattr(&mut self, change: &RemoveXattrV1) -> Outcome {
        let slot = self.find_existing(&Components::parse(&change.path)?)?;
        let has = |xattr: &XattrV1| xattr.name == change.name;
        if !self.extra_of(slot).is_some_and(|extra| extra.xattrs.iter().any(has)) {
            let message = "No matching attributes found for remove operation";
            return Err(WireError::new(Code::NotFound, message));
        }
        self.change_extra(slot, |extra| extra.xattrs.retain(|xattr| xattr.name != change.name));
        Ok(Applied::Done)
    }

    /// HDFS: `FSDirAttrOp.setStoragePolicy`, `unsetStoragePolicy`.
    pub(super) fn set_storage_policy(&mut self, change: &SetStoragePolicyV1) -> Outcome {
        let slot = self.find_existing(&Components::parse(&change.path)?)?;
        if change.policy == LAZY_PERSIST && !self.inodes.get(slot).is_directory() {
            let message = "Policy LAZY_PERSIST cannot be set after file creation.";
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        self.change_extra(slot, |extra| extra.policy = change.policy);
        Ok(Applied::Done)
    }
}

/// Refuses an attribute that is too large (HDFS: `FSDirXAttrOp.checkXAttrSize`).
///
/// # Errors
/// `LimitExceeded`.
pub(crate) fn check_xattr_size(xattr: &XattrV1) -> Result<(), WireError> {
    let bytes = short_name(&xattr.name).len() + xattr.value.len();
    if bytes <= XATTR_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "The XAttr is too big. The maximum combined size of the name and value is {XATTR_BYTES_MAX}, but the total size is {bytes}"
    );
    Err(WireError::new(Code::LimitExceeded, message))
}

/// The name without its namespace.
fn short_name(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, short)| short)
}
