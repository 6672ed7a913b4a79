//! Checksums: CRC32C for block data, CRC-32 for everything else.
//!
//! Block checksums are stored and sent as 4 big-endian bytes per chunk, as HDFS sends them, so that either protocol
//! can be served straight from the file.

mod combination;
#[allow(unsafe_code)] // One call of a function that needs a CPU feature.
mod interleaved;
#[cfg(test)]
mod tests;

pub use combination::Composite;

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
    let mut slots = out.chunks_exact_mut(CHECKSUM_BYTES);
    each_chunk(kind, data, chunk_bytes, |crc| {
        if let Some(slot) = slots.next() {
            slot.copy_from_slice(&crc.to_be_bytes());
        }
        true
    });
}

/// Compares each chunk of `data` with its stored checksum.
///
/// # Errors
/// The index of the first chunk that does not match, or for which there is no checksum.
pub fn verify_chunks(kind: ChecksumType, data: &[u8], chunk_bytes: u32, stored: &[u8]) -> Result<(), usize> {
    if chunk_bytes == 0 {
        return Err(0); // A peer may have said so.
    }
    if stored.len() != chunk_count(data.len(), chunk_bytes) * CHECKSUM_BYTES {
        return Err(stored.len() / CHECKSUM_BYTES);
    }
    let mut expected = stored.chunks_exact(CHECKSUM_BYTES);
    let mut matching = 0;
    let is_match = each_chunk(kind, data, chunk_bytes, |crc| {
        let is_equal = expected.next() == Some(crc.to_be_bytes().as_slice());
        matching += usize::from(is_equal);
        is_equal
    });
    if is_match { Ok(()) } else { Err(matching) }
}

/// Hands the checksum of each chunk to `visit`, in order, until it returns false. Returns whether it never did.
fn each_chunk(kind: ChecksumType, data: &[u8], chunk_bytes: u32, mut visit: impl FnMut(u32) -> bool) -> bool {
    let chunk_bytes = chunk_bytes as usize;
    let mut groups = data.chunks(chunk_bytes.saturating_mul(interleaved::STREAMS));
    groups.all(|group| match equal_chunks(kind, group, chunk_bytes) {
        Some(crcs) => crcs.into_iter().all(&mut visit),
        None => group.chunks(chunk_bytes).all(|chunk| visit(kind.of(chunk))),
    })
}

fn equal_chunks(kind: ChecksumType, group: &[u8], chunk_bytes: usize) -> Option<[u32; interleaved::STREAMS]> {
    if kind != ChecksumType::Crc32c {
        return None;
    }
    let mut chunks = group.chunks(chunk_bytes);
    interleaved::crc32c_equal([chunks.next()?, chunks.next()?, chunks.next()?])
}
