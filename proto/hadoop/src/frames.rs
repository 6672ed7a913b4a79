//! Hadoop RPC version 9 as bytes: how a connection begins, calls, answers.
//!
//! | what | bytes |
//! |---|---|
//! | a connection begins | `hrpc`, version, service class, authentication |
//! | call | length (u32, big-endian), then [`RpcRequestHeader`], [`RequestHeader`] and the request, each behind its varint length |
//! | context, ping | length, then the header and, of a context, an `IpcConnectionContext` |
//! | answer | length, then [`RpcResponseHeader`] and, if all went well, the response |

use prost::bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};
use prost::{Message, Name};

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

/// Bytes of a caller's context that are kept.
const CONTEXT_BYTES_MAX: usize = 128;

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
    let header: RpcRequestHeader =
        crate::decode(header).map_err(|error| FrameError::Header(error.to_string()))?;
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

    /// For whom a call is, in the words of the client, shortened to what is logged of it
    /// (HDFS: `hadoop.caller.context.max.size`).
    pub fn context(&self) -> Option<&str> {
        let context = self.header.caller_context.as_ref()?.context.as_str();
        let end =
            (0..=CONTEXT_BYTES_MAX.min(context.len())).rev().find(|end| context.is_char_boundary(*end))?;
        Some(&context[..end]).filter(|context| !context.is_empty())
    }

    /// Method and request of a call.
    ///
    /// # Errors
    /// `Message`.
    pub fn method(&self) -> Result<(RequestHeader, &'b [u8]), FrameError> {
        let mut bytes = self.body;
        let head = take(&mut bytes).map_err(FrameError::Message)?;
        let head: RequestHeader =
            crate::decode(head).map_err(|error| FrameError::Message(error.to_string()))?;
        Ok((head, take(&mut bytes).map_err(FrameError::Message)?))
    }

    /// The message of a frame that is no call.
    ///
    /// # Errors
    /// `Message`.
    pub fn message<M: Message + Name + Default>(&self) -> Result<M, FrameError> {
        let mut bytes = self.body;
        let message = take(&mut bytes).map_err(FrameError::Message)?;
        crate::decode(message).map_err(|error| FrameError::Message(error.to_string()))
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

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::rpc::IpcConnectionContext;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let value = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).expect("ascii"), 16);
        digits.chunks(2).map(|pair| value(pair).expect("hexadecimal")).collect()
    }

    const CLIENT: &str = "a85e21dc3d504186ab65ebde0083321e";

    /// What a Java client of version 3.5 says first.
    #[test]
    fn a_connection_begins_as_clients_begin_it() {
        assert_eq!(decode_beginning([9, 0, 0]), Ok(Authentication::Simple));
        assert_eq!(decode_beginning([9, 0, 0xdf]), Ok(Authentication::Sasl));
        assert_eq!(decode_beginning([8, 0, 0]), Err(FrameError::Version(8)));
        let context = bytes(&format!(
            "0000005b 21 0802 1000 1805 2210{CLIENT} 2801 3a050a03434c49 38 12060a04726f6f74 \
             1a2e6f72672e6170616368652e6861646f6f702e686466732e70726f746f636f6c2e436c69656e7450726f746f636f6c"
        ));
        let frame = first_frame(&context).expect("valid").expect("whole");
        let frame = decode_frame(frame).expect("valid");
        assert_eq!(frame.header.call_id, CONTEXT_CALL);
        let context: IpcConnectionContext = frame.message().expect("a context");
        assert_eq!(context.user_info.and_then(|info| info.effective_user).as_deref(), Some("root"));
    }

    #[test]
    fn calls_and_answers_are_those_of_clients_and_servers() {
        let call = bytes(&format!(
            "00000067 21 0802 1000 1800 2210{CLIENT} 2800 3a050a03434c49 3f 0a0b67657446696c65496e666f \
             122e6f72672e6170616368652e6861646f6f702e686466732e70726f746f636f6c2e436c69656e7450726f746f636f6c \
             1801 04 0a022f76"
        ));
        let frame = first_frame(&call).expect("valid").expect("whole");
        let frame = decode_frame(frame).expect("valid");
        let (method, request) = frame.method().expect("a call");
        assert_eq!(method.method_name, "getFileInfo");
        let request: crate::client::GetFileInfoRequest = crate::decode(request).expect("a request");
        assert_eq!(request.src, "/v");
        let mut answer = Vec::new();
        let response = crate::client::GetFileInfoResponse::default().encode_to_vec();
        append_success(&mut answer, &frame.call(), &response);
        assert_eq!(answer, bytes(&format!("0000001c 1a 0800 1000 1809 3a10{CLIENT} 4000 00")));
        for len in 0..call.len() {
            assert_eq!(first_frame(&call[..len]), Ok(None), "{len} bytes");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
            if let Ok(frame) = decode_frame(&bytes) {
                let _method = frame.method();
                let _context = frame.message::<IpcConnectionContext>();
            }
            let _frame = first_frame(&bytes);
        }
    }
}
