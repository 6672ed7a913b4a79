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
