//! The native frame: a fixed header, rkyv metadata, payload.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `RGFS` |
//! | 4 | 1 | version of the header, 1 |
//! | 5 | 1 | flags |
//! | 6 | 2 | operation |
//! | 8 | 2 | version of the operation's types |
//! | 10 | 2 | error code of a reply, 0 = success |
//! | 12 | 4 | time that the caller still has, ms; 0 = no limit |
//! | 16 | 8 | call id |
//! | 24 | 8 | trace id |
//! | 32 | 4 | job tag |
//! | 36 | 4 | length of the metadata |
//! | 40 | 4 | length of the payload |
//! | 44 | 4 | CRC-32 of the metadata |
//! | 48 | 8 | lowest call id of the session that is not answered yet |
//! | 56 | 4 | 0 |
//! | 60 | 4 | CRC-32 of bytes 0 to 60 |
//!
//! All numbers are little-endian. Metadata follows the header, payload follows the metadata; the payload carries
//! its own checksums where it is block data.

use crate::checksum::crc32;
use crate::code::{Code, WireError};
use crate::ids::{CallId, TraceId};
use crate::limits::{FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX};
use crate::ops::Op;

/// First bytes of every frame and hello.
pub const MAGIC: [u8; 4] = *b"RGFS";
const HEADER_VERSION: u8 = 1;

/// Bits of [`Header::flags`].
pub mod flags {
    /// The frame answers a call.
    pub const REPLY: u8 = 1;
    /// More frames answer the same call.
    pub const MORE: u8 = 2;
    /// The call is a retry: the first try may have been carried out.
    pub const RETRY: u8 = 4;
    /// All bits that this version knows.
    pub const KNOWN: u8 = REPLY | MORE | RETRY;
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bits of [`flags`].
    pub flags: u8,
    /// What is asked or answered.
    pub op: Op,
    /// Version of the operation's types.
    pub op_version: u16,
    /// Error of a reply; `None` in requests and successful replies. The metadata is then the message in UTF-8.
    pub code: Option<Code>,
    /// Time that the caller still has, in milliseconds; 0 means no limit.
    pub remaining_ms: u32,
    /// The call, unique within its session.
    pub call: CallId,
    /// For logs.
    pub trace: TraceId,
    /// Groups the calls of one job for accounting; 0 means none.
    pub job_tag: u32,
    /// Bytes of metadata after the header.
    pub meta_len: u32,
    /// Bytes of payload after the metadata.
    pub payload_len: u32,
    /// CRC-32 of the metadata.
    pub meta_crc: u32,
    /// Lowest call id of the session that is not answered yet: results below it can be forgotten.
    pub lowest_unanswered: CallId,
}

/// Why bytes are not a frame. The connection is closed after each of them: the stream has lost its frame boundary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not our magic.
    #[error("decode frame header: magic {found:02x?} is not RingFS")]
    Magic {
        /// What was there.
        found: [u8; 4],
    },
    /// A header version of another release.
    #[error("decode frame header: version {found}, this release knows 1")]
    Version {
        /// What was there.
        found: u8,
    },
    /// The header's checksum does not match.
    #[error("decode frame header: checksum {found:08x}, expected {expected:08x}")]
    HeaderChecksum {
        /// What was there.
        found: u32,
        /// What the bytes give.
        expected: u32,
    },
    /// The metadata's checksum does not match.
    #[error("read frame metadata: checksum {found:08x}, expected {expected:08x}")]
    MetaChecksum {
        /// What the header says.
        found: u32,
        /// What the bytes give.
        expected: u32,
    },
    /// Bits or operations that this release does not know.
    #[error("decode frame header: {field} {value} is unknown")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A length above its limit.
    #[error("decode frame header: {field} of {len} bytes exceeds {max}")]
    TooLong {
        /// Which part.
        field: &'static str,
        /// What the header says.
        len: u64,
        /// The limit.
        max: u64,
    },
}

impl Header {
    /// The header of a request, with lengths and checksum still to be set by [`append`].
    pub fn request(op: Op, call: CallId) -> Self {
        Self {
            flags: 0,
            op,
            op_version: 1,
            code: None,
            remaining_ms: 0,
            call,
            trace: TraceId(0),
            job_tag: 0,
            meta_len: 0,
            payload_len: 0,
            meta_crc: 0,
            lowest_unanswered: CallId(0),
        }
    }

    /// The header of a successful reply to `self`.
    pub fn reply(&self) -> Self {
        Self {
            flags: flags::REPLY,
            remaining_ms: 0,
            meta_len: 0,
            payload_len: 0,
            meta_crc: 0,
            code: None,
            ..*self
        }
    }

    /// Whether the frame answers a call.
    pub fn is_reply(&self) -> bool {
        self.flags & flags::REPLY != 0
    }

    /// Whether more frames answer the same call.
    pub fn has_more(&self) -> bool {
        self.flags & flags::MORE != 0
    }

    /// The bytes of the header.
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&[HEADER_VERSION, self.flags]);
        put(&(self.op as u16).to_le_bytes());
        put(&self.op_version.to_le_bytes());
        put(&self.code.map_or(0, |code| code as u16).to_le_bytes());
        put(&self.remaining_ms.to_le_bytes());
        put(&self.call.0.to_le_bytes());
        put(&self.trace.0.to_le_bytes());
        put(&self.job_tag.to_le_bytes());
        put(&self.meta_len.to_le_bytes());
        put(&self.payload_len.to_le_bytes());
        put(&self.meta_crc.to_le_bytes());
        put(&self.lowest_unanswered.0.to_le_bytes());
        put(&[0; 4]);
        let crc = crc32(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks a header. `meta_len_max` is the receiver's limit for this connection.
    ///
    /// # Errors
    /// [`FrameError`]; the caller must close the connection.
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES], meta_len_max: usize) -> Result<Self, FrameError> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if magic != MAGIC {
            return Err(FrameError::Magic { found: magic });
        }
        if bytes[4] != HEADER_VERSION {
            return Err(FrameError::Version { found: bytes[4] });
        }
        let (found, expected) = (u32_at(60), crc32(&bytes[..60]));
        if found != expected {
            return Err(FrameError::HeaderChecksum { found, expected });
        }
        if bytes[5] & !flags::KNOWN != 0 {
            return Err(FrameError::Unknown { field: "flags", value: u64::from(bytes[5]) });
        }
        let op = Op::from_u16(u16_at(6))
            .ok_or(FrameError::Unknown { field: "operation", value: u64::from(u16_at(6)) })?;
        let header = Self {
            flags: bytes[5],
            op,
            op_version: u16_at(8),
            code: (u16_at(10) != 0).then(|| Code::from_u16(u16_at(10))),
            remaining_ms: u32_at(12),
            call: CallId(u64_at(16)),
            trace: TraceId(u64_at(24)),
            job_tag: u32_at(32),
            meta_len: u32_at(36),
            payload_len: u32_at(40),
            meta_crc: u32_at(44),
            lowest_unanswered: CallId(u64_at(48)),
        };
        if u32_at(56) != 0 {
            return Err(FrameError::Unknown { field: "reserved bytes", value: u64::from(u32_at(56)) });
        }
        check_len("metadata", header.meta_len, meta_len_max)?;
        check_len("payload", header.payload_len, PAYLOAD_BYTES_MAX)?;
        Ok(header)
    }

    /// Checks the metadata that followed this header.
    ///
    /// # Errors
    /// [`FrameError::MetaChecksum`].
    pub fn check_meta(&self, meta: &[u8]) -> Result<(), FrameError> {
        let expected = crc32(meta);
        if self.meta_crc == expected {
            Ok(())
        } else {
            Err(FrameError::MetaChecksum { found: self.meta_crc, expected })
        }
    }
}

/// Appends a frame without its payload to `bytes`: the header, then what `encode_meta` appends.
pub fn append(
    bytes: &mut Vec<u8>,
    header: Header,
    payload_len: usize,
    encode_meta: impl FnOnce(&mut Vec<u8>),
) {
    let begin = bytes.len();
    bytes.resize(begin + FRAME_HEADER_BYTES, 0);
    encode_meta(bytes);
    let meta = &bytes[begin + FRAME_HEADER_BYTES..];
    let sealed = Header {
        meta_len: u32::try_from(meta.len()).expect("metadata is bounded far below 4 GiB"),
        payload_len: u32::try_from(payload_len).expect("payload is bounded far below 4 GiB"),
        meta_crc: crc32(meta),
        ..header
    };
    bytes[begin..begin + FRAME_HEADER_BYTES].copy_from_slice(&sealed.encode());
}

/// Appends a reply that carries an error to the call of `request`.
pub fn append_error(bytes: &mut Vec<u8>, request: &Header, error: &WireError) {
    let header = Header { code: Some(error.code), ..request.reply() };
    append(bytes, header, 0, |meta| meta.extend(error.message.bytes().take(ERROR_MESSAGE_BYTES_MAX)));
}

/// Most bytes of an error message on the wire.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 1024;

/// The error that a reply carries, if any. `meta` is the metadata of the frame.
pub fn reply_error(header: &Header, meta: &[u8]) -> Option<WireError> {
    header.code.map(|code| WireError { code, message: String::from_utf8_lossy(meta).into_owned() })
}

fn check_len(field: &'static str, len: u32, max: usize) -> Result<(), FrameError> {
    if len as usize <= max {
        Ok(())
    } else {
        Err(FrameError::TooLong { field, len: u64::from(len), max: max as u64 })
    }
}
