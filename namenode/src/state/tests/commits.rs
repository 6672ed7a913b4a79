//! Several changes in one record: the same as one after the other, or nothing.

use ringfs_proto::meta::changes::{
    CommitActionV1, CommitStepV1, ContentVersionV1, CreateEmptyV1, ExpectedV1,
};
use ringfs_proto::meta::namespace::{DeleteRequestV1, MkdirsRequestV1, RenameRequestV1};

use super::*;

fn step(action: CommitActionV1) -> CommitStepV1 {
    CommitStepV1 { conditions: Vec::new(), action }
}

fn create_empty(path: &str) -> CommitActionV1 {
    let path = path.to_owned();
    CommitActionV1::CreateEmpty(CreateEmptyV1 {
        path,
        mode: 0o644,
        unmasked_mode: 0o644,
        replication: 3,
        block_size: 128 << 20,
    })
}

fn rename_to(source: &str, target: &str, overwrite: bool) -> CommitActionV1 {
    let (source, target) = (source.to_owned(), target.to_owned());
    CommitActionV1::Rename(RenameRequestV1 { source, target, overwrite })
}

fn delete_all(path: &str) -> CommitActionV1 {
    CommitActionV1::Delete(DeleteRequestV1 { path: path.to_owned(), recursive: true })
}

fn commit(steps: &[CommitStepV1]) -> ChangeV1 {
    ChangeV1::Commit(CommitV1 { steps: steps.to_vec() })
}

/// Random steps, a few of them with conditions that may fail.
pub(super) fn steps() -> impl Strategy<Value = Vec<CommitStepV1>> {
    let mkdirs = |path| {
        CommitActionV1::Mkdirs(MkdirsRequestV1 {
            path,
            mode: 0o755,
            unmasked_mode: 0o755,
            create_parents: true,
        })
    };
    let action = prop_oneof![
        2 => paths().prop_map(mkdirs),
        3 => paths().prop_map(|path| create_empty(&path)),
        3 => (paths(), paths(), any::<bool>()).prop_map(|(from, to, over)| rename_to(&from, &to, over)),
        2 => (paths(), any::<bool>()).prop_map(|(path, recursive)| CommitActionV1::Delete(DeleteRequestV1 { path, recursive })),
        1 => Just(CommitActionV1::Check),
    ];
    let expected = prop_oneof![
        Just(ExpectedV1::Missing),
        Just(ExpectedV1::Exists),
        (1u64..6, 0u64..6).prop_map(|(inode, version)| {
            let version = LogIndex(version);
            ExpectedV1::Version(ContentVersionV1 { inode: InodeId(inode), version })
        }),
    ];
    let conditions = prop::collection::vec((paths(), expected), 0..2);
    let step = (prop::option::weighted(0.2, conditions), action)
        .prop_map(|(conditions, action)| CommitStepV1 { conditions: conditions.unwrap_or_default(), action });
    prop::collection::vec(step, 1..7)
}

/// The record that does what one step does, alone.
fn alone(action: &CommitActionV1) -> Option<ChangeV1> {
    Some(match action {
        CommitActionV1::Mkdirs(one) => mkdirs(&one.path),
        CommitActionV1::CreateEmpty(one) => create(&one.path, false),
        CommitActionV1::Rename(one) => rename(&one.source, &one.target, one.overwrite),
        CommitActionV1::Delete(one) => delete(&one.path, one.recursive),
        CommitActionV1::Check => return None,
    })
}

/// Carries steps out one after the other; the first refusal ends it.
fn one_by_one(driver: &mut Driver, steps: &[CommitStepV1]) -> Result<(), Code> {
    for step in steps {
        let Some(change) = alone(&step.action) else { continue };
        match driver.apply(change).map_err(|error| error.code)? {
            Applied::Created(inode) => {
                driver
                    .apply(ChangeV1::Complete(CompleteV1 { inode, last: None, crc: None, tail: None }))
                    .expect("closed");
            }
            Applied::Deleted(false) => return Err(Code::NotFound),
            _ => {}
        }
    }
    Ok(())
}

fn tree(state: &State) -> BTreeMap<String, Node> {
    let mut found = BTreeMap::new();
    walk(state, "/", &mut found);
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Without conditions a commit does what its steps do one by one, and is refused as the first of them that is.
    #[test]
    fn a_commit_is_its_steps_or_nothing(commits in prop::collection::vec(steps(), 1..12)) {
        let mut driver = Driver::new();
        let mut done: Vec<CommitStepV1> = Vec::new();
        for steps in commits {
            let steps: Vec<CommitStepV1> = steps.into_iter().map(|one| step(one.action)).collect();
            let mut model = Driver::new();
            one_by_one(&mut model, &done).expect("as before");
            let expected = one_by_one(&mut model, &steps);
            let (digest, counts) = (driver.state.tree_digest(), driver.state.counts());
            let outcome = driver.apply(commit(&steps)).map(|_| ()).map_err(|error| error.code);
            prop_assert_eq!(outcome, expected);
            if expected.is_ok() {
                done.extend(steps);
                prop_assert_eq!(tree(&driver.state), tree(&model.state));
                prop_assert_eq!(driver.state.counts(), model.state.counts());
            } else {
                prop_assert_eq!(driver.state.tree_digest(), digest, "a refusal changes nothing");
                prop_assert_eq!(driver.state.counts(), counts);
            }
            prop_assert!(driver.effects.is_empty());
        }
    }
}

#[test]
fn conditions_hold_or_nothing_is_done() {
    let mut driver = Driver::new();
    let inode = driver.file("/d/current", &[10]);
    let version = ContentVersionV1 { inode, version: driver.status("/d/current").expect("there").version };
    let publish = |expected: ExpectedV1| CommitStepV1 {
        conditions: vec![("/d/current".to_owned(), expected)],
        action: rename_to("/d/next", "/d/current", true),
    };
    driver.file("/d/next", &[20]);
    for wrong in [
        ExpectedV1::Missing,
        ExpectedV1::Version(ContentVersionV1 { version: LogIndex(version.version.0 + 1), ..version }),
        ExpectedV1::Version(ContentVersionV1 { inode: InodeId(inode.0 + 1), ..version }),
    ] {
        let before = driver.state.tree_digest();
        let steps = [step(create_empty("/d/_SUCCESS")), publish(wrong)];
        let refused = driver.apply(commit(&steps)).expect_err("refused");
        assert_eq!(refused.code, Code::ConditionFailed, "{wrong:?}");
        assert!(refused.message.starts_with("step 2 of 2: /d/current is expected"), "{refused}");
        assert_eq!(driver.state.tree_digest(), before);
    }
    driver.effects.clear();
    let steps = [publish(ExpectedV1::Version(version)), step(create_empty("/d/_SUCCESS"))];
    let Ok(Applied::Committed(left)) = driver.apply(commit(&steps)) else { panic!("committed") };
    let status = |path| driver.status(path).expect("there");
    assert_eq!(status("/d/current").length, 20);
    let found = ["/d/current", "/d/_SUCCESS"].map(status);
    let found = found.map(|status| Some(ContentVersionV1 { inode: status.inode, version: status.version }));
    assert_eq!(left, found);
    assert!(!status("/d/_SUCCESS").is_open && status("/d/_SUCCESS").version == driver.state.applied());
    assert_eq!(driver.effects.len(), 1, "the block of the replaced file is freed");
    let again = driver.apply(commit(&steps[..1])).expect_err("it is another version by now");
    assert_eq!(again.code, Code::ConditionFailed);
}

#[test]
fn a_file_that_is_written_is_not_the_version_that_was_seen() {
    let mut driver = Driver::new();
    let inode = driver.file("/f", &[10]);
    let version = ContentVersionV1 { inode, version: driver.status("/f").expect("there").version };
    let check = [CommitStepV1 {
        conditions: vec![("/f".to_owned(), ExpectedV1::Version(version))],
        action: CommitActionV1::Check,
    }];
    assert_eq!(driver.apply(commit(&check)), Ok(Applied::Committed(vec![None])));
    let append = AppendV1 { path: "/f".to_owned(), reopened: None, pipeline: Vec::new() };
    driver.apply(ChangeV1::Append(append)).expect("opened");
    let refused = driver.apply(commit(&check)).expect_err("refused");
    assert_eq!(refused.code, Code::ConditionFailed);
}

#[test]
fn each_step_sees_those_before_it_and_what_they_removed_comes_back() {
    let mut driver = Driver::new();
    driver.file("/a/b/f", &[10]);
    driver.file("/x", &[20]);
    let before = driver.state.tree_digest();
    driver.effects.clear();
    let swap = [
        step(rename_to("/a", "/tmp", false)),
        step(rename_to("/x", "/a", false)),
        step(rename_to("/tmp/b/f", "/x", false)),
        step(delete_all("/tmp")),
    ];
    let mut refused = swap.to_vec();
    refused.push(step(rename_to("/none", "/y", false)));
    assert_eq!(driver.apply(commit(&refused)).expect_err("refused").code, Code::NotFound);
    assert_eq!(driver.state.tree_digest(), before);
    driver.apply(commit(&swap)).expect("committed");
    assert_eq!(driver.status("/a").map(|status| status.length), Ok(20));
    assert_eq!(driver.status("/x").map(|status| status.length), Ok(10));
    assert!(driver.effects.is_empty());
    assert_eq!(driver.state.counts().directories, 1);
}
