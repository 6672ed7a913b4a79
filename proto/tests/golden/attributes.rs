//! Examples of the messages about what an inode carries.

use ringfs_proto::meta::attributes::*;

use super::Examples;

fn path() -> String {
    "/data/part-0".to_owned()
}

pub fn all(examples: &mut Examples) {
    examples.add("SetPermissionRequest", &SetPermissionRequestV1 { path: path(), mode: 0o1777 });
    let (owner, group) = (Some("ann".to_owned()), None);
    examples.add("SetOwnerRequest", &SetOwnerRequestV1 { path: path(), owner, group });
    let (mtime_ms, atime_ms) = (Some(7), None);
    examples.add("SetTimesRequest", &SetTimesRequestV1 { path: path(), mtime_ms, atime_ms });
    examples.add("CheckAccessRequest", &CheckAccessRequestV1 { path: path(), access: 5 });
}
