//! Who may do what: every kind of author against every operation, ACLs, and what inodes carry.

use ringfs_proto::meta::attributes::{AclChangeV1, AclEntryV1, AclKind, AclScope, XattrV1};
use ringfs_proto::meta::changes::{CommitActionV1, CommitStepV1, CreateEmptyV1, ExpectedV1};
use ringfs_proto::meta::namespace::{DeleteRequestV1, MkdirsRequestV1, RenameRequestV1};

use super::*;

/// Somebody in a test: a name and groups.
type Who = (&'static str, &'static [&'static str]);

const OWNER: Who = ("owner", &["users"]);
const MEMBER: Who = ("member", &["staff"]);
const STRANGER: Who = ("stranger", &["users"]);
const SUPERUSER: Who = ("super", &[]);

/// An ACL change that a number picks: entries of different scopes, kinds and names, valid or not.
pub fn acl_change(what: u8) -> AclChangeV1 {
    let scope = if what & 1 == 0 { AclScope::Access } else { AclScope::Default };
    let entries = vec![match what / 8 % 4 {
        0 => entry(scope, AclKind::User, "ann", what & 7),
        1 => entry(scope, AclKind::Group, "staff", what & 7),
        2 => entry(scope, AclKind::Mask, "", what & 7),
        _ => entry(scope, AclKind::User, "bob", what & 7),
    }];
    match what / 32 {
        0..=3 => AclChangeV1::Modify(entries),
        4 => AclChangeV1::Remove(entries),
        5 => AclChangeV1::RemoveDefault,
        6 => AclChangeV1::RemoveAll,
        _ => AclChangeV1::Set(entries),
    }
}

fn entry(scope: AclScope, kind: AclKind, name: &str, permission: u8) -> AclEntryV1 {
    AclEntryV1 { scope, kind, name: (!name.is_empty()).then(|| name.to_owned()), permission }
}

fn access(kind: AclKind, name: &str, permission: u8) -> AclEntryV1 {
    entry(AclScope::Access, kind, name, permission)
}

impl Driver {
    /// Applies a change on behalf of somebody.
    fn by(&mut self, (user, groups): Who, change: ChangeV1) -> Outcome {
        let index = LogIndex(self.state.applied().0 + 1);
        let record = RecordV1 {
            index,
            term: Term(1),
            time_ms: 1000 + index.0,
            session: SessionId([9; 16]),
            call: CallId(index.0),
            lowest_unanswered: CallId(index.0),
            user: user.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            is_privileged: user == SUPERUSER.0,
            change,
        };
        self.state.apply(&record, &mut self.effects)
    }

    fn mode(&mut self, path: &str, mode: u16) {
        self.apply(set_mode(path, mode)).expect("a superuser may");
    }

    fn acl(&mut self, path: &str, change: AclChangeV1) -> Result<(), String> {
        let change = ChangeV1::ChangeAcl(ChangeAclV1 { path: path.to_owned(), change });
        self.apply(change).map(|_done| ()).map_err(|error| error.message)
    }

    fn own(&mut self, path: &str) {
        let (owner, group) = (Some(OWNER.0.to_owned()), Some("staff".to_owned()));
        self.apply(ChangeV1::SetOwner(SetOwnerV1 { path: path.to_owned(), owner, group })).expect("done");
    }

    /// Entries of an ACL as `getfacl` writes them, with the bits of the mode before them.
    fn shown(&self, path: &str) -> String {
        let status = self.status(path).expect("it exists");
        let mut text = format!("{:o}", status.mode);
        for AclEntryV1 { scope, kind, name, permission } in self.state.acl_entries(status.inode) {
            let scope = if *scope == AclScope::Default { "default:" } else { "" };
            let kind = format!("{kind:?}").to_lowercase();
            text.push_str(&format!(" {scope}{kind}:{}:{permission}", name.as_deref().unwrap_or("")));
        }
        text
    }
}

fn set_mode(path: &str, mode: u16) -> ChangeV1 {
    ChangeV1::SetPermission(SetPermissionV1 { path: path.to_owned(), mode })
}

fn concat(target: &str, source: &str) -> ChangeV1 {
    ChangeV1::Concat(ConcatV1 { target: target.to_owned(), sources: vec![source.to_owned()] })
}

fn put(path: &str, overwrite: bool) -> ChangeV1 {
    let ChangeV1::Create(file) = create(path, overwrite) else { unreachable!("a create") };
    ChangeV1::Put(PutV1 { file, block: BlockId(0), value: None })
}

fn commit(action: CommitActionV1, conditions: Vec<(String, ExpectedV1)>) -> ChangeV1 {
    ChangeV1::Commit(CommitV1 { steps: vec![CommitStepV1 { conditions, action }] })
}

/// `/d` with `/d/f` and `/d/s/x`, all of the owner and of group staff; `/d/h` and `/other/h` are open to everybody.
fn tree(directory: u16, file: u16) -> Driver {
    let mut driver = Driver::new();
    driver.file("/d/f", &[10]);
    for path in ["/d/h", "/other/h"] {
        driver.file(path, &[10]);
        driver.mode(path, 0o777);
    }
    driver.apply(mkdirs("/d/s/x")).expect("made");
    driver.apply(mkdirs("/other")).expect("made");
    driver.mode("/other", 0o777);
    for path in ["/d", "/d/f", "/d/s", "/d/s/x"] {
        driver.own(path);
    }
    driver.mode("/d", directory);
    driver.mode("/d/s", 0o777);
    driver.mode("/d/f", file);
    driver
}

/// The same with an attribute of `/d/f`.
fn tree_with_attribute(directory: u16, file: u16) -> Driver {
    let mut driver = tree(directory, file);
    let xattr = XattrV1 { name: "user.old".to_owned(), value: vec![1] };
    let set = SetXattrV1 { path: "/d/f".to_owned(), xattr, flags: 3 };
    driver.apply(ChangeV1::SetXattr(set)).expect("a superuser may");
    driver
}

/// What an operation takes of the directory `/d` and of the file `/d/f`, as bits; `owner` where only he may.
struct Rule {
    name: &'static str,
    directory: u16,
    file: u16,
    is_owners: bool,
    change: fn() -> ChangeV1,
}

fn rules() -> Vec<Rule> {
    let rule = |name, directory, file, change| Rule { name, directory, file, is_owners: false, change };
    let owners = |name, change| Rule { name, directory: 1, file: 0, is_owners: true, change };
    vec![
        rule("mkdirs", 3, 0, || mkdirs("/d/new")),
        rule("mkdirs of what is there", 1, 0, || mkdirs("/d/s")),
        rule("create", 3, 0, || create("/d/new", false)),
        rule("overwrite", 3, 2, || create("/d/f", true)),
        rule("rename out", 3, 0, || rename("/d/f", "/other/f", false)),
        rule("rename inside", 3, 0, || rename("/d/f", "/d/g", false)),
        rule("rename over", 3, 0, || rename("/other/h", "/d/f", true)),
        rule("delete", 3, 0, || delete("/d/f", false)),
        rule("delete a tree", 3, 0, || delete("/d/s", true)),
        rule("put", 3, 0, || put("/d/new", false)),
        rule("put over", 3, 2, || put("/d/f", true)),
        rule("concat to", 3, 2, || concat("/d/f", "/d/h")),
        rule("concat from", 3, 4, || concat("/d/h", "/d/f")),
        rule("set replication", 1, 2, || {
            ChangeV1::SetReplication(SetReplicationV1 { path: "/d/f".to_owned(), replication: 2 })
        }),
        rule("append", 1, 2, || {
            ChangeV1::Append(AppendV1 { path: "/d/f".to_owned(), reopened: None, pipeline: Vec::new() })
        }),
        rule("truncate", 1, 2, || {
            ChangeV1::Truncate(TruncateV1 { path: "/d/f".to_owned(), length: 0, cut: None })
        }),
        rule("set times", 1, 2, || {
            ChangeV1::SetTimes(SetTimesV1 { path: "/d/f".to_owned(), mtime_ms: Some(1), atime_ms: None })
        }),
        rule("set an attribute", 1, 2, || {
            let xattr = XattrV1 { name: "user.a".to_owned(), value: vec![1] };
            ChangeV1::SetXattr(SetXattrV1 { path: "/d/f".to_owned(), xattr, flags: 3 })
        }),
        rule("remove an attribute", 1, 2, || {
            ChangeV1::RemoveXattr(RemoveXattrV1 { path: "/d/f".to_owned(), name: "user.old".to_owned() })
        }),
        rule("set a storage policy", 1, 2, || {
            ChangeV1::SetStoragePolicy(SetStoragePolicyV1 { path: "/d/f".to_owned(), policy: 2 })
        }),
        rule("commit of a directory", 3, 0, || {
            let (path, mode) = ("/d/new".to_owned(), 0o755);
            let mkdirs = MkdirsRequestV1 { path, mode, unmasked_mode: mode, create_parents: true };
            commit(CommitActionV1::Mkdirs(mkdirs), Vec::new())
        }),
        rule("commit of a file", 3, 0, || {
            let (path, mode) = ("/d/new".to_owned(), 0o644);
            let create = CreateEmptyV1 { path, mode, unmasked_mode: mode, replication: 1, block_size: 1024 };
            commit(CommitActionV1::CreateEmpty(create), Vec::new())
        }),
        rule("commit of a rename", 3, 0, || {
            let (source, target) = ("/d/f".to_owned(), "/other/f".to_owned());
            commit(CommitActionV1::Rename(RenameRequestV1 { source, target, overwrite: false }), Vec::new())
        }),
        rule("commit of a deletion", 3, 0, || {
            let delete = DeleteRequestV1 { path: "/d/f".to_owned(), recursive: true };
            commit(CommitActionV1::Delete(delete), Vec::new())
        }),
        rule("commit of a condition", 1, 0, || {
            commit(CommitActionV1::Check, vec![("/d/f".to_owned(), ExpectedV1::Exists)])
        }),
        owners("set permission", || set_mode("/d/f", 0o600)),
        owners("set the group", || {
            let group = Some("users".to_owned());
            ChangeV1::SetOwner(SetOwnerV1 { path: "/d/f".to_owned(), owner: None, group })
        }),
        owners("change the ACL", || {
            let change = AclChangeV1::Modify(vec![access(AclKind::User, "bob", 7)]);
            ChangeV1::ChangeAcl(ChangeAclV1 { path: "/d/f".to_owned(), change })
        }),
    ]
}

/// Each operation by each kind of author, with every combination of bits of the directory and of the file for his class.
#[test]
fn every_operation_takes_what_hdfs_says_of_every_class() {
    let classes = [(OWNER, 6u16), (MEMBER, 3), (STRANGER, 0)];
    for Rule { name, directory, file, is_owners, change } in rules() {
        for ((who, shift), bits) in
            classes.into_iter().flat_map(|class| (0..64u16).map(move |bits| (class, bits)))
        {
            let (of_directory, of_file) = (bits >> 3, bits & 7);
            // The other classes may everything: what counts is one's own class alone.
            let modes = |own: u16| 0o777 & !(7 << shift) | own << shift;
            let mut driver = tree_with_attribute(modes(of_directory), modes(of_file));
            let is_allowed = of_directory & directory == directory
                && of_file & file == file
                && (!is_owners || who == OWNER);
            let outcome = driver.by(who, change());
            let code = outcome.as_ref().err().map(|error| error.code);
            let expected = (!is_allowed).then_some(Code::PermissionDenied);
            assert_eq!(code, expected, "{name} by {} with {of_directory:o} {of_file:o}: {outcome:?}", who.0);
            let mut driver = tree_with_attribute(modes(of_directory), modes(of_file));
            assert!(driver.by(SUPERUSER, change()).is_ok(), "{name} by a superuser");
        }
    }
}

/// The same for a user whom ACLs of the directory and of the file name, behind a mask that lets all or only these bits through.
#[test]
fn every_operation_takes_the_same_of_whom_an_acl_names() {
    for Rule { name, directory, file, is_owners, change } in rules() {
        for (bits, is_mask) in (0..64u16).flat_map(|bits| [(bits, false), (bits, true)]) {
            let (of_directory, of_file) = (bits >> 3, bits & 7);
            let mut driver = tree_with_attribute(0o777, 0o777);
            for (path, bits) in [("/d", of_directory as u8), ("/d/f", of_file as u8)] {
                let (named, mask) = if is_mask { (7, bits) } else { (bits, 7) };
                let entries = vec![access(AclKind::User, "stranger", named), access(AclKind::Mask, "", mask)];
                driver.acl(path, AclChangeV1::Modify(entries)).expect("set");
            }
            let is_allowed = of_directory & directory == directory && of_file & file == file && !is_owners;
            let outcome = driver.by(STRANGER, change());
            let code = outcome.as_ref().err().map(|error| error.code);
            let expected = (!is_allowed).then_some(Code::PermissionDenied);
            assert_eq!(code, expected, "{name} with {of_directory:o} {of_file:o}: {outcome:?}");
        }
    }
}

#[test]
fn reads_take_what_hdfs_says() {
    let staff = ["staff".to_owned()];
    for (directory, file) in (0..64u16).map(|bits| (bits >> 3, bits & 7)) {
        let driver = tree(0o700 | directory << 3, 0o600 | file << 3);
        let author = Author { user: "member", groups: &staff, is_privileged: false };
        let asks = |path: &str, asked| {
            driver.state.check(author, &Components::parse(path).expect("valid"), asked).is_ok()
        };
        assert_eq!(asks("/d/f", Asked::TRAVERSE), directory & 1 == 1, "stat");
        assert_eq!(asks("/d/f", Asked::target(Access::READ)), directory & 1 == 1 && file & 4 == 4, "open");
        assert_eq!(asks("/d", driver.state.to_list("/d")), directory & 5 == 5, "list");
        assert!(asks("/d", Asked::TRAVERSE), "stat of the directory itself");
        let mut walk =
            driver.state.walk(author, ROOT, Everything { depth_max: 0 }, "").expect("the root is there");
        while walk.next_visit().is_some() {}
        assert_eq!(walk.denied().is_ok(), directory & 5 == 5, "walk");
    }
}

#[test]
fn refusals_have_the_words_of_hdfs() {
    let mut driver = tree(0o755, 0o644);
    let text = |outcome: Outcome| outcome.expect_err("refused").message;
    assert_eq!(
        text(driver.by(("bob", &[]), mkdirs("/x"))),
        "Permission denied: user=bob, access=WRITE, inode=\"/\":super:supergroup:drwxr-xr-x"
    );
    assert_eq!(
        text(driver.by(STRANGER, set_mode("/d/f", 0o777))),
        "Permission denied. user=stranger is not the owner of inode=/d/f"
    );
    let to = |owner: Option<&str>, group: Option<&str>| {
        let (owner, group) = (owner.map(str::to_owned), group.map(str::to_owned));
        ChangeV1::SetOwner(SetOwnerV1 { path: "/d/f".to_owned(), owner, group })
    };
    assert_eq!(
        text(driver.by(OWNER, to(Some("bob"), None))),
        "User owner is not a super user (non-super user cannot change owner)."
    );
    assert_eq!(text(driver.by(OWNER, to(None, Some("root")))), "User owner does not belong to root");
    driver.by(OWNER, to(Some("owner"), Some("users"))).expect("his own name, and a group of his");
    driver.mode("/d", 0o1777);
    assert_eq!(
        text(driver.by(STRANGER, delete("/d/f", false))),
        "Permission denied by sticky bit: user=stranger, path=\"/d/f\":owner:users:-rw-r--r--, \
         parent=\"/d\":owner:staff:drwxrwxrwt"
    );
}

#[test]
fn a_sticky_directory_keeps_what_others_own() {
    let moves: [fn() -> ChangeV1; 6] = [
        || {
            let delete = DeleteRequestV1 { path: "/d/f".to_owned(), recursive: false };
            commit(CommitActionV1::Delete(delete), Vec::new())
        },
        || concat("/d/h", "/d/f"),
        || delete("/d/f", false),
        || rename("/d/f", "/other/f", false),
        || rename("/d/s", "/other/s", false),
        || rename("/other/mine", "/d/f", true),
    ];
    for (number, change) in moves.into_iter().enumerate() {
        for (who, is_allowed) in [(OWNER, true), (MEMBER, false), (STRANGER, false), (SUPERUSER, true)] {
            let mut driver = tree(0o1777, 0o666);
            driver.file("/other/mine", &[1]);
            let outcome = driver.by(who, change());
            assert_eq!(outcome.is_ok(), is_allowed, "{number} by {}: {outcome:?}", who.0);
        }
    }
    let mut driver = tree(0o1777, 0o666);
    driver.by(STRANGER, mkdirs("/d/own")).expect("anybody may make something");
    driver.by(STRANGER, delete("/d/own", true)).expect("and take away what is his");
}

#[test]
fn a_tree_is_deleted_by_who_may_delete_all_of_it() {
    let cases = [(0o777, 0o777, true), (0o755, 0o777, true), (0o777, 0o755, false), (0o777, 0o1777, false)];
    for (below, directory, is_allowed) in cases {
        let mut driver = tree(0o777, 0o644);
        driver.mode("/d/s", directory);
        // Without entries it may be as it likes.
        driver.mode("/d/s/x", below);
        let outcome = driver.by(STRANGER, delete("/d/s", true));
        assert_eq!(outcome.is_ok(), is_allowed, "{directory:o} {below:o}: {outcome:?}");
        assert_eq!(driver.status("/d/s").is_ok(), !is_allowed, "all or nothing");
    }
}

#[test]
fn what_is_made_belongs_to_its_maker_and_to_the_group_of_its_directory() {
    let mut driver = tree(0o777, 0o644);
    driver.by(STRANGER, create("/d/a/b", false)).expect("made");
    for path in ["/d/a", "/d/a/b"] {
        let status = driver.status(path).expect("there");
        assert_eq!((status.owner.as_str(), status.group.as_str()), ("stranger", "staff"), "{path}");
    }
    // What is made on the way to a file is like the directory above it, for others than its owner.
    driver.mode("/d", 0o1057);
    driver.by(STRANGER, create("/d/c/e/f", false)).expect("made");
    let mode = |path| driver.status(path).expect("there").mode;
    assert_eq!((mode("/d/c"), mode("/d/c/e"), mode("/d/c/e/f")), (0o357, 0o357, 0o644));
}

#[test]
fn a_change_is_judged_when_it_is_applied() {
    let mut driver = tree(0o777, 0o644);
    driver.by(OWNER, set_mode("/d", 0o755)).expect("the owner may");
    let refused = driver.by(STRANGER, mkdirs("/d/late")).expect_err("not any more");
    assert_eq!(refused.code, Code::PermissionDenied);
}

#[test]
fn acls_decide_for_users_and_groups_behind_the_mask() {
    let allow = |entries: &[AclEntryV1], group_bits: u16| {
        let mut driver = tree(0o755, 0o600 | group_bits << 3);
        driver.acl("/d/f", AclChangeV1::Modify(entries.to_vec())).expect("valid");
        driver
    };
    let asks = |driver: &Driver, user: &str, groups: &[&str], access: Access| {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let author = Author { user, groups: &groups, is_privileged: false };
        let path = Components::parse("/d/f").expect("valid");
        driver.state.check(author, &path, Asked::target(access)).is_ok()
    };
    let (read, write) = (Access::READ, Access::WRITE);
    let driver = allow(&[access(AclKind::User, "bob", 6)], 4);
    assert_eq!(driver.shown("/d/f"), "660 user:bob:6 group::4");
    assert!(asks(&driver, "bob", &[], write) && asks(&driver, "member", &["staff"], read));
    assert!(!asks(&driver, "member", &["staff"], write), "the group has its entry, not the mask");
    assert!(!asks(&driver, "eve", &[], read), "others have nothing");
    let masked = allow(&[access(AclKind::User, "bob", 6), access(AclKind::Mask, "", 4)], 4);
    assert!(asks(&masked, "bob", &[], read) && !asks(&masked, "bob", &[], write));
    let grouped = allow(&[access(AclKind::Group, "ops", 6), access(AclKind::User, "bob", 0)], 4);
    assert!(asks(&grouped, "eve", &["staff", "ops"], write), "one of his groups is enough");
    assert!(!asks(&grouped, "bob", &["ops"], read), "his own entry counts before those of his groups");
    let mut open = allow(&[access(AclKind::Group, "ops", 0), access(AclKind::Other, "", 7)], 0);
    assert!(!asks(&open, "eve", &["ops"], read), "who is named is no other");
    assert!(asks(&open, "joe", &[], read));
    open.mode("/d/f", 0o607);
    assert!(!asks(&open, "eve", &["ops"], read) && open.status("/d/f").expect("there").has_acl);
    let mut refused = allow(&[access(AclKind::User, "bob", 6)], 4);
    let text = refused.by(STRANGER, set_mode("/d/f", 0)).expect_err("refused").message;
    assert!(text.ends_with("/d/f"), "{text}");
    let append = ChangeV1::Append(AppendV1 { path: "/d/f".to_owned(), reopened: None, pipeline: Vec::new() });
    let text = refused.by(STRANGER, append).expect_err("refused").message;
    assert!(text.ends_with("\"/d/f\":owner:staff:-rw-rw----"), "{text}");
}

/// HDFS: `TestAclTransformation`; each line is a change and what is there afterwards, or why not.
#[test]
fn acls_change_as_in_hdfs() {
    use AclKind::{Group, Mask, Other, User};
    let default = |kind, name, permission| entry(AclScope::Default, kind, name, permission);
    let steps: Vec<(&str, AclChangeV1, Result<&str, &str>)> = vec![
        ("/d", AclChangeV1::Modify(vec![access(User, "bob", 7)]), Ok("770 user:bob:7 group::5")),
        ("/d", AclChangeV1::Modify(vec![access(Mask, "", 5)]), Ok("750 user:bob:7 group::5")),
        ("/d", AclChangeV1::Modify(vec![access(Group, "ops", 6)]), Ok("770 user:bob:7 group::5 group:ops:6")),
        (
            "/d",
            AclChangeV1::Remove(vec![access(Mask, "", 0)]),
            Err("Invalid ACL: mask is required and cannot be deleted."),
        ),
        ("/d", AclChangeV1::Remove(vec![access(User, "bob", 0)]), Ok("770 group::5 group:ops:6")),
        ("/d", AclChangeV1::Remove(vec![access(Group, "ops", 0)]), Ok("750 group::5")),
        ("/d", AclChangeV1::Remove(vec![access(Mask, "", 0)]), Ok("750")),
        (
            "/d",
            AclChangeV1::Modify(vec![default(User, "bob", 6)]),
            Ok("750 default:user::7 default:user:bob:6 default:group::5 default:mask::7 default:other::0"),
        ),
        (
            "/d",
            AclChangeV1::Set(vec![access(User, "", 6), access(Group, "", 4), access(Other, "", 0)]),
            Ok("640 default:user::7 default:user:bob:6 default:group::5 default:mask::7 default:other::0"),
        ),
        (
            "/d",
            AclChangeV1::Set(vec![access(User, "bob", 6)]),
            Err("Invalid ACL: the user, group and other entries are required."),
        ),
        ("/d", AclChangeV1::RemoveDefault, Ok("640")),
        ("/d", AclChangeV1::Modify(vec![access(User, "bob", 7)]), Ok("670 user:bob:7 group::4")),
        ("/d", AclChangeV1::RemoveAll, Ok("640")),
        (
            "/d",
            AclChangeV1::Modify(vec![access(Other, "bob", 7)]),
            Err("Invalid ACL: this entry type must not have a name."),
        ),
        (
            "/d",
            AclChangeV1::Modify(vec![access(User, "bob", 7), access(User, "bob", 6)]),
            Err("Invalid ACL: multiple entries with same scope, type and name."),
        ),
        (
            "/d/f",
            AclChangeV1::Modify(vec![default(User, "bob", 7)]),
            Err("Invalid ACL: only directories may have a default ACL."),
        ),
        ("/d/f", AclChangeV1::Set(Vec::new()), Ok("644")),
    ];
    let mut driver = tree(0o750, 0o644);
    for (number, (path, change, expected)) in steps.into_iter().enumerate() {
        let outcome = driver.acl(path, change).map(|()| driver.shown(path));
        assert_eq!(outcome, expected.map(str::to_owned).map_err(str::to_owned), "step {number}");
    }
    let many = (0..30).map(|number| access(User, &format!("u{number}"), 4)).collect();
    let refused = driver.acl("/d/f", AclChangeV1::Modify(many)).expect_err("too many");
    assert_eq!(refused, "Invalid ACL: ACL has 34 access entries, which exceeds maximum of 32.");
}

#[test]
fn default_acls_are_inherited() {
    let mut driver = tree(0o777, 0o644);
    let default = |kind, name, permission| entry(AclScope::Default, kind, name, permission);
    driver.acl("/d", AclChangeV1::Modify(vec![default(AclKind::User, "bob", 7)])).expect("valid");
    driver.apply(mkdirs("/d/a/b")).expect("made");
    let defaults = "default:user::7 default:user:bob:7 default:group::7 default:mask::7 default:other::7";
    assert_eq!(driver.shown("/d/a/b"), format!("755 user:bob:7 group::7 {defaults}"));
    driver.apply(create("/d/a/f", false)).expect("made");
    assert_eq!(driver.shown("/d/a/f"), "644 user:bob:7 group::7", "the mode asked for is the mask");
    let masked =
        MkdirsV1 { path: "/d/u".to_owned(), mode: 0o700, unmasked_mode: 0o775, create_parents: false };
    driver.apply(ChangeV1::Mkdirs(masked)).expect("made");
    assert_eq!(
        driver.shown("/d/u"),
        format!("775 user:bob:7 group::7 {defaults}"),
        "in the place of the umask"
    );
    driver.acl("/d", AclChangeV1::RemoveDefault).expect("done");
    driver.apply(mkdirs("/d/plain")).expect("made");
    assert_eq!(driver.shown("/d/plain"), "755");
}

#[test]
fn attributes_have_flags_and_limits() {
    let mut driver = tree(0o755, 0o644);
    let mut set = |name: &str, flags: u8| {
        let xattr = XattrV1 { name: format!("user.{name}"), value: vec![1, 2] };
        let change = ChangeV1::SetXattr(SetXattrV1 { path: "/d/f".to_owned(), xattr, flags });
        driver.by(OWNER, change).map(|_done| ()).map_err(|error| error.message)
    };
    let text = |text: &str| Err(text.to_owned());
    assert_eq!(set("a", 2), text("XAttr: a does not exist. The CREATE flag must be specified."));
    assert_eq!(set("a", 1), Ok(()));
    assert_eq!(set("a", 1), text("XAttr: a already exists. The REPLACE flag must be specified."));
    assert_eq!(set("a", 2), Ok(()));
    (1..32).for_each(|number| assert_eq!(set(&format!("n{number}"), 3), Ok(())));
    assert_eq!(set("b", 3), text("Cannot add additional XAttr to inode, would exceed limit of 32"));
    let inode = driver.status("/d/f").expect("there").inode;
    assert_eq!(driver.state.xattrs(inode).len(), 32);
    let remove = |name: &str| {
        ChangeV1::RemoveXattr(RemoveXattrV1 { path: "/d/f".to_owned(), name: format!("user.{name}") })
    };
    driver.by(OWNER, remove("a")).expect("removed");
    let missing = driver.by(OWNER, remove("a")).expect_err("gone").message;
    assert_eq!(missing, "No matching attributes found for remove operation");
    let trusted = XattrV1 { name: "trusted.a".to_owned(), value: Vec::new() };
    let trusted = ChangeV1::SetXattr(SetXattrV1 { path: "/d/f".to_owned(), xattr: trusted, flags: 3 });
    let refused = driver.by(OWNER, trusted.clone()).expect_err("refused").message;
    assert_eq!(refused, "User doesn't have permission for xattr: trusted.a");
    driver.by(SUPERUSER, trusted).expect("a superuser may");
}

#[test]
fn storage_policies_are_inherited_until_another_is_nearer() {
    let mut driver = tree(0o755, 0o644);
    let mut set = |path: &str, policy: u8| {
        driver.apply(ChangeV1::SetStoragePolicy(SetStoragePolicyV1 { path: path.to_owned(), policy }))?;
        Ok::<_, WireError>(
            ["/d", "/d/f", "/d/s/x", "/other"].map(|path| driver.status(path).expect("there").storage_policy),
        )
    };
    assert_eq!(set("/d", 2), Ok([2, 2, 2, 0]));
    assert_eq!(set("/d/s", 12), Ok([2, 2, 12, 0]));
    assert_eq!(set("/", 7), Ok([2, 2, 12, 7]));
    assert_eq!(set("/d", 0), Ok([7, 7, 12, 7]));
    assert!(set("/d/f", 15).is_err_and(|error| error.code == Code::InvalidArgument));
}

#[test]
fn what_an_inode_carried_goes_with_it() {
    let mut driver = tree(0o755, 0o644);
    driver.acl("/d/s", AclChangeV1::Modify(vec![access(AclKind::User, "bob", 7)])).expect("valid");
    assert_eq!(driver.state.extras.count(), 1);
    driver.apply(rename("/d/s", "/other/s", false)).expect("renamed");
    assert_eq!(driver.shown("/other/s"), "777 user:bob:7 group::7", "it stays over a rename");
    driver.apply(delete("/other/s", true)).expect("deleted");
    assert_eq!(driver.state.extras.count(), 0);
}
