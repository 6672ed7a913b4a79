//! What opens a block: a statement of the namenode, authenticated with the cluster's key.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | mode |
//! | 2 | 1 | checksum type: 1 = CRC-32, 2 = CRC32C (numbers as in HDFS) |
//! | 3 | 1 | binary logarithm of the checksum chunk |
//! | 4 | 4 | user |
//! | 8 | 8 | block |
//! | 16 | 8 | stamp |
//! | 24 | 8 | block length limit |
//! | 32 | 8 | expiry, seconds of the namenode's clock |
//! | 40 | 4 | number of the key |
//! | 44 | 4 | 0 |
//! | 48 | 16 | first half of HMAC-SHA256 of bytes 0 to 48 |
//!
//! All numbers are little-endian. The stamp is the one the block had when the capability was made: a read accepts a
//! replica of that stamp or of a newer one, a write exactly that stamp.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::checksum::ChecksumType;
use crate::ids::{BlockId, PrincipalId, Stamp};
use crate::limits::{BLOCK_BYTES_MAX, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};

/// Bytes of an encoded capability.
pub const CAPABILITY_BYTES: usize = 64;
/// Bytes of the cluster's key.
pub const KEY_BYTES: usize = 32;
/// How long a capability opens its block, in seconds.
pub const LIFETIME_S: u64 = 10 * 3600;
const VERSION: u8 = 1;
const SIGNED_BYTES: usize = 48;

/// An encoded capability: what clients carry without looking inside.
pub type CapabilityBytes = [u8; CAPABILITY_BYTES];

/// What a capability allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Read the block, ask for its length, receive its descriptor.
    Read = 1,
    /// Create the replica and write it.
    Write = 2,
}

/// The content of a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Capability {
    /// What is allowed.
    pub mode: Mode,
    /// Type of the block's checksums.
    pub checksum: ChecksumType,
    /// Bytes per checksum: a power of two from 512 to 1 MiB.
    pub chunk_bytes: u32,
    /// On whose behalf.
    pub user: PrincipalId,
    /// Which block.
    pub block: BlockId,
    /// Which version of it.
    pub stamp: Stamp,
    /// Most bytes that the block may hold.
    pub length_limit: u64,
    /// Second of the namenode's clock after which it opens nothing.
    pub expires_s: u64,
}

/// Why a capability opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// Not made with this cluster's key, or altered.
    #[error("check capability: not made by this cluster")]
    Forged,
    /// A field outside its range, under a valid authentication code: a newer release made it.
    #[error("check capability: unknown version or field")]
    Unknown,
    /// Too late.
    #[error("check capability for block {block}: expired at second {expires_s}, now {now_s}")]
    Expired {
        /// Which block.
        block: BlockId,
        /// When it expired.
        expires_s: u64,
        /// The namenode's clock, as this node knows it.
        now_s: u64,
    },
}

/// The cluster's key: makes and checks capabilities, and proves that a datanode belongs to the cluster.
#[derive(Clone)]
pub struct ClusterKey {
    number: u32,
    bytes: [u8; KEY_BYTES],
    mac: Hmac<Sha256>,
}

impl core::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ClusterKey({})", self.number)
    }
}

impl ClusterKey {
    /// A key and its number.
    pub fn new(number: u32, bytes: [u8; KEY_BYTES]) -> Self {
        let mac = Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length");
        Self { number, bytes, mac }
    }

    /// The number of the key.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The secret itself, for the file that holds it.
    pub fn secret(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// Makes an encoded capability.
    pub fn sign(&self, capability: &Capability) -> CapabilityBytes {
        let mut bytes = [0; CAPABILITY_BYTES];
        bytes[0] = VERSION;
        bytes[1] = capability.mode as u8;
        bytes[2] = capability.checksum as u8;
        bytes[3] = capability.chunk_bytes.trailing_zeros() as u8;
        bytes[4..8].copy_from_slice(&capability.user.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&capability.block.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&capability.stamp.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&capability.length_limit.to_le_bytes());
        bytes[32..40].copy_from_slice(&capability.expires_s.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.number.to_le_bytes());
        let code = self.mac.clone().chain_update(&bytes[..SIGNED_BYTES]).finalize().into_bytes();
        bytes[SIGNED_BYTES..].copy_from_slice(&code[..CAPABILITY_BYTES - SIGNED_BYTES]);
        bytes
    }

    /// Checks an encoded capability against this key and the namenode's clock (`now_s`).
    ///
    /// The caller still compares mode, block and stamp with what it is about to do.
    ///
    /// # Errors
    /// [`CapabilityError`]: the operation must be refused.
    pub fn verify(&self, bytes: &CapabilityBytes, now_s: u64) -> Result<Capability, CapabilityError> {
        self.mac
            .clone()
            .chain_update(&bytes[..SIGNED_BYTES])
            .verify_truncated_left(&bytes[SIGNED_BYTES..])
            .map_err(|_mismatch| CapabilityError::Forged)?;
        let capability = decode(bytes).ok_or(CapabilityError::Unknown)?;
        if now_s > capability.expires_s {
            let Capability { block, expires_s, .. } = capability;
            return Err(CapabilityError::Expired { block, expires_s, now_s });
        }
        Ok(capability)
    }

    /// Proves possession of the key for one connection: HMAC-SHA256 of `label`, `nonce` and `subject`.
    pub fn prove(&self, label: &str, nonce: &[u8; 16], subject: &[u8; 16]) -> [u8; 32] {
        self.proof_mac(label, nonce, subject).finalize().into_bytes().into()
    }

    /// Whether `proof` was made with this key for the same arguments. Takes the same time for every wrong proof.
    pub fn is_proved(&self, label: &str, nonce: &[u8; 16], subject: &[u8; 16], proof: &[u8; 32]) -> bool {
        self.proof_mac(label, nonce, subject).verify_slice(proof).is_ok()
    }

    fn proof_mac(&self, label: &str, nonce: &[u8; 16], subject: &[u8; 16]) -> Hmac<Sha256> {
        // The length of the label keeps (label, nonce) pairs apart; no signed capability starts like this.
        let prefix = [0xff, label.len() as u8];
        self.mac.clone().chain_update(prefix).chain_update(label).chain_update(nonce).chain_update(subject)
    }
}

fn decode(bytes: &CapabilityBytes) -> Option<Capability> {
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let mode = match bytes[1] {
        1 => Mode::Read,
        2 => Mode::Write,
        _ => return None,
    };
    let chunk_bytes = 1u32.checked_shl(u32::from(bytes[3]))?;
    let length_limit = u64_at(24);
    let is_known = bytes[0] == VERSION
        && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes)
        && length_limit <= BLOCK_BYTES_MAX;
    is_known.then_some(Capability {
        mode,
        checksum: ChecksumType::from_u8(bytes[2])?,
        chunk_bytes,
        user: PrincipalId(u32_at(4)),
        block: BlockId(u64_at(8)),
        stamp: Stamp(u64_at(16)),
        length_limit,
        expires_s: u64_at(32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability() -> Capability {
        Capability {
            mode: Mode::Write,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: 4096,
            user: PrincipalId(7),
            block: BlockId(17),
            stamp: Stamp(3),
            length_limit: 128 << 20,
            expires_s: 1000,
        }
    }

    #[test]
    fn a_signed_capability_verifies_until_it_expires() {
        let key = ClusterKey::new(1, [9; KEY_BYTES]);
        let bytes = key.sign(&capability());
        assert_eq!(key.verify(&bytes, 1000), Ok(capability()));
        let expired = CapabilityError::Expired { block: BlockId(17), expires_s: 1000, now_s: 1001 };
        assert_eq!(key.verify(&bytes, 1001), Err(expired));
    }

    #[test]
    fn any_flipped_bit_is_forged() {
        let key = ClusterKey::new(1, [9; KEY_BYTES]);
        let bytes = key.sign(&capability());
        for bit in 0..CAPABILITY_BYTES * 8 {
            let mut altered = bytes;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.verify(&altered, 0), Err(CapabilityError::Forged), "bit {bit}");
        }
        assert_eq!(ClusterKey::new(1, [8; KEY_BYTES]).verify(&bytes, 0), Err(CapabilityError::Forged));
    }

    #[test]
    fn proofs_are_bound_to_label_nonce_and_subject() {
        let key = ClusterKey::new(1, [9; KEY_BYTES]);
        let proof = key.prove("register", &[1; 16], &[2; 16]);
        assert!(key.is_proved("register", &[1; 16], &[2; 16], &proof));
        assert!(!key.is_proved("accept", &[1; 16], &[2; 16], &proof));
        assert!(!key.is_proved("register", &[3; 16], &[2; 16], &proof));
        assert!(!key.is_proved("register", &[1; 16], &[3; 16], &proof));
    }
}
