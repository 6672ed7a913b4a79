//! Block data: reads, pipelines. Payloads are never inside the metadata, so that they can be received in place.

use crate::capability::CapabilityBytes;
use crate::checksum::ChecksumType;
use crate::ids::{BlockId, DatanodeId, Stamp, StorageId};
use crate::meta::membership::ReplicaState;
use crate::meta::namespace::BlockRefV1;

/// How a reader will use the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ReadHint {
    /// Unknown.
    Normal,
    /// They will not be read again soon: do not let them push others out of memory.
    Once,
    /// They will be read again: keep them in memory.
    Reuse,
}

/// One range of one block.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReadRangeV1 {
    /// Opens the block.
    pub capability: CapabilityBytes,
    /// The block.
    pub block: BlockId,
    /// The stamp that the reader knows; a newer replica is served too.
    pub stamp: Stamp,
    /// First byte in the block.
    pub offset: u64,
    /// Bytes; at least 1.
    pub length: u64,
}

/// Reads ranges. The server may answer them in any order, each in offset order, sending no more payload than the
/// credit allows; `Credit` frames with the same call id allow more.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReadRangesRequestV1 {
    /// At most `READ_RANGES_MAX`, of `READ_REQUEST_BYTES_MAX` together.
    pub ranges: Vec<ReadRangeV1>,
    /// Payload bytes that may be sent before the first `Credit`.
    pub credit_bytes: u64,
    /// How the bytes will be used.
    pub hint: ReadHint,
    /// Size of the records that the reader takes from the file; 0 when unknown.
    pub record_bytes: u32,
}

/// A part of a range. The payload is `checksums_len` bytes of checksums, then `data_len` bytes of data.
///
/// `offset` is a multiple of `chunk_bytes`, at most the range's offset in the first part; the data ends at a chunk's end or at
/// the end of the replica. When `code` is not 0 the range has failed: the payload is the message in UTF-8, and no
/// part of this range follows.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RangeDataV1 {
    /// Index of the range in the request.
    pub range: u32,
    /// Error code; 0 = success.
    pub code: u16,
    /// Type of the checksums.
    pub checksum: ChecksumType,
    /// Bytes per checksum.
    pub chunk_bytes: u32,
    /// First byte of the data in the block.
    pub offset: u64,
    /// Bytes of checksums.
    pub checksums_len: u32,
    /// Bytes of data.
    pub data_len: u32,
    /// Whether no part of this range follows.
    pub is_last: bool,
}

/// Allows the server to send more payload of a call.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CreditV1 {
    /// How much more.
    pub bytes: u64,
}

/// Ranges that will be read soon, in this order.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WillNeedRequestV1 {
    /// At most `READ_RANGES_MAX`.
    pub ranges: Vec<ReadRangeV1>,
}

/// A node of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PipelineNodeV1 {
    /// The datanode.
    pub datanode: DatanodeId,
    /// The volume.
    pub storage: StorageId,
    /// Numeric IP address.
    pub host: String,
    /// Data port.
    pub port: u16,
}

/// How the written file will be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum WriteHint {
    /// Unknown: the datanode's default.
    Normal,
    /// It will be read soon: keep it in memory.
    Reuse,
}

/// Where a pipeline goes on that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RecoverV1 {
    /// The replica's stamp until now. A node that already has the request's stamp goes on as well: the request came twice; and
    /// so does one with a stamp in between, of an attempt that failed half-way.
    pub old_stamp: Stamp,
    /// Bytes that every node has.
    pub length: u64,
}

/// What becomes of the replica that a pipeline writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum WriteStage {
    /// It is made; every node gets all of it from the writer.
    Create,
    /// It is there, open or finalized by the pipeline that failed, under `old_stamp`: whoever writes it is fenced, and it
    /// goes on under the request's stamp. Packets begin at `length`, which the writer saw acknowledged by all; bytes
    /// behind it are written again. HDFS: `PIPELINE_SETUP_STREAMING_RECOVERY` and `PIPELINE_CLOSE_RECOVERY`.
    Recover(RecoverV1),
    /// A finished copy of a finalized replica: temporary, and not readable, until its last packet finalizes it. A replica
    /// with a lower stamp, or one that is corrupt, is replaced. HDFS: `TRANSFER_FINALIZED`.
    Copy,
    /// The first bytes of a replica that is being written, for a node that joins its pipeline: after the last packet it
    /// stays open, as if it had been in the pipeline from the start. HDFS: `TRANSFER_RBW`.
    CopyOpen,
}

/// Sets up a pipeline. Data follows as `WritePacket` frames with this call's id, after the reply.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WriteOpenRequestV1 {
    /// Opens the block for writing.
    pub capability: CapabilityBytes,
    /// The block.
    pub block: BlockId,
    /// Its stamp.
    pub stamp: Stamp,
    /// Type of the checksums in the packets.
    pub checksum: ChecksumType,
    /// Bytes per checksum in the packets.
    pub chunk_bytes: u32,
    /// The receiving node first, then those that it forwards to, in order. At most `PIPELINE_NODES_MAX`.
    pub nodes: Vec<PipelineNodeV1>,
    /// How the bytes will be used.
    pub hint: WriteHint,
    /// Bytes that will come in all, when the writer knows; `u64::MAX` otherwise.
    pub announced_length: u64,
    /// What becomes of the replica.
    pub stage: WriteStage,
}

/// Whether the pipeline stands.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WriteOpenReplyV1 {
    /// Error code; 0 = every node is ready.
    pub code: u16,
    /// Index in the request's `nodes` of the node that failed, when `code` is not 0.
    pub failed_node: u32,
    /// Why it failed.
    pub message: String,
}

/// Bits of [`WritePacketV1::flags`].
pub mod packet_flags {
    /// Acknowledge only when this and all earlier bytes are on stable storage of every node.
    pub const SYNC: u8 = 1;
    /// No packet follows: finalize the replica. May carry data.
    pub const LAST: u8 = 2;
}

/// A packet. The payload is `checksums_len` bytes of checksums, then `data_len` bytes of data.
///
/// Packets follow each other without gap or overlap. One that starts inside a chunk has as its first checksum that of
/// its own bytes up to the end of that chunk. An empty packet (`data_len` 0) carries only flags.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WritePacketV1 {
    /// From 0, without gaps.
    pub sequence: u64,
    /// First byte of the data in the block.
    pub offset: u64,
    /// Bytes of checksums.
    pub checksums_len: u32,
    /// Bytes of data, at most `PACKET_DATA_BYTES_MAX`.
    pub data_len: u32,
    /// Bits of [`packet_flags`].
    pub flags: u8,
}

/// Acknowledges every packet up to one, on the answering node and all after it in the pipeline: their bytes and
/// checksums are in a completed write, and the replica is in the journal.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WriteAckV1 {
    /// Last packet that is acknowledged.
    pub sequence: u64,
    /// Bytes of the replica that are acknowledged.
    pub length: u64,
    /// Bytes that are on stable storage of every node.
    pub synced_length: u64,
    /// Whether the replica is finalized on every node. The last frame of the call.
    pub is_finalized: bool,
    /// Error code; 0 = success. After an error the pipeline is gone.
    pub code: u16,
    /// Index in the pipeline, counted from the answering node, of the node that failed, when `code` is not 0.
    pub failed_node: u32,
}

/// Asks for the state of a replica. Errors: `BlockMissing`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReplicaInfoRequestV1 {
    /// Opens the block.
    pub capability: CapabilityBytes,
    /// The block.
    pub block: BlockId,
}

/// Copies the first bytes of an open replica to nodes that join its pipeline; answered when all of them have it.
/// HDFS: `TRANSFER_BLOCK`. Errors: `BlockMissing`, `StampMismatch`, `OutOfRange`, `PipelineFailed`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TransferReplicaRequestV1 {
    /// Opens the block for writing under its present stamp.
    pub capability: CapabilityBytes,
    /// Block, present stamp, and how many bytes to copy.
    pub block: BlockRefV1,
    /// The nodes that join, at most `PIPELINE_NODES_MAX`.
    pub targets: Vec<PipelineNodeV1>,
}

/// State of a replica.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReplicaInfoReplyV1 {
    /// Its stamp.
    pub stamp: Stamp,
    /// Its state.
    pub state: ReplicaState,
    /// Bytes that readers may see: acknowledged by the whole pipeline behind this node.
    pub visible_length: u64,
}

crate::impl_message!(
    ReadRangesRequestV1,
    RangeDataV1,
    CreditV1,
    WillNeedRequestV1,
    WriteOpenRequestV1,
    WriteOpenReplyV1,
    WritePacketV1,
    WriteAckV1,
    ReplicaInfoRequestV1,
    ReplicaInfoReplyV1,
    TransferReplicaRequestV1,
);
