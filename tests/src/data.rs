//! Bytes that are known by seed and offset, so that any range of any file can be checked without keeping a copy.

/// The content of a file: pseudo-random, a function of the seed and the offset alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// Distinguishes files.
    pub seed: u64,
}

impl Pattern {
    /// Fills `target` with the bytes from `offset` on.
    pub fn fill(self, offset: u64, target: &mut [u8]) {
        let mut at = 0;
        while at < target.len() {
            let position = offset + at as u64;
            let word = self.word(position / 8).to_le_bytes();
            let skip = (position % 8) as usize;
            let len = (8 - skip).min(target.len() - at);
            target[at..at + len].copy_from_slice(&word[skip..skip + len]);
            at += len;
        }
    }

    /// `len` bytes from `offset` on.
    pub fn bytes(self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(offset, &mut bytes);
        bytes
    }

    /// Asserts that `found` are the bytes from `offset` on, naming the first that is not.
    ///
    /// # Panics
    /// If a byte differs.
    pub fn check(self, offset: u64, found: &[u8]) {
        let expected = self.bytes(offset, found.len());
        if let Some(at) = expected.iter().zip(found).position(|(expected, found)| expected != found) {
            let (expected, found) = (expected[at], found[at]);
            panic!(
                "seed {}: byte {} is {found:#04x}, expected {expected:#04x}",
                self.seed,
                offset + at as u64
            );
        }
    }

    /// SplitMix64: each word depends on its index alone.
    fn word(self, index: u64) -> u64 {
        let mut z = self.seed.wrapping_mul(0xd1b5_4a32_d192_ed03)
            ^ index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_gives_the_same_bytes() {
        let pattern = Pattern { seed: 7 };
        let whole = pattern.bytes(0, 100);
        for begin in 0..40 {
            for len in 0..60 {
                assert_eq!(pattern.bytes(begin as u64, len), whole[begin..begin + len]);
            }
        }
        assert_ne!(whole, Pattern { seed: 8 }.bytes(0, 100));
    }
}
