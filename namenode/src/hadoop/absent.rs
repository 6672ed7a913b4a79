//! Features of HDFS that RingFS does not have: their methods answer as they do in an HDFS where they are off, or say that they are
//! not supported. Nothing is accepted and then not done.

use ringfs_hadoop::client::*;
use ringfs_hadoop::frames::RemoteError;
use ringfs_hadoop::hdfs::EcTopologyVerifierResult;

use super::errors::{IO, missing, of_wire, unsupported};
use super::namespace::stat;
use super::{Origin, Step, done, failed};

/// Methods with an answer that says that there is nothing.
macro_rules! nothing {
    ($($name:ident: $request:ty => $response:expr;)*) => {
        $(pub(super) fn $name(_: $request, _: &Origin) -> Step {
            done(&$response)
        })*
    };
}

nothing! {
    msync: MsyncRequest => MsyncResponse {};
    finalize_upgrade: FinalizeUpgradeRequest => FinalizeUpgradeResponse {};
    get_slow_datanode_report: GetSlowDatanodeReportRequest => GetSlowDatanodeReportResponse::default();
    get_fs_ec_block_group_stats: GetFsEcBlockGroupStatsRequest => GetFsEcBlockGroupStatsResponse::default();
    get_erasure_coding_policies: GetErasureCodingPoliciesRequest => GetErasureCodingPoliciesResponse::default();
    get_erasure_coding_codecs: GetErasureCodingCodecsRequest => GetErasureCodingCodecsResponse::default();
    get_delegation_token: GetDelegationTokenRequest => GetDelegationTokenResponse::default();
    get_data_encryption_key: GetDataEncryptionKeyRequest => GetDataEncryptionKeyResponse::default();
    get_ez_for_path: GetEzForPathRequest => GetEzForPathResponse::default();
    list_encryption_zones: ListEncryptionZonesRequest => ListEncryptionZonesResponse::default();
    list_reencryption_status: ListReencryptionStatusRequest => ListReencryptionStatusResponse::default();
    list_cache_directives: ListCacheDirectivesRequest => ListCacheDirectivesResponse::default();
    list_cache_pools: ListCachePoolsRequest => ListCachePoolsResponse::default();
    get_snapshottable_dir_listing: GetSnapshottableDirListingRequest => GetSnapshottableDirListingResponse::default();
}

/// No file has a policy, but it must be there.
pub(super) fn get_erasure_coding_policy(request: GetErasureCodingPolicyRequest, origin: &Origin) -> Step {
    stat(origin, request.src, |result| match result {
        Ok(_) => done(&GetErasureCodingPolicyResponse::default()),
        Err(error) => failed(of_wire(missing(error, "Path not found: {}"))),
    })
}

/// Methods that are refused.
macro_rules! refused {
    ($($name:ident: $request:ty => $error:expr;)*) => {
        $(pub(super) fn $name(_: $request, _: &Origin) -> Step {
            failed($error)
        })*
    };
}

refused! {
    rolling_upgrade: RollingUpgradeRequest => unsupported("a rolling upgrade");
    refresh_nodes: RefreshNodesRequest => unsupported("a list of datanodes");
    renew_delegation_token: RenewDelegationTokenRequest => no_token();
    cancel_delegation_token: CancelDelegationTokenRequest => no_token();
    reencrypt_encryption_zone: ReencryptEncryptionZoneRequest => no_keys();
    allow_snapshot: AllowSnapshotRequest => unsupported("a snapshot");
    disallow_snapshot: DisallowSnapshotRequest => unsupported("a snapshot");
    satisfy_storage_policy: SatisfyStoragePolicyRequest => unsupported("moving blocks to satisfy a storage policy");
    set_erasure_coding_policy: SetErasureCodingPolicyRequest => unsupported("erasure coding");
    unset_erasure_coding_policy: UnsetErasureCodingPolicyRequest => unsupported("erasure coding");
    add_erasure_coding_policies: AddErasureCodingPoliciesRequest => unsupported("erasure coding");
    remove_erasure_coding_policy: RemoveErasureCodingPolicyRequest => unsupported("erasure coding");
    enable_erasure_coding_policy: EnableErasureCodingPolicyRequest => unsupported("erasure coding");
    disable_erasure_coding_policy: DisableErasureCodingPolicyRequest => unsupported("erasure coding");
    create_symlink: CreateSymlinkRequest => RemoteError::new(super::errors::UNSUPPORTED, "Symlinks not supported");
    roll_edits: RollEditsRequest => unsupported("rolling the edit log");
    restore_failed_storage: RestoreFailedStorageRequest => unsupported("restoring failed storage");
    meta_save: MetaSaveRequest => unsupported("metaSave");
    set_balancer_bandwidth: SetBalancerBandwidthRequest => unsupported("the balancer");
    add_cache_directive: AddCacheDirectiveRequest => unsupported("centralized caching");
    modify_cache_directive: ModifyCacheDirectiveRequest => unsupported("centralized caching");
    remove_cache_directive: RemoveCacheDirectiveRequest => unsupported("centralized caching");
    add_cache_pool: AddCachePoolRequest => unsupported("centralized caching");
    modify_cache_pool: ModifyCachePoolRequest => unsupported("centralized caching");
    remove_cache_pool: RemoveCachePoolRequest => unsupported("centralized caching");
    get_edits_from_txid: GetEditsFromTxidRequest => unsupported("a stream of events");
}

fn no_token() -> RemoteError {
    let class = "org.apache.hadoop.security.token.SecretManager$InvalidToken";
    RemoteError::new(class, "there are no delegation tokens: security is off")
}

fn no_keys() -> RemoteError {
    RemoteError::new(IO, "No key provider is available.")
}

pub(super) fn create_encryption_zone(request: CreateEncryptionZoneRequest, _: &Origin) -> Step {
    let message =
        format!("Can't create an encryption zone for {} since no key provider is available.", request.src);
    failed(RemoteError::new(IO, message))
}

pub(super) fn get_ec_topology_result_for_policies(
    _: GetEcTopologyResultForPoliciesRequest,
    _: &Origin,
) -> Step {
    let response = EcTopologyVerifierResult {
        result_message: "No erasure coding policy is given.".to_owned(),
        is_supported: true,
    };
    done(&GetEcTopologyResultForPoliciesResponse { response })
}

/// No directory takes snapshots.
fn no_snapshots(path: &str) -> Step {
    let class = "org.apache.hadoop.hdfs.protocol.SnapshotException";
    failed(RemoteError::new(class, format!("Directory is not a snapshottable directory: {path}")))
}

pub(super) fn create_snapshot(request: CreateSnapshotRequest, _: &Origin) -> Step {
    no_snapshots(&request.snapshot_root)
}

pub(super) fn delete_snapshot(request: DeleteSnapshotRequest, _: &Origin) -> Step {
    no_snapshots(&request.snapshot_root)
}

pub(super) fn rename_snapshot(request: RenameSnapshotRequest, _: &Origin) -> Step {
    no_snapshots(&request.snapshot_root)
}

pub(super) fn get_snapshot_listing(request: GetSnapshotListingRequest, _: &Origin) -> Step {
    no_snapshots(&request.snapshot_root)
}

pub(super) fn get_snapshot_diff_report(request: GetSnapshotDiffReportRequest, _: &Origin) -> Step {
    no_snapshots(&request.snapshot_root)
}

pub(super) fn get_snapshot_diff_report_listing(
    request: GetSnapshotDiffReportListingRequest,
    _: &Origin,
) -> Step {
    no_snapshots(&request.snapshot_root)
}
