//! What the person who runs a cluster asks.

use crate::ids::{ClusterId, DatanodeId, LogIndex};
use crate::meta::membership::VolumeStatusV1;

/// Nothing but an echo.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PingV1 {
    /// Returned as it was sent.
    pub echo: u64,
}

/// Asks for totals.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FsStatsRequestV1 {
    /// 0; room for options.
    pub flags: u32,
}

/// Totals of the file system. Bytes are summed over live datanodes.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FsStatsReplyV1 {
    /// The cluster.
    pub cluster: ClusterId,
    /// Bytes of all volumes.
    pub capacity_bytes: u64,
    /// Bytes in replicas.
    pub used_bytes: u64,
    /// Bytes that can still be written.
    pub remaining_bytes: u64,
    /// Files.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Blocks of files.
    pub blocks: u64,
    /// Files that are open for writing.
    pub open_files: u64,
    /// Completed blocks with fewer live replicas than wanted, but at least one.
    pub under_replicated_blocks: u64,
    /// Completed blocks without a live replica.
    pub missing_blocks: u64,
    /// Blocks with a corrupt replica.
    pub corrupt_blocks: u64,
    /// Replicas that wait to be deleted from datanodes.
    pub pending_deletion_blocks: u64,
    /// Datanodes with recent heartbeats.
    pub datanodes_live: u32,
    /// Datanodes whose heartbeats are late.
    pub datanodes_stale: u32,
    /// Datanodes that are taken as lost.
    pub datanodes_dead: u32,
    /// Why writes are refused; empty when they are not.
    pub safe_mode: String,
    /// Last applied record.
    pub applied: LogIndex,
    /// Bytes of memory that the namespace occupies.
    pub namespace_bytes: u64,
    /// Blocks that are being copied because they have too few replicas.
    pub pending_replication_blocks: u64,
    /// Replicas beyond what is wanted that wait to be deleted.
    pub excess_replicas: u64,
    /// Last record of the newest checkpoint; 0 when there is none.
    pub checkpoint: LogIndex,
    /// Directories of the log that have failed and are out of use.
    pub wal_dirs_failed: u32,
}

/// Asks for the datanodes.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DatanodeReportRequestV1 {
    /// 0; room for options.
    pub flags: u32,
}

/// How well a datanode is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum DatanodeState {
    /// Heartbeats are recent.
    Live,
    /// Heartbeats are late: avoided.
    Stale,
    /// Taken as lost.
    Dead,
}

/// One datanode.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DatanodeInfoV1 {
    /// Its id.
    pub datanode: DatanodeId,
    /// Numeric IP address that clients use.
    pub host: String,
    /// Data port.
    pub port: u16,
    /// HTTP port; 0 if it has none.
    pub http_port: u16,
    /// How well it is heard.
    pub state: DatanodeState,
    /// Since its last heartbeat, ms.
    pub last_heartbeat_ms: u64,
    /// Release that it runs.
    pub software: String,
    /// Its volumes.
    pub volumes: Vec<VolumeStatusV1>,
    /// Finalized replicas that it has reported.
    pub blocks: u64,
    /// Where it is in the topology: `/default-rack` unless a topology is configured.
    pub rack: String,
}

/// The datanodes, by address.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DatanodeReportReplyV1 {
    /// All that have registered since the namenode started.
    pub datanodes: Vec<DatanodeInfoV1>,
}

/// Asks for defaults.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ServerDefaultsRequestV1 {
    /// 0; room for options.
    pub flags: u32,
}

/// What a client uses where its user says nothing.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ServerDefaultsReplyV1 {
    /// Bytes per block.
    pub block_size: u64,
    /// Replicas.
    pub replication: u16,
    /// Bytes per checksum.
    pub chunk_bytes: u32,
    /// Block data per packet.
    pub packet_bytes: u32,
    /// How long the trash is kept, minutes; 0: there is none.
    pub trash_interval_minutes: u32,
    /// Bytes of the largest file that is kept in the namenode; 0: none is.
    pub inline_bytes_max: u32,
}

/// Writes a checkpoint of the namespace.
///
/// Errors: `Busy` (one is being written), `Io`, `InvalidArgument` (not an absolute path, or not empty).
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckpointRequestV1 {
    /// Empty: the ordinary place, and the log before it is dropped. Else an absolute path of the namenode's host: an
    /// empty or missing directory, from which a namenode can be started (a backup).
    pub target: String,
}

/// The checkpoint is on stable storage.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckpointReplyV1 {
    /// The directory that holds it.
    pub directory: String,
    /// The last record that it contains.
    pub index: LogIndex,
    /// Its size.
    pub bytes: u64,
}

/// What is to become of safe mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum SafeModeAction {
    /// Nothing: only ask.
    Get,
    /// Refuse changes until someone says otherwise.
    Enter,
    /// Accept changes, although blocks are not reported yet. Refused while the state is older than its datanodes'.
    Leave,
    /// Accept changes with a state that is older than its datanodes': what the lost part of the log named is given up.
    LeaveDespiteOlderState,
}

/// Asks about safe mode, or changes it. HDFS: `ClientProtocol.setSafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SafeModeRequestV1 {
    /// What to do.
    pub action: SafeModeAction,
}

/// Safe mode as it is now.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SafeModeReplyV1 {
    /// Why changes are refused; empty when they are not.
    pub reason: String,
}

/// What is to become of copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ReplicationAction {
    /// Nothing: only ask.
    Get,
    /// Do not wait for datanodes that vanished together: copy what they had.
    CopyNow,
}

/// Asks whether blocks are copied, or has them copied.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReplicationRequestV1 {
    /// What to do.
    pub action: ReplicationAction,
}

/// Copying as it is now.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReplicationReplyV1 {
    /// Why nothing is copied; empty when blocks are copied as needed.
    pub waits: String,
}

crate::impl_message!(
    ReplicationRequestV1,
    ReplicationReplyV1,
    CheckpointRequestV1,
    CheckpointReplyV1,
    SafeModeRequestV1,
    SafeModeReplyV1,
    PingV1,
    FsStatsRequestV1,
    FsStatsReplyV1,
    DatanodeReportRequestV1,
    DatanodeReportReplyV1,
    ServerDefaultsRequestV1,
    ServerDefaultsReplyV1,
);
