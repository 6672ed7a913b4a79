//! Extended attributes, ACLs, storage policies.

use ringfs_hadoop::client::*;
use ringfs_hadoop::frames::RemoteError;
use ringfs_hadoop::hdfs::{
    AclEntry, AclEntryScope, AclEntryType, AclStatus, BlockStoragePolicy, FsAction, FsPermission,
    StorageType, StorageTypes, XAttr, XAttrNamespace,
};
use ringfs_proto::meta::attributes::{
    AclChangeV1, AclEntryV1, AclKind, AclScope, ChangeAclRequestV1, GetAclRequestV1,
    GetStoragePoliciesRequestV1, GetXattrsReplyV1, GetXattrsRequestV1, RemoveXattrRequestV1,
    SetStoragePolicyRequestV1, SetXattrRequestV1, StoragePolicyV1, XattrV1,
};
use ringfs_proto::{Code, WireError};

use super::errors::{ILLEGAL_ARGUMENT, IO, missing, of_wire, of_wire_but};
use super::namespace::nothing;
use super::{Origin, Step, ask, done, failed};

const ACL: &str = "org.apache.hadoop.hdfs.protocol.AclException";
const XATTR_NOT_FOUND: &str = "org.apache.hadoop.hdfs.protocol.XAttrNotFoundException";
/// How attributes and ACLs call a path that is missing.
const MISSING: &str = "cannot find {}";
/// The bit of a mode that keeps entries from others.
const STICKY: u16 = 0o1000;

const NAMESPACES: [(XAttrNamespace, &str); 5] = [
    (XAttrNamespace::User, "user."),
    (XAttrNamespace::Trusted, "trusted."),
    (XAttrNamespace::Security, "security."),
    (XAttrNamespace::System, "system."),
    (XAttrNamespace::Raw, "raw."),
];

fn name_of(xattr: &XAttr) -> String {
    let prefix = NAMESPACES.iter().find(|(namespace, _)| *namespace == xattr.namespace());
    format!("{}{}", prefix.map_or("", |(_, prefix)| prefix), xattr.name)
}

fn xattr(found: XattrV1, with_value: bool) -> XAttr {
    let space = NAMESPACES.iter().find(|(_, prefix)| found.name.starts_with(prefix));
    let (namespace, prefix) = space.copied().unwrap_or(NAMESPACES[0]);
    XAttr {
        namespace: namespace as i32,
        name: found.name[prefix.len().min(found.name.len())..].to_owned(),
        value: with_value.then(|| found.value.into()),
    }
}

/// What is wrong with an attribute is no file that is missing.
fn xattr_error(error: WireError) -> RemoteError {
    let class = match error.code {
        _ if error.message.starts_with("File does not exist") => return of_wire(missing(error, MISSING)),
        Code::NotFound if error.message.starts_with("At least one") => XATTR_NOT_FOUND,
        Code::AlreadyExists | Code::NotFound => IO,
        Code::InvalidArgument | Code::LimitExceeded if error.message.starts_with("The XAttr is too big") => {
            ILLEGAL_ARGUMENT
        }
        _ => return of_wire(error),
    };
    RemoteError::new(class, error.message)
}

pub(super) fn set_x_attr(request: SetXAttrRequest, origin: &Origin) -> Step {
    let attribute = request.x_attr.clone().unwrap_or_default();
    let set = SetXattrRequestV1 {
        path: request.src.clone(),
        xattr: XattrV1 { name: name_of(&attribute), value: attribute.value().to_vec() },
        flags: request.flag() as u8,
    };
    ask(origin.session, set, |result| match result {
        Ok(_) => done(&SetXAttrResponse {}),
        Err(error) => failed(xattr_error(error)),
    })
}

pub(super) fn remove_x_attr(request: RemoveXAttrRequest, origin: &Origin) -> Step {
    let name = name_of(&request.x_attr.clone().unwrap_or_default());
    ask(origin.session, RemoveXattrRequestV1 { path: request.src, name }, |result| match result {
        Ok(_) => done(&RemoveXAttrResponse {}),
        Err(error) => failed(xattr_error(error)),
    })
}

pub(super) fn get_x_attrs(request: GetXAttrsRequest, origin: &Origin) -> Step {
    let names = request.x_attrs.iter().map(name_of).collect();
    let get = GetXattrsRequestV1 { path: request.src, names, with_values: true };
    ask(origin.session, get, |result| match result {
        Ok(reply) => {
            let x_attrs = reply.xattrs.into_iter().map(|found| xattr(found, true)).collect();
            done(&GetXAttrsResponse { x_attrs })
        }
        Err(error) => failed(xattr_error(error)),
    })
}

pub(super) fn list_x_attrs(request: ListXAttrsRequest, origin: &Origin) -> Step {
    let path = request.src;
    let get = |path, with_values| GetXattrsRequestV1 { path, names: Vec::new(), with_values };
    let list = |result: Result<GetXattrsReplyV1, WireError>, with_values| match result {
        Ok(reply) => {
            let x_attrs = reply.xattrs.into_iter().map(|found| xattr(found, with_values)).collect();
            done(&ListXAttrsResponse { x_attrs })
        }
        Err(error) => failed(xattr_error(error)),
    };
    // Some clients take the values from the list; who may not read them gets the names.
    let session = origin.session;
    ask(session, get(path.clone(), true), move |result| match result {
        Err(error) if error.code == Code::PermissionDenied => {
            ask(session, get(path, false), move |result| list(result, false))
        }
        result => list(result, true),
    })
}

const KINDS: [(AclEntryType, AclKind); 4] = [
    (AclEntryType::User, AclKind::User),
    (AclEntryType::Group, AclKind::Group),
    (AclEntryType::Mask, AclKind::Mask),
    (AclEntryType::Other, AclKind::Other),
];

fn entries(spec: &[AclEntry]) -> Vec<AclEntryV1> {
    let entry = |entry: &AclEntry| AclEntryV1 {
        scope: match entry.scope() {
            AclEntryScope::Access => AclScope::Access,
            AclEntryScope::Default => AclScope::Default,
        },
        kind: KINDS
            .iter()
            .find(|(kind, _)| *kind == entry.r#type())
            .map_or(AclKind::Other, |(_, kind)| *kind),
        name: entry.name.clone().filter(|name| !name.is_empty()),
        permission: entry.permissions as u8 & 7,
    };
    spec.iter().map(entry).collect()
}

fn entry_of(entry: &AclEntryV1) -> AclEntry {
    let kind =
        KINDS.iter().find(|(_, kind)| *kind == entry.kind).map_or(AclEntryType::Other, |(kind, _)| *kind);
    let scope = match entry.scope {
        AclScope::Access => AclEntryScope::Access,
        AclScope::Default => AclEntryScope::Default,
    };
    AclEntry {
        r#type: kind as i32,
        scope: scope as i32,
        permissions: FsAction::try_from(i32::from(entry.permission)).unwrap_or(FsAction::None) as i32,
        name: entry.name.clone(),
    }
}

fn change_acl(
    origin: &Origin,
    path: String,
    change: AclChangeV1,
    response: impl prost::Message + 'static,
) -> Step {
    let named = path.clone();
    ask(origin.session, ChangeAclRequestV1 { path, change }, move |result| match result {
        Ok(_) => done(&response),
        Err(error) => {
            let error = missing(error, "Directory/File does not exist {}");
            let own = [(Code::InvalidArgument, ACL), (Code::LimitExceeded, ACL)];
            let mut error = of_wire_but(error, &own);
            if error.class == ACL {
                error.message = format!("{} Path: {named}", error.message);
            }
            failed(error)
        }
    })
}

pub(super) fn modify_acl_entries(request: ModifyAclEntriesRequest, origin: &Origin) -> Step {
    let change = AclChangeV1::Modify(entries(&request.acl_spec));
    change_acl(origin, request.src, change, ModifyAclEntriesResponse {})
}

pub(super) fn remove_acl_entries(request: RemoveAclEntriesRequest, origin: &Origin) -> Step {
    let change = AclChangeV1::Remove(entries(&request.acl_spec));
    change_acl(origin, request.src, change, RemoveAclEntriesResponse {})
}

pub(super) fn remove_default_acl(request: RemoveDefaultAclRequest, origin: &Origin) -> Step {
    change_acl(origin, request.src, AclChangeV1::RemoveDefault, RemoveDefaultAclResponse {})
}

pub(super) fn remove_acl(request: RemoveAclRequest, origin: &Origin) -> Step {
    change_acl(origin, request.src, AclChangeV1::RemoveAll, RemoveAclResponse {})
}

pub(super) fn set_acl(request: SetAclRequest, origin: &Origin) -> Step {
    let change = AclChangeV1::Set(entries(&request.acl_spec));
    change_acl(origin, request.src, change, SetAclResponse {})
}

pub(super) fn get_acl_status(request: GetAclStatusRequest, origin: &Origin) -> Step {
    ask(origin.session, GetAclRequestV1 { path: request.src }, |result| match result {
        Ok(acl) => {
            let result = AclStatus {
                sticky: acl.mode & STICKY != 0,
                entries: acl.entries.iter().map(entry_of).collect(),
                permission: Some(FsPermission { perm: u32::from(acl.mode) }),
                owner: acl.owner,
                group: acl.group,
            };
            done(&GetAclStatusResponse { result })
        }
        Err(error) => failed(of_wire(missing(error, MISSING))),
    })
}

/// Where the blocks of a policy go, and where they may go instead when they are made or copied
/// (HDFS: `BlockStoragePolicySuite`).
fn policy(policy: &StoragePolicyV1) -> BlockStoragePolicy {
    use StorageType::{Archive, Disk, Nvdimm, Provided, RamDisk, Ssd};
    let (creation, fallback, replication): (&[StorageType], &[StorageType], &[StorageType]) = match policy.id
    {
        1 => (&[Provided, Disk], &[Provided, Disk], &[Provided, Disk]),
        2 => (&[Archive], &[], &[]),
        5 => (&[Disk, Archive], &[Disk, Archive], &[Disk, Archive]),
        10 => (&[Ssd, Disk], &[Ssd, Disk], &[Ssd, Disk]),
        12 => (&[Ssd], &[Disk], &[Disk]),
        14 => (&[Nvdimm], &[Disk], &[Disk]),
        15 => (&[RamDisk, Disk], &[Disk], &[Disk]),
        _ => (&[Disk], &[], &[Archive]),
    };
    let types = |types: &[StorageType]| StorageTypes {
        storage_types: types.iter().map(|storage| *storage as i32).collect(),
    };
    BlockStoragePolicy {
        policy_id: u32::from(policy.id),
        name: policy.name.clone(),
        creation_policy: types(creation),
        creation_fallback_policy: Some(types(fallback)),
        replication_fallback_policy: Some(types(replication)),
    }
}

pub(super) fn get_storage_policies(_: GetStoragePoliciesRequest, origin: &Origin) -> Step {
    ask(origin.session, GetStoragePoliciesRequestV1 { path: None }, |result| match result {
        Ok(reply) => {
            done(&GetStoragePoliciesResponse { policies: reply.policies.iter().map(policy).collect() })
        }
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn get_storage_policy(request: GetStoragePolicyRequest, origin: &Origin) -> Step {
    ask(origin.session, GetStoragePoliciesRequestV1 { path: Some(request.path) }, |result| match result {
        Ok(reply) => {
            let hot = || StoragePolicyV1 { id: 7, name: "HOT".to_owned() };
            let storage_policy = policy(&reply.of_path.unwrap_or_else(hot));
            done(&GetStoragePolicyResponse { storage_policy })
        }
        Err(error) => failed(of_wire(missing(error, "File/Directory does not exist: {}"))),
    })
}

pub(super) fn set_storage_policy(request: SetStoragePolicyRequest, origin: &Origin) -> Step {
    let set = SetStoragePolicyRequestV1 { path: request.src, policy: Some(request.policy_name) };
    ask(origin.session, set, |result| match result {
        Ok(_) => done(&SetStoragePolicyResponse {}),
        Err(error) => {
            let error = missing(error, "File/Directory does not exist: {}");
            failed(of_wire_but(error, &[(Code::InvalidArgument, ILLEGAL_ARGUMENT)]))
        }
    })
}

pub(super) fn unset_storage_policy(request: UnsetStoragePolicyRequest, origin: &Origin) -> Step {
    let set = SetStoragePolicyRequestV1 { path: request.src, policy: None };
    ask(origin.session, set, |result| nothing(result.map(drop), &UnsetStoragePolicyResponse {}))
}
