//! Client and namenode: who owns an inode, who may do what with it, and what else it carries.

/// Changes permission bits. The owner and superusers may. HDFS: `ClientProtocol.setPermission`.
///
/// Errors: `NotFound`, `PermissionDenied`, `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetPermissionRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Permission bits, `0o1777` at most; other bits are ignored.
    pub mode: u16,
}

/// Changes owner and group. Only superusers may change the owner; the owner may give the group to one of his own. HDFS:
/// `ClientProtocol.setOwner`.
///
/// Errors: `NotFound`, `PermissionDenied`, `InvalidArgument` (a name that is empty or too long), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetOwnerRequestV1 {
    /// Absolute path.
    pub path: String,
    /// The new owner; `None` keeps it.
    pub owner: Option<String>,
    /// The new group; `None` keeps it.
    pub group: Option<String>,
}

/// Changes times. Whoever may write the path may. HDFS: `ClientProtocol.setTimes`.
///
/// Errors: `NotFound`, `PermissionDenied`, `InvalidArgument` (a time above `TIME_MS_MAX`, or one of access where none are
/// kept), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetTimesRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Time of the content, ms since 1970; `None` keeps it.
    pub mtime_ms: Option<u64>,
    /// Time of the last access, ms since 1970, kept to the second; `None` keeps it.
    pub atime_ms: Option<u64>,
}

/// Asks whether the caller may do something. HDFS: `ClientProtocol.checkAccess`.
///
/// Errors: `NotFound`, `PermissionDenied`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckAccessRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Read 4, write 2, execute 1, or a sum of these; other bits are ignored.
    pub access: u8,
}

crate::impl_message!(SetPermissionRequestV1, SetOwnerRequestV1, SetTimesRequestV1, CheckAccessRequestV1);

/// Which ACL an entry belongs to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub enum AclScope {
    /// That of the inode.
    Access,
    /// That which new entries of a directory get.
    Default,
}

/// Whom an entry of an ACL is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub enum AclKind {
    /// A user: the owner without a name.
    User,
    /// A group: that of the inode without a name.
    Group,
    /// The most that named users and all groups have. Never has a name.
    Mask,
    /// Everybody else. Never has a name.
    Other,
}

/// An entry of an ACL, as POSIX 1003.1e has them. They are in order of scope, kind and name.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AclEntryV1 {
    /// Which ACL.
    pub scope: AclScope,
    /// Whom it is about.
    pub kind: AclKind,
    /// Which user or group; `None` for those of the inode, the mask, and the others.
    pub name: Option<String>,
    /// Read 4, write 2, execute 1, or a sum.
    pub permission: u8,
}

/// What becomes of the ACLs of an inode. HDFS: `AclTransformation`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum AclChangeV1 {
    /// Adds entries, or gives them other permissions; all others stay.
    Modify(Vec<AclEntryV1>),
    /// Removes entries, whatever their permissions.
    Remove(Vec<AclEntryV1>),
    /// Removes the default ACL.
    RemoveDefault,
    /// Removes both: what is left are the permission bits.
    RemoveAll,
    /// Replaces each ACL of which there is an entry. Nothing at all removes both.
    Set(Vec<AclEntryV1>),
}

/// Changes ACLs. The owner and superusers may.
///
/// Errors: `NotFound`, `PermissionDenied`, `InvalidArgument` (see `docs/semantics.md`), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ChangeAclRequestV1 {
    /// Absolute path.
    pub path: String,
    /// What becomes of them.
    pub change: AclChangeV1,
}

/// Asks for the ACLs of a path. HDFS: `ClientProtocol.getAclStatus`. Errors: `NotFound`, `PermissionDenied`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GetAclRequestV1 {
    /// Absolute path.
    pub path: String,
}

/// The ACLs of an inode.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GetAclReplyV1 {
    /// Name of the owner.
    pub owner: String,
    /// Name of the group.
    pub group: String,
    /// Permission bits; where there is an access ACL, those of the group are its mask.
    pub mode: u16,
    /// Of the access ACL named users, the group and named groups, for the rest is in the mode; then the default ACL.
    pub entries: Vec<AclEntryV1>,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct XattrV1 {
    /// Its name with its namespace: `user.` or, for superusers alone, `trusted.`.
    pub name: String,
    /// Its value; empty where only names were asked for.
    pub value: Vec<u8>,
}

/// Sets an extended attribute. HDFS: `ClientProtocol.setXAttr`.
///
/// Errors: `NotFound` (the path; the attribute, without [`XATTR_CREATE`]), `AlreadyExists` (the attribute, without
/// [`XATTR_REPLACE`]), `PermissionDenied`, `InvalidArgument`, `LimitExceeded`, `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetXattrRequestV1 {
    /// Absolute path.
    pub path: String,
    /// The attribute.
    pub xattr: XattrV1,
    /// [`XATTR_CREATE`], [`XATTR_REPLACE`], or both.
    pub flags: u8,
}

/// An attribute may be made.
pub const XATTR_CREATE: u8 = 1;
/// An attribute may be replaced.
pub const XATTR_REPLACE: u8 = 2;

/// Removes an extended attribute. HDFS: `ClientProtocol.removeXAttr`.
///
/// Errors: `NotFound` (the path or the attribute), `PermissionDenied`, `InvalidArgument`, `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RemoveXattrRequestV1 {
    /// Absolute path.
    pub path: String,
    /// The attribute.
    pub name: String,
}

/// Asks for extended attributes. HDFS: `ClientProtocol.getXAttrs`, `listXAttrs`.
///
/// Errors: `NotFound` (the path or an attribute), `PermissionDenied`, `InvalidArgument`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GetXattrsRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Which; empty means all that the caller may see.
    pub names: Vec<String>,
    /// Whether values are wanted: they take the right to read the path, names only the way to it.
    pub with_values: bool,
}

/// Extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GetXattrsReplyV1 {
    /// In the order in which they were asked for, else by name.
    pub xattrs: Vec<XattrV1>,
}

/// Says on what kind of storage a file, or what is below a directory, should be. HDFS: `ClientProtocol.setStoragePolicy`.
///
/// Errors: `NotFound`, `PermissionDenied`, `InvalidArgument` (no such policy), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetStoragePolicyRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Its name; `None` takes the path's own policy away, so that the parent's counts again.
    pub policy: Option<String>,
}

/// A storage policy.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct StoragePolicyV1 {
    /// Its number, as in HDFS.
    pub id: u8,
    /// Its name.
    pub name: String,
}

/// Asks for all policies, and for that of a path. Errors: `NotFound`, `PermissionDenied`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GetStoragePoliciesRequestV1 {
    /// Absolute path.
    pub path: Option<String>,
}

/// Storage policies.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GetStoragePoliciesReplyV1 {
    /// All that there are, by number.
    pub policies: Vec<StoragePolicyV1>,
    /// That of the path, its own or inherited.
    pub of_path: Option<StoragePolicyV1>,
}

impl AclEntryV1 {
    /// What tells entries apart, and their order.
    pub fn key(&self) -> (AclScope, AclKind, Option<&str>) {
        (self.scope, self.kind, self.name.as_deref())
    }
}

crate::impl_message!(
    ChangeAclRequestV1,
    GetAclRequestV1,
    GetAclReplyV1,
    SetXattrRequestV1,
    RemoveXattrRequestV1,
    GetXattrsRequestV1,
    GetXattrsReplyV1,
    SetStoragePolicyRequestV1,
    GetStoragePoliciesRequestV1,
    GetStoragePoliciesReplyV1,
);
