//! Hadoop RPC version 9 as bytes: how a connection begins, calls, answers.
//!
//! | what | bytes |
//! |---|---|
//! | a connection begins | `hrpc`, version, service class, authentication |
//! | call | length (u32, big-endian), then [`RpcRequestHeader`], [`RequestHeader`] and the request, each behind its varint length |
//! | context, ping | length, then the header and, of a context, an `IpcConnectionContext` |
//! | answer | length, then [`RpcResponseHeader`] and, if all went well, the response |

use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};

use crate::rpc::{
    Operation, RequestHeader, RpcErrorCode, RpcKind, RpcRequestHeader, RpcResponseHeader, RpcStatus,
};

/// First bytes of a connection.
pub const MAGIC: [u8; 4] = *b"hrpc";
/// Bytes of a connection before its first frame.
pub const BEGINNING_BYTES: usize = 7;
/// The version of Hadoop RPC that is spoken.
pub const VERSION: u8 = 9;
/// Bytes of the longest frame that is taken (`ipc.maximum.data.length` is 128 MiB: no call of a client comes near it).
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Call id of a connection context.
pub const CONTEXT_CALL: i32 = -3;
/// Call id of a ping, which nobody answers.
pub const PING_CALL: i32 = -4;
/// Call id of SASL messages.
pub const SASL_CALL: i32 = -33;
/// Call id of an answer to something that is no call.
pub const NO_CALL: i32 = -1;

/// Why bytes are not a call. An answer says so, and the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another version.
    #[error("Server IPC version 9 cannot communicate with client version {0}")]
    Version(u8),
    /// An authentication that is not known.
    #[error("authentication {0} is not known")]
    Authentication(u8),
    /// A frame that nobody sends.
    #[error("a frame of {0} bytes, at most {FRAME_BYTES_MAX}")]
    Length(u32),
    /// A header that cannot be decoded, or is of another kind.
    #[error("rpc header: {0}")]
    Header(String),
    /// A message that cannot be decoded.
    #[error("rpc message: {0}")]
    Message(String),
}

impl FrameError {
    /// Its class and number in an answer.
    pub fn names(&self) -> (&'static str, RpcErrorCode) {
        match self {
            Self::Version(_) => {
                ("org.apache.hadoop.ipc.RPC$VersionMismatch", RpcErrorCode::FatalVersionMismatch)
            }
            Self::Authentication(_) => {
                ("org.apache.hadoop.security.AccessControlException", RpcErrorCode::FatalUnauthorized)
            }
            Self::Length(_) | Self::Header(_) => {
                ("org.apache.hadoop.ipc.RpcServerException", RpcErrorCode::FatalInvalidRpcHeader)
            }
            Self::Message(_) => {
                ("org.apache.hadoop.ipc.RpcServerException", RpcErrorCode::FatalDeserializingRequest)
            }
        }
    }
}

/// How a client wants to prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// It is taken at its word.
    Simple,
    /// By SASL.
    Sasl,
}

/// Decodes what comes after the magic.
///
/// # Errors
/// `Version`, `Authentication`.
pub fn decode_beginning([version, _service, authentication]: [u8; 3]) -> Result<Authentication, FrameError> {
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    match authentication {
        0 => Ok(Authentication::Simple),
        0xdf => Ok(Authentication::Sasl),
        other => Err(FrameError::Authentication(other)),
    }
}

/// What an answer repeats of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallHeader {
    /// Number of the call in its client.
    pub call: i32,
    /// The client's process: 16 bytes.
    pub client: Bytes,
    /// How often the call was made before.
    pub retry: i32,
}

impl CallHeader {
    /// For an answer to something that is no call.
    pub fn none() -> Self {
        Self { call: NO_CALL, client: Bytes::new(), retry: -1 }
    }
}

/// A frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<'b> {
    /// Its header.
    pub header: RpcRequestHeader,
    /// What follows.
    pub body: &'b [u8],
}

/// The bytes of the first frame in `bytes`, without its length; `None` if it is not whole yet.
///
/// # Errors
/// `Length`.
pub fn first_frame(bytes: &[u8]) -> Result<Option<&[u8]>, FrameError> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    if length as usize > FRAME_BYTES_MAX {
        return Err(FrameError::Length(length));
    }
    Ok(rest.get(..length as usize))
}

/// Decodes a frame.
///
/// # Errors
/// `Header`.
pub fn decode_frame(mut bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let header = take(&mut bytes).map_err(FrameError::Header)?;
    let header = RpcRequestHeader::decode(header).map_err(|error| FrameError::Header(error.to_string()))?;
    let is_call = header.call_id >= 0;
    if is_call && header.rpc_kind() != RpcKind::RpcProtocolBuffer {
        return Err(FrameError::Header(format!("calls of kind {:?} are not served", header.rpc_kind)));
    }
    if is_call && header.rpc_op() != Operation::RpcFinalPacket {
        return Err(FrameError::Header(format!("operation {:?} is not known", header.rpc_op)));
    }
    Ok(Frame { header, body: bytes })
}

impl<'b> Frame<'b> {
    /// What an answer repeats.
    pub fn call(&self) -> CallHeader {
        CallHeader {
            call: self.header.call_id,
            client: self.header.client_id.clone(),
            retry: self.header.retry_count(),
        }
    }

    /// Method and request of a call.
    ///
    /// # Errors
    /// `Message`.
    pub fn method(&self) -> Result<(RequestHeader, &'b [u8]), FrameError> {
        let mut bytes = self.body;
        let head = take(&mut bytes).map_err(FrameError::Message)?;
        let head = RequestHeader::decode(head).map_err(|error| FrameError::Message(error.to_string()))?;
        Ok((head, take(&mut bytes).map_err(FrameError::Message)?))
    }

    /// The message of a frame that is no call.
    ///
    /// # Errors
    /// `Message`.
    pub fn message<M: Message + Default>(&self) -> Result<M, FrameError> {
        let mut bytes = self.body;
        let message = take(&mut bytes).map_err(FrameError::Message)?;
        M::decode(message).map_err(|error| FrameError::Message(error.to_string()))
    }
}

/// Takes what stands behind its varint length.
fn take<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], String> {
    let length = decode_varint(bytes).map_err(|error| error.to_string())?;
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len());
    let length = length.ok_or_else(|| "a length beyond the end of the frame".to_owned())?;
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    Ok(taken)
}

fn response(call: &CallHeader, status: RpcStatus) -> RpcResponseHeader {
    RpcResponseHeader {
        call_id: call.call.cast_unsigned(),
        status: status as i32,
        server_ipc_version_num: Some(u32::from(VERSION)),
        client_id: Some(call.client.clone()),
        retry_count: Some(call.retry),
        ..RpcResponseHeader::default()
    }
}

/// Appends the answer to a call that went well. `message` is the encoded response.
pub fn append_success(out: &mut Vec<u8>, call: &CallHeader, message: &[u8]) {
    append(out, &response(call, RpcStatus::Success), Some(message));
}

/// An error as clients know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// Name of the Java class that a client makes of it.
    pub class: &'static str,
    /// What it says.
    pub message: String,
    /// What kind it is.
    pub detail: RpcErrorCode,
}

impl RemoteError {
    /// What an operation has thrown.
    pub fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), detail: RpcErrorCode::ErrorApplication }
    }
}

/// Appends the answer to a call that failed.
pub fn append_error(out: &mut Vec<u8>, call: &CallHeader, error: &RemoteError) {
    append_failure(out, call, RpcStatus::Error, error);
}

/// Appends the answer that ends a connection.
pub fn append_fatal(out: &mut Vec<u8>, call: &CallHeader, error: &FrameError) {
    let (class, detail) = error.names();
    append_failure(out, call, RpcStatus::Fatal, &RemoteError { class, message: error.to_string(), detail });
}

fn append_failure(out: &mut Vec<u8>, call: &CallHeader, status: RpcStatus, error: &RemoteError) {
    let header = RpcResponseHeader {
        exception_class_name: Some(error.class.to_owned()),
        error_msg: Some(error.message.clone()),
        error_detail: Some(error.detail as i32),
        ..response(call, status)
    };
    append(out, &header, None);
}

/// Appends a frame of a server.
fn append(out: &mut Vec<u8>, header: &RpcResponseHeader, message: Option<&[u8]>) {
    let begin = out.len();
    out.extend([0; 4]);
    let encoded = header.encode_length_delimited(out);
    debug_assert!(encoded.is_ok(), "a vector grows");
    if let Some(message) = message {
        encode_varint(message.len() as u64, out);
        out.extend_from_slice(message);
    }
    let length = (out.len() - begin - 4) as u32;
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}
