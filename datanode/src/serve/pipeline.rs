//! A replica being written, as the futures that write it share it. Decides, without I/O: what fits, what is whole,
//! what can be acknowledged.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use ringfs_proto::checksum::{CHECKSUM_BYTES, ChecksumType, chunk_count};
use ringfs_proto::limits::PACKET_DATA_BYTES_MAX;
use ringfs_proto::meta::data::{WritePacketV1, packet_flags};
use ringfs_proto::{Code, WireError};

use crate::engine::DIRECT_ALIGN;
use crate::format::block::Layout;
use crate::store::replica::Tail;

/// Packets that were received and wait for their write, written groups that wait for acks: bounded by the client's window.
const WAITING_MAX: usize = 4096;

/// A point up to which everything is written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Last packet of the group.
    pub sequence: u64,
    /// Length and checksum of the partial last chunk.
    pub tail: Tail,
    /// Bytes on stable storage.
    pub synced_length: u64,
    /// Whether the replica is finalized.
    pub is_finalized: bool,
}

/// What the next node has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downstream {
    /// Last packet; `None` before the first ack.
    pub sequence: Option<u64>,
    /// Bytes on stable storage of every node behind.
    pub synced_length: u64,
    /// Whether the replica is finalized on every node behind.
    pub is_finalized: bool,
}

/// What arrived and is not written yet.
#[derive(Debug, Default, Clone, Copy)]
pub struct Arrived {
    /// Last packet.
    pub sequence: Option<u64>,
    /// Whether it must reach stable storage.
    pub is_sync: bool,
    /// Whether no packet follows.
    pub is_last: bool,
}

/// A group of packets that is written together.
pub struct Group<B> {
    /// The bytes: from `base` to `until` in the block.
    pub buffer: B,
    /// First byte, aligned.
    pub base: u64,
    /// Behind the last byte.
    pub until: u64,
    /// First chunk of the checksums.
    pub first_chunk: u64,
    /// Last packet, and what it asks for.
    pub arrived: Arrived,
    /// How far the packets go: length and checksum of the partial last chunk.
    pub tail: Tail,
    /// How far the replica goes once the group is written: further than the packets, while they repeat what was there.
    pub recorded: Tail,
}

/// Where a pipeline begins: all zero for a new replica.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Where its first packet begins, and the checksum of the partial chunk before.
    pub tail: Tail,
    /// What the replica holds already, at least as long.
    ///
    /// Bytes between the two come again from the writer, the same as before. Readers may have seen them, so until the
    /// packets have caught up only whole pages and whole chunks of them are written, and the recorded length stays: at
    /// every moment all of these bytes are there and verify.
    pub existing: Tail,
}

impl Start {
    /// Bytes before the first packet that belong into its page: the first buffer begins with them.
    pub fn page_begin(&self) -> u64 {
        page_begin(self.tail.length)
    }
}

/// The state of a pipeline on one node.
pub struct Pipeline<B> {
    /// Where things are in the file.
    pub layout: Layout,
    packet_checksum: ChecksumType,
    packet_chunk_bytes: u32,
    limit: u64,
    filling: Option<B>,
    spare: Option<B>,
    base: u64,
    tail: Tail,
    existing: Tail,
    first_chunk: u64,
    /// Checksums of the group that fills.
    pub checksums: Vec<u8>,
    next_sequence: u64,
    arrived: Arrived,
    written: VecDeque<Written>,
    /// What the next node has acknowledged; everything when there is none.
    pub downstream: Downstream,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Pipeline<B> {
    /// A pipeline over a replica that begins at `start`; the first buffer holds the bytes from [`Start::page_begin`] on.
    /// The packets' checksums may be of another kind than those that are stored.
    pub fn new(
        layout: Layout,
        packet: (ChecksumType, u32),
        start: Start,
        buffers: [B; 2],
        has_downstream: bool,
    ) -> Self {
        debug_assert!(start.tail.length <= start.existing.length);
        let [filling, spare] = buffers;
        let everything = Downstream { sequence: Some(u64::MAX), synced_length: u64::MAX, is_finalized: true };
        let nothing = Downstream { sequence: None, synced_length: 0, is_finalized: false };
        let mut pipeline = Self {
            layout,
            packet_checksum: packet.0,
            packet_chunk_bytes: packet.1,
            limit: layout.limit,
            filling: Some(filling),
            spare: Some(spare),
            base: start.page_begin(),
            tail: start.tail,
            existing: start.existing,
            first_chunk: 0,
            checksums: Vec::new(),
            next_sequence: 0,
            arrived: Arrived::default(),
            written: VecDeque::with_capacity(16),
            downstream: if has_downstream { nothing } else { everything },
        };
        let chunk_bytes = u64::from(layout.chunk_bytes);
        if !start.tail.length.is_multiple_of(chunk_bytes) {
            // A power cut may have taken the checksum of this chunk from the file, where only the slot counted it. The block may
            // end without another byte, and then only the file counts.
            pipeline.store_checksum(start.tail.length / chunk_bytes, start.tail.crc);
        }
        pipeline
    }

    /// Where the next packet begins.
    pub fn received(&self) -> u64 {
        self.tail.length
    }

    /// Checks a packet against what was received so far.
    ///
    /// # Errors
    /// `Malformed`, `LimitExceeded`: the pipeline ends.
    pub fn check(&self, packet: &WritePacketV1, payload_len: u32) -> Result<(), WireError> {
        let malformed = |what: String| {
            Err(WireError::new(Code::Malformed, format!("packet {}: {what}", packet.sequence)))
        };
        if packet.sequence != self.next_sequence || self.arrived.is_last {
            return malformed(format!("expected {}", self.next_sequence));
        }
        if packet.offset != self.tail.length {
            return malformed(format!("offset {} does not follow {}", packet.offset, self.tail.length));
        }
        let len = packet.data_len as usize;
        if len > PACKET_DATA_BYTES_MAX {
            return malformed(format!("{len} bytes exceed {PACKET_DATA_BYTES_MAX}"));
        }
        let expected = self.pieces(packet.offset, len) * CHECKSUM_BYTES;
        if packet.checksums_len as usize != expected || u64::from(payload_len) != (expected + len) as u64 {
            return malformed(format!(
                "{} bytes of checksums for {len} bytes, expected {expected}",
                packet.checksums_len
            ));
        }
        if packet.flags & !(packet_flags::SYNC | packet_flags::LAST) != 0 {
            return malformed(format!("flags {:#x}", packet.flags));
        }
        let end = packet.offset + len as u64;
        if end > self.limit {
            let message = format!("{end} bytes exceed the block's limit of {}", self.limit);
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        if packet.flags & packet_flags::LAST != 0 && end < self.existing.length {
            return malformed(format!(
                "the block ends at {end}, {} bytes of it came before",
                self.existing.length
            ));
        }
        if self.written.len() >= WAITING_MAX {
            return Err(WireError::new(Code::LimitExceeded, "too many packets without an ack"));
        }
        Ok(())
    }

    /// How many checksums a packet has: one per chunk that it touches.
    fn pieces(&self, offset: u64, len: usize) -> usize {
        let skip = (offset % u64::from(self.packet_chunk_bytes)) as usize;
        if len == 0 { 0 } else { chunk_count(skip + len, self.packet_chunk_bytes) }
    }

    /// The buffer to receive `len` bytes into, and where in it; `None` while there is no room.
    pub fn take_room(&mut self, len: usize) -> Option<(B, usize)> {
        let at = (self.tail.length - self.base) as usize;
        let capacity = self.filling.as_ref()?.as_ref().len();
        // Room for the padding of a direct write stays free.
        let fits = (at + len).next_multiple_of(DIRECT_ALIGN) <= capacity;
        fits.then(|| self.filling.take()).flatten().map(|buffer| (buffer, at))
    }

    /// Verifies the data of a packet.
    ///
    /// # Errors
    /// `ChecksumMismatch`: the pipeline ends.
    pub fn verify(&self, packet: &WritePacketV1, checksums: &[u8], data: &[u8]) -> Result<(), WireError> {
        let chunk = self.packet_chunk_bytes as usize;
        let mut rest = data;
        let mut at = packet.offset;
        for stored in checksums.chunks_exact(CHECKSUM_BYTES) {
            let room = chunk - (at % chunk as u64) as usize;
            let (piece, later) = rest.split_at(room.min(rest.len()));
            if self.packet_checksum.of(piece).to_be_bytes() != stored {
                let message =
                    format!("packet {}: checksum mismatch at offset {at} of the block", packet.sequence);
                return Err(WireError::new(Code::ChecksumMismatch, message));
            }
            (rest, at) = (later, at + piece.len() as u64);
        }
        Ok(())
    }

    /// Takes the data of a packet, received into `buffer` behind what was there.
    pub fn put_back(&mut self, buffer: B, packet: &WritePacketV1, checksums: &[u8]) {
        let at = (packet.offset - self.base) as usize;
        let data = &buffer.as_ref()[at..at + packet.data_len as usize];
        let is_same = self.packet_checksum == self.layout.checksum
            && self.packet_chunk_bytes == self.layout.chunk_bytes;
        let chunk = u64::from(self.layout.chunk_bytes);
        let mut given = checksums.chunks_exact(CHECKSUM_BYTES);
        let mut rest = data;
        while !rest.is_empty() {
            let inside = self.tail.length % chunk;
            let (piece, later) = rest.split_at(((chunk - inside) as usize).min(rest.len()));
            let given = given.next().filter(|_| is_same && inside == 0);
            let crc = match given.and_then(|given| given.first_chunk()) {
                Some(given) => u32::from_be_bytes(*given),
                None => self.layout.checksum.append(if inside == 0 { 0 } else { self.tail.crc }, piece),
            };
            self.store_checksum(self.tail.length / chunk, crc);
            self.tail.length += piece.len() as u64;
            self.tail.crc = if self.tail.length.is_multiple_of(chunk) { 0 } else { crc };
            rest = later;
        }
        self.filling = Some(buffer);
        self.next_sequence += 1;
        self.arrived.sequence = Some(packet.sequence);
        self.arrived.is_sync |= packet.flags & packet_flags::SYNC != 0;
        self.arrived.is_last |= packet.flags & packet_flags::LAST != 0;
    }

    fn store_checksum(&mut self, chunk: u64, crc: u32) {
        if self.checksums.is_empty() {
            self.first_chunk = chunk;
        }
        let at = (chunk - self.first_chunk) as usize * CHECKSUM_BYTES;
        self.checksums.truncate(at);
        self.checksums.extend(crc.to_be_bytes());
    }

    /// What arrived, to be written now; the other buffer fills meanwhile. `None` while there is nothing, or no buffer.
    ///
    /// `checksums` receives those of the group.
    pub fn take_group(&mut self, checksums: &mut Vec<u8>) -> Option<Group<B>> {
        self.arrived.sequence?;
        self.filling.as_ref()?;
        let mut spare = self.spare.take()?;
        let buffer = self.filling.take()?;
        let (base, received) = (self.base, self.tail.length);
        let next_base = page_begin(received);
        // The partial last page is written again, with what follows.
        let (from, to) = ((next_base - base) as usize, (received - base) as usize);
        spare.as_mut()[..to - from].copy_from_slice(&buffer.as_ref()[from..to]);
        (self.filling, self.base) = (Some(spare), next_base);
        checksums.clear();
        core::mem::swap(checksums, &mut self.checksums);
        let (mut until, mut recorded) = (received, self.tail);
        if received < self.existing.length {
            (until, recorded) = (next_base, self.existing);
            let whole = (received / u64::from(self.layout.chunk_bytes)).saturating_sub(self.first_chunk);
            checksums.truncate(whole as usize * CHECKSUM_BYTES);
        }
        let arrived = core::mem::take(&mut self.arrived);
        Some(Group { buffer, base, until, first_chunk: self.first_chunk, arrived, tail: self.tail, recorded })
    }

    /// A group is written; its buffer is free.
    pub fn written(&mut self, buffer: B, written: Written) {
        self.spare = Some(buffer);
        self.written.push_back(written);
    }

    /// The furthest point that this node has written and every node behind has acknowledged, if there is a new one.
    pub fn take_ackable(&mut self) -> Option<Written> {
        let acked = self.downstream.sequence?;
        let mut furthest = None;
        while let Some(first) = self.written.front() {
            if first.sequence > acked || (first.is_finalized && !self.downstream.is_finalized) {
                break;
            }
            furthest = self.written.pop_front();
        }
        furthest.map(|written| Written {
            synced_length: written.synced_length.min(self.downstream.synced_length),
            ..written
        })
    }

    /// Gives the buffers back, as far as they are here.
    pub fn into_buffers(self) -> impl Iterator<Item = B> {
        self.filling.into_iter().chain(self.spare)
    }
}

/// Where the page of a byte begins.
pub fn page_begin(offset: u64) -> u64 {
    offset / DIRECT_ALIGN as u64 * DIRECT_ALIGN as u64
}
