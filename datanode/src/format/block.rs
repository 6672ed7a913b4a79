//! The block file. All numbers are little-endian, stored checksums big-endian.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 1024 | header, written once |
//! | 1024 | 1024 | tail slot 0 |
//! | 2048 | 1024 | tail slot 1 |
//! | 3072 | 1024 | 0 |
//! | 4096 | 4 x ceil(limit / chunk) | checksums, 4 bytes per chunk |
//! | next multiple of 64 KiB | | data |
//!
//! | offset | bytes | header |
//! |---|---|---|
//! | 0 | 4 | magic `RFSD` |
//! | 4 | 4 | version, 1 |
//! | 8 | 16 | cluster |
//! | 24 | 16 | storage |
//! | 40 | 8 | block |
//! | 48 | 8 | stamp at creation |
//! | 56 | 8 | length limit |
//! | 64 | 4 | bytes per checksum |
//! | 68 | 1 | checksum type: 1 = CRC-32, 2 = CRC32C |
//! | 69 | 1 | write mode: 0 = through the page cache, 1 = direct |
//! | 70 | 2 | 0 |
//! | 72 | 4 | CRC-32 of bytes 0 to 72 |
//!
//! | offset | bytes | tail slot |
//! |---|---|---|
//! | 0 | 4 | magic `RFST` |
//! | 4 | 4 | 1 = finalized, else 0 |
//! | 8 | 8 | sequence: the slot with the higher one counts |
//! | 16 | 8 | stamp |
//! | 24 | 8 | length |
//! | 32 | 8 | length that is on stable storage |
//! | 40 | 4 | checksum of the partial last chunk; 0 when there is none |
//! | 44 | 4 | the same for the length on stable storage |
//! | 48 | 4 | CRC-32 of bytes 0 to 48, continued over block and storage |
//!
//! The two slots are written alternately, so that one is whole whatever a power cut does to the other.

use ringfs_proto::checksum::{CHECKSUM_BYTES, ChecksumType, crc32};
use ringfs_proto::ids::{BlockId, ClusterId, Stamp, StorageId};
use ringfs_proto::limits::{BLOCK_BYTES_MAX, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};

/// Bytes before the checksums: header and slots.
pub const HEAD_BYTES: usize = 4096;
/// Data begins at a multiple of this, so that it can be mapped whatever the size of a page.
pub const DATA_ALIGN: u64 = 64 << 10;
/// Bytes of an encoded header.
pub const HEADER_BYTES: usize = 76;
/// Bytes of an encoded slot.
pub const SLOT_BYTES: usize = 52;
const SLOT_OFFSETS: [u64; 2] = [1024, 2048];
const HEADER_MAGIC: [u8; 4] = *b"RFSD";
const SLOT_MAGIC: [u8; 4] = *b"RFST";
const VERSION: u32 = 1;

/// Why bytes are not a block file's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("decode block file: {reason}")]
pub struct FormatError {
    /// What is wrong.
    pub reason: String,
}

/// Where things are in a block file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Type of the checksums.
    pub checksum: ChecksumType,
    /// Bytes per checksum, a power of two.
    pub chunk_bytes: u32,
    /// Most bytes of data.
    pub limit: u64,
}

impl Layout {
    /// Offset of the checksum of a chunk.
    pub fn checksum_offset(&self, chunk: u64) -> u64 {
        HEAD_BYTES as u64 + chunk * CHECKSUM_BYTES as u64
    }

    /// Offset of the first byte of data.
    pub fn data_offset(&self) -> u64 {
        self.checksum_offset(self.limit.div_ceil(u64::from(self.chunk_bytes))).next_multiple_of(DATA_ALIGN)
    }
}

/// Header of a block file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The cluster.
    pub cluster: ClusterId,
    /// The volume.
    pub storage: StorageId,
    /// The block.
    pub block: BlockId,
    /// Its stamp when the file was made.
    pub stamp: Stamp,
    /// Where things are.
    pub layout: Layout,
    /// Whether data is written around the page cache.
    pub is_direct: bool,
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&HEADER_MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.cluster.0);
        bytes[24..40].copy_from_slice(&self.storage.0);
        bytes[40..48].copy_from_slice(&self.block.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.stamp.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.layout.limit.to_le_bytes());
        bytes[64..68].copy_from_slice(&self.layout.chunk_bytes.to_le_bytes());
        bytes[68] = self.layout.checksum as u8;
        bytes[69] = u8::from(self.is_direct);
        let crc = crc32(&bytes[..72]);
        bytes[72..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let error = |reason: &str| FormatError { reason: reason.to_owned() };
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or_else(|| error("header is cut off"))?;
        if bytes[..4] != HEADER_MAGIC {
            return Err(error("no RingFS block file"));
        }
        if u32_at(bytes, 4) != VERSION {
            return Err(FormatError {
                reason: format!("version {}, this release knows {VERSION}", u32_at(bytes, 4)),
            });
        }
        if u32_at(bytes, 72) != crc32(&bytes[..72]) {
            return Err(error("checksum mismatch in the header"));
        }
        let checksum = ChecksumType::from_u8(bytes[68]).ok_or_else(|| error("unknown checksum type"))?;
        let layout = Layout { checksum, chunk_bytes: u32_at(bytes, 64), limit: u64_at(bytes, 56) };
        let is_chunk = layout.chunk_bytes.is_power_of_two()
            && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&layout.chunk_bytes);
        if !is_chunk || layout.limit > BLOCK_BYTES_MAX || bytes[69] > 1 {
            return Err(error("a field is out of range"));
        }
        Ok(Self {
            cluster: ClusterId(array_at(bytes, 8)),
            storage: StorageId(array_at(bytes, 24)),
            block: BlockId(u64_at(bytes, 40)),
            stamp: Stamp(u64_at(bytes, 48)),
            layout,
            is_direct: bytes[69] == 1,
        })
    }
}

/// An end of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// Bytes before it.
    pub length: u64,
    /// Checksum of the partial chunk before it; 0 when there is none.
    pub crc: u32,
}

/// A tail slot: how long the replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailSlot {
    /// Rises with each slot that is written.
    pub sequence: u64,
    /// The stamp.
    pub stamp: Stamp,
    /// Bytes of data.
    pub length: u64,
    /// Bytes of data on stable storage.
    pub synced_length: u64,
    /// Checksum of the partial last chunk; 0 when there is none.
    pub tail_crc: u32,
    /// Checksum of the chunk that ends in the middle of its bytes on stable storage; 0 when there is none. What is written
    /// behind these changes the checksum in the file, and a power cut may keep that and not the bytes.
    pub synced_crc: u32,
    /// Whether the replica is complete.
    pub is_finalized: bool,
}

impl TailSlot {
    /// How far the replica goes.
    pub fn tail(&self) -> Tail {
        Tail { length: self.length, crc: self.tail_crc }
    }

    /// How far it is on stable storage.
    pub fn synced(&self) -> Tail {
        Tail { length: self.synced_length, crc: self.synced_crc }
    }

    /// Where this slot is written.
    pub fn offset(&self) -> u64 {
        SLOT_OFFSETS[(self.sequence % 2) as usize]
    }

    /// Its bytes, for a file of this block on this volume.
    pub fn encode(&self, block: BlockId, storage: StorageId) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..4].copy_from_slice(&SLOT_MAGIC);
        bytes[4..8].copy_from_slice(&u32::from(self.is_finalized).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.stamp.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.length.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.synced_length.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.tail_crc.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.synced_crc.to_le_bytes());
        let crc = slot_crc(&bytes[..48], block, storage);
        bytes[48..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks one slot; `None` when it was never written or is torn.
    pub fn decode(bytes: &[u8], block: BlockId, storage: StorageId) -> Option<Self> {
        let bytes: &[u8; SLOT_BYTES] = bytes.first_chunk()?;
        let is_whole =
            bytes[..4] == SLOT_MAGIC && u32_at(bytes, 48) == slot_crc(&bytes[..48], block, storage);
        let slot = Self {
            sequence: u64_at(bytes, 8),
            stamp: Stamp(u64_at(bytes, 16)),
            length: u64_at(bytes, 24),
            synced_length: u64_at(bytes, 32),
            tail_crc: u32_at(bytes, 40),
            synced_crc: u32_at(bytes, 44),
            is_finalized: u32_at(bytes, 4) == 1,
        };
        (is_whole && slot.synced_length <= slot.length).then_some(slot)
    }

    /// The slot that counts, from the first 4 KiB of a block file.
    pub fn newest(head: &[u8], block: BlockId, storage: StorageId) -> Option<Self> {
        let slots = SLOT_OFFSETS
            .iter()
            .filter_map(|offset| Self::decode(head.get(*offset as usize..)?, block, storage));
        slots.max_by_key(|slot| slot.sequence)
    }
}

fn slot_crc(bytes: &[u8], block: BlockId, storage: StorageId) -> u32 {
    let crc = ChecksumType::Crc32.append(crc32(bytes), &block.0.to_le_bytes());
    ChecksumType::Crc32.append(crc, &storage.0)
}

fn array_at<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at<const M: usize>(bytes: &[u8; M], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at<const M: usize>(bytes: &[u8; M], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            cluster: ClusterId([1; 16]),
            storage: StorageId([2; 16]),
            block: BlockId(3),
            stamp: Stamp(4),
            layout: Layout { checksum: ChecksumType::Crc32c, chunk_bytes: 4096, limit: 128 << 20 },
            is_direct: true,
        }
    }

    fn slot(sequence: u64) -> TailSlot {
        TailSlot {
            sequence,
            stamp: Stamp(4),
            length: 100,
            synced_length: 50,
            tail_crc: 7,
            synced_crc: 8,
            is_finalized: false,
        }
    }

    #[test]
    fn data_begins_behind_the_checksums() {
        let layout = header().layout;
        assert_eq!(layout.checksum_offset(0), 4096);
        assert_eq!(layout.data_offset(), (4096 + 4 * 32768u64).next_multiple_of(65536));
        assert_eq!(Layout { limit: 1024, chunk_bytes: 512, ..layout }.data_offset(), 65536);
    }

    #[test]
    fn header_round_trips_and_any_flipped_bit_is_seen() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged).is_err(), "bit {bit}");
        }
        assert!((0..HEADER_BYTES).all(|len| Header::decode(&bytes[..len]).is_err()));
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let (block, storage) = (BlockId(3), StorageId([2; 16]));
        let mut head = vec![0; HEAD_BYTES];
        assert_eq!(TailSlot::newest(&head, block, storage), None);
        for sequence in 1..=4 {
            let slot = slot(sequence);
            let at = slot.offset() as usize;
            head[at..at + SLOT_BYTES].copy_from_slice(&slot.encode(block, storage));
            assert_eq!(TailSlot::newest(&head, block, storage), Some(slot));
        }
        head[slot(4).offset() as usize + 30] ^= 1;
        assert_eq!(TailSlot::newest(&head, block, storage), Some(slot(3)), "a torn slot leaves the other");
        assert_eq!(TailSlot::newest(&head, BlockId(9), storage), None, "a slot of another block is none");
    }

    #[test]
    fn golden_bytes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let start = concat!(
            "5246534401000000",
            "01010101010101010101010101010101",
            "02020202020202020202020202020202"
        );
        assert!(hex(&header().encode()).starts_with(start));
        assert_eq!(
            &hex(&header().encode())[80..],
            "0300000000000000040000000000000000000008000000000010000002010000b1486673"
        );
        let slot = slot(5).encode(BlockId(3), StorageId([2; 16]));
        assert_eq!(
            hex(&slot),
            "5246535400000000050000000000000004000000000000006400000000000000320000000000000007000000080000002cceb1e1"
        );
    }
}
