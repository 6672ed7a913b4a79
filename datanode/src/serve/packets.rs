//! Packets through one node: four futures of one task over one [`Pipeline`].
//!
//! One receives packets, verifies them where this node is the last or they are a copy, and passes them on; one writes groups of packets
//! (at most one write in flight); one takes the acks of the next node; one acknowledges what all have. The first failure,
//! or a fence, ends the three that wait for peers at once; the one that writes ends after the write in flight, so that
//! nothing of this pipeline reaches the disk once it has ended.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};

use futures_lite::future::{or, try_zip, zip};
use ringfs_proto::frame::{self, Header, flags};
use ringfs_proto::meta::data::{WriteAckV1, WritePacketV1, packet_flags};
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;

use super::Shard;
use super::frames::{Closed, Frames};
use super::next::{Acks, Failure};
use super::pipeline::{Downstream, Group, Pipeline, Written};
use super::signal::Signal;
use crate::engine::{DIRECT_ALIGN, Engine, File, Writer};
use crate::format::block::TailSlot;
use crate::store::replica::Tail;
use crate::store::seat::Seat;
use crate::store::{ALLOCATION_BYTES_MAX, Created};
use crate::written::Mark;
use ringfs_proto::WireError;

/// How a pipeline ended before its last packet.
pub enum Ended {
    /// The writer's connection is gone: there is nobody to tell.
    Connection(Closed),
    /// A node failed: the writer is told which.
    Failure(Failure),
    /// A higher stamp took the replica over: the old writer is told so when it is cut off.
    Fenced,
    /// Another future of this pipeline has failed.
    Stopped,
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

/// A replica being written, with its files.
pub struct Writing<E: Engine> {
    /// The right to write it.
    pub seat: Seat,
    /// The replica.
    pub created: Created,
    /// Its data.
    pub data: E::File,
    /// Its header, slots and checksums.
    pub head: E::File,
    /// Decides.
    pub pipeline: RefCell<Pipeline<E::Buffer>>,
    /// Wakes the four futures.
    pub signal: Signal,
    /// No group is begun any more.
    pub is_stopped: Cell<bool>,
    /// Sequence of the slot that was written last.
    pub slot_sequence: Cell<u64>,
    /// How much of it is on stable storage.
    pub synced: Cell<Tail>,
    /// Bytes of data that are allocated.
    pub allocated: Cell<u64>,
    /// Tells the namenode that the file is being written.
    pub mark: Mark,
}

impl<E: Engine> Writing<E> {
    fn stop_if_failed(&self, result: &Result<(), Ended>) {
        if result.is_err() {
            self.is_stopped.set(true);
            self.signal.notify();
        }
    }

    /// Waits until this pipeline has to end: fenced, or because another of its futures has failed.
    async fn cut_off(&self) -> Result<(), Ended> {
        let fenced = async {
            self.seat.fenced().await;
            Err(Ended::Fenced)
        };
        let stopped = async {
            self.signal.until(|| self.is_stopped.get().then_some(())).await;
            Err(Ended::Stopped)
        };
        or(fenced, stopped).await
    }
}

impl<E: Engine> Shard<E> {
    /// Moves packets until the last is acknowledged. When it returns, no write of this replica is in flight. `receive` and
    /// `acknowledge` speak with the writer.
    pub(crate) async fn transfer(
        &self,
        writing: &Writing<E>,
        acks: Option<Acks<'_, E>>,
        receive: impl Future<Output = Result<(), Ended>>,
        acknowledge: impl Future<Output = Result<(), Ended>>,
    ) -> Result<(), Ended> {
        self.metrics.writes_active.add(1);
        let exchange = async {
            let peers =
                async { try_zip(receive, try_zip(take_acks(acks, writing), acknowledge)).await.map(drop) };
            let result = or(writing.cut_off(), peers).await;
            writing.stop_if_failed(&result);
            result
        };
        let store = async {
            let result = self.store_groups(writing).await;
            writing.stop_if_failed(&result);
            result
        };
        let ended = match zip(store, exchange).await {
            (Err(failure), _) => Err(failure),
            (Ok(()), exchanged) => exchanged,
        };
        self.metrics.writes_active.sub(1);
        ended
    }

    /// Receives packets until the last.
    pub(super) async fn receive(
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
            // The end of a pipeline verifies for all: a writer learns of a mismatch before it is told that anything is complete.
            // The source of a copy may be bad itself, and its targets report what they have, so each of them looks
            // (HDFS: `BlockReceiver.shouldVerifyChecksum`).
            if next.is_none() || writing.created.is_copy() {
                let verified =
                    writing.pipeline.borrow().verify(&packet, &checksums, &buffer.as_ref()[data.clone()]);
                verified.map_err(Failure::here)?;
            }
            if let Some(next) = &mut next {
                let parts =
                    [frames.head(), frames.meta(), &checksums, &buffer.as_ref()[data]].map(IoSlice::new);
                let passed_on = next.write_all_vectored(&parts).await;
                passed_on
                    .map_err(|error| Failure::next(format!("pass packet {} on: {error}", packet.sequence)))?;
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

    /// Writes what has arrived, again and again, until the last packet is written or the pipeline is stopped.
    async fn store_groups(&self, writing: &Writing<E>) -> Result<(), Ended> {
        let mut checksums = Vec::new();
        loop {
            let next = || match writing.is_stopped.get() {
                true => Some(None),
                false => writing.pipeline.borrow_mut().take_group(&mut checksums).map(Some),
            };
            let Some(group) = writing.signal.until(next).await else { return Ok(()) };
            let (arrived, tail) = (group.arrived, group.tail);
            let buffer = self.store_group(writing, group, &checksums).await.map_err(Failure::here)?;
            self.metrics.write_groups.add(1);
            writing.mark.touch();
            let sequence = arrived.sequence.unwrap_or_default();
            let synced_length = writing.synced.get().length;
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
        let Group { mut buffer, base, until, first_chunk, arrived, tail, recorded } = group;
        let mut len = (until - base) as usize;
        if created.is_direct {
            let padded = len.next_multiple_of(DIRECT_ALIGN);
            buffer.as_mut()[len..padded].fill(0);
            len = padded;
        }
        self.make_room(writing, base + len as u64).await?;
        if len > 0 {
            let (result, returned) = data.write_at(buffer, len, created.layout.data_offset() + base).await;
            buffer = returned;
            result.map_err(failed)?;
            self.node.store.has_taken(created, writing.allocated.get());
        }
        if !checksums.is_empty() {
            head.write_small_at(checksums, created.layout.checksum_offset(first_chunk))
                .await
                .map_err(failed)?;
        }
        let sequence = writing.slot_sequence.get() + 1;
        writing.slot_sequence.set(sequence);
        let slot = TailSlot {
            sequence,
            stamp: created.replica.stamp(),
            length: recorded.length,
            synced_length: writing.synced.get().length,
            tail_crc: recorded.crc,
            synced_crc: writing.synced.get().crc,
            is_finalized: arrived.is_last && created.is_finalized_by_last(),
        };
        if arrived.is_last {
            self.store_last(writing, slot).await?;
        } else if arrived.is_sync {
            self.store_synced(writing, TailSlot { synced_length: tail.length, synced_crc: tail.crc, ..slot })
                .await?;
        } else {
            let bytes = slot.encode(created.replica.block, self.node.store.storage_of(&created.replica));
            head.write_small_at(&bytes, slot.offset()).await.map_err(failed)?;
        }
        if arrived.is_last || arrived.is_sync {
            writing.synced.set(tail);
        }
        Ok(buffer)
    }

    async fn store_synced(&self, writing: &Writing<E>, slot: TailSlot) -> Result<(), WireError> {
        let (node, created) = (self.node.clone(), writing.created.clone());
        self.engine.blocking(move || node.store.sync(&created, &slot)).await
    }

    /// Completes the replica; a copy takes its place now, and that of an older replica.
    async fn store_last(&self, writing: &Writing<E>, slot: TailSlot) -> Result<(), WireError> {
        let (node, created) = (self.node.clone(), writing.created.clone());
        if !created.is_copy() {
            return self.engine.blocking(move || node.store.finalize(&created, &slot)).await;
        }
        let older = match node.store.find(created.replica.block) {
            Some(older) => Some(self.seize(&older, slot.stamp).await?),
            None => None,
        };
        self.engine.blocking(move || node.store.finish_copy(&created, &slot, older.as_ref())).await
    }

    /// Sees to it that there is room for so many bytes of data.
    async fn make_room(&self, writing: &Writing<E>, needed: u64) -> Result<(), WireError> {
        let created = &writing.created;
        if self.node.store.needs_room(created, needed) {
            let (node, created) = (self.node.clone(), created.clone());
            self.engine.blocking(move || node.store.promise_more(&created, needed)).await?;
        }
        if created.is_direct {
            let failed = |error| self.node.store.write_failed(&created.replica, &error);
            return self.allocate_ahead(writing, needed).await.map_err(failed);
        }
        writing.allocated.set(writing.allocated.get().max(needed));
        Ok(())
    }

    /// Allocates the file ahead of its data, in growing steps: an extending direct write would wait.
    async fn allocate_ahead(&self, writing: &Writing<E>, needed: u64) -> io::Result<()> {
        let allocated = writing.allocated.get();
        if needed <= allocated {
            return Ok(());
        }
        let step = allocated.clamp(DIRECT_ALIGN as u64, ALLOCATION_BYTES_MAX);
        let target = (allocated + step).min(writing.created.room_bytes()).max(needed);
        writing.data.allocate(writing.created.layout.data_offset() + target, false).await?;
        writing.allocated.set(target);
        Ok(())
    }

    /// Acknowledges what this node has written and all behind it have acknowledged, until the replica is finalized.
    pub(super) async fn acknowledge(
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
            if !written.is_finalized && !writing.created.is_copy() {
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
}

/// Takes the acks of the next node until it has finalized the replica.
async fn take_acks<E: Engine>(acks: Option<Acks<'_, E>>, writing: &Writing<E>) -> Result<(), Ended> {
    let Some(mut acks) = acks else { return Ok(()) };
    loop {
        let ack = acks.next().await?;
        let (sequence, synced_length) = (Some(ack.sequence), ack.synced_length);
        writing.pipeline.borrow_mut().downstream =
            Downstream { sequence, synced_length, is_finalized: ack.is_finalized };
        writing.signal.notify();
        if ack.is_finalized {
            return Ok(());
        }
    }
}
