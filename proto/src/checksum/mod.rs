//! Checksums: CRC32C for block data, CRC-32 for everything else.
//!
//! Block checksums are stored and sent as 4 big-endian bytes per chunk, as HDFS sends them, so that either protocol
//! can be served straight from the file.

/// Type of a block's checksums. Numbers as in HDFS (`ChecksumTypeProto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[repr(u8)]
pub enum ChecksumType {
    /// CRC-32 of IEEE 802.3.
    Crc32 = 1,
    /// CRC-32 of Castagnoli.
    Crc32c = 2,
}

impl ChecksumType {
    /// The type of a number read from a peer or a disk.
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Crc32),
            2 => Some(Self::Crc32c),
            _ => None,
        }
    }

    /// The checksum of `data`.
    pub fn of(self, data: &[u8]) -> u32 {
        self.append(0, data)
    }

    /// The checksum of some data followed by `data`, given the checksum of the former.
    pub fn append(self, crc: u32, data: &[u8]) -> u32 {
        match self {
            Self::Crc32 => {
                let mut hasher = crc32fast::Hasher::new_with_initial(crc);
                hasher.update(data);
                hasher.finalize()
            }
            Self::Crc32c => crc32c::crc32c_append(crc, data),
        }
    }
}

/// Bytes of one stored checksum.
pub const CHECKSUM_BYTES: usize = 4;

/// CRC-32 (IEEE) of frames, log records and metadata.
pub fn crc32(data: &[u8]) -> u32 {
    crc32fast::hash(data)
}

/// How many chunks `len` bytes have.
pub fn chunk_count(len: usize, chunk_bytes: u32) -> usize {
    len.div_ceil(chunk_bytes as usize)
}

/// Writes the checksum of each chunk of `data` to `out`.
///
/// `out` holds exactly [`chunk_count`] x 4 bytes; the last chunk may be short.
///
/// # Panics
/// If `out` has another length.
pub fn compute_chunks(kind: ChecksumType, data: &[u8], chunk_bytes: u32, out: &mut [u8]) {
    assert_eq!(out.len(), chunk_count(data.len(), chunk_bytes) * CHECKSUM_BYTES);
    for (chunk, stored) in data.chunks(chunk_bytes as usize).zip(out.chunks_exact_mut(CHECKSUM_BYTES)) {
        stored.copy_from_slice(&kind.of(chunk).to_be_bytes());
    }
}

/// Compares each chunk of `data` with its stored checksum.
///
/// # Errors
/// The index of the first chunk that does not match, or for which there is no checksum.
pub fn verify_chunks(kind: ChecksumType, data: &[u8], chunk_bytes: u32, stored: &[u8]) -> Result<(), usize> {
    if stored.len() != chunk_count(data.len(), chunk_bytes) * CHECKSUM_BYTES {
        return Err(stored.len() / CHECKSUM_BYTES);
    }
    let chunks = data.chunks(chunk_bytes as usize).zip(stored.chunks_exact(CHECKSUM_BYTES));
    for (index, (chunk, stored)) in chunks.enumerate() {
        if kind.of(chunk).to_be_bytes() != stored {
            return Err(index);
        }
    }
    Ok(())
}
