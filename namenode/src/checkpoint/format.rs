//! Bytes of a checkpoint. Nothing here does I/O. All numbers are little-endian.
//!
//! | offset | bytes | header |
//! |---|---|---|
//! | 0 | 4 | magic `RFSC` |
//! | 4 | 4 | version, 1 |
//! | 8 | 16 | cluster |
//! | 24 | 8 | last record that is contained |
//! | 32 | 4 | CRC-32 of bytes 0 to 32 |
//!
//! Sections follow, each a header and its payload:
//!
//! | offset | bytes | section header |
//! |---|---|---|
//! | 0 | 4 | kind |
//! | 4 | 4 | items |
//! | 8 | 4 | bytes of the payload |
//! | 12 | 4 | seeded CRC-32 of the payload |
//! | 16 | 4 | seeded CRC-32 of bytes 0 to 16 |
//!
//! The seed is the CRC-32 of bytes 0 to 32 of the header, so that a section of another checkpoint is never taken for one of
//! this. The last section says how many come before it (8 bytes), and nothing follows it.

use ringfs_proto::checksum::{ChecksumType, crc32};
use ringfs_proto::ids::{ClusterId, LogIndex};

use crate::state::{Section, SectionKind};
use crate::wal::format::FormatError;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 36;
/// Bytes of a section's header.
pub const SECTION_HEADER_BYTES: usize = 20;
/// Largest payload of a section.
pub const SECTION_BYTES_MAX: usize = 64 << 20;
const MAGIC: [u8; 4] = *b"RFSC";
const VERSION: u32 = 1;

/// Header of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The cluster.
    pub cluster: ClusterId,
    /// The last record that is contained.
    pub index: LogIndex,
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.cluster.0);
        bytes[24..32].copy_from_slice(&self.index.0.to_le_bytes());
        let crc = crc32(&bytes[..32]);
        bytes[32..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Starts the checksums of its sections.
    pub fn seed(&self) -> u32 {
        crc32(&self.encode()[..32])
    }

    /// Decodes and checks.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(bytes: &[u8; HEADER_BYTES], cluster: ClusterId) -> Result<Self, FormatError> {
        if bytes[..4] != MAGIC {
            return Err(FormatError("not a checkpoint of RingFS".to_owned()));
        }
        let version = u32_at(bytes, 4);
        if version != VERSION {
            return Err(FormatError(format!("version {version}, this release knows {VERSION}")));
        }
        if crc32(&bytes[..32]) != u32_at(bytes, 32) {
            return Err(FormatError("checksum mismatch in the header".to_owned()));
        }
        let header = Self {
            cluster: ClusterId(array_at(bytes, 8)),
            index: LogIndex(u64::from_le_bytes(array_at(bytes, 24))),
        };
        if header.cluster != cluster {
            return Err(FormatError(format!("it belongs to cluster {}, this is {cluster}", header.cluster)));
        }
        Ok(header)
    }
}

/// Header of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionHeader {
    /// What it holds.
    pub kind: SectionKind,
    /// How many.
    pub items: u32,
    /// Bytes of the payload.
    pub bytes: u32,
    crc: u32,
}

impl SectionHeader {
    /// The header of a section.
    ///
    /// # Panics
    /// If the payload exceeds [`SECTION_BYTES_MAX`].
    pub fn of(section: &Section, seed: u32) -> Self {
        assert!(section.payload.len() <= SECTION_BYTES_MAX, "a section ends before it outgrows its limit");
        let crc = seeded_crc(seed, &section.payload);
        Self { kind: section.kind, items: section.items, bytes: section.payload.len() as u32, crc }
    }

    /// Its bytes.
    pub fn encode(&self, seed: u32) -> [u8; SECTION_HEADER_BYTES] {
        let mut bytes = [0; SECTION_HEADER_BYTES];
        for (at, number) in [self.kind as u32, self.items, self.bytes, self.crc].into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
        }
        let crc = seeded_crc(seed, &bytes[..16]);
        bytes[16..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(bytes: &[u8; SECTION_HEADER_BYTES], seed: u32) -> Result<Self, FormatError> {
        if seeded_crc(seed, &bytes[..16]) != u32_at(bytes, 16) {
            return Err(FormatError("checksum mismatch in the header of a section".to_owned()));
        }
        let number = u32_at(bytes, 0);
        let kind = SectionKind::from_u32(number)
            .ok_or_else(|| FormatError(format!("section of kind {number}: this release does not know it")))?;
        let header = Self { kind, items: u32_at(bytes, 4), bytes: u32_at(bytes, 8), crc: u32_at(bytes, 12) };
        if header.bytes as usize > SECTION_BYTES_MAX {
            return Err(FormatError(format!("section of {} bytes", header.bytes)));
        }
        Ok(header)
    }

    /// Whether this is the payload.
    pub fn fits(&self, payload: &[u8], seed: u32) -> bool {
        payload.len() == self.bytes as usize && seeded_crc(seed, payload) == self.crc
    }
}

/// The last section, after `sections` others.
pub fn end(sections: u64) -> Section {
    Section { kind: SectionKind::End, items: 1, payload: sections.to_le_bytes().to_vec() }
}

fn seeded_crc(seed: u32, bytes: &[u8]) -> u32 {
    ChecksumType::Crc32.append(seed, bytes)
}

fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// Part of an array; `at` is a constant of the format, below `N`.
fn array_at<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> [u8; M] {
    core::array::from_fn(|index| bytes[at + index])
}
