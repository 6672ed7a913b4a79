//! Who owns files and directories, who may do what with them, and what else they carry.

use ringfs_proto::meta::attributes::{
    AclChangeV1, ChangeAclRequestV1, CheckAccessRequestV1, GetAclRequestV1, GetStoragePoliciesRequestV1,
    GetXattrsRequestV1, RemoveXattrRequestV1, SetOwnerRequestV1, SetPermissionRequestV1,
    SetStoragePolicyRequestV1, SetTimesRequestV1, SetXattrRequestV1, XATTR_CREATE, XATTR_REPLACE, XattrV1,
};
use ringfs_proto::ops::{
    ChangeAcl, CheckAccess, GetAcl, GetStoragePolicies, GetXattrs, RemoveXattr, SetOwner, SetPermission,
    SetStoragePolicy, SetTimes, SetXattr,
};

use crate::client::Client;
use crate::error::Result;
use crate::{Acl, AclEntry, StoragePolicy, Xattr};

impl Client {
    /// Changes the permission bits of a path, `0o1777` at most. The owner and superusers may.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `SafeMode`.
    ///
    /// ```no_run
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// client.set_permission("/datasets", 0o750)?;
    /// # Ok::<(), ringfs_sdk::Error>(())
    /// ```
    pub fn set_permission(&self, path: &str, mode: u16) -> Result<()> {
        let request = SetPermissionRequestV1 { path: path.to_owned(), mode };
        self.shared.namenode.call::<SetPermission>("set the permission of", path, &request).map(|_done| ())
    }

    /// Changes the owner, the group, or both. Superusers may; the owner may give a path to a group that he belongs to.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `Refused` (a name that is empty or above 64 bytes), `SafeMode`.
    pub fn set_owner(&self, path: &str, owner: Option<&str>, group: Option<&str>) -> Result<()> {
        let (owner, group) = (owner.map(str::to_owned), group.map(str::to_owned));
        let request = SetOwnerRequestV1 { path: path.to_owned(), owner, group };
        self.shared.namenode.call::<SetOwner>("set the owner of", path, &request).map(|_done| ())
    }

    /// Changes the time of the content, of the last access, or both, in ms since 1970; access times are kept to the second.
    /// Whoever may write the path may.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `Refused` (a time beyond the year 2106; one of access where the namenode keeps none),
    /// `SafeMode`.
    pub fn set_times(&self, path: &str, mtime_ms: Option<u64>, atime_ms: Option<u64>) -> Result<()> {
        let request = SetTimesRequestV1 { path: path.to_owned(), mtime_ms, atime_ms };
        self.shared.namenode.call::<SetTimes>("set the times of", path, &request).map(|_done| ())
    }

    /// Asks whether the caller may read (4), write (2) or execute (1) a path, or a sum of these.
    ///
    /// # Errors
    /// `PermissionDenied` if he may not, `NotFound`.
    pub fn check_access(&self, path: &str, access: u8) -> Result<()> {
        let request = CheckAccessRequestV1 { path: path.to_owned(), access };
        self.shared.namenode.call::<CheckAccess>("check access to", path, &request).map(|_done| ())
    }
}

/// Extended attributes.
impl Client {
    /// Sets an extended attribute, whether or not it is there. Names begin with `user.`, or with `trusted.`, which only
    /// superusers see.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `Refused` (no such namespace; above 16 KiB, or more than 32 of them), `SafeMode`.
    ///
    /// ```no_run
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// client.set_xattr("/datasets/train.bin", "user.origin", b"crawl 7")?;
    /// # Ok::<(), ringfs_sdk::Error>(())
    /// ```
    pub fn set_xattr(&self, path: &str, name: &str, value: &[u8]) -> Result<()> {
        self.set_xattr_with(path, name, value, XATTR_CREATE | XATTR_REPLACE)
    }

    /// As [`Self::set_xattr`], with flags: 1 allows that it is made, 2 that it is replaced.
    ///
    /// # Errors
    /// As [`Self::set_xattr`]; `AlreadyExists` or `NotFound` where the flags do not allow what is to be done.
    pub fn set_xattr_with(&self, path: &str, name: &str, value: &[u8], flags: u8) -> Result<()> {
        let xattr = XattrV1 { name: name.to_owned(), value: value.to_vec() };
        let request = SetXattrRequestV1 { path: path.to_owned(), xattr, flags };
        self.shared.namenode.call::<SetXattr>("set an attribute of", path, &request).map(|_done| ())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `NotFound` (the path or the attribute), `PermissionDenied`, `SafeMode`.
    pub fn remove_xattr(&self, path: &str, name: &str) -> Result<()> {
        let request = RemoveXattrRequestV1 { path: path.to_owned(), name: name.to_owned() };
        self.shared.namenode.call::<RemoveXattr>("remove an attribute of", path, &request).map(|_done| ())
    }

    /// Extended attributes with their values: those named, or all when none is.
    ///
    /// # Errors
    /// `NotFound` (the path or an attribute), `PermissionDenied`.
    pub fn xattrs(&self, path: &str, names: &[&str]) -> Result<Vec<Xattr>> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.get_xattrs(path, names, true)
    }

    /// Names of all extended attributes of a path.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub fn xattr_names(&self, path: &str) -> Result<Vec<String>> {
        let all = self.get_xattrs(path, Vec::new(), false)?;
        Ok(all.into_iter().map(|xattr| xattr.name).collect())
    }

    fn get_xattrs(&self, path: &str, names: Vec<String>, with_values: bool) -> Result<Vec<Xattr>> {
        let request = GetXattrsRequestV1 { path: path.to_owned(), names, with_values };
        let reply = self.shared.namenode.call::<GetXattrs>("get attributes of", path, &request)?;
        Ok(reply.xattrs)
    }
}

/// Access control lists.
impl Client {
    /// The ACLs of a path.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub fn acl(&self, path: &str) -> Result<Acl> {
        let request = GetAclRequestV1 { path: path.to_owned() };
        self.shared.namenode.call::<GetAcl>("get the ACL of", path, &request)
    }

    /// Adds entries to the ACLs of a path, or gives them other permissions. The owner and superusers may.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `Refused` (it would be no valid ACL), `SafeMode`.
    pub fn modify_acl(&self, path: &str, entries: &[AclEntry]) -> Result<()> {
        self.change_acl(path, AclChangeV1::Modify(entries.to_vec()))
    }

    /// Removes entries, whatever their permissions.
    ///
    /// # Errors
    /// As [`Self::modify_acl`].
    pub fn remove_acl_entries(&self, path: &str, entries: &[AclEntry]) -> Result<()> {
        self.change_acl(path, AclChangeV1::Remove(entries.to_vec()))
    }

    /// Removes the default ACL of a directory.
    ///
    /// # Errors
    /// As [`Self::modify_acl`].
    pub fn remove_default_acl(&self, path: &str) -> Result<()> {
        self.change_acl(path, AclChangeV1::RemoveDefault)
    }

    /// Removes both ACLs: what is left are the permission bits.
    ///
    /// # Errors
    /// As [`Self::modify_acl`].
    pub fn remove_acl(&self, path: &str) -> Result<()> {
        self.change_acl(path, AclChangeV1::RemoveAll)
    }

    /// Replaces each ACL, access and default, of which there is an entry.
    ///
    /// # Errors
    /// As [`Self::modify_acl`].
    pub fn set_acl(&self, path: &str, entries: &[AclEntry]) -> Result<()> {
        self.change_acl(path, AclChangeV1::Set(entries.to_vec()))
    }

    fn change_acl(&self, path: &str, change: AclChangeV1) -> Result<()> {
        let request = ChangeAclRequestV1 { path: path.to_owned(), change };
        self.shared.namenode.call::<ChangeAcl>("change the ACL of", path, &request).map(|_done| ())
    }
}

/// Storage policies. They are kept, inherited and reported; where replicas go does not depend on them yet.
impl Client {
    /// Gives a file or directory a storage policy, by its name in HDFS: `HOT`, `COLD`, `WARM`, `ALL_SSD`, `ONE_SSD`,
    /// `ALL_NVDIMM`, `LAZY_PERSIST`, `PROVIDED`.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `Refused` (no such policy), `SafeMode`.
    pub fn set_storage_policy(&self, path: &str, policy: &str) -> Result<()> {
        self.change_storage_policy(path, Some(policy.to_owned()))
    }

    /// Takes the own storage policy of a path away, so that the directory's counts.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `SafeMode`.
    pub fn unset_storage_policy(&self, path: &str) -> Result<()> {
        self.change_storage_policy(path, None)
    }

    /// The storage policy of a path, its own, inherited, or `HOT`.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub fn storage_policy(&self, path: &str) -> Result<Option<StoragePolicy>> {
        let request = GetStoragePoliciesRequestV1 { path: Some(path.to_owned()) };
        let call =
            self.shared.namenode.call::<GetStoragePolicies>("get the storage policy of", path, &request);
        Ok(call?.of_path)
    }

    /// All storage policies, by number.
    ///
    /// # Errors
    /// `TimedOut`, `Unreachable`.
    pub fn storage_policies(&self) -> Result<Vec<StoragePolicy>> {
        let request = GetStoragePoliciesRequestV1 { path: None };
        let call = self.shared.namenode.call::<GetStoragePolicies>("list storage policies of", "/", &request);
        Ok(call?.policies)
    }

    fn change_storage_policy(&self, path: &str, policy: Option<String>) -> Result<()> {
        let request = SetStoragePolicyRequestV1 { path: path.to_owned(), policy };
        let call = self.shared.namenode.call::<SetStoragePolicy>("set the storage policy of", path, &request);
        call.map(|_done| ())
    }
}
