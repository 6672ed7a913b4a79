//! The Rust client of RingFS: the namespace, readers, writers.
//!
//! Every call is synchronous and runs in the caller's thread; one [`Client`], and one [`Reader`], serve any number of
//! threads. No call starts a thread. Calls may be made inside any async runtime (they block their thread).
//!
//! ```no_run
#![doc = include_str!("../examples/first.rs")]
//! ```
//!
//! More of these, which the tests of RingFS run, are in `sdk/examples`.
//!
//! **Async.** A [`Reactor`] is a thread that the program starts by name; an [`AsyncClient`] on it has the same operations as
//! futures, for any executor.
//!
//! **Faults.** A namenode that restarts is a pause, not an error (until [`ClientBuilder::deadline`]); a replica that is
//! unreachable or corrupt is replaced by another within the call, one that is late is hedged. A datanode that fails under a
//! write is dropped or replaced while the write goes on. Every byte is verified before a call returns it.
//!
//! **fork.** A child may use clients and readers that its parent made: it opens connections of its own under a session
//! of its own. A writer of the parent answers `EBADF` in the child.
//!
//! This crate owns connections, retries and verification. It must never return a byte that it has not verified, never
//! acknowledge a write that a datanode has not, and never touch memory of a call that has returned.

#![deny(unsafe_code)]

mod asynchronous;
mod attributes;
mod changes;
mod client;
mod commit;
mod config;
mod driver;
#[doc(hidden)]
pub mod environment;
mod error;
mod inspect;
mod limits;
mod listing;
mod namenode;
mod net;
#[cfg(feature = "object_store")]
pub mod object_store;
mod patience;
mod reactor;
mod read;
mod retry;
mod small;
pub mod transport;
mod tree;
mod write;

pub use asynchronous::{AsyncClient, AsyncListing, AsyncReader, AsyncWriter};
pub use changes::AppendOptions;
pub use client::{Client, CreateOptions};
pub use commit::Commit;
pub use config::{ClientBuilder, ConfigError, Uri, UriError};
pub use error::{Error, Kind, Result};
pub use listing::Listing;
pub use reactor::Reactor;
pub use read::Reader;
pub use ringfs_proto::Code;
pub use ringfs_proto::meta::admin::{
    DatanodeInfoV1 as DatanodeInfo, DatanodeState, FsStatsReplyV1 as FsStats,
    ServerDefaultsReplyV1 as ServerDefaults,
};
pub use ringfs_proto::meta::attributes::{
    AclEntryV1 as AclEntry, AclKind, AclScope, GetAclReplyV1 as Acl, StoragePolicyV1 as StoragePolicy,
    XATTR_CREATE, XATTR_REPLACE, XattrV1 as Xattr,
};
pub use ringfs_proto::meta::changes::{CommitReplyV1 as CommitReply, ContentVersionV1 as ContentVersion};
pub use ringfs_proto::meta::data::ReadHint;
pub use ringfs_proto::meta::inspect::{
    ActivityReplyV1 as Activity, CheckedBlockV1 as CheckedBlock, CheckedReplicaV1 as CheckedReplica,
    ReplicaHealth,
};
pub use ringfs_proto::meta::membership::VolumeStatusV1 as VolumeStatus;
pub use ringfs_proto::meta::namespace::{
    BlockRefV1 as BlockRef, ContentCrcV1 as ContentCrc, FileKind, FileStatusV1 as FileStatus,
    LocatedBlockV1 as LocatedBlock, NodeV1 as Node,
};
pub use ringfs_proto::meta::tree::{
    ContentSummaryReplyV1 as ContentSummary, CorruptFileV1 as CorruptFile, GlobMatchV1 as GlobMatch,
    OpenFileV1 as OpenFile, WalkEntryV1 as WalkEntry,
};
pub use tree::{Pages, WalkOptions};
pub use write::{ReplacePolicy, Writer};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
