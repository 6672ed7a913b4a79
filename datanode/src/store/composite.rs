//! The checksum of a whole replica, from those of its chunks: no byte of its data is read.

use std::io;

use ringfs_disk::DiskFile;
use ringfs_proto::checksum::{CHECKSUM_BYTES, Composite};

use crate::format::block::{Layout, Tail};

/// Bytes of checksums that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Combines the stored checksums of whole chunks with that of the partial one at the end. Blocks.
///
/// # Errors
/// What the operating system says.
pub(super) fn crc_of(file: &dyn DiskFile, layout: &Layout, tail: Tail) -> io::Result<u32> {
    let chunk_bytes = u64::from(layout.chunk_bytes);
    let (chunks, partial) = (tail.length / chunk_bytes, tail.length % chunk_bytes);
    let mut composite = Composite::new(layout.checksum, layout.chunk_bytes);
    let mut left = chunks as usize * CHECKSUM_BYTES;
    let mut offset = layout.checksum_offset(0);
    let mut piece = vec![0; left.min(PIECE_BYTES)];
    while left > 0 {
        let piece = &mut piece[..left.min(PIECE_BYTES)];
        file.read_exact_at(piece, offset)?;
        composite.push_chunks(piece);
        left -= piece.len();
        offset += piece.len() as u64;
    }
    Ok(composite.finish(tail.crc, partial))
}
