//! What the namespace says, in the messages of HDFS.

use ringfs_hadoop::hdfs::{
    DatanodeId, DatanodeInfo, ExtendedBlock, FileType, FsPermission, HdfsFileStatus, LocatedBlock,
    LocatedBlocks, StorageType, Token,
};
use ringfs_proto::capability::CapabilityBytes;
use ringfs_proto::ids::{BlockId, Stamp, StorageId};
use ringfs_proto::meta::namespace::{BlockRefV1, FileKind, FileStatusV1, LocatedBlockV1, NodeV1};

/// Where all nodes are, as far as clients are told.
const RACK: &str = "/default-rack";
/// Bits of `HdfsFileStatus.flags` (`HAS_ACL`) and, for clients of version 2, of the permission.
const HAS_ACL: (u32, u32) = (1, 1 << 12);

/// A status. `name` is the last name of its path in a listing, and empty otherwise.
pub(super) fn status(status: &FileStatusV1, name: &str) -> HdfsFileStatus {
    let is_directory = status.kind == FileKind::Directory;
    let (flags, acl_bit) = if status.has_acl { HAS_ACL } else { (0, 0) };
    HdfsFileStatus {
        file_type: if is_directory { FileType::IsDir } else { FileType::IsFile } as i32,
        path: name.as_bytes().to_vec().into(),
        length: status.length + status.told_bytes,
        permission: FsPermission { perm: u32::from(status.mode) | acl_bit },
        owner: status.owner.clone(),
        group: status.group.clone(),
        modification_time: status.mtime_ms,
        access_time: status.atime_ms,
        block_replication: Some(u32::from(status.replication)),
        blocksize: Some(status.block_size),
        file_id: Some(status.inode.0),
        children_num: Some(if is_directory { status.children.cast_signed() } else { 0 }),
        storage_policy: Some(u32::from(status.storage_policy)),
        flags: Some(flags),
        ..HdfsFileStatus::default()
    }
}

/// A block with its name.
pub(super) fn block(pool: &str, block: BlockRefV1) -> ExtendedBlock {
    ExtendedBlock {
        pool_id: pool.to_owned(),
        block_id: block.block.0,
        generation_stamp: block.stamp.0,
        num_bytes: Some(block.length),
    }
}

/// A block that a client names.
pub(super) fn block_ref(block: &ExtendedBlock) -> BlockRefV1 {
    BlockRefV1 {
        block: BlockId(block.block_id),
        stamp: Stamp(block.generation_stamp),
        length: block.num_bytes(),
    }
}

/// A datanode: all of its ports are one.
pub(super) fn node(node: &NodeV1) -> DatanodeInfo {
    let port = u32::from(node.port);
    DatanodeInfo {
        id: DatanodeId {
            ip_addr: node.host.clone(),
            host_name: node.host.clone(),
            datanode_uuid: node.datanode.to_string(),
            xfer_port: port,
            info_port: 0,
            ipc_port: port,
            info_secure_port: Some(0),
        },
        location: Some(RACK.to_owned()),
        ..DatanodeInfo::default()
    }
}

/// A block with the places of its replicas. The capability that opens it is the password of its token; the other fields stay
/// empty, for older clients begin SASL when they are not.
pub(super) fn located(pool: &str, located: &LocatedBlockV1) -> LocatedBlock {
    LocatedBlock {
        b: block(pool, located.block),
        offset: located.offset,
        locs: located.nodes.iter().map(node).collect(),
        corrupt: false,
        block_token: Token { password: located.capability.to_vec().into(), ..Token::default() },
        is_cached: vec![false; located.nodes.len()],
        storage_types: vec![StorageType::Disk as i32; located.nodes.len()],
        storage_i_ds: located.nodes.iter().map(|node| storage_name(node.storage)).collect(),
        ..LocatedBlock::default()
    }
}

/// A block without places: what a writer needs to go on with it.
pub(super) fn unplaced(pool: &str, of: BlockRefV1, capability: CapabilityBytes) -> LocatedBlock {
    LocatedBlock {
        b: block(pool, of),
        offset: u64::MAX,
        corrupt: false,
        block_token: Token { password: capability.to_vec().into(), ..Token::default() },
        ..LocatedBlock::default()
    }
}

/// The storage of a name.
pub(super) fn storage_of(name: &str) -> Option<StorageId> {
    name.strip_prefix("DS-")?.parse().ok()
}

/// The name of a storage.
pub(super) fn storage_name(storage: StorageId) -> String {
    format!("DS-{storage}")
}

/// Blocks of a file. `is_all` says whether the last of them is the last of the file.
pub(super) fn locations(
    pool: &str,
    status: &FileStatusV1,
    blocks: &[LocatedBlockV1],
    is_all: bool,
) -> LocatedBlocks {
    let last_is_open = is_all && blocks.last().is_some_and(|block| block.is_open);
    let blocks: Vec<LocatedBlock> = blocks.iter().map(|block| located(pool, block)).collect();
    LocatedBlocks {
        file_length: status.length,
        last_block: blocks.last().filter(|_| is_all).cloned(),
        blocks,
        under_construction: status.is_open,
        is_last_block_complete: !last_is_open,
        ..LocatedBlocks::default()
    }
}
