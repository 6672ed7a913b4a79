//! What a client of Hadoop RPC sends and is answered.

use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use crate::frames::{CONTEXT_CALL, FrameError, MAGIC, VERSION};
use crate::rpc::{
    IpcConnectionContext, Operation, RequestHeader, RpcKind, RpcRequestHeader, RpcResponseHeader, RpcStatus,
    UserInformation,
};

/// `ClientProtocol`.
pub const CLIENT_PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";

/// Id of a client's process.
pub type ClientId = [u8; 16];

/// The bytes that a connection begins with, on behalf of a user.
pub fn beginning(client: ClientId, user: &str) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &[VERSION, 0, 0]].concat();
    let user_info = UserInformation { effective_user: Some(user.to_owned()), real_user: None };
    let context =
        IpcConnectionContext { user_info: Some(user_info), protocol: Some(CLIENT_PROTOCOL.to_owned()) };
    let header = header(client, CONTEXT_CALL).encode_length_delimited_to_vec();
    append_frame(&mut bytes, &[&header, &context.encode_length_delimited_to_vec()]);
    bytes
}

/// Appends a call. `request` is the encoded message.
pub fn append_call(
    bytes: &mut Vec<u8>,
    client: ClientId,
    call: i32,
    protocol: &str,
    method: &str,
    request: &[u8],
) {
    let method = RequestHeader {
        method_name: method.to_owned(),
        declaring_class_protocol_name: protocol.to_owned(),
        client_protocol_version: 1,
    };
    let mut length = Vec::new();
    encode_varint(request.len() as u64, &mut length);
    let header = header(client, call).encode_length_delimited_to_vec();
    append_frame(bytes, &[&header, &method.encode_length_delimited_to_vec(), &length, request]);
}

fn header(client: ClientId, call: i32) -> RpcRequestHeader {
    RpcRequestHeader {
        rpc_kind: Some(RpcKind::RpcProtocolBuffer as i32),
        rpc_op: Some(Operation::RpcFinalPacket as i32),
        call_id: call,
        client_id: client.to_vec().into(),
        retry_count: Some(0),
        ..RpcRequestHeader::default()
    }
}

fn append_frame(bytes: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    bytes.extend((length as u32).to_be_bytes());
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<'b> {
    /// Which call.
    pub call: i32,
    /// The encoded response, or class and message of an exception.
    pub result: Result<&'b [u8], (String, String)>,
}

/// Decodes an answer, a frame without its length.
///
/// # Errors
/// `Header`, `Message`: also what stands behind its end, which clients refuse.
pub fn decode_answer(mut bytes: &[u8]) -> Result<Answer<'_>, FrameError> {
    let header = RpcResponseHeader::decode_length_delimited(&mut bytes)
        .map_err(|error| FrameError::Header(error.to_string()))?;
    let call = header.call_id.cast_signed();
    let result = match header.status() {
        RpcStatus::Success => {
            let length = decode_varint(&mut bytes).map_err(|error| FrameError::Message(error.to_string()))?;
            if length != bytes.len() as u64 {
                return Err(FrameError::Message(format!("{} bytes, said are {length}", bytes.len())));
            }
            Ok(bytes)
        }
        RpcStatus::Error | RpcStatus::Fatal if !bytes.is_empty() => {
            return Err(FrameError::Message("bytes behind an error".to_owned()));
        }
        RpcStatus::Error | RpcStatus::Fatal => {
            Err((header.exception_class_name().to_owned(), header.error_msg().to_owned()))
        }
    };
    Ok(Answer { call, result })
}
