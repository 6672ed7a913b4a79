//! Data transfer version 28 as bytes: operations, packets, acks.
//!
//! | what | bytes |
//! |---|---|
//! | operation | version (u16), opcode (u8), then its message behind a varint length |
//! | answer | a [`BlockOpResponse`] behind its varint length |
//! | packet | length (u32: 4, checksums and data), length of the header (u16), [`PacketHeader`], checksums, data |
//! | ack | a [`PipelineAck`] behind its varint length |
//!
//! All numbers are big-endian.

use prost::{Message, Name};

use crate::transfer::{BlockOpResponse, PacketHeader, PipelineAck, Status};

/// The version of data transfer that is spoken.
pub const VERSION: u16 = 28;
/// Bytes of an operation before its message.
pub const OP_HEAD_BYTES: usize = 3;
/// Bytes of a packet before its header.
pub const PACKET_HEAD_BYTES: usize = 6;
/// Bytes of the longest operation, response or ack.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes of the longest packet (HDFS: `PacketReceiver.MAX_PACKET_SIZE`).
pub const PACKET_BYTES_MAX: usize = 16 << 20;
/// Bytes of the longest packet header.
const PACKET_HEADER_BYTES_MAX: usize = 64;
/// Number of a packet that only says that its writer lives.
pub const HEARTBEAT: i64 = -1;
/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = 4;

/// Why bytes are not of this protocol. The connection is closed after each of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Another version.
    #[error("data transfer version {0}, this release speaks {VERSION}")]
    Version(u16),
    /// An operation that is not served.
    #[error("data transfer operation {0} is not served")]
    Operation(u8),
    /// A length that nobody sends.
    #[error("{what} of {len} bytes")]
    Length {
        /// What has it.
        what: &'static str,
        /// The length.
        len: i64,
    },
    /// A message that cannot be decoded.
    #[error("decode {what}: {reason}")]
    Message {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// What is asked of a datanode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// To write a block.
    Write = 80,
    /// To read a block.
    Read = 81,
    /// To checksum a block.
    Checksum = 85,
    /// To copy a replica to other datanodes.
    Transfer = 86,
    /// For descriptors of a block's files.
    ShortCircuitFds = 87,
    /// To give a slot of shared memory back.
    ReleaseShortCircuitFds = 88,
    /// For shared memory.
    ShortCircuitShm = 89,
}

impl Operation {
    /// Decodes what comes before the message.
    ///
    /// # Errors
    /// `Version`, `Operation`.
    pub fn decode([high, low, code]: [u8; OP_HEAD_BYTES]) -> Result<Self, PacketError> {
        let version = u16::from_be_bytes([high, low]);
        if version != VERSION {
            return Err(PacketError::Version(version));
        }
        let all = [
            Self::Write,
            Self::Read,
            Self::Checksum,
            Self::Transfer,
            Self::ShortCircuitFds,
            Self::ReleaseShortCircuitFds,
            Self::ShortCircuitShm,
        ];
        all.into_iter().find(|operation| *operation as u8 == code).ok_or(PacketError::Operation(code))
    }
}

/// A varint that arrives byte by byte.
#[derive(Debug, Default)]
pub struct Varint {
    value: u64,
    bytes: u32,
}

impl Varint {
    /// Takes a byte; the value when it was the last.
    ///
    /// # Errors
    /// `Length`: more bytes than a length has.
    pub fn push(&mut self, byte: u8) -> Result<Option<usize>, PacketError> {
        self.value |= u64::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        if byte & 0x80 == 0 {
            let len = usize::try_from(self.value).ok().filter(|len| *len <= MESSAGE_BYTES_MAX);
            let too_long = PacketError::Length { what: "a message", len: self.value.cast_signed() };
            return len.map(Some).ok_or(too_long);
        }
        if self.bytes == 5 {
            return Err(PacketError::Length { what: "a message", len: -1 });
        }
        Ok(None)
    }
}

/// Decodes a message.
///
/// # Errors
/// `Message`.
pub fn decode<M: Message + Name + Default>(what: &'static str, bytes: &[u8]) -> Result<M, PacketError> {
    crate::decode(bytes).map_err(|error| PacketError::Message { what, reason: error.to_string() })
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Its number; [`HEARTBEAT`] has no data.
    pub sequence: i64,
    /// Where its data begins in the block.
    pub offset: u64,
    /// Bytes of data.
    pub data_len: usize,
    /// Bytes of checksums.
    pub checksums_len: usize,
    /// Whether the block ends with it.
    pub is_last: bool,
    /// Whether it must reach stable storage.
    pub is_sync: bool,
}

/// Lengths of a packet: of what follows its header, and of the header.
///
/// # Errors
/// `Length`.
pub fn decode_packet_head(head: [u8; PACKET_HEAD_BYTES]) -> Result<(usize, usize), PacketError> {
    let [a, b, c, d, e, f] = head;
    let (body, header) = (i32::from_be_bytes([a, b, c, d]), usize::from(u16::from_be_bytes([e, f])));
    let length = || PacketError::Length { what: "a packet", len: i64::from(body) };
    let body =
        usize::try_from(body).ok().and_then(|body| body.checked_sub(CHECKSUM_BYTES)).ok_or_else(length)?;
    if body > PACKET_BYTES_MAX {
        return Err(length());
    }
    if header > PACKET_HEADER_BYTES_MAX {
        return Err(PacketError::Length { what: "a packet header", len: header as i64 });
    }
    Ok((body, header))
}

/// Decodes the header of a packet. `body_len` are the bytes that follow it.
///
/// # Errors
/// `Message`, `Length`.
pub fn decode_packet(header: &[u8], body_len: usize) -> Result<Packet, PacketError> {
    let header: PacketHeader = decode("packet header", header)?;
    let negative = |what, len| PacketError::Length { what, len };
    let data_len = usize::try_from(header.data_len)
        .ok()
        .filter(|len| *len <= body_len)
        .ok_or_else(|| negative("packet data", i64::from(header.data_len)))?;
    let offset = u64::try_from(header.offset_in_block)
        .map_err(|_| negative("a packet offset", header.offset_in_block))?;
    let checksums_len = body_len - data_len;
    if !checksums_len.is_multiple_of(CHECKSUM_BYTES) {
        return Err(negative("packet checksums", checksums_len as i64));
    }
    Ok(Packet {
        sequence: header.seqno,
        offset,
        data_len,
        checksums_len,
        is_last: header.last_packet_in_block,
        is_sync: header.sync_block(),
    })
}

/// Appends lengths and header of a packet; its checksums and data follow.
pub fn append_packet_head(out: &mut Vec<u8>, packet: &Packet) {
    let header = PacketHeader {
        offset_in_block: packet.offset.cast_signed(),
        seqno: packet.sequence,
        last_packet_in_block: packet.is_last,
        data_len: packet.data_len as i32,
        sync_block: packet.is_sync.then_some(true),
    };
    let body = (CHECKSUM_BYTES + packet.checksums_len + packet.data_len) as u32;
    out.extend(body.to_be_bytes());
    out.extend((header.encoded_len() as u16).to_be_bytes());
    let encoded = header.encode(out);
    debug_assert!(encoded.is_ok(), "a vector grows");
}

/// Appends a message behind its length.
pub fn append(out: &mut Vec<u8>, message: &impl Message) {
    let encoded = message.encode_length_delimited(out);
    debug_assert!(encoded.is_ok(), "a vector grows");
}

/// Appends the answer to an operation that could not be begun.
pub fn append_refusal(out: &mut Vec<u8>, status: Status, message: String) {
    let response =
        BlockOpResponse { status: status as i32, message: Some(message), ..BlockOpResponse::default() };
    append(out, &response);
}

/// Appends an ack: the status of each node, this one first.
pub fn append_ack(out: &mut Vec<u8>, sequence: i64, statuses: impl Iterator<Item = Status>) {
    let reply: Vec<i32> = statuses.map(|status| status as i32).collect();
    let flag = reply.iter().map(|status| status.cast_unsigned()).collect();
    append(out, &PipelineAck { seqno: sequence, reply, flag, downstream_ack_time_nanos: Some(0) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let value = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).expect("ascii"), 16);
        digits.chunks(2).map(|pair| value(pair).expect("hexadecimal")).collect()
    }

    /// A packet of a Java client of version 3.5.
    #[test]
    fn packets_are_as_clients_write_them() {
        let packet =
            Packet { sequence: 0, offset: 0, data_len: 10, checksums_len: 4, is_last: false, is_sync: false };
        let whole = bytes(
            "00000012 0019 09 0000000000000000 11 0000000000000000 1800 25 0a000000 8018d23c 68656c6c6f2068646673",
        );
        let (body, header) = decode_packet_head(*whole.first_chunk().expect("a head")).expect("valid");
        assert_eq!((body, header), (14, 25));
        assert_eq!(decode_packet(&whole[6..6 + header], body), Ok(packet));
        let mut out = Vec::new();
        append_packet_head(&mut out, &packet);
        assert_eq!(out, whole[..31]);
        let mut out = Vec::new();
        append_packet_head(
            &mut out,
            &Packet { sequence: 1, offset: 10, data_len: 0, checksums_len: 0, is_last: true, ..packet },
        );
        assert_eq!(out, bytes("00000004 0019 09 0a00000000000000 11 0100000000000000 1801 25 00000000"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
            let _operation = decode::<crate::transfer::OpWriteBlock>("an operation", &bytes);
            if let Some((head, rest)) = bytes.split_first_chunk::<PACKET_HEAD_BYTES>()
                && let Ok((body, _)) = decode_packet_head(*head)
            {
                let _packet = decode_packet(rest, body);
            }
            let mut length = Varint::default();
            let _length = bytes.iter().map(|byte| length.push(*byte)).find(|pushed| !matches!(pushed, Ok(None)));
        }
    }

    #[test]
    fn acks_and_answers_are_as_servers_write_them() {
        let mut out = Vec::new();
        append_ack(&mut out, 1, [Status::Success].into_iter());
        assert_eq!(out, bytes("09 0802 1000 1800 220100"));
        let mut out = Vec::new();
        let first_bad_link = Some(String::new());
        append(&mut out, &BlockOpResponse { first_bad_link, ..BlockOpResponse::default() });
        assert_eq!(out, bytes("04 0800 1200"));
    }
}
