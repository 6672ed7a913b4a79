//! Names: what is there, what is in it, new names, attributes that are in a status.

use prost::Message;
use ringfs_hadoop::client::*;
use ringfs_hadoop::frames::RemoteError;
use ringfs_hadoop::hdfs::{
    BatchedDirectoryListing, BatchedListingKey, ContentSummary, DirectoryListing, HdfsFileStatus,
    RemoteException,
};
use ringfs_proto::meta::attributes::{
    CheckAccessRequestV1, SetOwnerRequestV1, SetPermissionRequestV1, SetTimesRequestV1,
};
use ringfs_proto::meta::namespace::{
    DeleteRequestV1, FileKind, FileStatusV1, ListRequestV1, MkdirsRequestV1, RenameRequestV1,
    SetReplicationRequestV1, StatRequestV1,
};
use ringfs_proto::meta::tree::{ContentSummaryRequestV1, WalkEntryV1, WalkRequestV1};
use ringfs_proto::{Code, WireError};

use super::errors::{self, FILE_ALREADY_EXISTS, IO, missing, of_wire, of_wire_but, traversed};
use super::{Origin, Step, ask, convert, done, failed};

/// Permission bits that are kept: there is no setuid and no setgid.
const MODE_MASK: u32 = 0o1777;
/// How clients write that a number is not set: -1.
pub(super) const UNSET: u64 = u64::MAX;

/// Permission bits that a client names.
pub(super) fn mode(perm: u32) -> u16 {
    (perm & MODE_MASK) as u16
}

/// Asks for a status, and makes something of it.
pub(super) fn stat(
    origin: &Origin,
    path: String,
    then: impl FnOnce(Result<FileStatusV1, WireError>) -> Step + Send + 'static,
) -> Step {
    ask(origin.session, StatRequestV1 { path }, then)
}

/// A status, or none where nothing is there.
fn status_of(result: Result<FileStatusV1, WireError>) -> Result<Option<HdfsFileStatus>, RemoteError> {
    match result {
        Ok(status) => Ok(Some(convert::status(&status, ""))),
        Err(error) if matches!(error.code, Code::NotFound | Code::NotADirectory) => Ok(None),
        Err(error) => Err(of_wire(error)),
    }
}

pub(super) fn get_file_info(request: GetFileInfoRequest, origin: &Origin) -> Step {
    stat(origin, request.src, |result| {
        status_of(result).map_or_else(failed, |fs| done(&GetFileInfoResponse { fs }))
    })
}

pub(super) fn get_file_link_info(request: GetFileLinkInfoRequest, origin: &Origin) -> Step {
    stat(origin, request.src, |result| {
        status_of(result).map_or_else(failed, |fs| done(&GetFileLinkInfoResponse { fs }))
    })
}

pub(super) fn get_listing(request: GetListingRequest, origin: &Origin) -> Step {
    let Ok(start_after) = String::from_utf8(request.start_after.to_vec()) else {
        return failed(RemoteError::new(IO, "the name to start after is not UTF-8"));
    };
    let (path, entries_max) = (request.src, 0);
    if request.need_location {
        let pool = origin.pool.clone();
        let walk = WalkRequestV1 {
            path,
            start_after,
            depth_max: 1,
            files_only: false,
            with_locations: true,
            entries_max,
        };
        return ask(origin.session, walk, move |result| {
            listing(result.map(|reply| {
                let remaining = u32::from(reply.next.is_some());
                (reply.entries.iter().map(|entry| located(&pool, entry)).collect(), remaining)
            }))
        });
    }
    ask(origin.session, ListRequestV1 { path, start_after, entries_max }, |result| {
        listing(result.map(|reply| {
            let entries = reply.entries.iter().map(|entry| convert::status(entry, &entry.name));
            (entries.collect(), reply.remaining)
        }))
    })
}

/// An entry of a listing with the places of its blocks.
fn located(pool: &str, entry: &WalkEntryV1) -> HdfsFileStatus {
    let mut status = convert::status(&entry.status, &entry.path);
    if entry.status.kind == FileKind::File {
        status.locations = Some(convert::locations(pool, &entry.status, &entry.blocks, entry.has_all_blocks));
    }
    status
}

fn listing(result: Result<(Vec<HdfsFileStatus>, u32), WireError>) -> Step {
    let dir_list = match result {
        Ok((partial_listing, remaining_entries)) => {
            Some(DirectoryListing { partial_listing, remaining_entries })
        }
        Err(error) if error.code == Code::NotFound => None,
        Err(error) => return failed(of_wire(error)),
    };
    done(&GetListingResponse { dir_list })
}

/// Several directories, a page of one in each answer. Where to go on is the number of the directory and a name in it.
pub(super) fn get_batched_listing(request: GetBatchedListingRequest, origin: &Origin) -> Step {
    let GetBatchedListingRequest { paths, start_after, need_location } = request;
    let key: BatchedListingKey = match start_after.is_empty() {
        true => BatchedListingKey::default(),
        false => match super::decode(&start_after) {
            Ok(key) => key,
            Err(error) => return failed(error),
        },
    };
    let Some(path) = paths.get(key.path_index as usize).cloned() else {
        return failed(RemoteError::new(errors::ILLEGAL_ARGUMENT, "no path to list"));
    };
    let is_last_path = key.path_index as usize + 1 == paths.len();
    let one = GetListingRequest { src: path.clone(), start_after: key.start_after.clone(), need_location };
    let Step::Ask(mut asked) = get_listing(one, origin) else {
        return failed(RemoteError::new(IO, "the name to start after is not UTF-8"));
    };
    let then = asked.then;
    asked.then = Box::new(move |result| {
        let Step::Done(listed) = then(result) else {
            return failed(RemoteError::new(IO, "a listing goes on"));
        };
        let listed = listed.and_then(|bytes| super::decode::<GetListingResponse>(&bytes));
        let missing = || RemoteError::new(errors::FILE_NOT_FOUND, format!("Path {path} does not exist"));
        let listed = listed.and_then(|response| response.dir_list.ok_or_else(missing));
        let mut listing = BatchedDirectoryListing { parent_idx: key.path_index, ..Default::default() };
        let mut next = BatchedListingKey { path_index: key.path_index + 1, ..Default::default() };
        let mut has_more = !is_last_path;
        match listed {
            Ok(page) => {
                if page.remaining_entries > 0 {
                    let last = page.partial_listing.last().map(|last| last.path.clone()).unwrap_or_default();
                    next = BatchedListingKey { path_index: key.path_index, start_after: last, ..next };
                    has_more = true;
                }
                listing.partial_listing = page.partial_listing;
            }
            Err(RemoteError { class, message, .. }) => {
                listing.exception =
                    Some(RemoteException { class_name: class.to_owned(), message: Some(message) });
            }
        }
        done(&GetBatchedListingResponse {
            listings: vec![listing],
            has_more,
            start_after: next.encode_to_vec().into(),
        })
    });
    Step::Ask(asked)
}

pub(super) fn mkdirs(request: MkdirsRequest, origin: &Origin) -> Step {
    let masked = mode(request.masked.perm);
    let mkdirs = MkdirsRequestV1 {
        path: request.src,
        mode: masked,
        unmasked_mode: request.unmasked.map_or(masked, |unmasked| mode(unmasked.perm)),
        create_parents: request.create_parent,
    };
    ask(origin.session, mkdirs, |result| match result {
        Ok(_) => done(&MkdirsResponse { result: true }),
        Err(error) => failed(of_wire(traversed(error))),
    })
}

pub(super) fn delete(request: DeleteRequest, origin: &Origin) -> Step {
    let delete = DeleteRequestV1 { path: request.src, recursive: request.recursive };
    ask(origin.session, delete, |result| match result {
        Ok(reply) => done(&DeleteResponse { result: reply.deleted }),
        Err(error) => failed(of_wire(error)),
    })
}

/// The old rename: into a directory that is there, and false for most of what cannot be
/// (HDFS: `FSDirRenameOp.renameTo`, `unprotectedRenameTo`).
pub(super) fn rename(request: RenameRequest, origin: &Origin) -> Step {
    let RenameRequest { src, dst } = request;
    let origin_of_rename = origin.clone();
    stat(origin, dst.clone(), move |found| {
        let origin = origin_of_rename;
        let is_same = src == dst;
        let target = match &found {
            Ok(status) if status.kind == FileKind::Directory && !is_same => {
                let name = src.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                format!("{}/{name}", dst.trim_end_matches('/'))
            }
            Ok(status) if is_same => {
                return done(&RenameResponse { result: status.kind == FileKind::File });
            }
            _ => dst,
        };
        let rename = RenameRequestV1 { source: src, target, overwrite: false };
        ask(origin.session, rename, |result| match result {
            Ok(_) => done(&RenameResponse { result: true }),
            Err(error) if is_false(&error) => done(&RenameResponse { result: false }),
            Err(error) => failed(of_wire(traversed(error))),
        })
    })
}

/// What the old rename answers with false.
fn is_false(error: &WireError) -> bool {
    match error.code {
        Code::NotFound | Code::AlreadyExists | Code::IsADirectory | Code::NotEmpty => true,
        Code::InvalidArgument => !error.message.starts_with("Invalid path name"),
        _ => false,
    }
}

pub(super) fn rename2(request: Rename2Request, origin: &Origin) -> Step {
    let (source, target, overwrite) = (request.src, request.dst, request.overwrite_dest);
    ask(origin.session, RenameRequestV1 { source, target, overwrite }, |result| match result {
        Ok(_) => done(&Rename2Response {}),
        Err(error) => {
            let own =
                [(Code::NotEmpty, IO), (Code::IsADirectory, IO), (Code::AlreadyExists, FILE_ALREADY_EXISTS)];
            failed(match error.code {
                Code::NotADirectory if error.message.starts_with("Source") => {
                    RemoteError::new(IO, error.message)
                }
                Code::NotADirectory => of_wire(traversed(error)),
                _ => of_wire_but(error, &own),
            })
        }
    })
}

pub(super) fn set_permission(request: SetPermissionRequest, origin: &Origin) -> Step {
    let set = SetPermissionRequestV1 { path: request.src, mode: mode(request.permission.perm) };
    ask(origin.session, set, |result| {
        let result = result.map(drop).map_err(|error| missing(error, "Directory/File does not exist {}"));
        nothing(result, &SetPermissionResponse {})
    })
}

pub(super) fn set_owner(request: SetOwnerRequest, origin: &Origin) -> Step {
    // Some clients send an empty name for one that stays.
    let named = |name: Option<String>| name.filter(|name| !name.is_empty());
    let (owner, group) = (named(request.username), named(request.groupname));
    let set = SetOwnerRequestV1 { path: request.src, owner, group };
    ask(origin.session, set, |result| {
        let result = result.map(drop).map_err(|error| missing(error, "Directory/File does not exist {}"));
        nothing(result, &SetOwnerResponse {})
    })
}

pub(super) fn set_times(request: SetTimesRequest, origin: &Origin) -> Step {
    let time = |time_ms| Some(time_ms).filter(|time_ms| *time_ms != UNSET);
    let (mtime_ms, atime_ms) = (time(request.mtime), time(request.atime));
    let set = SetTimesRequestV1 { path: request.src, mtime_ms, atime_ms };
    ask(origin.session, set, |result| {
        let result = result.map(drop).map_err(|error| missing(error, "File/Directory {} does not exist."));
        nothing(result, &SetTimesResponse {})
    })
}

pub(super) fn set_replication(request: SetReplicationRequest, origin: &Origin) -> Step {
    // What does not fit is too much, or too little: as any other such number it is refused by the namespace.
    let replication = u16::try_from(request.replication).unwrap_or(u16::MAX);
    let set = SetReplicationRequestV1 { path: request.src, replication };
    ask(origin.session, set, |result| match result {
        Ok(reply) => done(&SetReplicationResponse { result: reply.is_file }),
        Err(error) if matches!(error.code, Code::NotFound | Code::IsADirectory) => {
            done(&SetReplicationResponse { result: false })
        }
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn check_access(request: CheckAccessRequest, origin: &Origin) -> Step {
    let access = request.mode as u8 & 7;
    let check = CheckAccessRequestV1 { path: request.path, access };
    ask(origin.session, check, |result| match result {
        Ok(_) => done(&CheckAccessResponse {}),
        Err(error) => failed(of_wire(missing(error, "Path not found: {}"))),
    })
}

pub(super) fn get_content_summary(request: GetContentSummaryRequest, origin: &Origin) -> Step {
    let sum = ContentSummaryRequestV1 { path: request.path };
    ask(origin.session, sum, |result| match result {
        Ok(sum) => {
            let summary = ContentSummary {
                length: sum.length,
                file_count: sum.files,
                directory_count: sum.directories,
                quota: UNSET,
                space_consumed: sum.space_consumed,
                space_quota: UNSET,
                // Of a file; a directory has none of its own.
                erasure_coding_policy: Some(if sum.directories == 0 {
                    "Replicated".to_owned()
                } else {
                    String::new()
                }),
                ..ContentSummary::default()
            };
            done(&GetContentSummaryResponse { summary })
        }
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn get_preferred_block_size(request: GetPreferredBlockSizeRequest, origin: &Origin) -> Step {
    stat(origin, request.filename, |result| match result {
        Ok(status) => done(&GetPreferredBlockSizeResponse { bsize: status.block_size }),
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn is_file_closed(request: IsFileClosedRequest, origin: &Origin) -> Step {
    let path = request.src.clone();
    stat(origin, request.src, move |result| match result {
        Ok(status) if status.kind == FileKind::File => {
            done(&IsFileClosedResponse { result: !status.is_open })
        }
        Ok(_) => failed(RemoteError::new(errors::FILE_NOT_FOUND, format!("Path is not a file: {path}"))),
        Err(error) => failed(of_wire(error)),
    })
}

/// The answer of a method that gives nothing back.
pub(super) fn nothing(result: Result<(), WireError>, response: &impl prost::Message) -> Step {
    match result {
        Ok(()) => done(response),
        Err(error) => failed(of_wire(error)),
    }
}
