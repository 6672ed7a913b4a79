//! Checksums of packets.

use ringfs_proto::checksum::{CHECKSUM_BYTES, ChecksumType, chunk_count, compute_chunks};
use ringfs_proto::limits::CHUNK_BYTES_NATIVE;

/// Checksums of a packet at `offset` of its block: if it begins inside a chunk, the first is of its bytes up to the end of
/// that chunk.
pub(super) fn compute_checksums(offset: u64, data: &[u8], checksums: &mut Vec<u8>) {
    let chunk = CHUNK_BYTES_NATIVE as usize;
    let into_chunk = (offset % u64::from(CHUNK_BYTES_NATIVE)) as usize;
    let first_len = if into_chunk == 0 { 0 } else { data.len().min(chunk - into_chunk) };
    let (first, rest) = data.split_at(first_len);
    let first_sums = usize::from(!first.is_empty()) * CHECKSUM_BYTES;
    checksums.resize(first_sums + chunk_count(rest.len(), CHUNK_BYTES_NATIVE) * CHECKSUM_BYTES, 0);
    let (first_sum, rest_sums) = checksums.split_at_mut(first_sums);
    if !first.is_empty() {
        first_sum.copy_from_slice(&ChecksumType::Crc32c.of(first).to_be_bytes());
    }
    compute_chunks(ChecksumType::Crc32c, rest, CHUNK_BYTES_NATIVE, rest_sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_inside_a_chunk_has_the_checksum_of_its_bytes_first() {
        let data: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
        let mut checksums = Vec::new();
        compute_checksums(4096 * 3 + 96, &data, &mut checksums);
        let pieces = [&data[..4000], &data[4000..8096], &data[8096..]];
        let expected: Vec<u8> = pieces.iter().flat_map(|piece| crc32c(piece).to_be_bytes()).collect();
        assert_eq!(checksums, expected);
        compute_checksums(4095, &data[..1], &mut checksums);
        assert_eq!(checksums, crc32c(&data[..1]).to_be_bytes());
        compute_checksums(4095, &[], &mut checksums);
        assert!(checksums.is_empty());
    }

    fn crc32c(bytes: &[u8]) -> u32 {
        ChecksumType::Crc32c.of(bytes)
    }
}
