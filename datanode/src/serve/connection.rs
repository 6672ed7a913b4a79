//! One connection: hello, then one call after the other.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;

use ringfs_hadoop::{frames, packets};
use ringfs_proto::capability::Mode;
use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{self, HelloReplyV1, HelloV1};
use ringfs_proto::ids::{ClusterId, LogIndex};
use ringfs_proto::limits::READ_RANGES_MAX;
use ringfs_proto::meta::admin::PingV1;
use ringfs_proto::meta::data::{ReplicaInfoReplyV1, ReplicaInfoRequestV1, WillNeedRequestV1};
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_proto::meta::namespace::DoneV1;
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::Shard;
use super::frames::{Closed, Frames};
use crate::engine::{Engine, File, Reader, Writer};

/// The two halves of a connection that has said hello, and memory for what is sent.
pub struct Connection<E: Engine> {
    pub frames: Frames<E::Reader>,
    pub writer: E::Writer,
    pub out: Vec<u8>,
}

impl<E: Engine> Connection<E> {
    /// Sends what is in `out`, then `payload`.
    pub async fn send(&mut self, payload: &[&[u8]]) -> Result<(), Closed> {
        let parts: [IoSlice<'_>; 3] = core::array::from_fn(|at| match at {
            0 => IoSlice::new(&self.out),
            at => IoSlice::new(payload.get(at - 1).copied().unwrap_or_default()),
        });
        self.frames.watch().set_busy(true);
        self.writer.write_all_vectored(&parts).await?;
        self.frames.watch().set_busy(false);
        self.out.clear();
        Ok(())
    }

    /// Answers a call.
    pub async fn reply<M: Message>(
        &mut self,
        header: &Header,
        result: Result<M, WireError>,
    ) -> Result<(), Closed> {
        match result {
            Ok(reply) => frame::append(&mut self.out, header.reply(), 0, |meta| reply.encode_into(meta)),
            Err(error) => frame::append_error(&mut self.out, header, &error),
        }
        self.send(&[]).await
    }
}

impl<E: Engine> Shard<E> {
    /// Serves one connection until it ends.
    pub async fn serve(self: &Rc<Self>, reader: E::Reader, writer: E::Writer, address: SocketAddr) {
        self.metrics.connections_total.add(1);
        self.metrics.connections.add(1);
        let watch = self.watches.add(reader.cutter());
        let mut connection = Connection::<E> { frames: Frames::new(reader, watch), writer, out: Vec::new() };
        let closed = self.run(&mut connection).await;
        self.metrics.connections.sub(1);
        connection.writer.shut_down();
        match closed {
            Ok(()) => {}
            Err(Closed::Io(error)) => tracing::debug!(%address, %error, "connection ended"),
            Err(reason) => {
                self.metrics.malformed.add(1);
                tracing::info!(%address, %reason, "connection closed");
            }
        }
    }

    async fn run(self: &Rc<Self>, connection: &mut Connection<E>) -> Result<(), Closed> {
        match connection.frames.first::<4>().await? {
            None => return Ok(()),
            Some([high, low, ..]) if u16::from_be_bytes([high, low]) == packets::VERSION => {
                return self.serve_hadoop(connection).await;
            }
            Some(frames::MAGIC) => return self.serve_hadoop_rpc(connection).await,
            Some(_) => {}
        }
        let hello: HelloV1 = connection.frames.hello(false).await?;
        let reply = self.greet(&hello);
        connection.out.extend(hello::encode_reply(&reply));
        connection.send(&[]).await?;
        if reply.code != 0 {
            return Err(Closed::Protocol(format!("hello refused: {}", reply.message)));
        }
        while let Some(header) = connection.frames.next().await? {
            self.call(connection, &header).await?;
        }
        Ok(())
    }

    fn greet(&self, hello: &HelloV1) -> HelloReplyV1 {
        let cluster = self.node.cluster;
        let mut reply = HelloReplyV1 {
            code: 0,
            message: String::new(),
            version: 0,
            features: 0,
            cluster,
            nonce: [0; 16],
        };
        let refusal = if hello.cluster != ClusterId::default() && hello.cluster != cluster {
            Some((
                Code::WrongCluster,
                format!("this is a datanode of cluster {cluster}, not {}", hello.cluster),
            ))
        } else if hello.auth_scheme != 0 {
            Some((Code::Unsupported, format!("authentication scheme {} is not known", hello.auth_scheme)))
        } else {
            match hello::negotiate_version(hello) {
                Some(version) => {
                    reply.version = version;
                    None
                }
                None => Some((
                    Code::Unsupported,
                    format!(
                        "protocol versions {} to {}: this release speaks 1",
                        hello.version_min, hello.version_max
                    ),
                )),
            }
        };
        if let Some((code, message)) = refusal {
            (reply.code, reply.message) = (code as u16, message);
        }
        reply
    }

    async fn call(self: &Rc<Self>, connection: &mut Connection<E>, header: &Header) -> Result<(), Closed> {
        if header.payload_len > 0 {
            return Err(Closed::Protocol(format!("{} with a payload outside a pipeline", header.op.name())));
        }
        match header.op {
            Op::ReadRanges => self.read_ranges(connection, header).await,
            Op::WriteOpen => self.write(connection, header).await,
            Op::ReplicaInfo => {
                let result = self.replica_info(connection.frames.meta());
                connection.reply(header, result).await
            }
            Op::TransferReplica => {
                let result = self.transfer_replica(connection.frames.meta()).await;
                connection.reply(header, result).await
            }
            Op::WillNeed => {
                let result = self.will_need(connection.frames.meta()).await;
                connection.reply(header, result).await
            }
            Op::Ping => {
                let ping = PingV1::decode(connection.frames.meta())?;
                connection.reply(header, Ok(ping)).await
            }
            // Credit that crossed the end of its call on the way.
            Op::Credit => Ok(()),
            other => {
                let error =
                    WireError::new(Code::Unsupported, format!("a datanode does not serve {}", other.name()));
                connection.reply::<PingV1>(header, Err(error)).await
            }
        }
    }

    fn replica_info(&self, meta: &[u8]) -> Result<ReplicaInfoReplyV1, WireError> {
        let request = ReplicaInfoRequestV1::decode(meta)
            .map_err(|error| WireError::new(Code::Malformed, error.to_string()))?;
        let missing = || match self.node.store.has_failed_volumes() {
            // Readers take a block for empty that no datanode has: what is on a failed volume is not known.
            true => WireError::new(
                Code::VolumeFailed,
                format!("block {} may be on a volume that has failed", request.block),
            ),
            false => {
                WireError::new(Code::BlockMissing, format!("no replica of block {} here", request.block))
            }
        };
        let replica =
            self.node.store.find(request.block).filter(|replica| !replica.is_gone()).ok_or_else(missing)?;
        self.check(&request.capability, Mode::Read, request.block, replica.stamp())?;
        if replica.is_corrupt() {
            return Err(WireError::new(
                Code::BlockCorrupt,
                format!("replica of block {} is corrupt", request.block),
            ));
        }
        let visible_length = replica.tail().length;
        Ok(ReplicaInfoReplyV1 { stamp: replica.stamp(), state: replica.state(), visible_length })
    }

    /// Tells the kernel what will be read, in order.
    async fn will_need(&self, meta: &[u8]) -> Result<DoneV1, WireError> {
        let request = WillNeedRequestV1::decode(meta)
            .map_err(|error| WireError::new(Code::Malformed, error.to_string()))?;
        if request.ranges.len() > READ_RANGES_MAX {
            let message = format!("{} ranges exceed {READ_RANGES_MAX}", request.ranges.len());
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        for range in &request.ranges {
            self.check(&range.capability, Mode::Read, range.block, range.stamp)?;
            let file = self.files.get(&self.engine, &self.node, range.block, false).await?;
            if file.replica.state() != ReplicaState::Finalized {
                continue;
            }
            let offset = file.layout.data_offset().saturating_add(range.offset);
            file.buffered.will_need(offset, range.length);
        }
        Ok(DoneV1 { index: LogIndex(0) })
    }

    /// Checks a capability and counts a refusal.
    pub fn check(
        &self,
        capability: &ringfs_proto::capability::CapabilityBytes,
        mode: Mode,
        block: ringfs_proto::ids::BlockId,
        stamp: ringfs_proto::ids::Stamp,
    ) -> Result<ringfs_proto::capability::Capability, WireError> {
        self.node.check(capability, mode, block, stamp).inspect_err(|error| {
            self.metrics.refused_capabilities.add(1);
            tracing::info!(%block, %error, "operation refused");
        })
    }
}
