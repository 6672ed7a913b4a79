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

pub mod frames;
pub mod packets;
