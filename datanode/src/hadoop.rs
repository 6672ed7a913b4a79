//! The HDFS face of the datanode: data transfer, translated into what native clients ask for.
//!
//! A block that is read goes through [`crate::serve`]'s plans and parts, one that is written through its pipelines: here are only
//! the messages, the packets and the acks of HDFS. The rest of a pipeline is spoken to natively. docs/hdfs-compat.md says what is
//! served.

mod checksum;
mod convert;
mod read;
mod rpc;
mod value;
mod write;

pub(crate) use value::Asking;

use std::rc::Rc;

use prost::{Message, Name};
use ringfs_hadoop::packets::{self, Operation, Varint};
use ringfs_hadoop::transfer::{BlockOpResponse, Status};
use ringfs_proto::{Code, WireError};

use crate::engine::{Engine, Reader};
use crate::serve::Shard;
use crate::serve::connection::Connection;
use crate::serve::frames::{Closed, Frames};

impl<E: Engine> Shard<E> {
    /// Serves a connection of an HDFS client: one operation after the other.
    pub(crate) async fn serve_hadoop(self: &Rc<Self>, connection: &mut Connection<E>) -> Result<(), Closed> {
        while connection.frames.has_more().await? {
            let mut head = [0; packets::OP_HEAD_BYTES];
            connection.frames.payload(&mut head).await?;
            let operation = Operation::decode(head)?;
            let message = connection.frames.delimited().await?;
            match operation {
                Operation::Read => self.read_block(connection, &message).await?,
                Operation::Write => self.write_block(connection, &message).await?,
                Operation::Checksum => self.checksum_block(connection, &message).await?,
                Operation::Transfer => self.transfer_block(connection, &message).await?,
                other => {
                    let message = format!("{other:?} is not supported");
                    packets::append_refusal(&mut connection.out, Status::ErrorUnsupported, message);
                    connection.send(&[]).await?;
                }
            }
        }
        Ok(())
    }
}

impl<E: Engine> Connection<E> {
    /// Refuses an operation.
    async fn refuse(&mut self, error: WireError) -> Result<(), Closed> {
        packets::append_refusal(&mut self.out, status_of(error.code), error.message);
        self.send(&[]).await
    }

    /// Says that an operation begins.
    async fn accept(&mut self, response: &BlockOpResponse) -> Result<(), Closed> {
        packets::append(&mut self.out, response);
        self.send(&[]).await
    }
}

impl<R: Reader> Frames<R> {
    /// Receives a message behind its varint length.
    async fn delimited(&mut self) -> Result<Vec<u8>, Closed> {
        let mut length = Varint::default();
        let len = loop {
            let mut byte = [0];
            self.payload(&mut byte).await?;
            if let Some(len) = length.push(byte[0])? {
                break len;
            }
        };
        let mut message = vec![0; len];
        self.payload(&mut message).await?;
        Ok(message)
    }
}

/// What clients know an error as.
fn status_of(code: Code) -> Status {
    match code {
        Code::CapabilityInvalid | Code::CapabilityExpired => Status::ErrorAccessToken,
        Code::ChecksumMismatch | Code::BlockCorrupt => Status::ErrorChecksum,
        Code::ReplicaExists => Status::ErrorExists,
        Code::Unsupported => Status::ErrorUnsupported,
        _ => Status::Error,
    }
}

/// Decodes the message of an operation.
fn decode<M: Message + Name + Default>(message: &[u8]) -> Result<M, Closed> {
    Ok(packets::decode("an operation", message)?)
}
