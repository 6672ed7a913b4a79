//! Two users on one cluster: who may do what, and what an inode carries over a restart.

use std::io::Write;

use ringfs_sdk::{AclEntry, AclKind, AclScope, Client, Kind};
use ringfs_tests::cluster::{Cluster, Options};

fn cluster() -> Cluster {
    let namenode_toml =
        "groups = { mapping = \"static\", members = { ann = [\"staff\"], bob = [\"staff\"] } }\n".to_owned();
    Cluster::start(&Options { namenode_toml, ..Options::default() })
}

fn by(cluster: &Cluster, user: &str) -> Client {
    Client::builder().user(user).connect(&cluster.uri()).expect("a client")
}

fn write(client: &Client, path: &str) -> ringfs_sdk::Result<()> {
    let mut writer = client.create(path)?;
    writer.write_all(b"some bytes").expect("written");
    writer.close().map(|_status| ())
}

fn is_denied<T>(result: ringfs_sdk::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == Kind::PermissionDenied)
}

#[test]
fn two_users_have_what_they_may() {
    let cluster = cluster();
    let (root, ann, bob, eve) =
        (cluster.client(), by(&cluster, "ann"), by(&cluster, "bob"), by(&cluster, "eve"));
    assert!(is_denied(ann.mkdirs("/ann")), "the root directory is the superuser's");
    root.mkdirs("/ann").expect("made");
    root.set_owner("/ann", Some("ann"), Some("staff")).expect("given");
    ann.set_permission("/ann", 0o750).expect("it is hers");
    write(&ann, "/ann/f").expect("written");
    assert!(ann.open("/ann/f").is_ok() && bob.open("/ann/f").is_ok(), "the group may read");
    assert!(is_denied(eve.stat("/ann/f")) && is_denied(eve.open("/ann/f")));
    assert!(is_denied(eve.list("/ann").and_then(|entries| entries.collect::<Result<Vec<_>, _>>())));
    assert!(is_denied(write(&bob, "/ann/g")) && is_denied(bob.delete("/ann/f", false)));
    assert!(
        is_denied(bob.set_permission("/ann/f", 0o777))
            && is_denied(bob.set_owner("/ann/f", Some("bob"), None))
    );
    assert!(bob.check_access("/ann/f", 4).is_ok() && is_denied(bob.check_access("/ann/f", 2)));
    assert!(is_denied(bob.datanode_report()), "superusers only");
    assert_eq!(
        root.stat("/ann/f").map(|status| (status.owner, status.group)).expect("there"),
        ("ann".into(), "staff".into())
    );
    assert!(root.delete("/ann/f", false).expect("deleted"));
}

#[test]
fn what_an_inode_carries_survives_a_restart() {
    let mut cluster = cluster();
    let (root, eve) = (cluster.client(), by(&cluster, "eve"));
    root.mkdirs("/d").expect("made");
    root.set_permission("/d", 0o700).expect("done");
    write(&root, "/d/f").expect("written");
    let entry = |name: &str, permission| AclEntry {
        scope: AclScope::Access,
        kind: AclKind::User,
        name: Some(name.to_owned()),
        permission,
    };
    root.modify_acl("/d", &[entry("eve", 5)]).expect("done");
    root.set_xattr("/d/f", "user.origin", b"crawl 7").expect("done");
    root.set_storage_policy("/d", "cold").expect("done");
    root.set_times("/d/f", Some(5_000), Some(7_000)).expect("done");
    let check = |root: &Client, eve: &Client| {
        let acl = root.acl("/d").expect("there");
        assert_eq!((acl.mode, acl.entries.len()), (0o750, 2), "{acl:?}");
        assert_eq!(
            eve.stat("/d/f").map(|status| (status.mtime_ms, status.storage_policy)).expect("there"),
            (5_000, 2)
        );
        assert_eq!(root.xattrs("/d/f", &["user.origin"]).expect("there")[0].value, b"crawl 7");
        assert_eq!(root.xattr_names("/d/f").expect("there"), ["user.origin"]);
        assert!(is_denied(eve.set_xattr("/d/f", "user.origin", b"")));
    };
    check(&root, &eve);
    root.checkpoint("").expect("taken");
    root.set_xattr("/d", "user.after", b"the checkpoint").expect("done");
    cluster.namenode.kill_9();
    cluster.namenode.start();
    check(&root, &eve);
    assert_eq!(root.xattr_names("/d").expect("there"), ["user.after"]);
}
