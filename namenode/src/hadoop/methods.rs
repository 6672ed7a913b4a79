//! Which method is which function.

use ringfs_hadoop::rpc::RequestHeader;

use super::errors::{no_such_method, no_such_protocol};
use super::{Origin, Step, failed, files, namespace, server};

const CLIENT_PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";

/// Begins a call.
pub(crate) fn begin(method: &RequestHeader, request: &[u8], origin: &Origin) -> Step {
    let (name, protocol) = (method.method_name.as_str(), &method.declaring_class_protocol_name);
    let step = match protocol.as_str() {
        CLIENT_PROTOCOL => client(name, request, origin),
        _ => return failed(no_such_protocol(protocol)),
    };
    step.unwrap_or_else(|| failed(no_such_method(name, protocol)))
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
    })
}
