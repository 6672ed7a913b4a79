//! Bytes of segments, batches and marks. Nothing here does I/O. All numbers are little-endian.
//!
//! A segment is a 4 KiB header and batches, each beginning at a multiple of 4 KiB; the rest is zero.
//!
//! | offset | bytes | segment header |
//! |---|---|---|
//! | 0 | 4 | magic `RFSW` |
//! | 4 | 4 | version, 1 |
//! | 8 | 16 | cluster |
//! | 24 | 8 | epoch: random, new for each segment |
//! | 32 | 8 | index of the first record |
//! | 40 | 8 | bytes of the segment |
//! | 48 | 4 | CRC-32 of bytes 0 to 48 |
//!
//! | offset | bytes | batch header |
//! |---|---|---|
//! | 0 | 4 | magic `RFSB` |
//! | 4 | 4 | bytes of this header and the records |
//! | 8 | 4 | records |
//! | 12 | 4 | bytes of the values behind the records |
//! | 16 | 8 | index of the first record |
//! | 24 | 8 | term |
//! | 32 | 8 | mark: last record whose reply has left |
//! | 40 | 4 | 0 |
//! | 44 | 4 | seeded CRC-32 of bytes 0 to 44 |
//!
//! Records follow: 4 bytes of length, 4 bytes of seeded CRC-32, the record (rkyv, `RecordV1`). The seed is the CRC-32 of
//! cluster and epoch, so that a batch of another cluster or of a reused block of the disk is never taken for ours. Then come
//! the values, the contents of small files: where each is among them, how long, and its CRC32C, is in its record.
//!
//! | offset | bytes | mark |
//! |---|---|---|
//! | 0 | 4 | magic `RFSM` |
//! | 4 | 4 | version, 1 |
//! | 8 | 16 | cluster |
//! | 24 | 8 | last record whose reply has left |
//! | 32 | 4 | CRC-32 of bytes 0 to 32 |

use ringfs_proto::checksum::crc32;
use ringfs_proto::ids::{ClusterId, LogIndex, Term};
use ringfs_proto::wire::Message;

use super::record::RecordV1;
use super::values::ValuesAt;
use super::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, VALUES_BYTES_MAX};
use ringfs_proto::buffer::{ALIGN, AlignedBuffer};

/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: u64 = ALIGN as u64;
/// Bytes of a batch's header.
pub const BATCH_HEADER_BYTES: usize = 48;
/// Bytes of a slot of the ring of marks.
pub const MARK_BYTES: usize = ALIGN;
const RECORD_PREFIX_BYTES: usize = 8;
/// Memory that a builder keeps for the values of its next batch.
const KEPT_BYTES_MAX: usize = 1 << 20;
const VERSION: u32 = 1;
const SEGMENT_MAGIC: [u8; 4] = *b"RFSW";
const BATCH_MAGIC: [u8; 4] = *b"RFSB";
const MARK_MAGIC: [u8; 4] = *b"RFSM";

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

/// Header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The cluster.
    pub cluster: ClusterId,
    /// Random, new for each segment.
    pub epoch: u64,
    /// Its first record.
    pub first: LogIndex,
    /// Its size, bytes.
    pub bytes: u64,
}

impl SegmentHeader {
    /// Starts the checksums of its batches.
    pub fn seed(&self) -> u32 {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.cluster.0);
        bytes[16..].copy_from_slice(&self.epoch.to_le_bytes());
        crc32(&bytes)
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; 52] {
        let mut bytes = [0; 52];
        bytes[..4].copy_from_slice(&SEGMENT_MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.cluster.0);
        bytes[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = crc32(&bytes[..48]);
        bytes[48..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.get(..4) != Some(&SEGMENT_MAGIC) {
            return Err(FormatError("not a segment of a RingFS log".to_owned()));
        }
        if u32_at(bytes, 4)? != VERSION {
            return Err(FormatError(format!("version {}, this release knows {VERSION}", u32_at(bytes, 4)?)));
        }
        if bytes.get(..48).map(crc32) != Some(u32_at(bytes, 48)?) {
            return Err(FormatError("checksum mismatch in the segment header".to_owned()));
        }
        let cluster = ClusterId(array_at(bytes, 8)?);
        let (epoch, first, size) = (u64_at(bytes, 24)?, LogIndex(u64_at(bytes, 32)?), u64_at(bytes, 40)?);
        Ok(Self { cluster, epoch, first, bytes: size })
    }
}

/// Header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes of the batch without values and padding.
    pub len: usize,
    /// Bytes of the values behind it.
    pub values_len: usize,
    /// Records.
    pub count: u32,
    /// Index of the first.
    pub first: LogIndex,
    /// Term.
    pub term: Term,
    /// Last record whose reply has left when the batch was made.
    pub acknowledged: LogIndex,
}

impl BatchHeader {
    fn encode(&self, seed: u32) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[..4].copy_from_slice(&BATCH_MAGIC);
        bytes[4..8].copy_from_slice(&(self.len as u32).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.values_len as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.acknowledged.0.to_le_bytes());
        let crc = seeded_crc(seed, &bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(bytes: &[u8], seed: u32) -> Result<Self, FormatError> {
        let covered = bytes.get(..44).ok_or_else(|| FormatError("batch header is cut off".to_owned()))?;
        if bytes.get(..4) != Some(&BATCH_MAGIC) {
            return Err(FormatError("no batch header".to_owned()));
        }
        if seeded_crc(seed, covered) != u32_at(bytes, 44)? {
            return Err(FormatError("checksum mismatch in the batch header".to_owned()));
        }
        let header = Self {
            len: u32_at(bytes, 4)? as usize,
            values_len: u32_at(bytes, 12)? as usize,
            count: u32_at(bytes, 8)?,
            first: LogIndex(u64_at(bytes, 16)?),
            term: Term(u64_at(bytes, 24)?),
            acknowledged: LogIndex(u64_at(bytes, 32)?),
        };
        let is_in_range = (BATCH_HEADER_BYTES..=BATCH_BYTES_MAX).contains(&header.len)
            && header.values_len <= VALUES_BYTES_MAX
            && header.count > 0;
        if !is_in_range || header.first.0.checked_add(u64::from(header.count)).is_none() {
            return Err(FormatError(format!(
                "batch of {} bytes, {} of values, and {} records from {} on",
                header.len, header.values_len, header.count, header.first
            )));
        }
        Ok(header)
    }

    /// The last record.
    pub fn last(&self) -> LogIndex {
        LogIndex(self.first.0 + u64::from(self.count) - 1)
    }

    /// Bytes on disk, padding included.
    pub fn padded_len(&self) -> usize {
        (self.len + self.values_len).next_multiple_of(ALIGN)
    }
}

/// Decodes the records of a batch whose header was checked; `bytes` is the whole batch without padding.
///
/// # Errors
/// What is wrong with the first bad record.
pub fn decode_records(header: &BatchHeader, bytes: &[u8], seed: u32) -> Result<Vec<RecordV1>, FormatError> {
    let mut rest = bytes
        .get(BATCH_HEADER_BYTES..header.len)
        .ok_or_else(|| FormatError("batch is cut off".to_owned()))?;
    let mut records = Vec::with_capacity((header.count as usize).min(rest.len() / RECORD_PREFIX_BYTES));
    for index in header.first.0..=header.last().0 {
        let len = u32_at(rest, 0)? as usize;
        let crc = u32_at(rest, 4)?;
        let body = rest.get(RECORD_PREFIX_BYTES..).and_then(|rest| rest.get(..len));
        let body = body.ok_or_else(|| FormatError(format!("record {index} is cut off")))?;
        if seeded_crc(seed, body) != crc {
            return Err(FormatError(format!("checksum mismatch in record {index}")));
        }
        let record =
            RecordV1::decode(body).map_err(|error| FormatError(format!("record {index}: {error}")))?;
        if record.index.0 != index {
            return Err(FormatError(format!("record {} where {index} belongs", record.index)));
        }
        records.push(record);
        rest = rest.get(RECORD_PREFIX_BYTES + len..).unwrap_or_default();
    }
    Ok(records)
}

/// The bytes of a mark, for a slot of the ring.
pub fn encode_mark(cluster: ClusterId, index: LogIndex) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[..4].copy_from_slice(&MARK_MAGIC);
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..24].copy_from_slice(&cluster.0);
    bytes[24..32].copy_from_slice(&index.0.to_le_bytes());
    let crc = crc32(&bytes[..32]);
    bytes[32..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The mark in a slot, if there is a good one.
pub fn decode_mark(bytes: &[u8], cluster: ClusterId) -> Option<LogIndex> {
    let covered = bytes.get(..32)?;
    let is_ours = covered.get(..4)? == MARK_MAGIC && covered.get(8..24)? == cluster.0;
    let is_good = is_ours && u32_at(bytes, 4) == Ok(VERSION) && u32_at(bytes, 32) == Ok(crc32(covered));
    is_good.then(|| u64_at(bytes, 24).ok().map(LogIndex)).flatten()
}

/// Collects records for one write.
#[derive(Debug)]
pub struct BatchBuilder {
    records: Vec<u8>,
    ends: Vec<usize>,
    values: Vec<u8>,
    first: LogIndex,
    placed: ValuesAt,
    buffer: Option<AlignedBuffer>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            ends: Vec::new(),
            values: Vec::new(),
            first: LogIndex(0),
            placed: ValuesAt::default(),
            buffer: None,
        }
    }
}

impl BatchBuilder {
    /// Adds a record.
    ///
    /// # Panics
    /// If its index does not follow that of the record before.
    pub fn push(&mut self, record: &RecordV1) {
        if self.ends.is_empty() {
            self.first = record.index;
        }
        assert_eq!(record.index.0, self.first.0 + self.ends.len() as u64, "records follow each other");
        let begin = self.records.len();
        self.records.resize(begin + RECORD_PREFIX_BYTES, 0);
        record.encode_into(&mut self.records);
        let len = (self.records.len() - begin - RECORD_PREFIX_BYTES) as u32;
        self.records[begin..begin + 4].copy_from_slice(&len.to_le_bytes());
        self.ends.push(self.records.len());
    }

    /// Adds a value of the record that is pushed next; returns where it is among the values.
    pub fn push_value(&mut self, bytes: &[u8]) -> u32 {
        let at = self.values.len() as u32;
        self.values.extend_from_slice(bytes);
        at
    }

    /// Whether no more should be added.
    pub fn is_full(&self) -> bool {
        // A record is bounded by its paths and values; this keeps a batch below its limits whatever comes last.
        self.records.len() > BATCH_BYTES_MAX / 2
            || self.values.len() > VALUES_BYTES_MAX / 2
            || self.ends.len() as u32 >= BATCH_RECORDS_MAX
    }

    /// Where the values of the batch that was written last begin.
    pub fn placed(&self) -> ValuesAt {
        self.placed
    }

    /// Bytes of the values in it.
    pub fn values_len(&self) -> u64 {
        self.values.len() as u64
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Records in it.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Index of its last record.
    pub fn last(&self) -> LogIndex {
        LogIndex(self.first.0 + self.ends.len() as u64 - 1)
    }

    /// Takes back the memory of a batch that was written.
    pub(super) fn reuse(&mut self, buffer: AlignedBuffer) {
        self.buffer = Some(buffer);
        // One large value does not keep its memory.
        self.values.shrink_to(KEPT_BYTES_MAX);
    }

    /// Builds the padded batch for the place `offset` of a segment, and forgets the records.
    pub(super) fn seal(
        &mut self,
        segment: &SegmentHeader,
        offset: u64,
        term: Term,
        acknowledged: LogIndex,
    ) -> AlignedBuffer {
        let (len, values_len, seed) =
            (BATCH_HEADER_BYTES + self.records.len(), self.values.len(), segment.seed());
        assert!(
            len <= BATCH_BYTES_MAX && values_len <= VALUES_BYTES_MAX,
            "a batch is sealed before it outgrows its limits"
        );
        self.placed = ValuesAt { segment: segment.first, offset: offset + len as u64 };
        let mut begin = 0;
        for end in &self.ends {
            let crc = seeded_crc(seed, &self.records[begin + RECORD_PREFIX_BYTES..*end]);
            self.records[begin + 4..begin + 8].copy_from_slice(&crc.to_le_bytes());
            begin = *end;
        }
        let header = BatchHeader {
            len,
            values_len,
            count: self.ends.len() as u32,
            first: self.first,
            term,
            acknowledged,
        };
        let mut buffer = self.buffer.take().unwrap_or_else(|| AlignedBuffer::new(len + values_len));
        buffer.set_len(0);
        buffer.extend(&header.encode(seed));
        buffer.extend(&self.records);
        buffer.extend(&self.values);
        buffer.pad();
        self.values.clear();
        self.records.clear();
        self.ends.clear();
        buffer
    }

    /// Bytes that the batch will take on disk.
    pub fn padded_len(&self) -> u64 {
        (BATCH_HEADER_BYTES + self.records.len() + self.values.len()).next_multiple_of(ALIGN) as u64
    }
}

fn seeded_crc(seed: u32, bytes: &[u8]) -> u32 {
    ringfs_proto::checksum::ChecksumType::Crc32.append(seed, bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], FormatError> {
    let found = bytes.get(at..at + N).and_then(|found| found.try_into().ok());
    found.ok_or_else(|| FormatError(format!("cut off at byte {at}")))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, FormatError> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, FormatError> {
    array_at(bytes, at).map(u64::from_le_bytes)
}
