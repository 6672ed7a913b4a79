//! The SDK's way to datanodes, over simulated streams. Parts of ranges are received and verified by the SDK's own code.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ringfs_proto::frame::{self, Header};
use ringfs_proto::ids::CallId;
use ringfs_proto::limits::META_BYTES_MAX;
use ringfs_proto::meta::data::{
    PipelineNodeV1, RangeDataV1, ReadHint, ReadRangeV1, ReadRangesRequestV1, ReplicaInfoReplyV1,
    ReplicaInfoRequestV1, TransferReplicaRequestV1, WriteAckV1, WriteOpenRequestV1, WritePacketV1,
};
use ringfs_proto::ops::{Op, Operation, ReadRanges, ReplicaInfo, TransferReplica, WriteOpen, WritePacket};
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};
use ringfs_sdk::transport::{
    AckWait, Fetch, PartError, PartReceiver, Pipeline, PipelineError, RangeProgress, RangeStream, Target,
    Transport, TransportError,
};

use crate::client::{IO_TIMEOUT, Place, Pool, call};
use crate::coroutine::{can_wait, wait};
use crate::one_thread::OneThread;
use crate::wire::Wire;

/// How long a node may take for a sign of life.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections of one client to datanodes.
pub struct Wires(OneThread<Rc<Shared>>);

struct Shared {
    place: Place,
    pool: Pool,
    last_call: Cell<u64>,
}

/// Why an exchange with a datanode failed.
enum Failed {
    Stream(io::Error),
    Refused(WireError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

impl Failed {
    fn at(self, node: SocketAddr) -> TransportError {
        match self {
            Self::Stream(error) => TransportError::unreachable(node, error),
            Self::Refused(error) => TransportError::refused(node, error),
        }
    }
}

impl Wires {
    /// Of a client at this place.
    pub fn new(place: &Place) -> Self {
        let shared = Shared { place: place.clone(), pool: Pool::default(), last_call: Cell::new(0) };
        Self(OneThread::new(Rc::new(shared)))
    }
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated streams to datanodes")
    }
}

impl Shared {
    fn next_call(&self) -> CallId {
        self.last_call.set(self.last_call.get() + 1);
        CallId(self.last_call.get())
    }

    /// Makes one call on a connection of its own.
    async fn call<O: Operation>(
        &self,
        node: SocketAddr,
        request: &O::Request,
    ) -> Result<(O::Reply, Wire), Failed> {
        let mut wire = self.pool.checkout(&self.place, node).await?;
        let answer = call::<O>(&mut wire, self.next_call(), request);
        let reply = self.place.within(IO_TIMEOUT, answer).await?.map_err(Failed::Refused)?;
        Ok((reply, wire))
    }

    /// Which node of a pipeline has failed: the one at the other end of the stream, or the first that gives no sign of life
    /// when nothing comes.
    async fn blame(&self, failed: &Failed, nodes: &[SocketAddr]) -> Option<usize> {
        match failed {
            Failed::Stream(error) if error.kind() == io::ErrorKind::TimedOut => {
                for (index, node) in nodes.iter().enumerate() {
                    if self.place.within(PROBE_TIMEOUT, self.place.open(*node)).await.is_err() {
                        return Some(index);
                    }
                }
                None
            }
            _ => Some(0),
        }
    }

    async fn fetch(&self, fetch: &mut Fetch<'_>, hint: ReadHint) -> Result<(), Failed> {
        let mut wire = self.pool.checkout(&self.place, fetch.node).await?;
        let id = self.next_call();
        let ranges = vec![fetch.range.clone()];
        let request = ReadRangesRequestV1 { ranges, credit_bytes: u64::MAX / 2, hint, record_bytes: 0 };
        let header = Header { op_version: ReadRanges::VERSION, ..Header::request(Op::ReadRanges, id) };
        let mut out = Vec::new();
        frame::append(&mut out, header, 0, |meta| request.encode_into(meta));
        self.place.within(IO_TIMEOUT, wire.end.write_all(&out)).await?;
        let mut receiver = PartReceiver::default();
        let mut has_ended = false;
        while !has_ended {
            let receiving = receive_part(&mut wire, &mut receiver, fetch, id);
            has_ended = self.place.within(IO_TIMEOUT, async { Ok(receiving.await) }).await??;
        }
        self.pool.give_back(fetch.node, wire);
        Ok(())
    }
}

/// Receives a part of a range; returns whether it was the last.
async fn receive_part(
    wire: &mut Wire,
    receiver: &mut PartReceiver,
    fetch: &mut Fetch<'_>,
    id: CallId,
) -> Result<bool, Failed> {
    let (header, meta) =
        wire.frame(META_BYTES_MAX).await?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    if header.call != id {
        return Err(io::Error::other("an answer to another call").into());
    }
    if let Some(error) = frame::reply_error(&header, &meta) {
        return Err(Failed::Refused(error));
    }
    let part = RangeDataV1::decode(&meta).map_err(io::Error::other)?;
    let payload = wire.take(header.payload_len as usize).await?;
    if part.code != 0 {
        let message = String::from_utf8_lossy(&payload).into_owned();
        return Err(Failed::Refused(WireError::new(Code::from_u16(part.code), message)));
    }
    receiver.begin(&part, header.payload_len, &mut fetch.progress).map_err(|error| broken_part(&error))?;
    let mut rest = &payload[..];
    while receiver.is_receiving() {
        let offset = fetch.progress.begin();
        let mut target = Target { offset, memory: fetch.target, ahead_bytes: 0 };
        let (slots, _) = receiver.slots(&fetch.progress, &mut target);
        let mut copied = 0;
        for mut slot in slots.into_iter().flatten() {
            let len = slot.len().min(rest.len() - copied);
            slot[..len].copy_from_slice(&rest[copied..copied + len]);
            copied += len;
        }
        if copied == 0 && !rest.is_empty() {
            return Err(io::Error::other("a part does not fit its range").into());
        }
        receiver.arrived(copied, &mut fetch.progress, &target).map_err(|error| broken_part(&error))?;
        rest = &rest[copied..];
    }
    Ok(part.is_last)
}

fn broken_part(error: &PartError) -> Failed {
    match error {
        PartError::Checksum { .. } => {
            Failed::Refused(WireError::new(Code::ChecksumMismatch, error.to_string()))
        }
        PartError::Malformed { .. } => Failed::Stream(io::Error::other(error.to_string())),
    }
}

fn unwinding(node: SocketAddr) -> TransportError {
    TransportError::unreachable(node, io::ErrorKind::Interrupted.into())
}

impl Transport for Wires {
    fn fetch(&self, fetches: &mut [Fetch<'_>], hint: ReadHint) {
        let shared = self.0.get();
        for fetch in fetches {
            let fetched = wait(shared.fetch(fetch, hint)).map_err(|failed| failed.at(fetch.node));
            fetch.result = Some(fetched);
        }
    }

    fn stream(
        &self,
        node: SocketAddr,
        range: ReadRangeV1,
        hint: ReadHint,
    ) -> Result<Box<dyn RangeStream>, TransportError> {
        let shared = OneThread::new(self.0.get().clone());
        Ok(Box::new(Stream { shared, node, range, hint }))
    }

    fn replica_info(
        &self,
        node: SocketAddr,
        request: &ReplicaInfoRequestV1,
    ) -> Result<ReplicaInfoReplyV1, TransportError> {
        let shared = self.0.get();
        let (reply, wire) =
            wait(shared.call::<ReplicaInfo>(node, request)).map_err(|failed| failed.at(node))?;
        shared.pool.give_back(node, wire);
        Ok(reply)
    }

    fn open_pipeline(
        &self,
        node: SocketAddr,
        request: &WriteOpenRequestV1,
    ) -> Result<Box<dyn Pipeline>, PipelineError> {
        let shared = self.0.get();
        let addresses: Vec<SocketAddr> = request.nodes.iter().filter_map(address_of).collect();
        let opened = wait(shared.call::<WriteOpen>(node, request));
        let (reply, wire) = opened.map_err(|failed| {
            let failed_node = wait(shared.blame(&failed, &addresses));
            PipelineError { failed_node, source: failed.at(node) }
        })?;
        if reply.code != 0 {
            let error = WireError::new(Code::from_u16(reply.code), reply.message);
            shared.pool.give_back(node, wire);
            let source = TransportError::refused(node, error);
            return Err(PipelineError { failed_node: Some(reply.failed_node as usize), source });
        }
        let call = CallId(shared.last_call.get());
        let state = OneThread::new((shared.clone(), RefCell::new(Some(wire))));
        Ok(Box::new(Packets { state, node, addresses, call, is_finalized: false }))
    }

    fn transfer_replica(
        &self,
        node: SocketAddr,
        request: &TransferReplicaRequestV1,
    ) -> Result<(), TransportError> {
        let shared = self.0.get();
        let called = wait(shared.call::<TransferReplica>(node, request));
        let (_, wire) = called.map_err(|failed| failed.at(node))?;
        shared.pool.give_back(node, wire);
        Ok(())
    }
}

fn address_of(node: &PipelineNodeV1) -> Option<SocketAddr> {
    Some(SocketAddr::new(node.host.parse::<IpAddr>().ok()?, node.port))
}

/// A range that is read in order, a request at a time.
#[derive(Debug)]
struct Stream {
    shared: OneThread<Rc<Shared>>,
    node: SocketAddr,
    range: ReadRangeV1,
    hint: ReadHint,
}

impl RangeStream for Stream {
    fn read(&mut self, target: &mut [u8]) -> Result<usize, TransportError> {
        if !can_wait() {
            return Err(unwinding(self.node));
        }
        let len = self.range.length.min(target.len() as u64);
        if len == 0 {
            return Ok(0);
        }
        let range = ReadRangeV1 { length: len, ..self.range.clone() };
        let mut fetch = Fetch::new(self.node, range, &mut target[..len as usize]);
        fetch.progress = RangeProgress::new(self.range.offset, len);
        wait(self.shared.get().fetch(&mut fetch, self.hint)).map_err(|failed| failed.at(self.node))?;
        self.range.offset += len;
        self.range.length -= len;
        Ok(len as usize)
    }
}

/// An open pipeline.
#[derive(Debug)]
struct Packets {
    state: OneThread<(Rc<Shared>, RefCell<Option<Wire>>)>,
    node: SocketAddr,
    addresses: Vec<SocketAddr>,
    call: CallId,
    is_finalized: bool,
}

impl Packets {
    fn with_wire<T>(&self, work: impl AsyncFnOnce(&mut Wire) -> io::Result<T>) -> Result<T, PipelineError> {
        let (shared, wire) = self.state.get();
        if !can_wait() {
            return Err(PipelineError { failed_node: None, source: unwinding(self.node) });
        }
        let taken = wire.borrow_mut().take();
        let done = match taken {
            None => Err(io::ErrorKind::BrokenPipe.into()),
            Some(mut taken) => {
                let done = wait(shared.place.within(IO_TIMEOUT, work(&mut taken)));
                *wire.borrow_mut() = Some(taken);
                done
            }
        };
        done.map_err(|error| {
            let failed = Failed::Stream(error);
            let failed_node = wait(shared.blame(&failed, &self.addresses));
            PipelineError { failed_node, source: failed.at(self.node) }
        })
    }

    fn close(&self) {
        let (_, wire) = self.state.get();
        let gone = wire.borrow_mut().take();
        drop(gone);
    }

    fn is_readable(&self) -> bool {
        let (_, wire) = self.state.get();
        wire.borrow().as_ref().is_none_or(|wire| !wire.is_at_boundary() || wire.end.is_readable())
    }

    /// Takes an acknowledgement; the failure of a node ends the pipeline.
    fn take_ack(&mut self) -> Result<WriteAckV1, PipelineError> {
        let call = self.call;
        let ack = self.with_wire(async |wire| {
            let (header, meta) = wire.frame(META_BYTES_MAX).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if header.call != call {
                return Err(io::Error::other("an answer to another call"));
            }
            match frame::reply_error(&header, &meta) {
                Some(error) => Ok(Err(error)),
                None => WriteAckV1::decode(&meta).map(Ok).map_err(io::Error::other),
            }
        })?;
        let refused = |node, error| {
            let source = TransportError::refused(self.node, error);
            Err(PipelineError { failed_node: Some(node), source })
        };
        match ack {
            Err(error) => refused(0, error),
            Ok(ack) if ack.code != 0 => {
                let code = Code::from_u16(ack.code);
                let message = format!("node {} of the pipeline failed: {code}", ack.failed_node);
                refused(ack.failed_node as usize, WireError::new(code, message))
            }
            Ok(ack) => {
                self.is_finalized |= ack.is_finalized;
                Ok(ack)
            }
        }
    }
}

impl Pipeline for Packets {
    fn send(&mut self, packet: &WritePacketV1, checksums: &[u8], data: &[u8]) -> Result<(), PipelineError> {
        let header =
            Header { op_version: WritePacket::VERSION, ..Header::request(Op::WritePacket, self.call) };
        let mut out = Vec::new();
        frame::append(&mut out, header, checksums.len() + data.len(), |meta| packet.encode_into(meta));
        out.extend_from_slice(checksums);
        out.extend_from_slice(data);
        let sent = self.with_wire(async |wire| wire.end.write_all(&out).await);
        if sent.is_err() {
            self.close();
        }
        sent
    }

    fn next_ack(&mut self, wait: AckWait) -> Result<Option<WriteAckV1>, PipelineError> {
        if wait == AckWait::No && !self.is_readable() {
            return Ok(None);
        }
        let ack = self.take_ack();
        if ack.is_err() {
            self.close();
        }
        ack.map(Some)
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        let (shared, wire) = self.state.get();
        let wire = wire.borrow_mut().take();
        if let Some(wire) = wire
            && self.is_finalized
        {
            shared.pool.give_back(self.node, wire);
        }
    }
}
