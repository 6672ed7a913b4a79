//! Datanode and namenode: registration, heartbeats, reports, commands.
//!
//! The datanode opens one connection and speaks first. Its proof of the cluster's key is
//! `ClusterKey::prove("register", nonce of the hello reply, datanode id)`; the namenode's is
//! `ClusterKey::prove("accept", nonce of the request, datanode id)`.

use crate::capability::CapabilityBytes;
use crate::ids::{BlockId, ClusterId, DatanodeId, RegistrationEpoch, ReportSequence, Stamp, StorageId};
use crate::meta::data::PipelineNodeV1;
use crate::meta::namespace::BlockRefV1;

/// One volume of a datanode.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct VolumeStatusV1 {
    /// The volume.
    pub storage: StorageId,
    /// Where it is mounted, for people.
    pub path: String,
    /// Bytes of the file system.
    pub capacity_bytes: u64,
    /// Bytes in replicas.
    pub used_bytes: u64,
    /// Bytes that can still be written: free space less the reserve.
    pub remaining_bytes: u64,
    /// Bytes kept free.
    pub reserved_bytes: u64,
    /// Replicas on it.
    pub replicas: u64,
    /// Whether it has failed and is out of use.
    pub is_failed: bool,
    /// When the scrubber's last round over it ended, seconds since 1970; 0: never.
    pub scrubbed_s: u64,
    /// Replicas on it that were found bad since the datanode was started, by whomever.
    pub bad_replicas: u64,
}

/// A datanode joins.
///
/// Errors: `WrongCluster`, `PermissionDenied` (wrong proof), `DuplicateId` (another live node has the id).
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RegisterRequestV1 {
    /// Its id.
    pub datanode: DatanodeId,
    /// The cluster of its volumes.
    pub cluster: ClusterId,
    /// For the namenode's proof: fresh random bytes.
    pub nonce: [u8; 16],
    /// That it has the cluster's key.
    pub proof: [u8; 32],
    /// Numeric IP address for clients; empty means the one this connection comes from.
    pub host: String,
    /// Data port.
    pub port: u16,
    /// HTTP port; 0 if it has none.
    pub http_port: u16,
    /// Release that it runs.
    pub software: String,
    /// Process id, for people.
    pub pid: u32,
    /// Its volumes.
    pub volumes: Vec<VolumeStatusV1>,
}

/// The datanode has joined. It sends a full report of each storage next.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RegisterReplyV1 {
    /// To be named in every later message.
    pub epoch: RegistrationEpoch,
    /// That the namenode has the cluster's key.
    pub proof: [u8; 32],
    /// The namenode's clock, seconds since 1970, for the expiry of capabilities.
    pub clock_s: u64,
    /// The last stamp that was given out: a writer that comes to a process that has just started, for a new replica with
    /// this stamp or an older one, may have been fenced before.
    pub last_stamp: Stamp,
    /// Between two heartbeats.
    pub heartbeat_interval_ms: u32,
}

/// A datanode is alive. Errors: `NotRegistered`, `StaleEpoch`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HeartbeatRequestV1 {
    /// From registration.
    pub epoch: RegistrationEpoch,
    /// Its volumes as they are now.
    pub volumes: Vec<VolumeStatusV1>,
    /// Reads in progress.
    pub reads_active: u32,
    /// Replicas being written.
    pub writes_active: u32,
    /// Replicas being copied to other datanodes.
    pub copies_active: u32,
    /// Replicas written to since the last heartbeat: renews the leases of their files.
    pub written: Vec<BlockId>,
}

/// Delete these replicas, each only if it has this stamp or an older one.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct InvalidateV1 {
    /// On which volume.
    pub storage: StorageId,
    /// Which; the length is ignored. At most `COMMAND_BLOCKS_MAX`.
    pub replicas: Vec<BlockRefV1>,
}

/// Copy a finalized replica, or its first bytes as another block, to other datanodes. Each reports it once it has it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TransferV1 {
    /// What the targets will have.
    pub block: BlockRefV1,
    /// The replica that is read, if it is of another block, of which the targets get the first bytes.
    pub cut_from: Option<BlockRefV1>,
    /// Opens the block for writing on the targets.
    pub capability: CapabilityBytes,
    /// The pipeline of the copy, at most `PIPELINE_NODES_MAX`.
    pub targets: Vec<PipelineNodeV1>,
}

/// Stop whoever writes a replica, and say how far it is: the answer is a [`ReplicaChangeV1::Fenced`], or `Deleted`
/// when there is no such replica.
///
/// From then on the replica accepts no packet of a stamp below `recovery_stamp`, and no recovery with a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct BeginRecoveryV1 {
    /// The block.
    pub block: BlockId,
    /// On which volume.
    pub storage: StorageId,
    /// The stamp that the block will have.
    pub recovery_stamp: Stamp,
}

/// Give a fenced replica its final length and stamp, and finalize it: the answer is a [`ReplicaChangeV1::Finalized`].
///
/// A replica that is shorter than this, or was fenced by a higher stamp, is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FinishRecoveryV1 {
    /// The block with its new stamp and its length.
    pub block: BlockRefV1,
    /// On which volume.
    pub storage: StorageId,
}

/// Read these replicas and compare them with their checksums; bad ones are reported as `Corrupt`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct VerifyV1 {
    /// On which volume.
    pub storage: StorageId,
    /// At most `COMMAND_BLOCKS_MAX`.
    pub blocks: Vec<BlockId>,
}

/// What the namenode wants.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum CommandV1 {
    /// Delete replicas.
    Invalidate(InvalidateV1),
    /// Send a full report of this storage.
    Report(StorageId),
    /// Copy a replica.
    Transfer(Box<TransferV1>),
    /// Fence a replica.
    BeginRecovery(BeginRecoveryV1),
    /// Finalize a fenced replica.
    FinishRecovery(FinishRecoveryV1),
    /// Look whether replicas are good.
    Verify(VerifyV1),
}

/// Answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HeartbeatReplyV1 {
    /// The namenode's clock, seconds since 1970.
    pub clock_s: u64,
    /// To be carried out in order.
    pub commands: Vec<CommandV1>,
}

/// State of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ReplicaState {
    /// Complete: its bytes below this length never change.
    Finalized,
    /// Being written by a pipeline (HDFS: `RBW`).
    BeingWritten,
    /// Was being written when its datanode stopped (HDFS: `RWR`).
    WaitingForRecovery,
    /// Being copied from another datanode; not readable.
    Temporary,
}

/// A replica as its datanode sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReplicaV1 {
    /// Block, stamp and length.
    pub block: BlockRefV1,
    /// Its state.
    pub state: ReplicaState,
}

/// One page of all replicas of a storage, sorted by block id.
///
/// All pages of a report carry one sequence, which is the state it was taken at: later incremental reports have
/// higher ones. Nothing is removed from the block map before the last page. Errors: `NotRegistered`, `StaleEpoch`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct BlockReportRequestV1 {
    /// From registration.
    pub epoch: RegistrationEpoch,
    /// The volume.
    pub storage: StorageId,
    /// Of the whole report.
    pub sequence: ReportSequence,
    /// From 0.
    pub page: u32,
    /// Whether no page follows.
    pub is_last: bool,
    /// At most `REPORT_PAGE_REPLICAS_MAX`.
    pub replicas: Vec<ReplicaV1>,
}

/// A replica that accepts no more data under its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FencedReplicaV1 {
    /// Block, the stamp that it has, and the bytes of it that are written and verify.
    pub block: BlockRefV1,
    /// Its state before: a finalized replica is never cut.
    pub state: ReplicaState,
    /// Bytes that are on stable storage.
    pub synced_length: u64,
    /// The recovery that it was fenced for.
    pub recovery_stamp: Stamp,
}

/// A replica that has just been completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FinalizedReplicaV1 {
    /// Block, stamp and length.
    pub block: BlockRefV1,
    /// Checksum of all its bytes, of the type that its chunks have.
    pub crc: u32,
}

/// How a replica changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ReplicaChangeV1 {
    /// It is new, or has a new state, stamp or length.
    Stored(ReplicaV1),
    /// It is complete.
    Finalized(FinalizedReplicaV1),
    /// It is gone.
    Deleted(BlockRefV1),
    /// Its bytes do not match their checksums.
    Corrupt(BlockRefV1),
    /// It was fenced for a recovery.
    Fenced(FencedReplicaV1),
}

/// Replicas of a storage that changed. Resent until the namenode has answered this sequence.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct IncrementalReportRequestV1 {
    /// From registration.
    pub epoch: RegistrationEpoch,
    /// The volume.
    pub storage: StorageId,
    /// Of this report.
    pub sequence: ReportSequence,
    /// In the order in which they happened.
    pub changes: Vec<ReplicaChangeV1>,
}

/// The report, or its page, has been taken into account.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReportReplyV1 {
    /// The sequence of the report.
    pub sequence: ReportSequence,
    /// Whether commands wait for this datanode: it sends its next heartbeat at once.
    pub has_commands: bool,
}

crate::impl_message!(
    RegisterRequestV1,
    RegisterReplyV1,
    HeartbeatRequestV1,
    HeartbeatReplyV1,
    BlockReportRequestV1,
    IncrementalReportRequestV1,
    ReportReplyV1,
);
