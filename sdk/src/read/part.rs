//! Receives parts of ranges in place: checksums to scratch, what was asked for to the caller's memory, and the rest of the
//! first and last chunk to scratch. Verifies each chunk as its last byte arrives, while it is in the cache. Does no I/O.

use std::io::IoSliceMut;

use ringfs_proto::checksum::{CHECKSUM_BYTES, ChecksumType, verify_chunks};
use ringfs_proto::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, PACKET_DATA_BYTES_MAX};
use ringfs_proto::meta::data::RangeDataV1;

use super::range::RangeProgress;
use crate::error::Fault;

/// Receives one part after the other. Lives as long as a connection, for its memory.
#[derive(Debug, Default)]
pub struct PartReceiver {
    checksums: Vec<u8>,
    head: Vec<u8>,
    tail: Vec<u8>,
    part: Option<Part>,
    /// Offset of the first byte in `tail`, and how many bytes of it have arrived and been verified.
    tail_begin: u64,
    tail_len: usize,
}

#[derive(Debug)]
struct Part {
    kind: ChecksumType,
    chunk_bytes: u64,
    /// Range of the data in the block.
    begin: u64,
    end: u64,
    checksums_len: usize,
    checksums_arrived: usize,
    /// Offset in the block of the next byte that arrives.
    next: u64,
    /// The chunk that is not complete yet: its checksum so far.
    crc: u32,
    /// How far the tail goes, once it has begun.
    tail_end: Option<u64>,
}

/// The memory that the next bytes belong to, in order: at most checksums, head, body and tail.
pub type Slots<'a> = [Option<IoSliceMut<'a>>; 4];

/// Where the bytes of a range belong: `memory[0]` is the byte at `offset` of the block.
#[derive(Debug)]
pub struct Target<'a> {
    /// Offset in the block.
    pub offset: u64,
    /// Memory of the caller.
    pub memory: &'a mut [u8],
    /// Bytes behind the memory that are received too and kept for the next target; whole chunks are in any case.
    pub ahead_bytes: u64,
}

impl Target<'_> {
    fn end(&self) -> u64 {
        self.offset + self.memory.len() as u64
    }
}

impl PartReceiver {
    /// Begins a part of `progress`.
    ///
    /// # Errors
    /// When it does not continue the range, or contradicts itself. The connection must be closed.
    pub fn begin(
        &mut self,
        meta: &RangeDataV1,
        payload_len: u32,
        progress: &mut RangeProgress,
    ) -> Result<(), PartError> {
        check(meta, payload_len)?;
        let chunk_bytes = u64::from(meta.chunk_bytes);
        let len = u64::from(meta.data_len);
        if !progress.accepts(meta.offset, chunk_bytes) || (len == 0 && !meta.is_last) {
            return Err(PartError::new(meta, "does not continue its range"));
        }
        let end = meta.offset.checked_add(len).ok_or_else(|| PartError::new(meta, "overflows"))?;
        if end >= progress.end().saturating_add(chunk_bytes) {
            return Err(PartError::new(meta, "goes beyond its range"));
        }
        if meta.is_last && end < progress.end() {
            return Err(PartError::new(meta, "ends its range early"));
        }
        progress.part_begins(meta.offset, len, meta.is_last);
        grow(&mut self.checksums, meta.checksums_len as usize);
        self.part = Some(Part {
            kind: meta.checksum,
            chunk_bytes,
            begin: meta.offset,
            end,
            checksums_len: meta.checksums_len as usize,
            checksums_arrived: 0,
            next: meta.offset,
            crc: 0,
            tail_end: None,
        });
        Ok(())
    }

    /// Whether a part has begun and not all of it has arrived.
    pub fn is_receiving(&self) -> bool {
        self.part.is_some()
    }

    /// Whether every byte that has arrived has been verified: no chunk is half there.
    pub fn is_settled(&self) -> bool {
        self.part.as_ref().is_none_or(|part| {
            part.checksums_arrived == 0 || (part.next - part.begin).is_multiple_of(part.chunk_bytes)
        })
    }

    /// The memory for the next bytes, and whether these are all that is missing of the part. Without slots the target
    /// is full and the rest of the part must wait for another.
    pub fn slots<'a>(
        &'a mut self,
        progress: &RangeProgress,
        target: &'a mut Target<'_>,
    ) -> (Slots<'a>, bool) {
        let Self { checksums, head, tail, part, tail_begin, tail_len } = self;
        let Some(part) = part else { return (Slots::default(), false) };
        let plan = part.plan(progress, target);
        let checksums = &mut checksums[part.checksums_arrived..part.checksums_len];
        grow(head, plan.head as usize);
        if part.tail_end.is_none() && plan.tail > 0 {
            (*tail_begin, *tail_len) = (plan.tail_begin, 0);
            part.tail_end = Some(plan.tail_begin + plan.tail);
            grow(tail, plan.tail as usize);
        }
        let body_at = plan.body_begin.saturating_sub(target.offset) as usize;
        let body = target.memory.get_mut(body_at..body_at + plan.body as usize).unwrap_or_default();
        let tail_at = *tail_len;
        let tail = tail.get_mut(tail_at..tail_at + plan.tail as usize).unwrap_or_default();
        let covers_all = part.next + plan.head + plan.body + plan.tail == part.end;
        let slots = [checksums, &mut head[..plan.head as usize], body, tail];
        (slots.map(|slot| (!slot.is_empty()).then(|| IoSliceMut::new(slot))), covers_all)
    }

    /// Notes that `len` bytes have arrived in the slots, in order, and verifies the chunks that are complete. Returns
    /// what is left of `len` when the part is complete before.
    ///
    /// # Errors
    /// A checksum mismatch: the rest of the part must not be used.
    pub fn arrived(
        &mut self,
        len: usize,
        progress: &mut RangeProgress,
        target: &Target<'_>,
    ) -> Result<usize, PartError> {
        let Self { checksums, head, tail, part: slot, tail_len, .. } = self;
        let Some(part) = slot else { return Ok(len) };
        let checksums_len = len.min(part.checksums_len - part.checksums_arrived);
        part.checksums_arrived += checksums_len;
        let mut left = len - checksums_len;
        let plan = part.plan(progress, target);
        let stored = &checksums[..part.checksums_len];
        let body_at = plan.body_begin.saturating_sub(target.offset) as usize;
        let tail_at = *tail_len;
        let head = head.get(..plan.head as usize).unwrap_or_default();
        let body = target.memory.get(body_at..body_at + plan.body as usize).unwrap_or_default();
        let tail = tail.get(tail_at..tail_at + plan.tail as usize).unwrap_or_default();
        for piece in [head, body] {
            let taken = left.min(piece.len());
            part.verify(&piece[..taken], stored, progress)?;
            left -= taken;
        }
        let taken = left.min(tail.len());
        part.verify(&tail[..taken], stored, progress)?;
        *tail_len += taken;
        left -= taken;
        if part.next == part.end && part.checksums_arrived == part.checksums_len {
            part.close(stored, progress)?;
            *slot = None;
        }
        Ok(left)
    }

    /// Forgets what an earlier target left over; another target follows.
    pub fn begin_target(&mut self) {
        self.tail_len = 0;
        if let Some(part) = &mut self.part {
            part.tail_end = None;
        }
    }

    /// Copies bytes that an earlier target left over; they begin at `offset`. Only bytes that were verified.
    pub fn take_ahead(&mut self, offset: u64, verified_end: u64, memory: &mut [u8]) -> usize {
        let end = (self.tail_begin + self.tail_len as u64).min(verified_end);
        if offset < self.tail_begin || offset >= end {
            return 0;
        }
        let begin = (offset - self.tail_begin) as usize;
        let len = memory.len().min((end - offset) as usize);
        memory[..len].copy_from_slice(&self.tail[begin..begin + len]);
        len
    }
}

/// Lengths of what is still to come of a part, for one target.
struct Plan {
    head: u64,
    body_begin: u64,
    body: u64,
    tail_begin: u64,
    tail: u64,
}

impl Part {
    fn plan(&self, progress: &RangeProgress, target: &Target<'_>) -> Plan {
        let wanted = progress.begin().max(target.offset).clamp(self.begin, self.end);
        let head = wanted.saturating_sub(self.next);
        let body_begin = self.next.max(wanted);
        let body_end = target.end().clamp(wanted, self.end);
        let body = body_end.saturating_sub(body_begin);
        let tail_end = self.tail_end.unwrap_or_else(|| self.round_up(body_end, target.ahead_bytes));
        let tail_begin = self.next.max(body_end);
        Plan { head, body_begin, body, tail_begin, tail: tail_end.saturating_sub(tail_begin) }
    }

    /// The end of the chunk that `offset + ahead` lies in, within the part.
    fn round_up(&self, offset: u64, ahead: u64) -> u64 {
        let into = offset.saturating_sub(self.begin).saturating_add(ahead);
        let chunks = into.div_ceil(self.chunk_bytes);
        self.begin.saturating_add(chunks.saturating_mul(self.chunk_bytes)).min(self.end)
    }

    /// Takes the next bytes of the part.
    fn verify(&mut self, bytes: &[u8], stored: &[u8], progress: &mut RangeProgress) -> Result<(), PartError> {
        let mut bytes = bytes;
        let chunk = self.chunk_bytes as usize;
        let open = ((self.next - self.begin) % self.chunk_bytes) as usize;
        if open > 0 {
            let (first, rest) = bytes.split_at(bytes.len().min(chunk - open));
            self.crc = self.kind.append(self.crc, first);
            self.next += first.len() as u64;
            bytes = rest;
            if open + first.len() < chunk {
                return Ok(());
            }
            self.check_open(stored, progress)?;
        }
        let whole = bytes.len() / chunk * chunk;
        let (whole, rest) = bytes.split_at(whole);
        let index = ((self.next - self.begin) / self.chunk_bytes) as usize * CHECKSUM_BYTES;
        let expected = stored.get(index..index + whole.len() / chunk * CHECKSUM_BYTES).unwrap_or_default();
        verify_chunks(self.kind, whole, self.chunk_bytes as u32, expected)
            .map_err(|at| self.mismatch(at as u64))?;
        self.next += whole.len() as u64;
        progress.verify_up_to(self.next);
        self.crc = self.kind.of(rest);
        self.next += rest.len() as u64;
        Ok(())
    }

    /// Compares the chunk that ends at `next`.
    fn check_open(&mut self, stored: &[u8], progress: &mut RangeProgress) -> Result<(), PartError> {
        let chunk = (self.next - self.begin - 1) / self.chunk_bytes;
        let at = chunk as usize * CHECKSUM_BYTES;
        if stored.get(at..at + CHECKSUM_BYTES) != Some(self.crc.to_be_bytes().as_slice()) {
            return Err(PartError::Checksum { chunk: (self.next - 1) / self.chunk_bytes });
        }
        self.crc = 0;
        progress.verify_up_to(self.next);
        Ok(())
    }

    /// Compares the last chunk of the part, if it is short.
    fn close(&mut self, stored: &[u8], progress: &mut RangeProgress) -> Result<(), PartError> {
        if (self.end - self.begin).is_multiple_of(self.chunk_bytes) {
            return Ok(());
        }
        self.check_open(stored, progress)
    }

    fn mismatch(&self, chunks_after: u64) -> PartError {
        PartError::Checksum { chunk: self.next / self.chunk_bytes + chunks_after }
    }
}

/// Why a part cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The peer contradicts itself or the request.
    #[error("part at offset {offset} of {len} bytes {what}")]
    Malformed {
        /// Offset in the block.
        offset: u64,
        /// Bytes of data.
        len: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The bytes are not those that were written.
    #[error("checksum mismatch in chunk {chunk} of the block")]
    Checksum {
        /// Which chunk, counted from the begin of the block in chunks of the part.
        chunk: u64,
    },
}

impl PartError {
    fn new(meta: &RangeDataV1, what: &'static str) -> Self {
        Self::Malformed { offset: meta.offset, len: meta.data_len, what }
    }
}

impl From<PartError> for Fault {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Checksum { chunk } => Self::Checksum { chunk },
            PartError::Malformed { .. } => Self::Protocol(error.to_string()),
        }
    }
}

fn check(meta: &RangeDataV1, payload_len: u32) -> Result<(), PartError> {
    let is_chunk = meta.chunk_bytes.is_power_of_two()
        && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&meta.chunk_bytes)
        && meta.offset.is_multiple_of(u64::from(meta.chunk_bytes));
    if !is_chunk {
        return Err(PartError::new(meta, "has no valid chunks"));
    }
    let chunks = u64::from(meta.data_len).div_ceil(u64::from(meta.chunk_bytes));
    let is_whole = u64::from(meta.checksums_len) == chunks * CHECKSUM_BYTES as u64
        && u64::from(meta.checksums_len) + u64::from(meta.data_len) == u64::from(payload_len)
        && meta.data_len as usize <= PACKET_DATA_BYTES_MAX;
    if is_whole { Ok(()) } else { Err(PartError::new(meta, "does not fit its payload")) }
}

/// Makes `scratch` at least `len` long. Bounded: every `len` here is below the largest payload.
fn grow(scratch: &mut Vec<u8>, len: usize) {
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
}
