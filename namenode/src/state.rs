//! The namespace: files, directories, blocks of files, leases. Changes in one place only: [`State::apply`].
//!
//! `apply` takes a record that is durable and decides by logged state alone, so that every replay of a log gives the
//! same namespace: no clock, no random, no I/O, no order that depends on hashing. It may refuse; the refusal is the
//! result. What depends on liveness, reports or age is decided before a record is logged and is a field of it.
//! Where replicas are is not known here (see the block map); [`Effect`]s tell it what happened.

mod acl;
mod apply;
mod arena;
mod blocks;
mod children;
mod detached;
mod extras;
mod glob;
mod id_map;
mod inode;
mod leases;
mod names;
mod permissions;
mod principals;
mod read;
mod restore;
mod retry;
mod snapshot;
#[cfg(test)]
mod tests;
mod tree;
mod truncations;
mod undo;
mod walk;

use ringfs_proto::WireError;
use ringfs_proto::ids::{BlockId, InodeId, LogIndex, SessionId, Stamp};
use ringfs_proto::meta::changes::ContentVersionV1;
use ringfs_proto::meta::namespace::BlockRefV1;

pub(crate) use apply::check_xattr_size;
pub use arena::Slot;
pub use blocks::{BlockView, VALUE_INDEX_MAX, VALUE_STAMP, ValueTotals};
pub use detached::FREE_STEPS_PER_RECORD_MAX;
pub use extras::{STORAGE_POLICIES, STORAGE_POLICY_DEFAULT};
pub use glob::Glob;
pub use leases::{Leases, OpenFile, Recovered};
pub use permissions::{Access, Asked, Author};
pub use read::FileView;
pub use restore::{RestoreError, Restorer};
pub use snapshot::{Rest, Section, SectionKind, Snapshot};
pub use truncations::{Truncation, Truncations};
pub use walk::{Choice, Everything, Visit, Walk};

use arena::Arena;
use blocks::Blocks;
use children::Children;
use detached::Detached;
use extras::Extras;
use id_map::IdMap;
use inode::Inode;
use names::Names;
use principals::Principals;
use retry::RetryCache;
use undo::Undo;

use crate::wal::ValuesAt;

/// Inode of `/`.
pub const ROOT: InodeId = InodeId(1);
const ROOT_SLOT: Slot = 0;
/// The highest inode and block that can be: maps by id are arrays.
pub const ID_MAX: u64 = 1 << 36;

/// A stamp that the writer of a block was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct StampGiven {
    /// The block under the stamp that it has until then, with the length that its writer named.
    pub block: BlockRefV1,
    /// The stamp.
    pub stamp: Stamp,
}

/// What a change did. Kept for retries, so it is part of checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Applied {
    /// It is done; nothing to tell.
    Done,
    /// A file was created.
    Created(InodeId),
    /// The file has this new, empty last block.
    BlockAdded(BlockId),
    /// The file is closed.
    Completed(InodeId),
    /// Whether there was something to delete.
    Deleted(bool),
    /// Whether the path is that of a file.
    ReplicationSet(bool),
    /// A closed file is open again.
    Opened(InodeId),
    /// All steps were carried out; what each has left.
    Committed(Vec<Option<ContentVersionV1>>),
    /// Whether a file has its new length already.
    Truncated(bool),
    /// The writer of a block has a stamp for its next pipeline.
    StampGiven(StampGiven),
}

/// Result of applying a record.
pub type Outcome = Result<Applied, WireError>;

/// What a change means for the block map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A block was added, empty and open.
    BlockAdded(Slot, BlockRefV1),
    /// A block has its final length for now.
    BlockCommitted(Slot, BlockRefV1),
    /// A block has a new stamp, and a new pipeline.
    PipelineUpdated(Slot, BlockRefV1),
    /// A committed block is open again; so it was until now.
    BlockReopened(Slot, BlockRefV1),
    /// A block is gone; its slot may be used again by the next effect.
    BlockRemoved(Slot, BlockRefV1),
    /// The file of a committed block wants another number of replicas.
    ReplicationChanged(Slot),
}

/// How many of what there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Files.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Blocks.
    pub blocks: u64,
    /// Blocks that are committed.
    pub committed_blocks: u64,
}

/// The namespace.
#[derive(Debug)]
pub struct State {
    inodes: Arena<Inode>,
    inode_slots: IdMap,
    names: Names,
    directories: Arena<Children>,
    blocks: Blocks,
    principals: Principals,
    leases: Leases,
    truncations: Truncations,
    detached: Detached,
    /// What would have to be undone, while a record of several changes is applied.
    undo: Option<Undo>,
    extras: Extras,
    retry: RetryCache,
    counts: Counts,
    last_inode: InodeId,
    last_block: BlockId,
    last_stamp: Stamp,
    applied: LogIndex,
    time_ms: u64,
    values_at: ValuesAt,
    is_in_snapshot: bool,
}

impl State {
    /// An empty namespace whose root belongs to `superuser` and `group`.
    pub fn new(superuser: &str, group: &str) -> Self {
        let mut principals = Principals::default();
        let (owner, group) = (principals.intern(superuser), principals.intern(group));
        let mut state = Self {
            inodes: Arena::default(),
            inode_slots: IdMap::default(),
            names: Names::default(),
            directories: Arena::default(),
            blocks: Blocks::default(),
            principals,
            leases: Leases::default(),
            truncations: Truncations::default(),
            detached: Detached::default(),
            undo: None,
            extras: Extras::default(),
            retry: RetryCache::default(),
            counts: Counts { directories: 1, ..Counts::default() },
            last_inode: ROOT,
            last_block: BlockId(0),
            last_stamp: Stamp(0),
            applied: LogIndex(0),
            time_ms: 0,
            values_at: ValuesAt::default(),
            is_in_snapshot: false,
        };
        let slot = state.inodes.insert(Inode::directory(
            ROOT,
            arena::NONE,
            names::Name::EMPTY,
            owner,
            group,
            0o755,
            0,
        ));
        assert_eq!(slot, ROOT_SLOT);
        state.inode_slots.insert(ROOT.0, slot);
        state
    }

    /// Index of the last record that was applied.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Time of the last record, ms since 1970.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The highest block id that a record has named.
    pub fn last_block(&self) -> BlockId {
        self.last_block
    }

    /// The highest stamp that a record has named.
    pub fn last_stamp(&self) -> Stamp {
        self.last_stamp
    }

    /// How many of what there are.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Files that are open for writing.
    pub fn open_files(&self) -> usize {
        self.leases.count()
    }

    /// Who writes which file.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Files that are being cut.
    pub fn truncations(&self) -> &Truncations {
        &self.truncations
    }

    /// Where the values of the last batch are.
    pub fn values_at(&self) -> ValuesAt {
        self.values_at
    }

    /// What values take of the log.
    pub fn values(&self) -> &ValueTotals {
        self.blocks.values()
    }

    /// The result of a call that was applied before.
    pub fn retry_result(&self, session: SessionId, call: ringfs_proto::ids::CallId) -> Option<&Outcome> {
        self.retry.get(session, call)
    }

    /// Whether a session has said that it waits for no answer to this call any more.
    pub fn is_answered(&self, session: SessionId, call: ringfs_proto::ids::CallId) -> bool {
        self.retry.is_answered(session, call)
    }

    /// Sessions whose retry results were forgotten to make room.
    pub fn retry_evictions(&self) -> u64 {
        self.retry.evicted()
    }

    /// Bytes of memory of inodes, names, directories and blocks.
    pub fn memory_bytes(&self) -> usize {
        self.inodes.memory_bytes()
            + self.inode_slots.memory_bytes()
            + self.names.memory_bytes()
            + self.directories_bytes()
            + self.blocks.memory_bytes()
            + self.extras.memory_bytes()
    }

    fn directories_bytes(&self) -> usize {
        let lists: usize = self.directories.iter().map(Children::memory_bytes).sum();
        self.directories.memory_bytes() + lists
    }
}
