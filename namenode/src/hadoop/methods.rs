//! Which method is which function.

use ringfs_hadoop::calls::CLIENT_PROTOCOL;
use ringfs_hadoop::client::SetSafeModeRequest;
use ringfs_hadoop::frames::RemoteError;
use ringfs_hadoop::hdfs::SafeModeAction;
use ringfs_hadoop::rpc::RequestHeader;

use super::errors::{ACCESS_CONTROL, no_such_method, no_such_protocol};
use super::{Origin, Step, absent, admin, attributes, failed, files, namespace, server};

/// Begins a call.
pub fn begin(method: &RequestHeader, request: &[u8], origin: &Origin) -> Step {
    let (name, protocol) = (method.method_name.as_str(), &method.declaring_class_protocol_name);
    let step = match protocol.as_str() {
        CLIENT_PROTOCOL => client(name, request, origin),
        "org.apache.hadoop.tools.GetUserMappingsProtocol" => admin::user_mappings(name, request),
        "org.apache.hadoop.ha.HAServiceProtocol" => admin::ha_service(name),
        "org.apache.hadoop.hdfs.server.protocol.NamenodeProtocol" => admin::namenode(name, origin),
        "org.apache.hadoop.security.RefreshUserMappingsProtocol"
        | "org.apache.hadoop.security.authorize.RefreshAuthorizationPolicyProtocol"
        | "org.apache.hadoop.ipc.RefreshCallQueueProtocol"
        | "org.apache.hadoop.ipc.GenericRefreshProtocol" => admin::refresh(name),
        _ => return failed(no_such_protocol(protocol)),
    };
    step.unwrap_or_else(|| failed(no_such_method(name, protocol)))
}

/// The name of what a call does, if only superusers may (HDFS: `FSNamesystem.checkSuperuserPrivilege`).
fn superuser_operation(method: &str, request: &[u8]) -> Option<&'static str> {
    Some(match method {
        "finalizeUpgrade" => "finalizeUpgrade",
        "getDatanodeReport" => "datanodeReport",
        "getDatanodeStorageReport" => "getDatanodeStorageReport",
        "listCorruptFileBlocks" => "listCorruptFileBlocks",
        "listOpenFiles" => "listOpenFiles",
        "metaSave" => "metaSave",
        "refreshNodes" => "refreshNodes",
        "refreshUserToGroupsMappings" => "refreshUserToGroupsMappings",
        "restoreFailedStorage" => "restoreFailedStorage",
        "rollEdits" => "rollEditLog",
        "rollingUpgrade" => "rollingUpgrade",
        "saveNamespace" => "saveNamespace",
        "setBalancerBandwidth" => "setBalancerBandwidth",
        "setQuota" => "setSpaceQuota",
        "setSafeMode" => match super::decode::<SetSafeModeRequest>(request).ok()?.action() {
            SafeModeAction::SafemodeGet => return None,
            SafeModeAction::SafemodeEnter => "safemode_enter",
            SafeModeAction::SafemodeLeave => "safemode_leave",
            SafeModeAction::SafemodeForceExit => "safemode_force_exit",
        },
        _ => return None,
    })
}

/// Why a call of somebody who is no superuser is refused, if it is for superusers only.
pub fn superusers_only(method: &str, request: &[u8], user: &str) -> Option<RemoteError> {
    let operation = superuser_operation(method, request)?;
    let message =
        format!("Access denied for user {user}. Superuser privilege is required for operation {operation}");
    Some(RemoteError::new(ACCESS_CONTROL, message))
}

fn client(method: &str, request: &[u8], origin: &Origin) -> Option<Step> {
    macro_rules! table {
        ($($name:literal => $function:path,)*) => {
            match method {
                $($name => super::decode(request).map_or_else(failed, |request| $function(request, origin)),)*
                _ => return None,
            }
        };
    }
    Some(table! {
        "getFileInfo" => namespace::get_file_info,
        "getFileLinkInfo" => namespace::get_file_link_info,
        "getListing" => namespace::get_listing,
        "mkdirs" => namespace::mkdirs,
        "delete" => namespace::delete,
        "rename" => namespace::rename,
        "rename2" => namespace::rename2,
        "setPermission" => namespace::set_permission,
        "setOwner" => namespace::set_owner,
        "setTimes" => namespace::set_times,
        "setReplication" => namespace::set_replication,
        "checkAccess" => namespace::check_access,
        "getContentSummary" => namespace::get_content_summary,
        "getPreferredBlockSize" => namespace::get_preferred_block_size,
        "isFileClosed" => namespace::is_file_closed,
        "getServerDefaults" => server::get_server_defaults,
        "getFsStats" => server::get_fs_stats,
        "create" => files::create,
        "addBlock" => files::add_block,
        "abandonBlock" => files::abandon_block,
        "complete" => files::complete,
        "fsync" => files::fsync,
        "renewLease" => files::renew_lease,
        "recoverLease" => files::recover_lease,
        "getBlockLocations" => files::get_block_locations,
        "getBatchedListing" => namespace::get_batched_listing,
        "append" => files::append,
        "truncate" => files::truncate,
        "concat" => files::concat,
        "updateBlockForPipeline" => files::update_block_for_pipeline,
        "updatePipeline" => files::update_pipeline,
        "getAdditionalDatanode" => files::get_additional_datanode,
        "reportBadBlocks" => files::report_bad_blocks,
        "getLocatedFileInfo" => files::get_located_file_info,
        "listOpenFiles" => files::list_open_files,
        "listCorruptFileBlocks" => files::list_corrupt_file_blocks,
        "setXAttr" => attributes::set_x_attr,
        "getXAttrs" => attributes::get_x_attrs,
        "listXAttrs" => attributes::list_x_attrs,
        "removeXAttr" => attributes::remove_x_attr,
        "modifyAclEntries" => attributes::modify_acl_entries,
        "removeAclEntries" => attributes::remove_acl_entries,
        "removeDefaultAcl" => attributes::remove_default_acl,
        "removeAcl" => attributes::remove_acl,
        "setAcl" => attributes::set_acl,
        "getAclStatus" => attributes::get_acl_status,
        "getStoragePolicies" => attributes::get_storage_policies,
        "getStoragePolicy" => attributes::get_storage_policy,
        "setStoragePolicy" => attributes::set_storage_policy,
        "unsetStoragePolicy" => attributes::unset_storage_policy,
        "getDatanodeReport" => server::get_datanode_report,
        "getDatanodeStorageReport" => server::get_datanode_storage_report,
        "setSafeMode" => server::set_safe_mode,
        "getQuotaUsage" => server::get_quota_usage,
        "setQuota" => server::set_quota,
        "saveNamespace" => server::save_namespace,
        "getFsReplicatedBlockStats" => server::get_fs_replicated_block_stats,
        "getCurrentEditLogTxid" => server::get_current_edit_log_txid,
        "getHAServiceState" => server::get_ha_service_state,
        "getEnclosingRoot" => server::get_enclosing_root,
        "upgradeStatus" => server::upgrade_status,
        "getLinkTarget" => server::get_link_target,
        // What belongs to features that are not set up answers as it does in an HDFS where they are off.
        "msync" => absent::msync,
        "refreshNodes" => absent::refresh_nodes,
        "finalizeUpgrade" => absent::finalize_upgrade,
        "rollingUpgrade" => absent::rolling_upgrade,
        "getSlowDatanodeReport" => absent::get_slow_datanode_report,
        "getFsECBlockGroupStats" => absent::get_fs_ec_block_group_stats,
        "getErasureCodingPolicies" => absent::get_erasure_coding_policies,
        "getErasureCodingPolicy" => absent::get_erasure_coding_policy,
        "getErasureCodingCodecs" => absent::get_erasure_coding_codecs,
        "getECTopologyResultForPolicies" => absent::get_ec_topology_result_for_policies,
        "getDelegationToken" => absent::get_delegation_token,
        "getDataEncryptionKey" => absent::get_data_encryption_key,
        "getEZForPath" => absent::get_ez_for_path,
        "listEncryptionZones" => absent::list_encryption_zones,
        "listReencryptionStatus" => absent::list_reencryption_status,
        "listCacheDirectives" => absent::list_cache_directives,
        "listCachePools" => absent::list_cache_pools,
        "getSnapshottableDirListing" => absent::get_snapshottable_dir_listing,
        "getSnapshotListing" => absent::get_snapshot_listing,
        "createSnapshot" => absent::create_snapshot,
        "deleteSnapshot" => absent::delete_snapshot,
        "renameSnapshot" => absent::rename_snapshot,
        "getSnapshotDiffReport" => absent::get_snapshot_diff_report,
        "getSnapshotDiffReportListing" => absent::get_snapshot_diff_report_listing,
        "renewDelegationToken" => absent::renew_delegation_token,
        "cancelDelegationToken" => absent::cancel_delegation_token,
        "createEncryptionZone" => absent::create_encryption_zone,
        "reencryptEncryptionZone" => absent::reencrypt_encryption_zone,
        "allowSnapshot" => absent::allow_snapshot,
        "disallowSnapshot" => absent::disallow_snapshot,
        "satisfyStoragePolicy" => absent::satisfy_storage_policy,
        "setErasureCodingPolicy" => absent::set_erasure_coding_policy,
        "unsetErasureCodingPolicy" => absent::unset_erasure_coding_policy,
        "addErasureCodingPolicies" => absent::add_erasure_coding_policies,
        "removeErasureCodingPolicy" => absent::remove_erasure_coding_policy,
        "enableErasureCodingPolicy" => absent::enable_erasure_coding_policy,
        "disableErasureCodingPolicy" => absent::disable_erasure_coding_policy,
        "createSymlink" => absent::create_symlink,
        "rollEdits" => absent::roll_edits,
        "restoreFailedStorage" => absent::restore_failed_storage,
        "metaSave" => absent::meta_save,
        "setBalancerBandwidth" => absent::set_balancer_bandwidth,
        "addCacheDirective" => absent::add_cache_directive,
        "modifyCacheDirective" => absent::modify_cache_directive,
        "removeCacheDirective" => absent::remove_cache_directive,
        "addCachePool" => absent::add_cache_pool,
        "modifyCachePool" => absent::modify_cache_pool,
        "removeCachePool" => absent::remove_cache_pool,
        "getEditsFromTxid" => absent::get_edits_from_txid,
    })
}
