//! Checksum of two joined pieces from the checksums of the pieces, without their bytes.
//!
//! Appending `n` bytes multiplies the checksum by x^8n modulo the polynomial, over GF(2), bits reflected.

const CRC32_POLYNOMIAL: u32 = 0xedb8_8320;
const CRC32C_POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;
/// The polynomial x^8: one byte.
const BYTE: u32 = 1 << 23;

/// CRC32C of a piece with `crc_a` followed by a piece of `len_b` bytes with `crc_b`.
pub fn crc32c_combine(crc_a: u32, crc_b: u32, len_b: u64) -> u32 {
    shift(crc_a, len_b, CRC32C_POLYNOMIAL) ^ crc_b
}

/// CRC-32 of a piece with `crc_a` followed by a piece of `len_b` bytes with `crc_b`.
pub fn crc32_combine(crc_a: u32, crc_b: u32, len_b: u64) -> u32 {
    shift(crc_a, len_b, CRC32_POLYNOMIAL) ^ crc_b
}

fn shift(crc: u32, mut len: u64, polynomial: u32) -> u32 {
    let mut factor = ONE;
    let mut power = BYTE;
    while len > 0 {
        if len & 1 == 1 {
            factor = multiply(factor, power, polynomial);
        }
        power = multiply(power, power, polynomial);
        len >>= 1;
    }
    multiply(crc, factor, polynomial)
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
