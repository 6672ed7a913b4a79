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

/// ACLs, extended attributes, storage policies.
pub fn carried(examples: &mut Examples) {
    let entry = |scope, kind, name: Option<&str>| AclEntryV1 {
        scope,
        kind,
        name: name.map(str::to_owned),
        permission: 5,
    };
    let entries = || {
        vec![
            entry(AclScope::Access, AclKind::User, Some("ann")),
            entry(AclScope::Default, AclKind::Mask, None),
        ]
    };
    let change = AclChangeV1::Modify(entries());
    examples.add("ChangeAclRequest", &ChangeAclRequestV1 { path: path(), change });
    examples.add("GetAclRequest", &GetAclRequestV1 { path: path() });
    let (owner, group) = ("ann".to_owned(), "staff".to_owned());
    examples.add("GetAclReply", &GetAclReplyV1 { owner, group, mode: 0o640, entries: entries() });
    let xattr = || XattrV1 { name: "user.origin".to_owned(), value: b"a crawl".to_vec() };
    examples.add("SetXattrRequest", &SetXattrRequestV1 { path: path(), xattr: xattr(), flags: 3 });
    examples.add("RemoveXattrRequest", &RemoveXattrRequestV1 { path: path(), name: xattr().name });
    let names = vec![xattr().name];
    examples.add("GetXattrsRequest", &GetXattrsRequestV1 { path: path(), names, with_values: true });
    examples.add("GetXattrsReply", &GetXattrsReplyV1 { xattrs: vec![xattr()] });
    let policy = Some("COLD".to_owned());
    examples.add("SetStoragePolicyRequest", &SetStoragePolicyRequestV1 { path: path(), policy });
    examples.add("GetStoragePoliciesRequest", &GetStoragePoliciesRequestV1 { path: Some(path()) });
    let cold = || StoragePolicyV1 { id: 2, name: "COLD".to_owned() };
    let (policies, of_path) = (vec![cold()], Some(cold()));
    examples.add("GetStoragePoliciesReply", &GetStoragePoliciesReplyV1 { policies, of_path });
}
