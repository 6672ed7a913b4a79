//! A pipeline over TCP: packets go out, acknowledgements come in whenever they are there.
//!
//! **Which node failed.** A node that breaks is named by the one before it: the set-up's answer and the acknowledgements say
//! which. A node that is silent (stopped, hung, cut off without a reset) keeps the others waiting, and nobody says who
//! it is. So after `pipeline_timeout` without a byte every node is asked whether it lives; the first that does not answer
//! has failed. When all answer, the pipeline is slow rather than dead and is waited for up to `io_timeout`.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ringfs_proto::frame::{self, Header};
use ringfs_proto::ids::CallId;
use ringfs_proto::limits::FRAME_HEADER_BYTES;
use ringfs_proto::meta::data::{
    PipelineNodeV1, WriteAckV1, WriteOpenReplyV1, WriteOpenRequestV1, WritePacketV1,
};
use ringfs_proto::ops::{Op, Operation, WriteOpen, WritePacket};
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::tcp::is_alive;
use super::{AckWait, Pipeline, PipelineError, TransportError};
use crate::error::Fault;
use crate::limits::{ACKS_WAITING_MAX, PROBE_TIMEOUT_MAX};
use crate::net::connection::{Caller, Connection};
use crate::net::pool::{Keep, Pool};

/// Room for several acknowledgements.
const READ_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct TcpPipeline {
    connection: Option<Connection>,
    node: SocketAddr,
    call: CallId,
    acks: VecDeque<WriteAckV1>,
    peers: Peers,
    is_finalized: bool,
}

/// A fault of a pipeline, and the node that it is known to come from.
#[derive(Debug)]
struct Broken {
    node: Option<usize>,
    fault: Box<Fault>,
}

impl From<Fault> for Broken {
    /// A fault of the connection is one of the node at its end.
    fn from(fault: Fault) -> Self {
        Self { node: Some(0), fault: Box::new(fault) }
    }
}

impl Broken {
    fn at(self, node: SocketAddr) -> PipelineError {
        PipelineError { failed_node: self.node, source: TransportError::from_fault(node, *self.fault) }
    }
}

/// The nodes of a pipeline, and how patiently they are waited for.
#[derive(Debug)]
struct Peers {
    addresses: Vec<Option<SocketAddr>>,
    caller: Caller,
}

impl Peers {
    fn new(nodes: &[PipelineNodeV1], caller: &Caller) -> Self {
        let address =
            |node: &PipelineNodeV1| Some(SocketAddr::new(node.host.parse::<IpAddr>().ok()?, node.port));
        Self { addresses: nodes.iter().map(address).collect(), caller: caller.clone() }
    }

    /// When to ask next whether the nodes live, if nothing comes.
    fn deadline(&self, since: Instant) -> Instant {
        let Caller { pipeline_timeout, io_timeout, .. } = self.caller;
        let next = pipeline_timeout.max(since.elapsed() + pipeline_timeout / 2);
        since + next.min(io_timeout)
    }

    /// Nothing has come since `since`: which node has failed? None, if all live and there is time left.
    fn check(&self, since: Instant) -> Result<(), Broken> {
        let timeout = PROBE_TIMEOUT_MAX.min(self.caller.pipeline_timeout);
        let dead = self
            .addresses
            .iter()
            .position(|node| node.is_none_or(|node| !is_alive(node, &self.caller, timeout)));
        let silence = since.elapsed();
        if dead.is_none() && silence < self.caller.io_timeout {
            tracing::debug!(?silence, nodes = ?self.addresses, "a pipeline is slow: all its nodes live");
            return Ok(());
        }
        Err(Broken { node: dead, fault: Box::new(Fault::Silent(silence.as_millis())) })
    }
}

impl TcpPipeline {
    pub fn open(
        node: SocketAddr,
        request: &WriteOpenRequestV1,
        caller: &Caller,
    ) -> Result<Self, PipelineError> {
        Self::try_open(node, request, caller).map_err(|broken| broken.at(node))
    }

    fn try_open(node: SocketAddr, request: &WriteOpenRequestV1, caller: &Caller) -> Result<Self, Broken> {
        let peers = Peers::new(&request.nodes, caller);
        let mut checkout = Pool::current().checkout(node, caller)?;
        let mut call = checkout.connection.next_call();
        let mut opened = set_up(&mut checkout.connection, call, request, &peers);
        if checkout.was_idle && matches!(&opened, Err(broken) if is_stale(&broken.fault)) {
            // The peer had closed it without our knowing; a request that it never read has created nothing.
            checkout.connection = Connection::open(node, caller)?;
            call = checkout.connection.next_call();
            opened = set_up(&mut checkout.connection, call, request, &peers);
        }
        let reply = opened?;
        if reply.code != 0 {
            let error = WireError::new(Code::from_u16(reply.code), reply.message);
            Pool::current().give_back(checkout.connection, caller, Keep::Briefly);
            return Err(Broken { node: Some(reply.failed_node as usize), fault: Box::new(error.into()) });
        }
        let (connection, acks) = (Some(checkout.connection), VecDeque::new());
        Ok(Self { connection, node, call, acks, peers, is_finalized: false })
    }

    fn try_send(&mut self, packet: &WritePacketV1, checksums: &[u8], data: &[u8]) -> Result<(), Broken> {
        let mut head = std::mem::take(&mut self.connection()?.out);
        head.clear();
        let header = Header {
            job_tag: self.peers.caller.job_tag,
            op_version: WritePacket::VERSION,
            ..Header::request(Op::WritePacket, self.call)
        };
        frame::append(&mut head, header, checksums.len() + data.len(), |meta| packet.encode_into(meta));
        let sent = self.send_slices([&head, checksums, data]);
        head.clear();
        if let Some(connection) = &mut self.connection {
            connection.out = head;
        }
        sent
    }

    fn send_slices(&mut self, slices: [&[u8]; 3]) -> Result<(), Broken> {
        let mut slices = slices.map(IoSlice::new);
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        let mut since = None;
        while !left.is_empty() {
            if let Some(len) = self.connection()?.try_send(left)? {
                IoSlice::advance_slices(&mut left, len);
                since = None;
                continue;
            }
            // Acknowledgements are taken meanwhile: a node that cannot send them may not read on.
            let begin = *since.get_or_insert_with(Instant::now);
            self.wait(true, begin)?;
            if self.take_acks()? {
                since = None;
            }
        }
        Ok(())
    }

    /// Waits until there is something to do; asks whether the nodes live when there is nothing for too long.
    fn wait(&mut self, write: bool, since: Instant) -> Result<(), Broken> {
        let until = self.peers.deadline(since);
        match self.connection()?.wait(true, write, since, until) {
            Err(Fault::Silent(_)) => self.peers.check(since),
            waited => Ok(waited?),
        }
    }

    /// Decodes what has arrived. Returns whether anything had.
    fn take_acks(&mut self) -> Result<bool, Fault> {
        let call = self.call;
        let connection = self.connection.as_mut().ok_or(Fault::Handle("the pipeline has failed"))?;
        let has_received = connection.try_receive_inbox(READ_BYTES)?;
        while let Some((header, meta)) = connection.inbox.frame()? {
            let len = FRAME_HEADER_BYTES + meta.len();
            let ack = decode_ack(&header, meta, call)?;
            connection.inbox.consume(len);
            if self.acks.len() == ACKS_WAITING_MAX {
                return Err(Fault::Protocol("acknowledgements that nobody asked for".to_owned()));
            }
            self.is_finalized |= ack.is_finalized && ack.code == 0;
            self.acks.push_back(ack);
        }
        Ok(has_received)
    }

    fn wait_for_ack(&mut self) -> Result<(), Broken> {
        let mut since = None;
        while self.acks.is_empty() {
            if self.take_acks()? {
                since = None;
            } else {
                let begin = *since.get_or_insert_with(Instant::now);
                self.wait(false, begin)?;
            }
        }
        Ok(())
    }

    fn connection(&mut self) -> Result<&mut Connection, Fault> {
        self.connection.as_mut().ok_or(Fault::Handle("the pipeline has failed"))
    }

    /// A failure ends the pipeline. If the node has said why, that is the better answer.
    fn failed(&mut self, broken: Broken) -> PipelineError {
        while matches!(self.take_acks(), Ok(true)) {}
        self.connection = None;
        match self.acks.iter().find(|ack| ack.code != 0) {
            Some(ack) => refused(ack).at(self.node),
            None => broken.at(self.node),
        }
    }
}

impl Pipeline for TcpPipeline {
    fn send(&mut self, packet: &WritePacketV1, checksums: &[u8], data: &[u8]) -> Result<(), PipelineError> {
        self.try_send(packet, checksums, data).map_err(|broken| self.failed(broken))
    }

    fn next_ack(&mut self, wait: AckWait) -> Result<Option<WriteAckV1>, PipelineError> {
        if self.acks.is_empty() {
            let taken = match wait {
                AckWait::No => self.take_acks().map(|_| ()).map_err(Broken::from),
                AckWait::Yes => self.wait_for_ack(),
            };
            if let Err(broken) = taken
                && self.acks.is_empty()
            {
                return Err(self.failed(broken));
            }
        }
        let ack = self.acks.pop_front();
        match ack {
            Some(ack) if ack.code != 0 => {
                self.connection = None;
                Err(refused(&ack).at(self.node))
            }
            ack => Ok(ack),
        }
    }
}

impl Drop for TcpPipeline {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.is_finalized
        {
            Pool::current().give_back(connection, &self.peers.caller, Keep::Briefly);
        }
    }
}

fn is_stale(fault: &Fault) -> bool {
    fault.is_connection() && !matches!(fault, Fault::Silent(_))
}

fn set_up(
    connection: &mut Connection,
    call: CallId,
    request: &WriteOpenRequestV1,
    peers: &Peers,
) -> Result<WriteOpenReplyV1, Broken> {
    let header = Header { job_tag: peers.caller.job_tag, ..Header::request(Op::WriteOpen, call) };
    let since = Instant::now();
    connection.ask::<WriteOpen>(header, request, since + peers.caller.io_timeout)?;
    loop {
        match connection.answer::<WriteOpen>(header, peers.deadline(since)) {
            Err(Fault::Silent(_)) => peers.check(since)?,
            answered => return Ok(answered?),
        }
    }
}

fn decode_ack(header: &Header, meta: &[u8], call: CallId) -> Result<WriteAckV1, Fault> {
    if !header.is_reply() || header.call != call || header.payload_len != 0 {
        return Err(Fault::Protocol(format!("{} of call {} in a pipeline", header.op.name(), header.call)));
    }
    match frame::reply_error(header, meta) {
        Some(error) => Err(error.into()),
        None => Ok(WriteAckV1::decode(meta)?),
    }
}

fn refused(ack: &WriteAckV1) -> Broken {
    let code = Code::from_u16(ack.code);
    let error = WireError::new(code, format!("node {} of the pipeline failed: {code}", ack.failed_node));
    Broken { node: Some(ack.failed_node as usize), fault: Box::new(error.into()) }
}
