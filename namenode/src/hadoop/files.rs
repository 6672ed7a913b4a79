//! Files and their blocks: made, written, read.

use ringfs_hadoop::client::*;
use ringfs_hadoop::hdfs::{CreateFlag, DatanodeInfo};
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, DatanodeId, InodeId, SessionId};
use ringfs_proto::meta::namespace::{
    AbandonBlockRequestV1, AddBlockRequestV1, CompleteRequestV1, CreateRequestV1, FileRefV1,
    GetBlockLocationsReplyV1, GetBlockLocationsRequestV1, RecoverLeaseRequestV1, RenewLeaseRequestV1,
};
use ringfs_proto::{Code, WireError};

use super::errors::{FILE_ALREADY_EXISTS, of_wire, of_wire_but};
use super::namespace::{mode, nothing, stat};
use super::{Origin, Step, ask, convert, done, failed, session_of_name};

/// Bytes per checksum of what HDFS clients write.
pub(super) const CHUNK_BYTES: u32 = 512;

pub(super) fn create(request: CreateRequest, origin: &Origin) -> Step {
    let masked = mode(request.masked.perm);
    let create = CreateRequestV1 {
        path: request.src,
        mode: masked,
        unmasked_mode: request.unmasked.map_or(masked, |unmasked| mode(unmasked.perm)),
        overwrite: request.create_flag & CreateFlag::Overwrite as u32 != 0,
        create_parents: request.create_parent,
        replication: u16::try_from(request.replication).unwrap_or(u16::MAX),
        block_size: request.block_size,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: CHUNK_BYTES,
    };
    ask(session_of_name(&request.client_name), create, |result| match result {
        Ok(reply) => done(&CreateResponse { fs: Some(convert::status(&reply.status, "")) }),
        Err(error) => failed(of_wire_but(error, &[(Code::IsADirectory, FILE_ALREADY_EXISTS)])),
    })
}

/// Goes on with the inode of a file. Older clients do not name it.
fn with_inode(
    origin: &Origin,
    file_id: Option<u64>,
    path: String,
    then: impl FnOnce(InodeId) -> Step + Send + 'static,
) -> Step {
    match file_id.filter(|id| *id != 0) {
        Some(id) => then(InodeId(id)),
        None => stat(origin, path, |result| match result {
            Ok(status) => then(status.inode),
            Err(error) => failed(lease_lost(error)),
        }),
    }
}

/// A writer whose file is gone has lost its lease.
fn lease_lost(error: WireError) -> ringfs_hadoop::frames::RemoteError {
    match error.code {
        Code::NotFound => of_wire(WireError { code: Code::LeaseLost, ..error }),
        _ => of_wire(error),
    }
}

pub(super) fn datanodes(infos: &[DatanodeInfo]) -> Vec<DatanodeId> {
    infos.iter().filter_map(|info| info.id.datanode_uuid.parse().ok()).collect()
}

pub(super) fn add_block(request: AddBlockRequest, origin: &Origin) -> Step {
    let session = session_of_name(&request.client_name);
    let pool = origin.pool.clone();
    let previous = request.previous.as_ref().map(convert::block_ref);
    let excluded = datanodes(&request.exclude_nodes);
    with_inode(origin, request.file_id, request.src, move |inode| {
        let add = AddBlockRequestV1 { inode, previous, excluded };
        ask(session, add, move |result| match result {
            Ok(reply) => done(&AddBlockResponse { block: convert::located(&pool, &reply.located) }),
            Err(error) => failed(of_wire(error)),
        })
    })
}

pub(super) fn abandon_block(request: AbandonBlockRequest, origin: &Origin) -> Step {
    let session = session_of_name(&request.holder);
    let block = BlockId(request.b.block_id);
    with_inode(origin, request.file_id, request.src, move |inode| {
        let abandon = AbandonBlockRequestV1 { inode, block };
        ask(session, abandon, |result| nothing(result.map(drop), &AbandonBlockResponse {}))
    })
}

/// Answers when the last block is reported by enough datanodes: clients would wait longer for a second try.
pub(super) fn complete(request: CompleteRequest, origin: &Origin) -> Step {
    let session = session_of_name(&request.client_name);
    let last = request.last.as_ref().map(convert::block_ref);
    with_inode(origin, request.file_id, request.src, move |inode| {
        let complete = CompleteRequestV1 { inode, last, acked: Vec::new(), tail: None };
        ask(session, complete, |result| match result {
            Ok(_) => done(&CompleteResponse { result: true }),
            Err(error) if error.code == Code::NotReplicatedYet => done(&CompleteResponse { result: false }),
            Err(error) => failed(of_wire(error)),
        })
    })
}

/// Blocks are in the log before a writer has them, and readers ask datanodes for lengths: only the lease is renewed.
pub(super) fn fsync(request: FsyncRequest, _: &Origin) -> Step {
    renew(session_of_name(&request.client), &FsyncResponse {})
}

pub(super) fn renew_lease(request: RenewLeaseRequest, _: &Origin) -> Step {
    renew(session_of_name(&request.client_name), &RenewLeaseResponse {})
}

fn renew(session: SessionId, response: &(impl prost::Message + Clone + 'static)) -> Step {
    let response = response.clone();
    ask(session, RenewLeaseRequestV1 { flags: 0 }, move |result| nothing(result.map(drop), &response))
}

pub(super) fn recover_lease(request: RecoverLeaseRequest, _: &Origin) -> Step {
    let session = session_of_name(&request.client_name);
    ask(session, RecoverLeaseRequestV1 { path: request.src }, |result| match result {
        Ok(reply) => done(&RecoverLeaseResponse { result: reply.is_closed }),
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn get_block_locations(request: GetBlockLocationsRequest, origin: &Origin) -> Step {
    let GetBlockLocationsRequest { src, offset, length } = request;
    let (session, pool) = (origin.session, origin.pool.clone());
    let end = offset.saturating_add(length);
    let located = GetBlockLocationsRequestV1 { file: FileRefV1::Path(src), offset, length };
    ask(session, located, move |result| {
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => return failed(of_wire(error)),
        };
        let mut locations = convert::locations(&pool, &reply.status, &reply.blocks, true);
        if has_last(&reply, end) {
            return done(&GetBlockLocationsResponse { locations: Some(locations) });
        }
        // Clients want the last block whatever they ask for.
        let last = GetBlockLocationsRequestV1 {
            file: FileRefV1::Inode(reply.status.inode),
            offset: reply.status.length.saturating_sub(1),
            length: u64::MAX,
        };
        ask(session, last, move |result| match result {
            Ok(reply) => {
                let last = convert::locations(&pool, &reply.status, &reply.blocks, true);
                locations.last_block = last.last_block;
                locations.is_last_block_complete = last.is_last_block_complete;
                done(&GetBlockLocationsResponse { locations: Some(locations) })
            }
            Err(error) => failed(of_wire(error)),
        })
    })
}

/// Whether the last block of an answer is that of the file.
fn has_last(reply: &GetBlockLocationsReplyV1, end: u64) -> bool {
    let Some(last) = reply.blocks.last() else { return reply.status.length == 0 && !reply.status.is_open };
    let last_end = last.offset + last.block.length;
    last.is_open || (last_end >= reply.status.length && (!reply.status.is_open || end > last_end))
}
