//! The seam between what the client decides and how bytes travel.
//!
//! An operation names memory of the caller and completes; operations of one batch complete in any order, and a range
//! may arrive in pieces of any size. Nothing above this seam may assume a stream of bytes. TCP is one
//! implementation; tests have another, in memory.

pub(crate) mod hedge;
pub(crate) mod lane;
pub(crate) mod latency;
pub(crate) mod pipeline;
pub(crate) mod stream;
pub(crate) mod tcp;

use std::fmt::Debug;
use std::net::SocketAddr;

use ringfs_proto::meta::data::{
    ReadHint, ReadRangeV1, ReplicaInfoReplyV1, ReplicaInfoRequestV1, TransferReplicaRequestV1, WriteAckV1,
    WriteOpenRequestV1, WritePacketV1,
};
use ringfs_proto::{Code, WireError};

use crate::error::Fault;
pub use crate::read::part::{PartError, PartReceiver, Slots, Target};
pub use crate::read::range::RangeProgress;

/// Why an operation did not complete.
#[derive(Debug, thiserror::Error)]
#[error("{node}: {reason}")]
pub struct TransportError {
    node: SocketAddr,
    reason: Box<Reason>,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Fault(Box<Fault>),
}

impl TransportError {
    /// The node answered with an error.
    pub fn refused(node: SocketAddr, error: WireError) -> Self {
        Self { node, reason: Box::new(Reason::Wire(error)) }
    }

    /// The node cannot be reached, or broke the protocol.
    pub fn unreachable(node: SocketAddr, error: std::io::Error) -> Self {
        Self::from_fault(node, Fault::Io(error))
    }

    pub(crate) fn from_fault(node: SocketAddr, fault: Fault) -> Self {
        let reason = match fault {
            Fault::Wire(error) => Reason::Wire(error),
            other => Reason::Fault(Box::new(other)),
        };
        Self { node, reason: Box::new(reason) }
    }

    /// The code that the node answered, if it did. A checksum that this end found wrong counts as `ChecksumMismatch`.
    pub fn code(&self) -> Option<Code> {
        match &*self.reason {
            Reason::Wire(error) => Some(error.code),
            Reason::Fault(fault) if matches!(**fault, Fault::Checksum { .. }) => Some(Code::ChecksumMismatch),
            Reason::Fault(_) => None,
        }
    }

    /// The node that was asked.
    pub fn node(&self) -> SocketAddr {
        self.node
    }
}

/// One range that is to be read into the caller's memory.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// Whom to ask.
    pub node: SocketAddr,
    /// Who has the same bytes, and may be asked too when `node` is late.
    pub other: Option<SocketAddr>,
    /// What to ask for.
    pub range: ReadRangeV1,
    /// Where the bytes belong: exactly `range.length` bytes.
    pub target: &'a mut [u8],
    /// How far it has come. A failed fetch keeps what was verified.
    pub progress: RangeProgress,
    /// `Some` once the operation has completed.
    pub result: Option<Result<(), TransportError>>,
}

impl<'a> Fetch<'a> {
    /// A fetch that has not begun.
    pub fn new(node: SocketAddr, range: ReadRangeV1, target: &'a mut [u8]) -> Self {
        let progress = RangeProgress::new(range.offset, range.length);
        Self { node, other: None, range, target, progress, result: None }
    }
}

/// Moves block data between datanodes and the caller's memory.
pub trait Transport: Send + Sync + Debug {
    /// Completes all of `fetches`, in any order. Each then has its result; no memory is touched after the return.
    fn fetch(&self, fetches: &mut [Fetch<'_>], hint: ReadHint);

    /// Begins to read a range in order. The memory is named later, by each [`RangeStream::read`].
    ///
    /// # Errors
    /// When the request cannot be sent.
    fn stream(
        &self,
        node: SocketAddr,
        range: ReadRangeV1,
        hint: ReadHint,
    ) -> Result<Box<dyn RangeStream>, TransportError>;

    /// Asks for the state of a replica.
    ///
    /// # Errors
    /// `BlockMissing`, and whatever keeps the node from answering.
    fn replica_info(
        &self,
        node: SocketAddr,
        request: &ReplicaInfoRequestV1,
    ) -> Result<ReplicaInfoReplyV1, TransportError>;

    /// Sets up a pipeline whose first node is `node`.
    ///
    /// # Errors
    /// [`PipelineError`], with the node that failed.
    fn open_pipeline(
        &self,
        node: SocketAddr,
        request: &WriteOpenRequestV1,
    ) -> Result<Box<dyn Pipeline>, PipelineError>;

    /// Lets `node` copy the first bytes of an open replica to nodes that join its pipeline; returns when they have them.
    ///
    /// # Errors
    /// `PipelineFailed`: a target failed. Anything else: the source.
    fn transfer_replica(
        &self,
        node: SocketAddr,
        request: &TransferReplicaRequestV1,
    ) -> Result<(), TransportError>;
}

/// A range that is read in order. Dropping it in the middle gives up the connection.
pub trait RangeStream: Send + Sync + Debug {
    /// Fills `target` with the next bytes, verified; returns how many, fewer than asked for only at the end of the range.
    ///
    /// # Errors
    /// [`TransportError`] when nothing could be delivered; the stream is then of no more use. Bytes that were delivered
    /// by earlier calls are right.
    fn read(&mut self, target: &mut [u8]) -> Result<usize, TransportError>;
}

/// A pipeline could not be set up, or broke.
#[derive(Debug, thiserror::Error)]
#[error("pipeline{}: {source}", NodeIndex(*.failed_node))]
pub struct PipelineError {
    /// Index of the node that failed, in the order of the request; `None` when all seem to be alive, and yet nothing
    /// comes.
    pub failed_node: Option<usize>,
    /// Why.
    pub source: TransportError,
}

struct NodeIndex(Option<usize>);

impl std::fmt::Display for NodeIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |index| write!(f, ", node {index}"))
    }
}

/// How long to wait for an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckWait {
    /// Only look.
    No,
    /// Until one comes.
    Yes,
}

/// An open pipeline.
///
/// After an error it is of no more use. A node that is silent for longer than the client's `pipeline_timeout` while an
/// acknowledgement is due counts as failed, if the others are alive.
pub trait Pipeline: Send + Sync + Debug {
    /// Sends a packet; returns when `checksums` and `data` may be reused.
    ///
    /// # Errors
    /// The pipeline is gone.
    fn send(&mut self, packet: &WritePacketV1, checksums: &[u8], data: &[u8]) -> Result<(), PipelineError>;

    /// The next acknowledgement; `None` when none has come and none was waited for.
    ///
    /// # Errors
    /// The pipeline is gone.
    fn next_ack(&mut self, wait: AckWait) -> Result<Option<WriteAckV1>, PipelineError>;
}
