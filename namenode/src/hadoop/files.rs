//! Files and their blocks: made, written, read.

use ringfs_hadoop::client::*;
use ringfs_hadoop::frames::RemoteError;
use ringfs_hadoop::hdfs::{CorruptFileBlocks, CreateFlag, DatanodeInfo, OpenFilesBatchResponse, StorageType};
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, DatanodeId, InodeId, SessionId};
use ringfs_proto::limits::BLOCK_BYTES_MIN;
use ringfs_proto::meta::changes::{AppendRequestV1, ConcatRequestV1, TruncateRequestV1};
use ringfs_proto::meta::namespace::{
    AbandonBlockRequestV1, AckedReplicaV1, AddBlockRequestV1, AddDatanodesRequestV1, BadReplicaV1,
    BlockRefV1, CompleteRequestV1, CreateRequestV1, FileKind, FileRefV1, GetBlockLocationsReplyV1,
    GetBlockLocationsRequestV1, RecoverLeaseRequestV1, RenewLeaseRequestV1, ReportBadBlocksRequestV1,
    UpdateBlockForPipelineRequestV1, UpdatePipelineRequestV1,
};
use ringfs_proto::meta::tree::{ListCorruptFilesRequestV1, ListOpenFilesRequestV1, OpenFileV1};
use ringfs_proto::{Code, WireError};

use super::errors::{
    FILE_ALREADY_EXISTS, FILE_NOT_FOUND, ILLEGAL_ARGUMENT, IO, missing, of_wire, of_wire_but, traversed,
};
use super::namespace::{mode, nothing, stat};
use super::{Origin, Step, ask, convert, done, failed};

/// Bytes per checksum of what HDFS clients write.
pub(super) const CHUNK_BYTES: u32 = 512;

pub(super) fn create(request: CreateRequest, origin: &Origin) -> Step {
    let replaces = request.create_flag & CreateFlag::Overwrite as u32 != 0;
    if !replaces || request.create_flag & CreateFlag::Create as u32 != 0 {
        return make(request, origin);
    }
    let again = origin.clone();
    stat(origin, request.src.clone(), move |found| match found {
        Err(error) if error.code == Code::NotFound => {
            let message = format!("Can't overwrite non-existent {}", request.src);
            failed(RemoteError::new(FILE_NOT_FOUND, message))
        }
        _ => make(request, &again),
    })
}

fn make(request: CreateRequest, origin: &Origin) -> Step {
    let address = origin.address;
    // Natively nothing means the default; these clients always say what they want.
    if request.replication == 0 {
        let message = format!(
            "Requested replication factor of 0 is less than the required minimum of 1 for {}, clientName={address}",
            request.src
        );
        return failed(RemoteError::new(IO, message));
    }
    if request.block_size == 0 {
        let message =
            format!("Specified block size 0 is less than configured minimum value {BLOCK_BYTES_MIN}");
        return failed(RemoteError::new(IO, message));
    }
    let masked = mode(request.masked.perm);
    let create = CreateRequestV1 {
        path: request.src,
        mode: masked,
        unmasked_mode: request.unmasked.map_or(masked, |unmasked| mode(unmasked.perm)),
        overwrite: request.create_flag & CreateFlag::Overwrite as u32 != 0,
        create_parents: request.create_parent,
        replication: u16::try_from(request.replication).unwrap_or(u16::MAX),
        // Block sizes are multiples of a chunk here: a client whose blocks are not leaves a few bytes of each free.
        block_size: request.block_size.checked_next_multiple_of(u64::from(CHUNK_BYTES)).unwrap_or(u64::MAX),
        checksum: ChecksumType::Crc32c,
        chunk_bytes: CHUNK_BYTES,
    };
    ask(origin.writer(&request.client_name), create, move |result| match result {
        Ok(reply) => done(&CreateResponse { fs: Some(convert::status(&reply.status, "")) }),
        Err(mut error) => {
            if error.code == Code::AlreadyExists {
                let of_client = format!(" for client {address} already exists");
                error.message = error.message.replace(" already exists", &of_client);
            } else if error.message.starts_with("Requested replication") {
                error.message = format!("{}, clientName={address}", error.message);
            }
            failed(of_wire_but(traversed(error), &[(Code::IsADirectory, FILE_ALREADY_EXISTS)]))
        }
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
fn lease_lost(error: WireError) -> RemoteError {
    match error.code {
        Code::NotFound => of_wire(WireError { code: Code::LeaseLost, ..error }),
        _ => of_wire(error),
    }
}

pub(super) fn datanodes(infos: &[DatanodeInfo]) -> Vec<DatanodeId> {
    infos.iter().filter_map(|info| info.id.datanode_uuid.parse().ok()).collect()
}

pub(super) fn add_block(request: AddBlockRequest, origin: &Origin) -> Step {
    let session = origin.writer(&request.client_name);
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
    let session = origin.writer(&request.holder);
    let block = BlockId(request.b.block_id);
    with_inode(origin, request.file_id, request.src, move |inode| {
        let abandon = AbandonBlockRequestV1 { inode, block };
        ask(session, abandon, |result| nothing(result.map(drop), &AbandonBlockResponse {}))
    })
}

/// Answers when the last block is reported by enough datanodes: clients would wait longer for a second try.
pub(super) fn complete(request: CompleteRequest, origin: &Origin) -> Step {
    let session = origin.writer(&request.client_name);
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

/// Blocks are in the log before a writer has them, and readers ask datanodes for lengths: a writer has nothing to say but how
/// long the last block is, for those who only look at the status.
pub(super) fn fsync(request: FsyncRequest, origin: &Origin) -> Step {
    let session = origin.writer(&request.client);
    let length = u64::try_from(request.last_block_length()).ok();
    with_inode(origin, request.file_id, request.src, move |inode| {
        let told = length.map(|length| (inode, length));
        ask(session, RenewLeaseRequestV1 { told }, |result| nothing(result.map(drop), &FsyncResponse {}))
    })
}

pub(super) fn renew_lease(request: RenewLeaseRequest, origin: &Origin) -> Step {
    let session = origin.writer(&request.client_name);
    ask(session, RenewLeaseRequestV1 { told: None }, |result| {
        nothing(result.map(drop), &RenewLeaseResponse {})
    })
}

pub(super) fn recover_lease(request: RecoverLeaseRequest, origin: &Origin) -> Step {
    let session = origin.writer(&request.client_name);
    ask(session, RecoverLeaseRequestV1 { path: request.src }, |result| match result {
        Ok(reply) => done(&RecoverLeaseResponse { result: reply.is_closed }),
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn append(request: AppendRequest, origin: &Origin) -> Step {
    let (session, pool) = (origin.writer(&request.client_name), origin.pool.clone());
    let new_block = request.flag() & CreateFlag::NewBlock as u32 != 0;
    let words = format!("Failed to append to non-existent file {{}} for client {}", origin.address);
    ask(session, AppendRequestV1 { path: request.src, new_block }, move |result| match result {
        Ok(reply) => {
            // Only a block that is open again is gone on with: a full one is not, nor what is kept in the log.
            let last = reply.last.filter(|last| last.is_open);
            let mut status = convert::status(&reply.status, "");
            if let Some(last) = &last {
                // A client whose pipeline is shorter than the replication asks for more datanodes, and fails if there are none.
                let possible = last.nodes.len().min(usize::from(reply.status.replication));
                status.block_replication = Some(possible as u32);
            }
            let block = last.map(|last| convert::located(&pool, &last));
            done(&AppendResponse { block, stat: Some(status) })
        }
        Err(error) => {
            failed(of_wire_but(missing(error, &words), &[(Code::IsADirectory, FILE_ALREADY_EXISTS)]))
        }
    })
}

pub(super) fn truncate(request: TruncateRequest, origin: &Origin) -> Step {
    let truncate = TruncateRequestV1 { path: request.src, length: request.new_length };
    ask(origin.writer(&request.client_name), truncate, |result| match result {
        Ok(reply) => done(&TruncateResponse { result: reply.is_done }),
        Err(error) => failed(of_wire_but(error, &[(Code::InvalidArgument, ILLEGAL_ARGUMENT)])),
    })
}

pub(super) fn concat(request: ConcatRequest, origin: &Origin) -> Step {
    if request.srcs.is_empty() {
        return failed(RemoteError::new("java.lang.IllegalArgumentException", "No sources given"));
    }
    let concat = ConcatRequestV1 { target: request.trg, sources: request.srcs };
    ask(origin.session, concat, |result| match result {
        Ok(_) => done(&ConcatResponse {}),
        Err(error) => failed(of_wire_but(error, &[(Code::InvalidArgument, ILLEGAL_ARGUMENT)])),
    })
}

/// The file of a block whose path and inode a client does not name.
const OF_THE_BLOCK: InodeId = InodeId(0);

pub(super) fn update_block_for_pipeline(request: UpdateBlockForPipelineRequest, origin: &Origin) -> Step {
    let pool = origin.pool.clone();
    let update =
        UpdateBlockForPipelineRequestV1 { inode: OF_THE_BLOCK, block: convert::block_ref(&request.block) };
    ask(origin.writer(&request.client_name), update, move |result| match result {
        Ok(reply) => {
            let block = BlockRefV1 { stamp: reply.stamp, ..reply.block };
            done(&UpdateBlockForPipelineResponse { block: convert::unplaced(&pool, block, reply.capability) })
        }
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn update_pipeline(request: UpdatePipelineRequest, origin: &Origin) -> Step {
    let (old, new) = (convert::block_ref(&request.old_block), convert::block_ref(&request.new_block));
    let nodes = request.new_nodes.iter().map(|node| node.datanode_uuid.as_str());
    let update = UpdatePipelineRequestV1 {
        inode: OF_THE_BLOCK,
        old: BlockRefV1 { length: new.length, ..old },
        stamp: new.stamp,
        nodes: replicas(nodes, &request.storage_i_ds),
    };
    ask(origin.writer(&request.client_name), update, |result| {
        nothing(result.map(drop), &UpdatePipelineResponse {})
    })
}

/// Replicas by the names of their nodes and storages. Who is not known here has none.
fn replicas<'a>(nodes: impl Iterator<Item = &'a str>, storages: &[String]) -> Vec<AckedReplicaV1> {
    let known = nodes.zip(storages).filter_map(|(datanode, storage)| {
        Some(AckedReplicaV1 { datanode: datanode.parse().ok()?, storage: convert::storage_of(storage)? })
    });
    known.collect()
}

pub(super) fn get_additional_datanode(request: GetAdditionalDatanodeRequest, origin: &Origin) -> Step {
    let pool = origin.pool.clone();
    let block = convert::block_ref(&request.blk);
    let existing_nodes = request.existings;
    let existing_storages = request.existing_storage_uuids;
    let ids = existing_nodes.iter().map(|info| info.id.datanode_uuid.as_str());
    let add = AddDatanodesRequestV1 {
        inode: OF_THE_BLOCK,
        block: block.block,
        existing: replicas(ids, &existing_storages),
        excluded: datanodes(&request.excludes),
        count: u16::try_from(request.num_additional_nodes).unwrap_or(u16::MAX),
    };
    ask(origin.writer(&request.client_name), add, move |result| match result {
        Ok(reply) => {
            let mut located = convert::unplaced(&pool, block, reply.capability);
            located.locs = existing_nodes;
            located.storage_i_ds = existing_storages;
            for node in &reply.nodes {
                located.locs.push(convert::node(node));
                located.storage_i_ds.push(convert::storage_name(node.storage));
            }
            located.storage_types = vec![StorageType::Disk as i32; located.locs.len()];
            located.is_cached = vec![false; located.locs.len()];
            done(&GetAdditionalDatanodeResponse { block: located })
        }
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn report_bad_blocks(request: ReportBadBlocksRequest, origin: &Origin) -> Step {
    let replicas = request.blocks.iter().flat_map(|located| {
        let block = convert::block_ref(&located.b);
        let nodes = located.locs.iter().zip(&located.storage_i_ds);
        nodes.filter_map(move |(node, storage)| {
            let datanode = node.id.datanode_uuid.parse().ok()?;
            Some(BadReplicaV1 { block, datanode, storage: convert::storage_of(storage)? })
        })
    });
    let report = ReportBadBlocksRequestV1 { replicas: replicas.collect() };
    ask(origin.session, report, |result| nothing(result.map(drop), &ReportBadBlocksResponse {}))
}

pub(super) fn get_located_file_info(request: GetLocatedFileInfoRequest, origin: &Origin) -> Step {
    let (session, pool) = (origin.session, origin.pool.clone());
    stat(origin, request.src().to_owned(), move |result| {
        let status = match result {
            Ok(status) => status,
            Err(error) if matches!(error.code, Code::NotFound | Code::NotADirectory) => {
                return done(&GetLocatedFileInfoResponse { fs: None });
            }
            Err(error) => return failed(of_wire(error)),
        };
        if status.kind == FileKind::Directory {
            return done(&GetLocatedFileInfoResponse { fs: Some(convert::status(&status, "")) });
        }
        let file = FileRefV1::Inode(status.inode);
        let located = GetBlockLocationsRequestV1 { file, offset: 0, length: u64::MAX };
        ask(session, located, move |result| match result {
            Ok(reply) => {
                let mut fs = convert::status(&reply.status, "");
                let is_all = has_last(&reply, u64::MAX);
                fs.locations = Some(convert::locations(&pool, &reply.status, &reply.blocks, is_all));
                done(&GetLocatedFileInfoResponse { fs: Some(fs) })
            }
            Err(error) => failed(of_wire(error)),
        })
    })
}

pub(super) fn list_open_files(request: ListOpenFilesRequest, origin: &Origin) -> Step {
    let path = request.path().to_owned();
    let path = if path.is_empty() { "/".to_owned() } else { path };
    let (after, types) = (InodeId(request.id.max(0).cast_unsigned()), request.types);
    let holders = origin.holders.clone();
    ask(origin.session, ListOpenFilesRequestV1 { path, after, entries_max: 0 }, move |result| match result {
        Ok(reply) => {
            let name = |session: SessionId| holders.name_of(session).unwrap_or_else(|| session.to_string());
            let entry = |file: OpenFileV1| OpenFilesBatchResponse {
                id: file.inode.0.cast_signed(),
                path: file.path,
                client_name: name(file.session),
                client_machine: file.host,
            };
            done(&ListOpenFilesResponse {
                entries: reply.files.into_iter().map(entry).collect(),
                has_more: reply.next.is_some(),
                types,
            })
        }
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn list_corrupt_file_blocks(request: ListCorruptFileBlocksRequest, origin: &Origin) -> Step {
    let cookie = request.cookie().parse().unwrap_or(0);
    ask(
        origin.session,
        ListCorruptFilesRequestV1 { path: request.path, cookie },
        move |result| match result {
            Ok(reply) => {
                let cookie = reply.next.unwrap_or(cookie).to_string();
                let files = reply.files.into_iter().map(|file| file.path).collect();
                done(&ListCorruptFileBlocksResponse { corrupt: CorruptFileBlocks { files, cookie } })
            }
            Err(error) => failed(of_wire(error)),
        },
    )
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
