//! What HDFS clients speak, as messages and bytes: Hadoop RPC version 9 and data transfer version 28.
//!
//! Messages are made of `protos` when this crate is built. Nothing here reads or writes: the servers' Hadoop faces do that
//! (`namenode/src/hadoop`, `datanode/src/hadoop`).

/// Messages of Hadoop RPC itself.
#[allow(missing_docs, clippy::all, reason = "made of protos/rpc.proto")]
pub mod rpc {
    include!(concat!(env!("OUT_DIR"), "/hadoop.rpc.rs"));
}

/// Files, blocks and datanodes.
#[allow(missing_docs, clippy::all, reason = "made of protos/hdfs.proto")]
pub mod hdfs {
    include!(concat!(env!("OUT_DIR"), "/hadoop.hdfs.rs"));
}

/// Requests and responses of `ClientProtocol`.
#[allow(missing_docs, clippy::all, reason = "made of protos/client.proto")]
pub mod client {
    include!(concat!(env!("OUT_DIR"), "/hadoop.client.rs"));
}

/// Requests and responses of the protocols beside `ClientProtocol`.
#[allow(missing_docs, clippy::all, reason = "made of protos/admin.proto")]
pub mod admin {
    include!(concat!(env!("OUT_DIR"), "/hadoop.admin.rs"));
}

/// Requests and responses of `ClientDatanodeProtocol`.
#[allow(missing_docs, clippy::all, reason = "made of protos/datanode.proto")]
pub mod datanode {
    include!(concat!(env!("OUT_DIR"), "/hadoop.datanode.rs"));
}

/// Messages of data transfer.
#[allow(missing_docs, clippy::all, reason = "made of protos/transfer.proto")]
pub mod transfer {
    include!(concat!(env!("OUT_DIR"), "/hadoop.transfer.rs"));
}

pub mod calls;
pub mod frames;
pub mod packets;

use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use prost::{DecodeError, Message, Name};

include!(concat!(env!("OUT_DIR"), "/required.rs"));

/// Why a message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Its bytes are of no message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A field is missing that it must have.
    #[error("{message} lacks its field {number}")]
    Missing {
        /// The name of the message.
        message: String,
        /// The number of the field.
        number: u32,
    },
}

/// Decodes a message, which must have the fields that its definition requires.
///
/// # Errors
/// See [`MessageError`].
pub fn decode<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, MessageError> {
    let name = M::full_name();
    let required = REQUIRED.binary_search_by(|(known, _)| (*known).cmp(&name));
    let required = required.map_or(&[][..], |at| REQUIRED[at].1);
    let mut missing: Vec<u32> = required.to_vec();
    let mut rest = bytes;
    while !rest.is_empty() && !missing.is_empty() {
        let (number, wire_type) = decode_key(&mut rest)?;
        // Messages have no groups.
        if matches!(wire_type, WireType::StartGroup | WireType::EndGroup) {
            break;
        }
        skip_field(wire_type, number, &mut rest, DecodeContext::default())?;
        missing.retain(|required| *required != number);
    }
    match missing.first() {
        Some(number) => Err(MessageError::Missing { message: name, number: *number }),
        None => Ok(M::decode(bytes)?),
    }
}

#[cfg(test)]
mod tests {
    use super::client::{GetFileInfoRequest, GetServerDefaultsRequest};
    use super::*;

    #[test]
    fn what_a_message_must_have_is_missed() {
        assert!(REQUIRED.is_sorted());
        assert_eq!(decode(&[]), Ok(GetServerDefaultsRequest {}));
        let missing =
            MessageError::Missing { message: "hadoop.client.GetFileInfoRequest".to_owned(), number: 1 };
        assert_eq!(decode::<GetFileInfoRequest>(&[]), Err(missing));
        assert_eq!(decode(b"\x0a\x01/"), Ok(GetFileInfoRequest { src: "/".to_owned() }));
    }
}
