//! Who owns files and directories, who may do what with them, and what else they carry.

use ringfs_proto::meta::attributes::{
    CheckAccessRequestV1, SetOwnerRequestV1, SetPermissionRequestV1, SetTimesRequestV1,
};
use ringfs_proto::ops::{CheckAccess, SetOwner, SetPermission, SetTimes};

use crate::client::Client;
use crate::error::Result;

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
