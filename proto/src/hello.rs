//! The first exchange on a native connection: versions, features, who is calling.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `RGFS` |
//! | 4 | 1 | 0, where a frame has its version: a hello is not a frame |
//! | 5 | 1 | 0 = hello, 1 = reply |
//! | 6 | 2 | length of the body |
//! | 8 | 4 | CRC-32 of the body |
//! | 12 | 4 | CRC-32 of bytes 0 to 12 |
//! | 16 | | body: [`HelloV1`] or [`HelloReplyV1`] |
//!
//! The client speaks first. A server that refuses answers with a reply whose `code` is not 0, then closes.

use crate::checksum::crc32;
use crate::frame::MAGIC;
use crate::ids::{ClusterId, SessionId};
use crate::limits::HELLO_BYTES_MAX;
use crate::wire::{DecodeError, Message};

/// Bytes before the body.
pub const HELLO_PREFIX_BYTES: usize = 16;
/// Lowest protocol version that this release speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
/// Highest protocol version that this release speaks.
pub const PROTOCOL_VERSION_MAX: u16 = 1;

/// Who opens the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Role {
    /// A client of the file system.
    Client,
    /// A datanode: registration and reports to the namenode, or a pipeline to the next datanode.
    Datanode,
    /// An administrator's tool.
    Admin,
}

/// What the caller says first.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HelloV1 {
    /// Lowest protocol version that the caller speaks.
    pub version_min: u16,
    /// Highest protocol version that the caller speaks.
    pub version_max: u16,
    /// Who calls.
    pub role: Role,
    /// Bits of optional abilities; none are defined yet.
    pub features: u64,
    /// The caller's process.
    pub session: SessionId,
    /// The cluster that the caller expects; all zero when it does not know yet.
    pub cluster: ClusterId,
    /// The user on whose behalf calls are made, taken at its word until there is authentication.
    pub user: String,
    /// Scheme of `credentials`; 0 = none. The seam for TLS and tokens.
    pub auth_scheme: u16,
    /// Proof of the user; empty with scheme 0.
    pub credentials: Vec<u8>,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HelloReplyV1 {
    /// Error code; 0 = welcome.
    pub code: u16,
    /// Why the server refuses; empty otherwise.
    pub message: String,
    /// The version that both will speak.
    pub version: u16,
    /// Abilities that both have.
    pub features: u64,
    /// The server's cluster.
    pub cluster: ClusterId,
    /// Fresh random bytes for proofs on this connection.
    pub nonce: [u8; 16],
}

crate::impl_message!(HelloV1, HelloReplyV1);

/// Why bytes are not a hello.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not our magic, or a frame where a hello belongs.
    #[error("decode hello: first bytes {found:02x?} are not a RingFS hello")]
    Magic {
        /// What was there.
        found: [u8; 6],
    },
    /// A checksum does not match.
    #[error("decode hello: checksum mismatch in the {part}")]
    Checksum {
        /// Prefix or body.
        part: &'static str,
    },
    /// A body above the limit.
    #[error("decode hello: body of {len} bytes exceeds {HELLO_BYTES_MAX}")]
    TooLong {
        /// What the prefix says.
        len: usize,
    },
    /// A body that is not valid.
    #[error(transparent)]
    Body(#[from] DecodeError),
}

/// The length and checksum of a body, from a checked prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes of the body.
    pub body_len: usize,
    body_crc: u32,
}

impl Prefix {
    /// Decodes the prefix of a hello (`is_reply` false) or of its reply.
    ///
    /// # Errors
    /// [`HelloError`]; the caller must close the connection.
    pub fn decode(bytes: &[u8; HELLO_PREFIX_BYTES], is_reply: bool) -> Result<Self, HelloError> {
        let [a, b, c, d, zero, kind, len @ .., _, _, _, _, _, _, _, _] = *bytes;
        if [a, b, c, d] != MAGIC || zero != 0 || kind != u8::from(is_reply) {
            return Err(HelloError::Magic { found: [a, b, c, d, zero, kind] });
        }
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if u32_at(12) != crc32(&bytes[..12]) {
            return Err(HelloError::Checksum { part: "prefix" });
        }
        let body_len = usize::from(u16::from_le_bytes(len));
        if body_len > HELLO_BYTES_MAX {
            return Err(HelloError::TooLong { len: body_len });
        }
        Ok(Self { body_len, body_crc: u32_at(8) })
    }

    /// Checks and decodes the body.
    ///
    /// # Errors
    /// [`HelloError`]; the caller must close the connection.
    pub fn decode_body<M: Message>(&self, body: &[u8]) -> Result<M, HelloError> {
        if body.len() != self.body_len || crc32(body) != self.body_crc {
            return Err(HelloError::Checksum { part: "body" });
        }
        Ok(M::decode(body)?)
    }
}

/// The bytes of a hello.
pub fn encode_hello(hello: &HelloV1) -> Vec<u8> {
    encode(hello, false)
}

/// The bytes of a reply.
pub fn encode_reply(reply: &HelloReplyV1) -> Vec<u8> {
    encode(reply, true)
}

/// The version that both ends speak: the highest that the server also knows.
pub fn negotiate_version(hello: &HelloV1) -> Option<u16> {
    let version = hello.version_max.min(PROTOCOL_VERSION_MAX);
    (version >= hello.version_min && version >= PROTOCOL_VERSION_MIN).then_some(version)
}

fn encode<M: Message>(message: &M, is_reply: bool) -> Vec<u8> {
    let mut bytes = vec![0; HELLO_PREFIX_BYTES];
    message.encode_into(&mut bytes);
    let body = &bytes[HELLO_PREFIX_BYTES..];
    let body_len = u16::try_from(body.len()).expect("a hello's fields are bounded by its maker");
    let body_crc = crc32(body);
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[5] = u8::from(is_reply);
    bytes[6..8].copy_from_slice(&body_len.to_le_bytes());
    bytes[8..12].copy_from_slice(&body_crc.to_le_bytes());
    let prefix_crc = crc32(&bytes[..12]);
    bytes[12..16].copy_from_slice(&prefix_crc.to_le_bytes());
    bytes
}
