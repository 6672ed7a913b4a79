//! What the cluster says of itself.

use ringfs_hadoop::client::*;
use ringfs_hadoop::frames::RemoteError;
use ringfs_hadoop::hdfs::{
    ChecksumType, DatanodeInfo, DatanodeReportType, DatanodeStorage, DatanodeStorageReport, FsServerDefaults,
    HaServiceState, QuotaUsage, SafeModeAction, StorageReport,
};
use ringfs_proto::meta::admin::{
    self, CheckpointRequestV1, DatanodeInfoV1, DatanodeReportRequestV1, DatanodeState, FsStatsRequestV1,
    SafeModeRequestV1, ServerDefaultsRequestV1,
};
use ringfs_proto::meta::membership::VolumeStatusV1;
use ringfs_proto::meta::namespace::NodeV1;
use ringfs_proto::meta::tree::ContentSummaryRequestV1;

use super::errors::{IO, missing, of_wire};
use super::files::CHUNK_BYTES;
use super::namespace::{UNSET, stat};
use super::{Origin, Step, ask, convert, done, failed};

/// Bytes of a packet of a writer, headers and checksums included (HDFS: `dfs.client-write-packet-size`).
const PACKET_BYTES: u32 = 64 << 10;
/// Bytes that readers buffer (HDFS: `io.file.buffer.size`).
const BUFFER_BYTES: u32 = 4096;

/// The storage policy of what has none: HOT.
const STORAGE_POLICY_DEFAULT: u32 = 7;

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
                policy_id: Some(STORAGE_POLICY_DEFAULT),
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

/// A datanode with what it has and where it is.
fn datanode(info: &DatanodeInfoV1) -> DatanodeInfo {
    let sum = |of: fn(&VolumeStatusV1) -> u64| info.volumes.iter().map(of).sum::<u64>();
    let node = NodeV1 {
        datanode: info.datanode,
        storage: ringfs_proto::ids::StorageId::default(),
        host: info.host.clone(),
        port: info.port,
        is_stale: false,
    };
    let mut datanode = convert::node(&node);
    datanode.id.info_port = u32::from(info.http_port);
    DatanodeInfo {
        capacity: Some(sum(|volume| volume.capacity_bytes)),
        dfs_used: Some(sum(|volume| volume.used_bytes)),
        block_pool_used: Some(sum(|volume| volume.used_bytes)),
        remaining: Some(sum(|volume| volume.remaining_bytes)),
        last_update: Some(info.last_heartbeat_ms),
        location: Some(info.rack.clone()),
        num_blocks: Some(u32::try_from(info.blocks).unwrap_or(u32::MAX)),
        software_version: Some(info.software.clone()),
        ..datanode
    }
}

/// Whether a datanode belongs into a report. None is ever decommissioned or in maintenance here.
fn is_wanted(info: &DatanodeInfoV1, kind: DatanodeReportType) -> bool {
    match kind {
        DatanodeReportType::All => true,
        DatanodeReportType::Live => info.state != DatanodeState::Dead,
        DatanodeReportType::Dead => info.state == DatanodeState::Dead,
        _ => false,
    }
}

pub(super) fn get_datanode_report(request: GetDatanodeReportRequest, origin: &Origin) -> Step {
    let kind = request.r#type();
    ask(origin.session, DatanodeReportRequestV1 { flags: 0 }, move |result| match result {
        Ok(reply) => {
            let wanted = reply.datanodes.iter().filter(|info| is_wanted(info, kind));
            done(&GetDatanodeReportResponse { di: wanted.map(datanode).collect() })
        }
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn get_datanode_storage_report(request: GetDatanodeStorageReportRequest, origin: &Origin) -> Step {
    let kind = request.r#type();
    let report = |info: &DatanodeInfoV1| DatanodeStorageReport {
        datanode_info: datanode(info),
        storage_reports: info.volumes.iter().map(storage).collect(),
    };
    ask(origin.session, DatanodeReportRequestV1 { flags: 0 }, move |result| match result {
        Ok(reply) => {
            let wanted = reply.datanodes.iter().filter(|info| is_wanted(info, kind));
            let datanode_storage_reports = wanted.map(report).collect();
            done(&GetDatanodeStorageReportResponse { datanode_storage_reports })
        }
        Err(error) => failed(of_wire(error)),
    })
}

fn storage(volume: &VolumeStatusV1) -> StorageReport {
    let name = convert::storage_name(volume.storage);
    StorageReport {
        storage: Some(DatanodeStorage { storage_uuid: name.clone(), ..DatanodeStorage::default() }),
        storage_uuid: name,
        failed: Some(volume.is_failed),
        capacity: Some(volume.capacity_bytes),
        dfs_used: Some(volume.used_bytes),
        block_pool_used: Some(volume.used_bytes),
        remaining: Some(volume.remaining_bytes),
        ..StorageReport::default()
    }
}

pub(super) fn set_safe_mode(request: SetSafeModeRequest, origin: &Origin) -> Step {
    let action = match request.action() {
        SafeModeAction::SafemodeGet => admin::SafeModeAction::Get,
        SafeModeAction::SafemodeEnter => admin::SafeModeAction::Enter,
        SafeModeAction::SafemodeLeave => admin::SafeModeAction::Leave,
        SafeModeAction::SafemodeForceExit => admin::SafeModeAction::LeaveDespiteOlderState,
    };
    ask(origin.session, SafeModeRequestV1 { action }, |result| match result {
        Ok(reply) => done(&SetSafeModeResponse { result: !reply.reason.is_empty() }),
        Err(error) => failed(of_wire(error)),
    })
}

/// There are no quotas.
pub(super) fn get_quota_usage(request: GetQuotaUsageRequest, origin: &Origin) -> Step {
    ask(origin.session, ContentSummaryRequestV1 { path: request.path }, |result| match result {
        Ok(sum) => {
            let usage = QuotaUsage {
                file_and_directory_count: sum.files + sum.directories,
                quota: UNSET,
                space_consumed: sum.space_consumed,
                space_quota: UNSET,
                ..QuotaUsage::default()
            };
            done(&GetQuotaUsageResponse { usage })
        }
        Err(error) => failed(of_wire(missing(error, "File/Directory does not exist: {}"))),
    })
}

/// Quotas may be cleared, for there are none.
pub(super) fn set_quota(request: SetQuotaRequest, origin: &Origin) -> Step {
    let leaves = |quota: u64| quota == UNSET || quota == i64::MAX.cast_unsigned();
    if !leaves(request.namespace_quota) || !leaves(request.storagespace_quota) {
        return failed(super::errors::unsupported("setQuota"));
    }
    stat(origin, request.path, |result| match result {
        Ok(_) => done(&SetQuotaResponse {}),
        Err(error) => failed(of_wire(missing(error, "Directory does not exist: {}"))),
    })
}

pub(super) fn save_namespace(_: SaveNamespaceRequest, origin: &Origin) -> Step {
    ask(origin.session, CheckpointRequestV1 { target: String::new() }, |result| match result {
        Ok(_) => done(&SaveNamespaceResponse { saved: Some(true) }),
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn get_fs_replicated_block_stats(_: GetFsReplicatedBlockStatsRequest, origin: &Origin) -> Step {
    ask(origin.session, FsStatsRequestV1 { flags: 0 }, |result| match result {
        Ok(stats) => done(&GetFsReplicatedBlockStatsResponse {
            low_redundancy: stats.under_replicated_blocks,
            corrupt_blocks: stats.corrupt_blocks,
            missing_blocks: stats.missing_blocks,
            pending_deletion_blocks: stats.pending_deletion_blocks,
            ..GetFsReplicatedBlockStatsResponse::default()
        }),
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn get_current_edit_log_txid(_: GetCurrentEditLogTxidRequest, origin: &Origin) -> Step {
    ask(origin.session, FsStatsRequestV1 { flags: 0 }, |result| match result {
        Ok(stats) => done(&GetCurrentEditLogTxidResponse { txid: stats.applied.0.cast_signed() }),
        Err(error) => failed(of_wire(error)),
    })
}

pub(super) fn get_ha_service_state(_: GetHaServiceStateRequest, _: &Origin) -> Step {
    done(&GetHaServiceStateResponse { state: HaServiceState::Active as i32 })
}

pub(super) fn get_enclosing_root(_: GetEnclosingRootRequest, _: &Origin) -> Step {
    done(&GetEnclosingRootResponse { enclosing_root_path: Some("/".to_owned()) })
}

/// Upgrades are over before anybody can ask.
pub(super) fn upgrade_status(_: UpgradeStatusRequest, _: &Origin) -> Step {
    done(&UpgradeStatusResponse { upgrade_finalized: true })
}

/// There are no symbolic links.
pub(super) fn get_link_target(request: GetLinkTargetRequest, origin: &Origin) -> Step {
    let path = request.path.clone();
    stat(origin, request.path, move |result| match result {
        Ok(_) => failed(RemoteError::new(IO, format!("Path {path} is not a symbolic link"))),
        Err(error) => failed(of_wire(error)),
    })
}
