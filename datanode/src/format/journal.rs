//! The journal of a volume. All numbers are little-endian.
//!
//! | offset | bytes | journal header |
//! |---|---|---|
//! | 0 | 4 | magic `RFSJ` |
//! | 4 | 4 | version, 1 |
//! | 8 | 16 | storage |
//! | 24 | 4 | CRC-32 of bytes 0 to 24 |
//! | 28 | 20 | 0 |
//!
//! Records of 48 bytes follow:
//!
//! | offset | bytes | record |
//! |---|---|---|
//! | 0 | 1 | 1 = being written, 2 = finalized, 3 = deleted, 4 = corrupt |
//! | 1 | 7 | 0 |
//! | 8 | 8 | block |
//! | 16 | 8 | stamp |
//! | 24 | 8 | length; for a replica being written, the bytes it may grow to |
//! | 32 | 8 | sequence: 1, 2, 3... in this file |
//! | 40 | 4 | 0 |
//! | 44 | 4 | CRC-32 of storage and bytes 0 to 44 |

use ringfs_proto::checksum::{ChecksumType, crc32};
use ringfs_proto::ids::{BlockId, Stamp, StorageId};

/// Bytes of the header and of each record.
pub const RECORD_BYTES: usize = 48;
const MAGIC: [u8; 4] = *b"RFSJ";
const VERSION: u32 = 1;

/// What happened to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// It was created.
    BeingWritten = 1,
    /// It is complete.
    Finalized = 2,
    /// It is gone.
    Deleted = 3,
    /// Its bytes do not match their checksums.
    Corrupt = 4,
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What happened.
    pub event: Event,
    /// To which block.
    pub block: BlockId,
    /// Its stamp.
    pub stamp: Stamp,
    /// Its length.
    pub length: u64,
}

/// The header of the journal of a storage.
pub fn encode_header(storage: StorageId) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..24].copy_from_slice(&storage.0);
    let crc = crc32(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

impl Record {
    /// Its bytes as record number `sequence` of a storage's journal.
    pub fn encode(&self, storage: StorageId, sequence: u64) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0] = self.event as u8;
        bytes[8..16].copy_from_slice(&self.block.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.stamp.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.length.to_le_bytes());
        bytes[32..40].copy_from_slice(&sequence.to_le_bytes());
        let crc = record_crc(&bytes[..44], storage);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks record number `sequence`.
    pub fn decode(bytes: &[u8], storage: StorageId, sequence: u64) -> Option<Self> {
        let bytes: &[u8; RECORD_BYTES] = bytes.first_chunk()?;
        let u64_at = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap_or(&[0; 8]));
        let crc = u32::from_le_bytes(*bytes[44..].first_chunk()?);
        if crc != record_crc(&bytes[..44], storage) || u64_at(32) != sequence {
            return None;
        }
        let event = match bytes[0] {
            1 => Event::BeingWritten,
            2 => Event::Finalized,
            3 => Event::Deleted,
            4 => Event::Corrupt,
            _ => return None,
        };
        Some(Self { event, block: BlockId(u64_at(8)), stamp: Stamp(u64_at(16)), length: u64_at(24) })
    }
}

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// Whole records; what follows them, if anything, is the torn end of the last write.
    Good {
        /// The records, in order.
        records: Vec<Record>,
        /// Bytes up to the end of the last one.
        len: usize,
    },
    /// The header is bad, or good records follow a bad one: this journal cannot be trusted.
    Damaged {
        /// Where the damage is.
        offset: usize,
    },
}

/// Decodes a journal record by record.
#[derive(Debug)]
pub struct Scanner {
    storage: StorageId,
    /// Sequence of the next record.
    next: u64,
    /// The first record that is none.
    bad: Option<u64>,
    /// Good ones follow it.
    is_followed: bool,
}

impl Scanner {
    /// Begins with the first [`RECORD_BYTES`] of a file. `None`: they are no header of a journal of this storage.
    pub fn new(header: &[u8], storage: StorageId) -> Option<Self> {
        let is_ours = header.get(..RECORD_BYTES) == Some(&encode_header(storage)[..]);
        is_ours.then_some(Self { storage, next: 1, bad: None, is_followed: false })
    }

    /// Takes the next [`RECORD_BYTES`] of the file. `None`: they are no record, or follow some that are none.
    pub fn record(&mut self, bytes: &[u8]) -> Option<Record> {
        let record = Record::decode(bytes, self.storage, self.next);
        match self.bad {
            None if record.is_none() => self.bad = Some(self.next),
            None => {}
            Some(_) => self.is_followed |= record.is_some(),
        }
        self.next += 1;
        record.filter(|_| self.bad.is_none())
    }

    /// How many records there were; what follows them, if anything, is the torn end of the last write.
    ///
    /// # Errors
    /// The offset of the damage: good records follow a bad one, and this journal cannot be trusted.
    pub fn end(&self) -> Result<u64, u64> {
        match self.bad {
            Some(bad) if self.is_followed => Err(bad * RECORD_BYTES as u64),
            Some(bad) => Ok(bad - 1),
            None => Ok(self.next - 1),
        }
    }
}

/// Decodes a whole journal.
pub fn scan(bytes: &[u8], storage: StorageId) -> Scan {
    let Some(mut scanner) = Scanner::new(bytes, storage) else { return Scan::Damaged { offset: 0 } };
    let mut whole = bytes.chunks_exact(RECORD_BYTES).skip(1);
    let records: Vec<Record> = whole.by_ref().map_while(|bytes| scanner.record(bytes)).collect();
    for bytes in whole {
        scanner.record(bytes);
    }
    match scanner.end() {
        Ok(count) => Scan::Good { records, len: (count as usize + 1) * RECORD_BYTES },
        Err(offset) => Scan::Damaged { offset: offset as usize },
    }
}

fn record_crc(bytes: &[u8], storage: StorageId) -> u32 {
    ChecksumType::Crc32.append(crc32(&storage.0), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORAGE: StorageId = StorageId([2; 16]);

    fn journal(count: u64) -> Vec<u8> {
        let mut bytes = encode_header(STORAGE).to_vec();
        for sequence in 1..=count {
            let record =
                Record { event: Event::Finalized, block: BlockId(sequence), stamp: Stamp(1), length: 10 };
            bytes.extend(record.encode(STORAGE, sequence));
        }
        bytes
    }

    #[test]
    fn a_torn_end_is_cut_and_damage_in_the_middle_is_seen() {
        let bytes = journal(20);
        for len in RECORD_BYTES..bytes.len() {
            let whole = (len - RECORD_BYTES) / RECORD_BYTES;
            match scan(&bytes[..len], STORAGE) {
                Scan::Good { records, len } => {
                    assert_eq!((records.len(), len), (whole, (whole + 1) * RECORD_BYTES));
                }
                other => panic!("cut at {len}: {other:?}"),
            }
        }
        for at in 0..bytes.len() - RECORD_BYTES {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            let expected = Scan::Damaged { offset: at / RECORD_BYTES * RECORD_BYTES };
            assert_eq!(scan(&damaged, STORAGE), expected, "flipped bit at {at}");
        }
        assert_eq!(scan(&bytes, StorageId([3; 16])), Scan::Damaged { offset: 0 });
        assert_eq!(scan(&[], STORAGE), Scan::Damaged { offset: 0 });
    }
}
