//! Callers who are no superusers, and calls about what inodes carry.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringfs_proto::Code;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{InodeId, SessionId};
use ringfs_proto::meta::admin::{
    CheckpointRequestV1, DatanodeReportRequestV1, ReplicationAction, ReplicationRequestV1, SafeModeAction,
    SafeModeRequestV1,
};
use ringfs_proto::meta::attributes::{
    CheckAccessRequestV1, GetAclRequestV1, GetStoragePoliciesRequestV1, GetXattrsRequestV1,
    SetPermissionRequestV1, SetTimesRequestV1, SetXattrRequestV1, XattrV1,
};
use ringfs_proto::meta::inspect::{CheckFilesRequestV1, FileFromV1};
use ringfs_proto::meta::namespace::{FileRefV1, GetBlockLocationsRequestV1, ListRequestV1, StatRequestV1};
use ringfs_proto::meta::tree::{
    BatchStatRequestV1, ContentSummaryRequestV1, GlobRequestV1, ListCorruptFilesRequestV1,
    ListOpenFilesRequestV1, StatResultV1, WalkRequestV1,
};
use ringfs_proto::meta::values::{BatchOpenRequestV1, OpenedV1};

use super::cluster::{Cluster, ELSEWHERE, config, create};
use crate::calls::{Caller, Credentials, Reply, Request};
use crate::config::Config;

fn somebody(session: u8, groups: &[&str]) -> Arc<Caller> {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Arc::new(Caller {
        connection: 1000 + u64::from(session),
        session: SessionId([session; 16]),
        user: "bob".to_owned(),
        credentials: Arc::new(Credentials { groups, is_privileged: false }),
        address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        role: Role::Client,
        nonce: [0; 16],
        renews_leases: false,
        is_datanode: AtomicBool::new(false),
    })
}

fn set_mode(path: &str, mode: u16) -> Request {
    Request::SetPermission(SetPermissionRequestV1 { path: path.to_owned(), mode })
}

fn stat(cluster: &mut Cluster, caller: &Arc<Caller>, path: &str) -> Result<Reply, Code> {
    let request = Request::Stat(StatRequestV1 { path: path.to_owned() });
    cluster.ask(caller, request).map_err(|error| error.code)
}

/// `/d/f`, closed to all but its owner, who is the superuser of other tests.
fn cluster() -> (Cluster, Arc<Caller>, InodeId) {
    let mut cluster = Cluster::new(config());
    let owner = cluster.caller(1, ELSEWHERE);
    let created = cluster.ask(&owner, Request::Create(create("/d/f"))).expect("created");
    let Reply::Create(created) = created else { panic!("{created:?}") };
    cluster.ask(&owner, set_mode("/d", 0o700)).expect("done");
    (cluster, owner, created.status.inode)
}

#[test]
fn reads_are_refused_to_whom_the_way_or_the_bytes_are_closed() {
    let (mut cluster, owner, inode) = cluster();
    let bob = somebody(7, &[]);
    let locations =
        |file| Request::GetBlockLocations(GetBlockLocationsRequestV1 { file, offset: 0, length: 1 });
    let walk = |path: &str| {
        Request::Walk(WalkRequestV1 {
            path: path.to_owned(),
            start_after: String::new(),
            depth_max: 0,
            files_only: false,
            with_locations: false,
            entries_max: 0,
        })
    };
    let glob = |pattern: &str| {
        let (pattern, start_after) = (pattern.to_owned(), String::new());
        Request::Glob(GlobRequestV1 { pattern, start_after, entries_max: 0 })
    };
    let list = ListRequestV1 { path: "/d".to_owned(), start_after: String::new(), entries_max: 0 };
    let names = GetXattrsRequestV1 { path: "/d/f".to_owned(), names: Vec::new(), with_values: false };
    let reads = [
        Request::Stat(StatRequestV1 { path: "/d/f".to_owned() }),
        Request::Stat(StatRequestV1 { path: "/d/none".to_owned() }),
        Request::List(list),
        locations(FileRefV1::Path("/d/f".to_owned())),
        locations(FileRefV1::Inode(inode)),
        walk("/"),
        walk("/d"),
        Request::GetXattrs(names),
        Request::GetAcl(GetAclRequestV1 { path: "/d/f".to_owned() }),
        Request::GetStoragePolicies(GetStoragePoliciesRequestV1 { path: Some("/d/f".to_owned()) }),
        Request::CheckAccess(CheckAccessRequestV1 { path: "/d/f".to_owned(), access: 4 }),
        Request::CheckFiles(CheckFilesRequestV1 { files: vec![FileFromV1 { inode, offset: 0 }] }),
        glob("/d/*"),
        glob("/*/f"),
        glob("/d/f"),
    ];
    for read in reads {
        let refused = cluster.ask(&bob, read.clone()).expect_err("refused");
        assert_eq!(refused.code, Code::PermissionDenied, "{read:?}");
    }
    assert!(stat(&mut cluster, &bob, "/d").is_ok(), "the directory itself is in an open one");
    cluster.ask(&owner, locations(FileRefV1::Inode(inode))).expect("its writer may");
    cluster.send(&bob, 500, Request::ContentSummary(ContentSummaryRequestV1 { path: "/".to_owned() }));
    while cluster.core.has_work() {
        let now = cluster.now();
        cluster.core.work(now);
    }
    let answer = cluster.answers().remove(0);
    assert_eq!(answer.result.expect_err("refused").code, Code::PermissionDenied);
}

#[test]
fn of_many_paths_only_those_that_are_closed_are_refused() {
    let (mut cluster, owner, _) = cluster();
    let bob = somebody(7, &[]);
    cluster.ask(&owner, Request::Create(create("/secret"))).expect("created");
    cluster.ask(&owner, set_mode("/secret", 0o600)).expect("done");
    cluster.ask(&owner, Request::Create(create("/open"))).expect("created");
    let paths: Vec<String> = ["/d/f", "/secret", "/open"].map(str::to_owned).to_vec();
    let asked = cluster.ask(&bob, Request::BatchStat(BatchStatRequestV1 { paths: paths.clone() }));
    let Ok(Reply::BatchStat(stats)) = asked else { panic!("{asked:?}") };
    let is_told = stats.results.iter().map(|result| match result {
        StatResultV1::Found(_) => None,
        StatResultV1::Failed(code, _) => Some(Code::from_u16(*code)),
    });
    assert_eq!(is_told.collect::<Vec<_>>(), [Some(Code::PermissionDenied), None, None]);
    let asked = cluster.ask(&bob, Request::BatchOpen(BatchOpenRequestV1 { paths }));
    let Ok(Reply::BatchOpen(opened)) = asked else { panic!("{asked:?}") };
    let is_opened = opened.files.iter().map(|file| match file {
        OpenedV1::Open(_) => None,
        OpenedV1::Refused(code, _) => Some(Code::from_u16(*code)),
    });
    let denied = Some(Code::PermissionDenied);
    assert_eq!(is_opened.collect::<Vec<_>>(), [denied, denied, None]);
}

#[test]
fn what_is_a_superusers_is_refused_to_others() {
    let (mut cluster, owner, _) = cluster();
    let bob = somebody(7, &["staff"]);
    let reserved = [
        Request::DatanodeReport(DatanodeReportRequestV1 { flags: 0 }),
        Request::SafeMode(SafeModeRequestV1 { action: SafeModeAction::Enter }),
        Request::Checkpoint(CheckpointRequestV1 { target: String::new() }),
        Request::Replication(ReplicationRequestV1 { action: ReplicationAction::CopyNow }),
        Request::ListCorruptFiles(ListCorruptFilesRequestV1 { path: "/".to_owned(), cookie: 0 }),
        Request::ListOpenFiles(ListOpenFilesRequestV1 {
            path: "/".to_owned(),
            after: InodeId(0),
            entries_max: 0,
        }),
    ];
    for request in reserved {
        let refused = cluster.ask(&bob, request).expect_err("refused");
        assert_eq!(refused.message, "Access denied for user bob. Superuser privilege is required");
    }
    cluster
        .ask(&bob, Request::SafeMode(SafeModeRequestV1 { action: SafeModeAction::Get }))
        .expect("to ask is free");
    cluster
        .ask(&owner, Request::SafeMode(SafeModeRequestV1 { action: SafeModeAction::Enter }))
        .expect("he may");
}

#[test]
fn a_refused_change_is_not_logged_and_a_retry_is_carried_out_once() {
    let (mut cluster, owner, _) = cluster();
    let bob = somebody(7, &[]);
    cluster.send(&bob, 900, set_mode("/d", 0o777));
    assert_eq!(cluster.sync(), 0);
    assert_eq!(cluster.answers().remove(0).result.expect_err("refused").code, Code::PermissionDenied);
    cluster.send(&owner, 901, set_mode("/d", 0o755));
    assert_eq!(cluster.sync(), 1);
    assert!(cluster.answers().remove(0).result.is_ok());
    cluster.ask(&owner, set_mode("/d", 0o711)).expect("done");
    cluster.send(&owner, 901, set_mode("/d", 0o755));
    assert_eq!(cluster.sync(), 0, "it was carried out before");
    assert!(cluster.answers().remove(0).result.is_ok());
    let Ok(Reply::Stat(status)) = stat(&mut cluster, &bob, "/d") else { panic!("it is there") };
    assert_eq!(status.mode, 0o711);
}

#[test]
fn opening_notes_the_access_once_an_hour_and_never_where_that_is_off() {
    let open = || {
        let file = FileRefV1::Path("/f".to_owned());
        Request::GetBlockLocations(GetBlockLocationsRequestV1 { file, offset: 0, length: 1 })
    };
    for (precision_ms, expected) in [(3_600_000, [0, 1, 0]), (0, [0, 0, 0])] {
        let mut cluster = Cluster::new(Config { access_time_precision_ms: precision_ms, ..config() });
        let client = cluster.caller(1, ELSEWHERE);
        cluster.ask(&client, Request::Create(create("/f"))).expect("created");
        let mut logged = Vec::new();
        for wait_ms in [1000, 3_700_000, 1000] {
            cluster.mono_ms += wait_ms;
            cluster.send(&client, cluster_call(&logged), open());
            cluster.send(&client, cluster_call(&logged) + 100, open());
            logged.push(cluster.sync());
            cluster.answers();
        }
        assert_eq!(logged, expected, "precision {precision_ms}");
        let times = SetTimesRequestV1 { path: "/f".to_owned(), mtime_ms: None, atime_ms: Some(1000) };
        assert_eq!(cluster.ask(&client, Request::SetTimes(times)).is_ok(), precision_ms > 0);
    }
}

/// An id that was not used yet.
fn cluster_call(before: &[usize]) -> u64 {
    5000 + before.len() as u64
}

#[test]
fn attributes_have_namespaces() {
    let (mut cluster, owner, _) = cluster();
    let set = |name: &str, bytes: usize| {
        let xattr = XattrV1 { name: name.to_owned(), value: vec![0; bytes] };
        Request::SetXattr(SetXattrRequestV1 { path: "/d/f".to_owned(), xattr, flags: 3 })
    };
    let cases = [
        ("USER.a", 10, None),
        ("trusted.b", 10, None),
        ("user.big", 16_384 - 3, None),
        ("user.big", 16_384 - 2, Some(Code::LimitExceeded)),
        ("security.a", 1, Some(Code::PermissionDenied)),
        ("system.a", 1, Some(Code::PermissionDenied)),
        ("raw.a", 1, Some(Code::PermissionDenied)),
        ("a", 1, Some(Code::InvalidArgument)),
        ("user.", 1, Some(Code::InvalidArgument)),
        ("other.a", 1, Some(Code::InvalidArgument)),
    ];
    for (name, bytes, expected) in cases {
        let outcome = cluster.ask(&owner, set(name, bytes));
        assert_eq!(outcome.err().map(|error| error.code), expected, "{name} {bytes}");
    }
    cluster.ask(&owner, set_mode("/d", 0o755)).expect("done");
    let mut names = |caller: &Arc<Caller>| {
        let request = GetXattrsRequestV1 { path: "/d/f".to_owned(), names: Vec::new(), with_values: false };
        let Ok(Reply::GetXattrs(reply)) = cluster.ask(caller, Request::GetXattrs(request)) else {
            panic!("names are free")
        };
        reply.xattrs.into_iter().map(|xattr| xattr.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&owner), ["trusted.b", "user.a", "user.big"]);
    assert_eq!(names(&somebody(7, &[])), ["user.a", "user.big"]);
}
