//! Checksum of two joined pieces from the checksums of the pieces, without their bytes.
//!
//! Appending `n` bytes multiplies the checksum by x^8n modulo the polynomial, over GF(2), bits reflected.

use super::{CHECKSUM_BYTES, ChecksumType};

const CRC32_POLYNOMIAL: u32 = 0xedb8_8320;
const CRC32C_POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;
/// The polynomial x^8: one byte.
const BYTE: u32 = 1 << 23;

impl ChecksumType {
    /// The checksum of a piece with `crc_a` followed by a piece of `len_b` bytes with `crc_b`.
    pub fn combine(self, crc_a: u32, crc_b: u32, len_b: u64) -> u32 {
        multiply(crc_a, power(BYTE, len_b, self.polynomial()), self.polynomial()) ^ crc_b
    }

    /// The checksum of what stands before a piece of `len_b` bytes with `crc_b`, given that of both: undoes
    /// [`ChecksumType::combine`].
    pub fn uncombine(self, crc_ab: u32, crc_b: u32, len_b: u64) -> u32 {
        let polynomial = self.polynomial();
        let byte = (0..8).fold(ONE, |value, _| divide_by_x(value, polynomial));
        multiply(crc_ab ^ crc_b, power(byte, len_b, polynomial), polynomial)
    }

    fn polynomial(self) -> u32 {
        match self {
            Self::Crc32 => CRC32_POLYNOMIAL,
            Self::Crc32c => CRC32C_POLYNOMIAL,
        }
    }
}

/// The checksum of a whole from those of its chunks: a few instructions for each, where [`ChecksumType::combine`] takes
/// thousands.
#[derive(Debug)]
pub struct Composite {
    kind: ChecksumType,
    crc: u32,
    /// What a byte of a checksum becomes when a chunk is appended, by its place.
    shifts: Box<[[u32; 256]; 4]>,
}

impl Composite {
    /// Begins with nothing; chunks have `chunk_bytes` bytes.
    pub fn new(kind: ChecksumType, chunk_bytes: u32) -> Self {
        let polynomial = kind.polynomial();
        let factor = power(BYTE, u64::from(chunk_bytes), polynomial);
        let mut shifts = Box::new([[0; 256]; 4]);
        // Multiplying is linear: what a byte becomes is the sum of what its bits become.
        for (place, shifts) in shifts.iter_mut().enumerate() {
            let of_bits: [u32; 8] =
                core::array::from_fn(|bit| multiply(1 << (8 * place + bit), factor, polynomial));
            for byte in 1..shifts.len() {
                shifts[byte] = shifts[byte & (byte - 1)] ^ of_bits[byte.trailing_zeros() as usize];
            }
        }
        Self { kind, crc: 0, shifts }
    }

    /// Appends whole chunks by their stored checksums, 4 big-endian bytes each.
    pub fn push_chunks(&mut self, stored: &[u8]) {
        for stored in stored.chunks_exact(CHECKSUM_BYTES) {
            let stored = stored.iter().fold(0, |crc, byte| crc << 8 | u32::from(*byte));
            let bytes = self.crc.to_le_bytes();
            let shifted = self.shifts.iter().zip(bytes).map(|(shifts, byte)| shifts[usize::from(byte)]);
            self.crc = shifted.fold(stored, |crc, shift| crc ^ shift);
        }
    }

    /// Appends a last chunk of `len` bytes, and gives the checksum of all.
    pub fn finish(self, crc: u32, len: u64) -> u32 {
        if len == 0 { self.crc } else { self.kind.combine(self.crc, crc, len) }
    }
}

/// `base` to the power of `exponent`.
fn power(base: u32, mut exponent: u64, polynomial: u32) -> u32 {
    let (mut product, mut square) = (ONE, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            product = multiply(product, square, polynomial);
        }
        square = multiply(square, square, polynomial);
        exponent >>= 1;
    }
    product
}

fn multiply(a: u32, mut b: u32, polynomial: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ polynomial } else { b >> 1 };
    }
    product
}

fn divide_by_x(value: u32, polynomial: u32) -> u32 {
    // The highest bit of a reflected polynomial is set, so it tells whether multiplying by x had subtracted it.
    if value >> 31 == 1 { ((value ^ polynomial) << 1) | 1 } else { value << 1 }
}
