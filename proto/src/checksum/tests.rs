use proptest::prelude::*;

use super::*;

const KINDS: [ChecksumType; 2] = [ChecksumType::Crc32, ChecksumType::Crc32c];

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn known_answers() {
    assert_eq!(ChecksumType::Crc32.of(b"123456789"), 0xcbf4_3926);
    assert_eq!(ChecksumType::Crc32c.of(b"123456789"), 0xe306_9283);
}

#[test]
fn kernel_equals_the_crate_at_every_length_and_alignment() {
    let bytes = pattern(3 * 600 + 8);
    for len in 0..600 {
        for start in [0, 1, 3, 7] {
            let chunk = |index: usize| &bytes[start + index * len..][..len];
            let chunks = [chunk(0), chunk(1), chunk(2)];
            if let Some(crcs) = interleaved::crc32c_equal(chunks) {
                assert_eq!(crcs, chunks.map(crc32c::crc32c), "length {len}, start {start}");
            }
        }
    }
}

#[test]
fn kernel_refuses_unequal_lengths() {
    assert_eq!(interleaved::crc32c_equal([b"ab", b"ab", b"a"]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_equal_the_crate(
        data in proptest::collection::vec(any::<u8>(), 0..20_000), start in 0usize..16, chunk_bytes in 1u32..5000,
    ) {
        let data = data.get(start..).unwrap_or_default();
        for kind in KINDS {
            let expected: Vec<u8> =
                data.chunks(chunk_bytes as usize).flat_map(|chunk| kind.of(chunk).to_be_bytes()).collect();
            let mut out = vec![0; expected.len()];
            compute_chunks(kind, data, chunk_bytes, &mut out);
            prop_assert_eq!(&out, &expected);
            prop_assert_eq!(verify_chunks(kind, data, chunk_bytes, &out), Ok(()));
        }
    }

    #[test]
    fn a_flipped_bit_names_its_chunk(len in 1usize..20_000, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut data = pattern(len);
        for kind in KINDS {
            let mut out = vec![0; chunk_count(len, 512) * CHECKSUM_BYTES];
            compute_chunks(kind, &data, 512, &mut out);
            let at = at.index(len);
            data[at] ^= 1 << bit;
            prop_assert_eq!(verify_chunks(kind, &data, 512, &out), Err(at / 512));
            data[at] ^= 1 << bit;
        }
    }

    #[test]
    fn combination_equals_the_whole(data in proptest::collection::vec(any::<u8>(), 0..5000), cut in any::<prop::sample::Index>()) {
        let (a, b) = data.split_at(cut.index(data.len() + 1));
        for kind in KINDS {
            prop_assert_eq!(kind.combine(kind.of(a), kind.of(b), b.len() as u64), kind.of(&data));
            prop_assert_eq!(kind.uncombine(kind.of(&data), kind.of(b), b.len() as u64), kind.of(a));
        }
    }

    #[test]
    fn composite_equals_the_whole(data in proptest::collection::vec(any::<u8>(), 0..9000), chunk_log2 in 4u32..12) {
        let chunk_bytes = 1 << chunk_log2;
        let (whole, rest) = data.split_at(data.len() - data.len() % chunk_bytes);
        for kind in KINDS {
            let mut stored = vec![0; chunk_count(whole.len(), chunk_bytes as u32) * CHECKSUM_BYTES];
            compute_chunks(kind, whole, chunk_bytes as u32, &mut stored);
            let mut composite = Composite::new(kind, chunk_bytes as u32);
            composite.push_chunks(&stored);
            prop_assert_eq!(composite.finish(kind.of(rest), rest.len() as u64), kind.of(&data));
        }
    }
}
