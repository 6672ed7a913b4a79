//! CRC32C of several chunks of equal length at once.
//!
//! The CRC32 instruction starts one per cycle and takes three: a single stream waits on itself. Three independent
//! chunks fill the gap without the combination step that splitting one short chunk would need.

/// Chunks that one call takes.
pub(super) const STREAMS: usize = 3;

/// CRC32C of each of three chunks of one length; `None` where the CPU or the lengths do not allow it.
#[cfg(target_arch = "x86_64")]
pub(super) fn crc32c_equal(chunks: [&[u8]; STREAMS]) -> Option<[u32; STREAMS]> {
    let [a, b, c] = chunks;
    if a.len() != b.len() || b.len() != c.len() || !std::arch::is_x86_feature_detected!("sse4.2") {
        return None;
    }
    // SAFETY: the CPU has SSE 4.2, checked above; the function has no other condition.
    Some(unsafe { crc32c_sse42(a, b, c) })
}

/// Always `None`: the crate's own path is used on this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn crc32c_equal(_chunks: [&[u8]; STREAMS]) -> Option<[u32; STREAMS]> {
    None
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn crc32c_sse42(a: &[u8], b: &[u8], c: &[u8]) -> [u32; STREAMS] {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};

    let (a_words, a_rest) = a.as_chunks::<8>();
    let (b_words, b_rest) = b.as_chunks::<8>();
    let (c_words, c_rest) = c.as_chunks::<8>();
    let mut crcs = [u64::from(u32::MAX); STREAMS];
    for ((a, b), c) in a_words.iter().zip(b_words).zip(c_words) {
        crcs[0] = _mm_crc32_u64(crcs[0], u64::from_le_bytes(*a));
        crcs[1] = _mm_crc32_u64(crcs[1], u64::from_le_bytes(*b));
        crcs[2] = _mm_crc32_u64(crcs[2], u64::from_le_bytes(*c));
    }
    let mut crcs = crcs.map(|crc| crc as u32);
    for (crc, rest) in crcs.iter_mut().zip([a_rest, b_rest, c_rest]) {
        *crc = !rest.iter().fold(*crc, |crc, byte| _mm_crc32_u8(crc, *byte));
    }
    crcs
}
