//! The protocols beside `ClientProtocol` that administrators' tools speak.

use ringfs_hadoop::admin::{
    GetGroupsForUserRequest, GetServiceStatusResponse, MonitorHealthResponse, NamespaceInfo, StorageInfo,
    VersionResponse,
};
use ringfs_hadoop::hdfs::HaServiceState;

use super::errors::unsupported;
use super::{Origin, Step, decode, done, failed};

/// `NameNodeLayoutVersion.CURRENT_LAYOUT_VERSION` of Hadoop 3.5, which tools compare.
const LAYOUT_VERSION: i32 = -67;

/// `GetUserMappingsProtocol`.
pub(super) fn user_mappings(method: &str, request: &[u8]) -> Option<Step> {
    match method {
        "getGroupsForUser" => {
            let request = decode(request);
            Some(request.map_or_else(failed, |request: GetGroupsForUserRequest| Step::Groups(request.user)))
        }
        _ => None,
    }
}

/// `RefreshUserMappingsProtocol`, `RefreshAuthorizationPolicyProtocol`, `RefreshCallQueueProtocol`, `GenericRefreshProtocol`. Groups
/// of users are kept for a while; nothing else is.
pub(super) fn refresh(method: &str) -> Option<Step> {
    match method {
        "refreshUserToGroupsMappings" | "refreshSuperUserGroupsConfiguration" => Some(Step::ForgetGroups),
        "refreshServiceAcl" | "refreshCallQueue" | "refresh" => Some(Step::Done(Ok(Vec::new()))),
        _ => None,
    }
}

/// `HAServiceProtocol`: there is one namenode, and it is active.
pub(super) fn ha_service(method: &str) -> Option<Step> {
    match method {
        "monitorHealth" => Some(done(&MonitorHealthResponse {})),
        "getServiceStatus" => Some(done(&GetServiceStatusResponse {
            state: HaServiceState::Active as i32,
            ready_to_become_active: Some(true),
            not_ready_reason: None,
        })),
        "transitionToActive" | "transitionToStandby" | "transitionToObserver" => {
            Some(failed(unsupported("a transition of the only namenode")))
        }
        _ => None,
    }
}

/// `NamenodeProtocol`, of which tools ask for the version alone.
pub(super) fn namenode(method: &str, origin: &Origin) -> Option<Step> {
    if method != "versionRequest" {
        return None;
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let info = NamespaceInfo {
        build_version: version.clone(),
        unused: 0,
        block_pool_id: origin.pool.to_string(),
        storage_info: StorageInfo {
            layout_version: LAYOUT_VERSION.cast_unsigned(),
            namespace_id: 1,
            cluster_id: origin.pool.trim_start_matches("BP-").to_owned(),
            c_time: 0,
        },
        software_version: version,
        capabilities: None,
    };
    Some(done(&VersionResponse { info }))
}
