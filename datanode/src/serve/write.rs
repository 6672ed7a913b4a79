//! Writing a replica: four futures of one task over one [`Pipeline`].
//!
//! One receives packets, verifies them where this node is the last, and passes them on; one writes groups of packets
//! (at most one write in flight); one takes the acks of the next node; one acknowledges what all have. The first
//! failure ends them all; what was acknowledged stays, open.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::try_zip;
use ringfs_proto::capability::Mode;
use ringfs_proto::frame::{self, Header, flags};
use ringfs_proto::hello::{self, HelloReplyV1, HelloV1, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Role};
use ringfs_proto::ids::SessionId;
use ringfs_proto::limits::{BLOCK_BYTES_MAX, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, PIPELINE_NODES_MAX};
use ringfs_proto::meta::data::{
    PipelineNodeV1, WriteAckV1, WriteHint, WriteOpenReplyV1, WriteOpenRequestV1, WritePacketV1, packet_flags,
};
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::connection::Connection;
use super::frames::{Closed, Frames};
use super::pipeline::{Downstream, Group, Pipeline, Written};
use super::signal::Signal;
use super::{GROUP_BYTES, Shard};
use crate::config::WriteMode;
use crate::engine::{Access, Create, DIRECT_ALIGN, Engine, File, Reader, Writer};
use crate::format::block::{Layout, TailSlot};
use crate::store::{ALLOCATION_BYTES_MAX, Created, NewReplica};

/// How long the connection to the next node may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Files that are announced as at most this long are written through the page cache.
const SMALL_BYTES: u64 = 1 << 20;

/// Why a pipeline ended: what the writer is told.
#[derive(Debug)]
struct Failure {
    error: WireError,
    /// Index of the node that failed, counted from this one.
    node: u32,
}

impl Failure {
    fn here(error: WireError) -> Self {
        Self { error, node: 0 }
    }

    fn next(message: String) -> Self {
        Self { error: WireError::new(Code::PipelineFailed, message), node: 1 }
    }
}

/// How a pipeline ended.
enum Ended {
    /// The writer's connection is gone: there is nobody to tell.
    Connection(Closed),
    Failure(Failure),
}

impl From<Closed> for Ended {
    fn from(closed: Closed) -> Self {
        Self::Connection(closed)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// The next node of the pipeline.
struct Next<E: Engine> {
    frames: Frames<E::Reader>,
    writer: E::Writer,
}

/// A replica being written, with its files.
struct Writing<E: Engine> {
    created: Created,
    data: E::File,
    head: E::File,
    pipeline: RefCell<Pipeline<E::Buffer>>,
    signal: Signal,
    slot_sequence: Cell<u64>,
    allocated: Cell<u64>,
}

impl<E: Engine> Shard<E> {
    /// Answers `WriteOpen` and receives the packets that follow it.
    pub(super) async fn write(
        self: &Rc<Self>,
        connection: &mut Connection<E>,
        header: &Header,
    ) -> Result<(), Closed> {
        let request = WriteOpenRequestV1::decode(connection.frames.meta())?;
        let permit = self.node.take_writer();
        let busy = || Failure::here(WireError::new(Code::Busy, "too many replicas are being written here"));
        let opened = match permit.as_ref().ok_or_else(busy) {
            Ok(_) => self.open_pipeline(&request, header).await,
            Err(failure) => Err(failure),
        };
        let (writing, mut next) = match opened {
            Ok(opened) => opened,
            Err(Failure { error, node }) => {
                tracing::info!(block = %request.block, %error, node, "pipeline refused");
                let reply =
                    WriteOpenReplyV1 { code: error.code as u16, failed_node: node, message: error.message };
                return connection.reply(header, Ok(reply)).await;
            }
        };
        let reply = WriteOpenReplyV1 { code: 0, failed_node: 0, message: String::new() };
        connection.reply(header, Ok(reply)).await?;
        self.metrics.writes_active.add(1);
        let ended = self.transfer(connection, header, &writing, next.as_mut()).await;
        self.metrics.writes_active.sub(1);
        self.close(writing, ended.is_ok());
        match ended {
            Ok(()) => Ok(()),
            Err(Ended::Connection(closed)) => Err(closed),
            Err(Ended::Failure(failure)) => {
                tracing::warn!(block = %request.block, error = %failure.error, node = failure.node, "pipeline failed");
                send_failure(connection, header, &failure).await?;
                Err(Closed::Io(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    /// Checks the request, creates the replica here, and sets up the rest of the pipeline.
    async fn open_pipeline(
        &self,
        request: &WriteOpenRequestV1,
        header: &Header,
    ) -> Result<(Writing<E>, Option<Next<E>>), Failure> {
        let new = self.new_replica(request).map_err(Failure::here)?;
        let next = match request.nodes.get(1..) {
            Some([_, ..]) => Some(self.connect_next(request, header).await?),
            _ => None,
        };
        let node = self.node.clone();
        let created = self.engine.blocking(move || node.store.create(&new)).await.map_err(Failure::here)?;
        match self.open_files(&created).await {
            Ok((data, head)) => Ok((self.writing(request, created, data, head, next.is_some()), next)),
            Err(error) => {
                self.node.store.leave_open(&created);
                Err(Failure::here(self.node.store.write_failed(&created.replica, &error)))
            }
        }
    }

    fn new_replica(&self, request: &WriteOpenRequestV1) -> Result<NewReplica, WireError> {
        let capability = self.check(&request.capability, Mode::Write, request.block, request.stamp)?;
        let malformed = |message: String| Err(WireError::new(Code::Malformed, message));
        let chunk = request.chunk_bytes;
        if !chunk.is_power_of_two() || !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk) {
            return malformed(format!("checksum chunk of {chunk} bytes"));
        }
        let Some(this) = request.nodes.first().filter(|_| request.nodes.len() <= PIPELINE_NODES_MAX) else {
            return malformed(format!("pipeline of {} nodes", request.nodes.len()));
        };
        if this.datanode != self.node.id {
            let message = format!("this is datanode {}, not {}", self.node.id, this.datanode);
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        let limit = capability.length_limit.min(BLOCK_BYTES_MAX);
        let layout = Layout { checksum: capability.checksum, chunk_bytes: capability.chunk_bytes, limit };
        let expected = request.announced_length.min(limit);
        let is_small = expected <= SMALL_BYTES || request.hint == WriteHint::Reuse;
        let is_direct = !is_small && self.node.config.write_mode == WriteMode::Direct;
        let (block, stamp) = (request.block, request.stamp);
        Ok(NewReplica { block, stamp, storage: this.storage, layout, is_direct, expected })
    }

    async fn open_files(&self, created: &Created) -> io::Result<(E::File, E::File)> {
        let access = if created.is_direct { Access::Direct } else { Access::Buffered };
        let data = self.engine.open(&created.path, access, Create::Existing).await?;
        let head = self.engine.open(&created.path, Access::Buffered, Create::Existing).await?;
        Ok((data, head))
    }

    fn writing(
        &self,
        request: &WriteOpenRequestV1,
        created: Created,
        data: E::File,
        head: E::File,
        has_next: bool,
    ) -> Writing<E> {
        let buffers = [self.engine.buffer(GROUP_BYTES), self.engine.buffer(GROUP_BYTES)];
        let packet = (request.checksum, request.chunk_bytes);
        let pipeline = RefCell::new(Pipeline::new(created.layout, packet, buffers, has_next));
        let allocated = Cell::new(created.allocated);
        Writing {
            created,
            data,
            head,
            pipeline,
            signal: Signal::default(),
            slot_sequence: Cell::new(0),
            allocated,
        }
    }

    /// Opens the pipeline to the next node, which opens it to those behind.
    async fn connect_next(&self, request: &WriteOpenRequestV1, header: &Header) -> Result<Next<E>, Failure> {
        let PipelineNodeV1 { host, port, .. } = &request.nodes[1];
        let failed = |what: String| Failure::next(format!("set up pipeline to {host}:{port}: {what}"));
        let address: IpAddr = host.parse().map_err(|_| failed("not a numeric address".to_owned()))?;
        let connecting = self.engine.connect(SocketAddr::new(address, *port), CONNECT_DEADLINE);
        let (reader, writer) = connecting.await.map_err(|error| failed(error.to_string()))?;
        let watch = self.watches.add(reader.raw_fd());
        let mut next = Next { frames: Frames::new(reader, watch), writer };
        let reply =
            self.open_next(&mut next, request, header).await.map_err(|closed| failed(closed.to_string()))?;
        match reply.code {
            0 => Ok(next),
            code => {
                let error = WireError::new(Code::from_u16(code), reply.message);
                Err(Failure { error, node: reply.failed_node.saturating_add(1) })
            }
        }
    }

    async fn open_next(
        &self,
        next: &mut Next<E>,
        request: &WriteOpenRequestV1,
        header: &Header,
    ) -> Result<WriteOpenReplyV1, Closed> {
        let hello = HelloV1 {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION_MAX,
            role: Role::Datanode,
            features: 0,
            session: SessionId(self.node.id.0),
            cluster: self.node.cluster,
            user: "datanode".to_owned(),
            auth_scheme: 0,
            credentials: Vec::new(),
        };
        let mut out = hello::encode_hello(&hello);
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

    async fn transfer(
        &self,
        connection: &mut Connection<E>,
        header: &Header,
        writing: &Writing<E>,
        next: Option<&mut Next<E>>,
    ) -> Result<(), Ended> {
        let Connection { frames, writer, out } = connection;
        let (next_frames, next_writer) = next.map(|next| (&mut next.frames, &mut next.writer)).unzip();
        let receive = self.receive(frames, header, writing, next_writer);
        let store = self.store_groups(writing);
        let take_acks = take_acks::<E>(next_frames, writing);
        let acknowledge = self.acknowledge(writer, out, header, writing);
        try_zip(try_zip(receive, store), try_zip(take_acks, acknowledge)).await.map(|_| ())
    }

    /// Receives packets until the last.
    async fn receive(
        &self,
        frames: &mut Frames<E::Reader>,
        header: &Header,
        writing: &Writing<E>,
        mut next: Option<&mut E::Writer>,
    ) -> Result<(), Ended> {
        let mut checksums = Vec::new();
        loop {
            let found = frames.next().await?;
            let found = found.ok_or_else(|| Closed::Io(io::ErrorKind::UnexpectedEof.into()))?;
            if found.op != Op::WritePacket || found.call != header.call {
                return Err(Closed::Protocol(format!("{} inside a pipeline", found.op.name())).into());
            }
            let packet = WritePacketV1::decode(frames.meta()).map_err(Closed::from)?;
            writing.pipeline.borrow().check(&packet, found.payload_len).map_err(Failure::here)?;
            let room = || writing.pipeline.borrow_mut().take_room(packet.data_len as usize);
            let (mut buffer, at) = writing.signal.until(room).await;
            checksums.resize(packet.checksums_len as usize, 0);
            frames.payload(&mut checksums).await?;
            let data = at..at + packet.data_len as usize;
            frames.payload(&mut buffer.as_mut()[data.clone()]).await?;
            frames.payload_done();
            match &mut next {
                Some(next) => {
                    let parts =
                        [frames.head(), frames.meta(), &checksums, &buffer.as_ref()[data]].map(IoSlice::new);
                    let passed_on = next.write_all_vectored(&parts).await;
                    passed_on.map_err(|error| {
                        Failure::next(format!("pass packet {} on: {error}", packet.sequence))
                    })?;
                }
                None => writing
                    .pipeline
                    .borrow()
                    .verify(&packet, &checksums, &buffer.as_ref()[data])
                    .map_err(Failure::here)?,
            }
            self.metrics.write_packets.add(1);
            self.metrics.write_bytes.add(u64::from(packet.data_len));
            writing.pipeline.borrow_mut().put_back(buffer, &packet, &checksums);
            writing.signal.notify();
            if packet.flags & packet_flags::LAST != 0 {
                return Ok(());
            }
        }
    }

    /// Writes what has arrived, again and again, until the last packet is written.
    async fn store_groups(&self, writing: &Writing<E>) -> Result<(), Ended> {
        let mut checksums = Vec::new();
        loop {
            let group =
                writing.signal.until(|| writing.pipeline.borrow_mut().take_group(&mut checksums)).await;
            let (arrived, until, tail) = (group.arrived, group.until, group.tail);
            let buffer = self.store_group(writing, group, &checksums).await.map_err(Failure::here)?;
            self.metrics.write_groups.add(1);
            let synced_length = if arrived.is_sync || arrived.is_last { until } else { 0 };
            let sequence = arrived.sequence.unwrap_or_default();
            let written = Written { sequence, tail, synced_length, is_finalized: arrived.is_last };
            writing.pipeline.borrow_mut().written(buffer, written);
            writing.signal.notify();
            if arrived.is_last {
                return Ok(());
            }
        }
    }

    /// Data, then checksums, then the slot that says how much of it counts.
    async fn store_group(
        &self,
        writing: &Writing<E>,
        group: Group<E::Buffer>,
        checksums: &[u8],
    ) -> Result<E::Buffer, WireError> {
        let Writing { created, data, head, .. } = writing;
        let failed = |error: io::Error| self.node.store.write_failed(&created.replica, &error);
        let Group { mut buffer, base, until, first_chunk, arrived, tail } = group;
        let mut len = (until - base) as usize;
        if created.is_direct {
            let padded = len.next_multiple_of(DIRECT_ALIGN);
            buffer.as_mut()[len..padded].fill(0);
            len = padded;
            self.allocate_ahead(writing, base + len as u64).await.map_err(failed)?;
        }
        if len > 0 {
            let (result, returned) = data.write_at(buffer, len, created.layout.data_offset() + base).await;
            buffer = returned;
            result.map_err(failed)?;
        }
        if !checksums.is_empty() {
            head.write_small_at(checksums, created.layout.checksum_offset(first_chunk))
                .await
                .map_err(failed)?;
        }
        let sequence = writing.slot_sequence.get() + 1;
        writing.slot_sequence.set(sequence);
        let is_synced = arrived.is_sync || arrived.is_last;
        let slot = TailSlot {
            sequence,
            stamp: created.replica.stamp(),
            length: until,
            synced_length: if is_synced { until } else { 0 },
            tail_crc: tail.crc,
            is_finalized: arrived.is_last,
        };
        self.store_slot(writing, slot).await?;
        Ok(buffer)
    }

    async fn store_slot(&self, writing: &Writing<E>, slot: TailSlot) -> Result<(), WireError> {
        if slot.is_finalized || slot.synced_length > 0 {
            let (node, created) = (self.node.clone(), writing.created.clone());
            let store = move || match slot.is_finalized {
                true => node.store.finalize(&created, &slot),
                false => node.store.sync(&created, &slot),
            };
            return self.engine.blocking(store).await;
        }
        let (node, created) = (&self.node, &writing.created);
        let bytes = slot.encode(created.replica.block, node.store.storage_of(&created.replica));
        let written = writing.head.write_small_at(&bytes, slot.offset()).await;
        written.map_err(|error| node.store.write_failed(&created.replica, &error))
    }

    /// Allocates the file ahead of its data, in growing steps: an extending direct write would wait.
    async fn allocate_ahead(&self, writing: &Writing<E>, needed: u64) -> io::Result<()> {
        let allocated = writing.allocated.get();
        if needed <= allocated {
            return Ok(());
        }
        let step = allocated.clamp(DIRECT_ALIGN as u64, ALLOCATION_BYTES_MAX);
        let limit = writing.created.layout.limit.next_multiple_of(DIRECT_ALIGN as u64);
        let target = (allocated + step).min(limit).max(needed);
        writing.data.allocate(writing.created.layout.data_offset() + target, false).await?;
        writing.allocated.set(target);
        Ok(())
    }

    /// Acknowledges what this node has written and all behind it have acknowledged, until the replica is finalized.
    async fn acknowledge(
        &self,
        writer: &mut E::Writer,
        out: &mut Vec<u8>,
        header: &Header,
        writing: &Writing<E>,
    ) -> Result<(), Ended> {
        let replica = &writing.created.replica;
        let mut synced_length = 0;
        loop {
            let written = writing.signal.until(|| writing.pipeline.borrow_mut().take_ackable()).await;
            if !written.is_finalized {
                self.node.store.grow(replica, written.tail);
            }
            synced_length = written.synced_length.max(synced_length);
            let ack = WriteAckV1 {
                sequence: written.sequence,
                length: written.tail.length,
                synced_length,
                is_finalized: written.is_finalized,
                code: 0,
                failed_node: 0,
            };
            let mut reply = Header { op: Op::WritePacket, ..header.reply() };
            reply.flags |= if written.is_finalized { 0 } else { flags::MORE };
            frame::append(out, reply, 0, |meta| ack.encode_into(meta));
            writer.write_all_vectored(&[IoSlice::new(out)]).await.map_err(Closed::from)?;
            out.clear();
            self.metrics.write_acks.add(1);
            if written.is_finalized {
                return Ok(());
            }
        }
    }

    /// Gives back what the pipeline held.
    fn close(&self, writing: Writing<E>, is_finalized: bool) {
        let Writing { created, data, head, pipeline, .. } = writing;
        for buffer in pipeline.into_inner().into_buffers() {
            self.engine.recycle(buffer);
        }
        if !is_finalized && created.replica.state() != ringfs_proto::meta::membership::ReplicaState::Finalized
        {
            self.node.store.leave_open(&created);
        }
        self.engine.spawn(crate::engine::Weight::Background, async move {
            data.close().await;
            head.close().await;
        });
    }
}

/// Takes the acks of the next node until it has finalized the replica.
async fn take_acks<E: Engine>(
    frames: Option<&mut Frames<E::Reader>>,
    writing: &Writing<E>,
) -> Result<(), Ended> {
    let Some(frames) = frames else { return Ok(()) };
    loop {
        let lost = |what: String| Failure::next(format!("the next node of the pipeline: {what}"));
        let found = frames.next().await.map_err(|closed| lost(closed.to_string()))?;
        let found = found.ok_or_else(|| lost("connection ended".to_owned()))?;
        if let Some(error) = frame::reply_error(&found, frames.meta()) {
            return Err(lost(error.message).into());
        }
        let ack = WriteAckV1::decode(frames.meta()).map_err(|error| lost(error.to_string()))?;
        if ack.code != 0 {
            let error = WireError::new(
                Code::from_u16(ack.code),
                format!("node {} behind this one failed", ack.failed_node),
            );
            return Err(Failure { error, node: ack.failed_node.saturating_add(1) }.into());
        }
        let (sequence, synced_length) = (Some(ack.sequence), ack.synced_length);
        writing.pipeline.borrow_mut().downstream =
            Downstream { sequence, synced_length, is_finalized: ack.is_finalized };
        writing.signal.notify();
        if ack.is_finalized {
            return Ok(());
        }
    }
}

/// Tells the writer which node failed, and why; the connection ends after it.
async fn send_failure<E: Engine>(
    connection: &mut Connection<E>,
    header: &Header,
    failure: &Failure,
) -> Result<(), Closed> {
    let reply = Header { op: Op::WritePacket, ..header.reply() };
    let ack = WriteAckV1 {
        sequence: 0,
        length: 0,
        synced_length: 0,
        is_finalized: false,
        code: failure.error.code as u16,
        failed_node: failure.node,
    };
    connection.out.clear();
    frame::append(&mut connection.out, reply, 0, |meta| ack.encode_into(meta));
    connection.send(&[]).await
}
