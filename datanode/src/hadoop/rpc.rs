//! Hadoop RPC on the datanode's port: `ClientDatanodeProtocol`, of which clients need the length of an open replica.

use std::io::IoSlice;

use prost::Message;
use ringfs_hadoop::datanode::{
    DatanodeLocalInfo, DatanodeVolumeInfo, GetBalancerBandwidthResponse, GetDatanodeInfoResponse,
    GetReplicaVisibleLengthRequest, GetReplicaVisibleLengthResponse, GetVolumeReportResponse,
    TriggerBlockReportResponse,
};
use ringfs_hadoop::frames::{self, Authentication, CallHeader, FrameError, RemoteError};
use ringfs_hadoop::hdfs::StorageType;
use ringfs_hadoop::rpc::{RequestHeader, RpcErrorCode, RpcSasl, SaslState};
use ringfs_proto::ids::BlockId;
use ringfs_proto::meta::membership::ReplicaState;

use crate::engine::{Engine, Writer};
use crate::serve::Shard;
use crate::serve::connection::Connection;
use crate::serve::frames::Closed;

const PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientDatanodeProtocol";

impl<E: Engine> Shard<E> {
    /// Serves a connection of Hadoop RPC: one call after the other.
    pub(crate) async fn serve_hadoop_rpc(&self, connection: &mut Connection<E>) -> Result<(), Closed> {
        let mut beginning = [0; frames::BEGINNING_BYTES];
        connection.frames.payload(&mut beginning).await?;
        let [_, _, _, _, rest @ ..] = beginning;
        let authentication = match frames::decode_beginning(rest) {
            Ok(authentication) => authentication,
            Err(error) => return end(connection, &CallHeader::none(), &error).await,
        };
        while connection.frames.has_more().await? {
            let mut length = [0; 4];
            connection.frames.payload(&mut length).await?;
            let length = u32::from_be_bytes(length);
            if length as usize > frames::FRAME_BYTES_MAX {
                return end(connection, &CallHeader::none(), &FrameError::Length(length)).await;
            }
            let mut frame = vec![0; length as usize];
            connection.frames.payload(&mut frame).await?;
            let frame = match frames::decode_frame(&frame) {
                Ok(frame) => frame,
                Err(error) => return end(connection, &CallHeader::none(), &error).await,
            };
            let call = frame.call();
            match call.call {
                frames::PING_CALL | frames::CONTEXT_CALL => continue,
                frames::SASL_CALL if authentication == Authentication::Sasl => {
                    let success = RpcSasl { state: SaslState::Success as i32, ..RpcSasl::default() };
                    frames::append_success(&mut connection.out, &call, &success.encode_to_vec());
                }
                _ => match frame.method() {
                    Ok((method, request)) => match self.answer(&method, request) {
                        Ok(response) => frames::append_success(&mut connection.out, &call, &response),
                        Err(error) => frames::append_error(&mut connection.out, &call, &error),
                    },
                    Err(error) => return end(connection, &call, &error).await,
                },
            }
            connection.send(&[]).await?;
        }
        Ok(())
    }

    fn answer(&self, method: &RequestHeader, request: &[u8]) -> Result<Vec<u8>, RemoteError> {
        let (name, protocol) = (&method.method_name, &method.declaring_class_protocol_name);
        if protocol != PROTOCOL {
            let class = "org.apache.hadoop.ipc.RpcNoSuchProtocolException";
            let detail = RpcErrorCode::ErrorNoSuchProtocol;
            return Err(RemoteError { class, message: format!("Unknown protocol: {protocol}"), detail });
        }
        match name.as_str() {
            "getReplicaVisibleLength" => self.visible_length(request),
            "getDatanodeInfo" => {
                Ok(GetDatanodeInfoResponse { local_info: self.local_info() }.encode_to_vec())
            }
            "getVolumeReport" => {
                Ok(GetVolumeReportResponse { volume_info: self.volume_report() }.encode_to_vec())
            }
            // Reports are sent as things happen: there is none to be hurried.
            "triggerBlockReport" => Ok(TriggerBlockReportResponse {}.encode_to_vec()),
            "getBalancerBandwidth" => Ok(GetBalancerBandwidthResponse { bandwidth: 0 }.encode_to_vec()),
            "refreshNamenodes"
            | "deleteBlockPool"
            | "getBlockLocalPathInfo"
            | "shutdownDatanode"
            | "evictWriters"
            | "getReconfigurationStatus"
            | "startReconfiguration"
            | "listReconfigurableProperties"
            | "submitDiskBalancerPlan"
            | "cancelDiskBalancerPlan"
            | "queryDiskBalancerPlan"
            | "getDiskBalancerSetting" => {
                let class = "java.lang.UnsupportedOperationException";
                Err(RemoteError::new(class, format!("{name} is not supported by RingFS")))
            }
            _ => {
                let class = "org.apache.hadoop.ipc.RpcNoSuchMethodException";
                let message = format!("Unknown method {name} called on {protocol} protocol.");
                Err(RemoteError { class, message, detail: RpcErrorCode::ErrorNoSuchMethod })
            }
        }
    }

    fn visible_length(&self, request: &[u8]) -> Result<Vec<u8>, RemoteError> {
        let malformed = |error: ringfs_hadoop::MessageError| RemoteError {
            class: "org.apache.hadoop.ipc.RpcServerException",
            message: error.to_string(),
            detail: RpcErrorCode::FatalDeserializingRequest,
        };
        let request: GetReplicaVisibleLengthRequest = ringfs_hadoop::decode(request).map_err(malformed)?;
        let block = BlockId(request.block.block_id);
        let replica = self.node.store.find(block).filter(|replica| {
            !replica.is_gone() && !replica.is_corrupt() && replica.state() != ReplicaState::Temporary
        });
        let replica = replica.ok_or_else(|| {
            let class = "org.apache.hadoop.hdfs.server.datanode.ReplicaNotFoundException";
            RemoteError::new(class, format!("Replica not found for block {block}"))
        })?;
        Ok(GetReplicaVisibleLengthResponse { length: replica.tail().length }.encode_to_vec())
    }

    fn local_info(&self) -> DatanodeLocalInfo {
        DatanodeLocalInfo {
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            config_version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.node.started.elapsed().as_secs(),
        }
    }

    fn volume_report(&self) -> Vec<DatanodeVolumeInfo> {
        let volumes = self.node.store.volumes();
        let info = volumes.into_iter().map(|volume| DatanodeVolumeInfo {
            path: volume.path,
            storage_type: StorageType::Disk as i32,
            used_space: volume.used_bytes,
            free_space: volume.remaining_bytes,
            reserved_space: volume.reserved_bytes,
            reserved_space_for_replicas: 0,
            num_blocks: volume.replicas,
        });
        info.collect()
    }
}

/// Says why a connection ends.
async fn end<E: Engine>(
    connection: &mut Connection<E>,
    call: &CallHeader,
    error: &FrameError,
) -> Result<(), Closed> {
    connection.out.clear();
    frames::append_fatal(&mut connection.out, call, error);
    connection.writer.write_all_vectored(&[IoSlice::new(&connection.out)]).await?;
    Err(Closed::Protocol(error.to_string()))
}
