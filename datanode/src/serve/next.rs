//! The next node of a pipeline: connecting to it and opening the rest of the pipeline through it.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_lite::future::or;
use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{self, HelloReplyV1};
use ringfs_proto::meta::data::{PipelineNodeV1, WriteAckV1, WriteOpenReplyV1, WriteOpenRequestV1};
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::Shard;
use super::frames::{Closed, Frames};
use crate::engine::{Engine, Reader, Writer};

/// How long the connection to the next node may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long each node behind may take to open its replica, which includes fencing an old writer. A node waits longer than
/// those behind it, so that the one that does not answer is named by its neighbour.
const SETUP_DEADLINE: Duration = Duration::from_secs(6);

/// Why a pipeline ended: what the writer is told.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub error: WireError,
    /// Index of the node that failed, counted from this one.
    pub node: u32,
}

impl Failure {
    /// This node failed.
    pub fn here(error: WireError) -> Self {
        Self { error, node: 0 }
    }

    /// The next node failed, or one behind it.
    pub fn next(message: impl Into<String>) -> Self {
        Self { error: WireError::new(Code::PipelineFailed, message), node: 1 }
    }
}

/// The next node of the pipeline.
pub struct Next<E: Engine> {
    frames: Frames<E::Reader>,
    /// Takes frames for it.
    pub writer: E::Writer,
}

impl<E: Engine> Shard<E> {
    /// Opens a pipeline to the second node of a request, which opens it to those behind. `header` is that of the request,
    /// whose call the packets belong to.
    pub(super) async fn open_next(
        &self,
        request: &WriteOpenRequestV1,
        header: &Header,
    ) -> Result<Next<E>, Failure> {
        let Some((PipelineNodeV1 { host, port, .. }, _)) =
            request.nodes.get(1..).and_then(<[_]>::split_first)
        else {
            return Err(Failure::here(WireError::new(Code::Malformed, "a pipeline without a next node")));
        };
        let failed = |what: String| Failure::next(format!("set up pipeline to {host}:{port}: {what}"));
        let address: IpAddr = host.parse().map_err(|_| failed("not a numeric address".to_owned()))?;
        let connecting = self.engine.connect(SocketAddr::new(address, *port), CONNECT_DEADLINE);
        let (reader, writer) = connecting.await.map_err(|error| failed(error.to_string()))?;
        let watch = self.watches.add(reader.cutter());
        let mut next = Next { frames: Frames::new(reader, watch), writer };
        let behind = u32::try_from(request.nodes.len() - 1).unwrap_or(u32::MAX);
        let greeted = async { Some(self.greet_next(&mut next, request, header).await) };
        let late = async {
            self.engine.sleep(SETUP_DEADLINE.saturating_mul(behind)).await;
            None
        };
        let reply = or(greeted, late).await.ok_or_else(|| failed("no answer in time".to_owned()))?;
        let reply = reply.map_err(|closed| failed(closed.to_string()))?;
        match reply.code {
            0 => Ok(next),
            code => {
                let error = WireError::new(Code::from_u16(code), reply.message);
                Err(Failure { error, node: reply.failed_node.saturating_add(1) })
            }
        }
    }

    async fn greet_next(
        &self,
        next: &mut Next<E>,
        request: &WriteOpenRequestV1,
        header: &Header,
    ) -> Result<WriteOpenReplyV1, Closed> {
        let mut out = hello::encode_hello(&self.node.hello());
        let shifted = WriteOpenRequestV1 { nodes: request.nodes[1..].to_vec(), ..request.clone() };
        let forwarded = Header { flags: 0, remaining_ms: 0, ..*header };
        frame::append(&mut out, forwarded, 0, |meta| shifted.encode_into(meta));
        next.writer.write_all_vectored(&[IoSlice::new(&out)]).await?;
        let welcome: HelloReplyV1 = next.frames.hello(true).await?;
        if welcome.code != 0 {
            return Err(Closed::Protocol(welcome.message));
        }
        next.frames.watch().set_busy(true);
        let answer = next.frames.next().await?;
        let answer = answer.ok_or_else(|| Closed::Io(io::ErrorKind::UnexpectedEof.into()))?;
        next.frames.watch().set_busy(false);
        if let Some(error) = frame::reply_error(&answer, next.frames.meta()) {
            return Err(Closed::Protocol(error.message));
        }
        Ok(WriteOpenReplyV1::decode(next.frames.meta())?)
    }
}

impl<E: Engine> Next<E> {
    /// The half that receives acks, and the half that takes packets.
    pub fn halves(&mut self) -> (Acks<'_, E>, &mut E::Writer) {
        (Acks(&mut self.frames), &mut self.writer)
    }
}

/// Acks of the next node.
pub struct Acks<'a, E: Engine>(&'a mut Frames<E::Reader>);

impl<E: Engine> Acks<'_, E> {
    /// The next ack, while packets wait for one: a node that stalls is cut off.
    pub async fn next_owed(&mut self) -> Result<WriteAckV1, Failure> {
        self.0.watch().set_busy(true);
        self.next().await
    }

    /// The next ack. It is of all nodes behind.
    pub async fn next(&mut self) -> Result<WriteAckV1, Failure> {
        let lost = |what: String| Failure::next(format!("the next node of the pipeline: {what}"));
        let found = self.0.next().await.map_err(|closed| lost(closed.to_string()))?;
        let found = found.ok_or_else(|| lost("connection ended".to_owned()))?;
        if let Some(error) = frame::reply_error(&found, self.0.meta()) {
            return Err(lost(error.message));
        }
        let ack = WriteAckV1::decode(self.0.meta()).map_err(|error| lost(error.to_string()))?;
        if ack.code != 0 {
            let message = format!("node {} behind this one failed", ack.failed_node);
            let error = WireError::new(Code::from_u16(ack.code), message);
            return Err(Failure { error, node: ack.failed_node.saturating_add(1) });
        }
        Ok(ack)
    }
}
