//! What the cluster says of itself.

use ringfs_hadoop::client::*;
use ringfs_hadoop::hdfs::{ChecksumType, FsServerDefaults};
use ringfs_proto::meta::admin::{FsStatsRequestV1, ServerDefaultsRequestV1};

use super::errors::of_wire;
use super::files::CHUNK_BYTES;
use super::{Origin, Step, ask, done, failed};

/// Bytes of a packet of a writer, headers and checksums included (HDFS: `dfs.client-write-packet-size`).
const PACKET_BYTES: u32 = 64 << 10;
/// Bytes that readers buffer (HDFS: `io.file.buffer.size`).
const BUFFER_BYTES: u32 = 4096;

pub(super) fn get_server_defaults(_: GetServerDefaultsRequest, origin: &Origin) -> Step {
    ask(origin.session, ServerDefaultsRequestV1 { flags: 0 }, |result| match result {
        Ok(defaults) => {
            let server_defaults = FsServerDefaults {
                block_size: defaults.block_size,
                bytes_per_checksum: CHUNK_BYTES,
                write_packet_size: PACKET_BYTES,
                replication: u32::from(defaults.replication),
                file_buffer_size: BUFFER_BYTES,
                encrypt_data_transfer: Some(false),
                trash_interval: Some(u64::from(defaults.trash_interval_minutes)),
                checksum_type: Some(ChecksumType::ChecksumCrc32c as i32),
                ..FsServerDefaults::default()
            };
            done(&GetServerDefaultsResponse { server_defaults })
        }
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn get_fs_stats(_: GetFsStatsRequest, origin: &Origin) -> Step {
    ask(origin.session, FsStatsRequestV1 { flags: 0 }, |result| match result {
        Ok(stats) => done(&GetFsStatsResponse {
            capacity: stats.capacity_bytes,
            used: stats.used_bytes,
            remaining: stats.remaining_bytes,
            under_replicated: stats.under_replicated_blocks,
            corrupt_blocks: stats.corrupt_blocks,
            missing_blocks: stats.missing_blocks,
            pending_deletion_blocks: Some(stats.pending_deletion_blocks),
            ..GetFsStatsResponse::default()
        }),
        Err(error) => failed(of_wire(error)),
    })
}
