//! Opening a pipeline over a replica, and what becomes of the replica when it ends. Packets are in `packets.rs`.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use ringfs_proto::capability::Mode;
use ringfs_proto::frame::{self, Header};
use ringfs_proto::ids::StorageId;
use ringfs_proto::limits::{BLOCK_BYTES_MAX, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, PIPELINE_NODES_MAX};
use ringfs_proto::meta::data::{WriteAckV1, WriteHint, WriteOpenReplyV1, WriteOpenRequestV1, WriteStage};
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::connection::Connection;
use super::frames::Closed;
use super::next::{Failure, Next};
use super::packets::{Ended, Writing};
use super::pipeline::{Pipeline, Start};
use super::signal::Signal;
use super::{GROUP_BYTES, Shard};
use crate::config::WriteMode;
use crate::engine::{Access, Create, Engine, File};
use crate::format::block::Layout;
use crate::store::replica::Tail;
use crate::store::seat::Seat;
use crate::store::{Created, NewReplica, Purpose};

/// Files that are announced as at most this long are written through the page cache.
const SMALL_BYTES: u64 = 1 << 20;

/// A replica that can be written, with what a pipeline has to know of it.
pub struct Opened<E: Engine> {
    /// The right to write it.
    pub seat: Seat,
    /// The replica.
    pub created: Created,
    /// Its data.
    pub data: E::File,
    /// Its header, slots and checksums.
    pub head: E::File,
    /// Where packets begin.
    pub start: Start,
    /// Bytes of the page in which they begin.
    pub page: Vec<u8>,
    /// Sequence of its newest slot.
    pub slot_sequence: u64,
    /// How much of it is on stable storage.
    pub synced: Tail,
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
                tracing::info!(block = %request.block, stage = ?request.stage, %error, node, "pipeline refused");
                let reply =
                    WriteOpenReplyV1 { code: error.code as u16, failed_node: node, message: error.message };
                return connection.reply(header, Ok(reply)).await;
            }
        };
        let reply = WriteOpenReplyV1 { code: 0, failed_node: 0, message: String::new() };
        let ended = match connection.reply(header, Ok(reply)).await {
            Ok(()) => {
                let Connection { frames, writer, out } = connection;
                let (acks, next_writer) = next.as_mut().map(Next::halves).unzip();
                let receive = self.receive(frames, header, &writing, next_writer);
                let acknowledge = self.acknowledge(writer, out, header, &writing);
                self.transfer(&writing, acks, receive, acknowledge).await
            }
            Err(closed) => Err(Ended::Connection(closed)),
        };
        self.close(writing).await;
        match ended {
            Ok(()) => Ok(()),
            Err(Ended::Connection(closed)) => Err(closed),
            Err(Ended::Fenced | Ended::Stopped) => {
                tracing::info!(block = %request.block, stamp = %request.stamp, "pipeline was fenced: a newer one has the replica");
                self.metrics.fenced.add(1);
                // Nobody has failed: the writer may ask the namenode for a later stamp, with all nodes.
                let message = format!("a later stamp than {} has the replica", request.stamp);
                let failure = Failure::here(WireError::new(Code::StampMismatch, message));
                send_failure(connection, header, &failure).await?;
                Err(Closed::Io(io::ErrorKind::ConnectionAborted.into()))
            }
            Err(Ended::Failure(failure)) => {
                tracing::warn!(block = %request.block, error = %failure.error, node = failure.node, "pipeline failed");
                send_failure(connection, header, &failure).await?;
                Err(Closed::Io(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    /// Checks the request, sets up the rest of the pipeline, and opens the replica here. In this order, so that no replica
    /// is held while a peer is waited for.
    pub(crate) async fn open_pipeline(
        self: &Rc<Self>,
        request: &WriteOpenRequestV1,
        header: &Header,
    ) -> Result<(Writing<E>, Option<Next<E>>), Failure> {
        let new = self.new_replica(request).map_err(Failure::here)?;
        let next = match request.nodes.get(1..) {
            Some([_, ..]) => Some(self.open_next(request, header).await?),
            _ => None,
        };
        let opened = match &request.stage {
            WriteStage::Create => self.create(new).await,
            WriteStage::Recover(recover) => self.reopen(&new, recover).await,
            WriteStage::Copy => self.begin_copy(new, Purpose::Copy).await,
            WriteStage::CopyOpen => self.begin_copy(new, Purpose::CopyOpen).await,
        };
        let opened = opened.map_err(Failure::here)?;
        Ok((self.writing(request, opened, next.is_some()), next))
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
        // Some HDFS clients name no storages.
        let storage = match this.storage {
            named if named != StorageId::default() => named,
            _ => self.node.store.roomiest(block),
        };
        Ok(NewReplica { block, stamp, storage, layout, is_direct, expected })
    }

    async fn create(&self, new: NewReplica) -> Result<Opened<E>, WireError> {
        let node = self.node.clone();
        let (created, seat) = self.engine.blocking(move || node.store.create(&new)).await?;
        self.opened_empty(created, seat).await
    }

    /// Makes a temporary replica for a copy. An unfinished copy that is still there is cut off first: its source gave up.
    async fn begin_copy(&self, new: NewReplica, purpose: Purpose) -> Result<Opened<E>, WireError> {
        self.node.store.may_copy(&new, purpose)?;
        if let Some(unfinished) = self.node.store.find_copy(new.block) {
            drop(self.seize(&unfinished, new.stamp.max(unfinished.stamp())).await);
        }
        let node = self.node.clone();
        let (created, seat) = self.engine.blocking(move || node.store.begin_copy(&new, purpose)).await?;
        self.opened_empty(created, seat).await
    }

    async fn opened_empty(&self, created: Created, seat: Seat) -> Result<Opened<E>, WireError> {
        match self.open_files(&created).await {
            Ok((data, head)) => {
                let (start, page) = (Start::default(), Vec::new());
                let slot_sequence = created.slot_sequence;
                Ok(Opened { seat, created, data, head, start, page, slot_sequence, synced: Tail::default() })
            }
            Err(error) => {
                let error = self.node.store.write_failed(&created.replica, &error);
                self.leave(created).await;
                Err(error)
            }
        }
    }

    /// Opens the files of a replica for writing.
    pub(super) async fn open_files(&self, created: &Created) -> io::Result<(E::File, E::File)> {
        let access = if created.is_direct { Access::Direct } else { Access::Buffered };
        let data = self.engine.open(&created.path, access, Create::Existing).await?;
        let head = self.engine.open(&created.path, Access::Buffered, Create::Existing).await?;
        Ok((data, head))
    }

    fn writing(&self, request: &WriteOpenRequestV1, opened: Opened<E>, has_next: bool) -> Writing<E> {
        let Opened { seat, created, data, head, start, page, slot_sequence, synced } = opened;
        let mut buffers = [self.engine.buffer(GROUP_BYTES), self.engine.buffer(GROUP_BYTES)];
        buffers[0].as_mut()[..page.len()].copy_from_slice(&page);
        let packet = (request.checksum, request.chunk_bytes);
        let pipeline = RefCell::new(Pipeline::new(created.layout, packet, start, buffers, has_next));
        let allocated = Cell::new(created.allocated);
        Writing {
            mark: self.node.written.open(request.block),
            seat,
            created,
            data,
            head,
            pipeline,
            signal: Signal::default(),
            is_stopped: Cell::new(false),
            slot_sequence: Cell::new(slot_sequence),
            synced: Cell::new(synced),
            allocated,
        }
    }

    /// Gives back what the pipeline held; last the seat: whoever has it next finds everything in order.
    pub(crate) async fn close(&self, writing: Writing<E>) {
        let Writing { seat, created, data, head, pipeline, .. } = writing;
        for buffer in pipeline.into_inner().into_buffers() {
            self.engine.recycle(buffer);
        }
        self.leave(created).await;
        drop(seat);
        self.engine.spawn(crate::engine::Weight::Background, async move {
            data.close().await;
            head.close().await;
        });
    }

    /// A replica's writer is gone: a replica stays as it is, an unfinished copy goes.
    async fn leave(&self, created: Created) {
        let is_finished = created.replica.state() != ReplicaState::Temporary;
        let node = self.node.clone();
        if created.is_copy() && !is_finished {
            self.engine.blocking(move || node.store.discard_copy(&created)).await;
        } else {
            drop(created);
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
