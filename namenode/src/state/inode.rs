//! The record of a file or directory: 64 bytes.

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{InodeId, LogIndex, PrincipalId};

use super::arena::{NONE, Slot};
use super::names::Name;

/// Block sizes are kept in units of this many bytes (HDFS: `dfs.bytes-per-checksum` divides every block size).
pub const BLOCK_SIZE_UNIT: u64 = 512;

/// Blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockList {
    /// No block.
    Empty,
    /// One block, in this slot.
    One(Slot),
    /// Several blocks, in the list with this number.
    Many(u32),
}

/// What only files, or only directories, have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File {
        /// Its blocks.
        blocks: BlockList,
        /// In units of [`BLOCK_SIZE_UNIT`].
        block_size_units: u32,
        /// Wanted replicas.
        replication: u16,
        /// Type of the checksums.
        checksum: ChecksumType,
        /// Binary logarithm of the bytes per checksum; 0 = not known yet.
        chunk_log2: u8,
    },
    /// A directory.
    Directory {
        /// Its entries; `NONE` when it never had one.
        children: Slot,
        /// How many.
        count: u32,
    },
}

/// A file or directory.
#[derive(Debug, Clone, Copy)]
pub struct Inode {
    pub id: InodeId,
    pub mtime_ms: u64,
    pub version: LogIndex,
    pub kind: Kind,
    pub parent: Slot,
    pub name: Name,
    pub owner: PrincipalId,
    pub group: PrincipalId,
    /// HDFS keeps access times to the hour: seconds are enough.
    pub atime_s: u32,
    pub mode: u16,
}

impl Inode {
    /// A new, empty directory.
    pub fn directory(
        id: InodeId,
        parent: Slot,
        name: Name,
        owner: PrincipalId,
        group: PrincipalId,
        mode: u16,
        time_ms: u64,
    ) -> Self {
        let kind = Kind::Directory { children: NONE, count: 0 };
        Self {
            id,
            mtime_ms: time_ms,
            version: LogIndex(0),
            kind,
            parent,
            name,
            owner,
            group,
            atime_s: 0,
            mode,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_keeps_its_budget() {
        assert!(size_of::<Inode>() <= 72, "{}", size_of::<Inode>());
    }
}
