//! The namespace against a simple model, and its memory budget.

mod commits;
mod files;
mod limits;
mod permissions;
mod snapshots;

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringfs_proto::Code;
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, CallId, InodeId, LogIndex, SessionId, Stamp, Term};
use ringfs_proto::meta::namespace::{BlockRefV1, FileKind};
use ringfs_proto::path::Components;

use super::*;
use crate::wal::ValuesAt;
use crate::wal::record::*;

const WRITER: SessionId = SessionId([1; 16]);

/// Applies changes one after the other, as the log would.
struct Driver {
    state: State,
    effects: Vec<Effect>,
    records: Vec<RecordV1>,
}

/// Where the values of a record would be in a log of one record per batch, three batches per segment.
fn values_at(index: LogIndex) -> ValuesAt {
    ValuesAt { segment: LogIndex(index.0 / 3 * 3), offset: 4096 * (index.0 % 3) }
}

impl Driver {
    fn new() -> Self {
        Self { state: State::new("super", "supergroup"), effects: Vec::new(), records: Vec::new() }
    }

    fn apply(&mut self, change: ChangeV1) -> Outcome {
        let index = self.state.applied().0 + 1;
        self.apply_as(WRITER, CallId(index), change)
    }

    fn apply_as(&mut self, session: SessionId, call: CallId, change: ChangeV1) -> Outcome {
        let index = LogIndex(self.state.applied().0 + 1);
        let record = RecordV1 {
            index,
            term: Term(1),
            time_ms: 1000 + index.0,
            session,
            call,
            lowest_unanswered: call,
            user: "ann".to_owned(),
            groups: Vec::new(),
            is_privileged: true,
            change,
        };
        self.state.set_values_at(values_at(index));
        let outcome = self.state.apply(&record, &mut self.effects);
        self.records.push(record);
        outcome
    }

    fn create(&mut self, path: &str) -> Result<InodeId, Code> {
        match self.apply(create(path, false)) {
            Ok(Applied::Created(inode)) => Ok(inode),
            Ok(other) => panic!("create answered {other:?}"),
            Err(error) => Err(error.code),
        }
    }

    fn add_block(&mut self, inode: InodeId, previous: Option<BlockRefV1>) -> Result<BlockId, Code> {
        let (block, stamp) = (BlockId(self.state.last_block().0 + 1), Stamp(self.state.last_stamp().0 + 1));
        match self.apply(ChangeV1::AddBlock(AddBlockV1 {
            inode,
            previous,
            previous_crc: None,
            block,
            stamp,
            pipeline: Vec::new(),
        })) {
            Ok(Applied::BlockAdded(block)) => Ok(block),
            Ok(other) => panic!("add_block answered {other:?}"),
            Err(error) => Err(error.code),
        }
    }

    /// The record that cuts a file, with the ids that the namenode would choose.
    fn truncation(&self, path: &str, length: u64) -> ChangeV1 {
        let (block, stamp) = (BlockId(self.state.last_block().0 + 1), Stamp(self.state.last_stamp().0 + 1));
        let file = self.status(path).ok().and_then(|status| self.state.file(status.inode).ok());
        let view = file.and_then(|file| self.state.cut_at(&file, length));
        let cut = view.map(|view| CutV1 { old: view.block, block, stamp });
        ChangeV1::Truncate(TruncateV1 { path: path.to_owned(), length, cut })
    }

    /// A closed file with blocks of these lengths, all of whose bytes are acknowledged.
    fn file(&mut self, path: &str, lengths: &[u64]) -> InodeId {
        let inode = self.create(path).expect("created");
        let mut previous = None;
        for length in lengths {
            let id = self.add_block(inode, previous).expect("added");
            let view = self.state.last_block_of(&self.state.file(inode).expect("a file")).expect("a block");
            assert_eq!(view.block.block, id);
            previous = Some(BlockRefV1 { length: *length, ..view.block });
        }
        self.apply(ChangeV1::Complete(CompleteV1 { inode, last: previous, crc: None, tail: None }))
            .expect("closed");
        inode
    }

    fn blocks_of(&self, inode: InodeId) -> Vec<u64> {
        let file = self.state.file(inode).expect("a file");
        self.state.blocks_in(&file, 0, u64::MAX).map(|view| view.block.length).collect()
    }

    fn status(&self, path: &str) -> Result<ringfs_proto::meta::namespace::FileStatusV1, Code> {
        self.state.stat(&Components::parse(path).expect("valid")).map_err(|error| error.code)
    }
}

fn create(path: &str, overwrite: bool) -> ChangeV1 {
    ChangeV1::Create(CreateV1 {
        path: path.to_owned(),
        mode: 0o644,
        unmasked_mode: 0o644,
        overwrite,
        create_parents: true,
        replication: 3,
        block_size: 128 << 20,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
    })
}

fn mkdirs(path: &str) -> ChangeV1 {
    ChangeV1::Mkdirs(MkdirsV1 {
        path: path.to_owned(),
        mode: 0o755,
        unmasked_mode: 0o755,
        create_parents: true,
    })
}

fn rename(source: &str, target: &str, overwrite: bool) -> ChangeV1 {
    ChangeV1::Rename(RenameV1 { source: source.to_owned(), target: target.to_owned(), overwrite })
}

fn delete(path: &str, recursive: bool) -> ChangeV1 {
    ChangeV1::Delete(DeleteV1 { path: path.to_owned(), recursive, is_subtree_permitted: false })
}

fn block(block: u64, length: u64) -> BlockRefV1 {
    BlockRefV1 { block: BlockId(block), stamp: Stamp(block), length }
}

#[test]
fn a_file_is_written_block_by_block() {
    let mut driver = Driver::new();
    let inode = driver.create("/a/b/file").expect("created");
    assert_eq!(driver.add_block(inode, None), Ok(BlockId(1)));
    assert_eq!(driver.add_block(inode, Some(block(1, 100))), Ok(BlockId(2)));
    assert_eq!(driver.add_block(inode, Some(block(2, 100))), Ok(BlockId(3)));
    assert!(driver.status("/a/b/file").expect("there").is_open);
    let complete = ChangeV1::Complete(CompleteV1 { inode, last: Some(block(3, 7)), crc: None, tail: None });
    assert_eq!(driver.apply(complete.clone()), Ok(Applied::Completed(inode)));
    assert_eq!(
        driver.apply(complete),
        Ok(Applied::Completed(inode)),
        "a repeated complete is answered again"
    );
    let status = driver.status("/a/b/file").expect("there");
    assert_eq!((status.length, status.is_open, status.owner.as_str()), (207, false, "ann"));
    assert_eq!(status.group, "supergroup", "the group comes from the parent");
    let file = driver.state.file(inode).expect("a file");
    let found: Vec<(u64, u64)> =
        driver.state.blocks_in(&file, 100, 101).map(|v| (v.offset, v.block.length)).collect();
    assert_eq!(found, [(100, 100), (200, 7)]);
}

#[test]
fn a_repeated_add_block_gets_the_same_block() {
    let mut driver = Driver::new();
    let inode = driver.create("/f").expect("created");
    assert_eq!(driver.add_block(inode, None), Ok(BlockId(1)));
    assert_eq!(driver.add_block(inode, None), Ok(BlockId(1)));
    assert_eq!(driver.state.last_block(), BlockId(2), "an id that was logged is not given out again");
    assert_eq!(driver.add_block(inode, Some(block(1, 5))), Ok(BlockId(3)));
    assert_eq!(driver.add_block(inode, Some(block(1, 5))), Ok(BlockId(3)));
    assert_eq!(driver.add_block(inode, Some(block(2, 5))), Err(Code::InvalidArgument));
}

#[test]
fn an_abandoned_block_is_gone_and_can_be_abandoned_again() {
    let mut driver = Driver::new();
    let inode = driver.create("/f").expect("created");
    driver.add_block(inode, None).expect("added");
    let abandon = ChangeV1::AbandonBlock(AbandonBlockV1 { inode, block: BlockId(1) });
    assert_eq!(driver.apply(abandon.clone()), Ok(Applied::Done));
    assert_eq!(driver.apply(abandon), Ok(Applied::Done));
    assert!(driver.state.block(BlockId(1)).is_none());
    assert!(matches!(
        driver.effects.last(),
        Some(Effect::BlockRemoved(_, BlockRefV1 { block: BlockId(1), .. }))
    ));
}

#[test]
fn only_the_lease_holder_writes() {
    let mut driver = Driver::new();
    let inode = driver.create("/f").expect("created");
    let add = ChangeV1::AddBlock(AddBlockV1 {
        inode,
        previous: None,
        previous_crc: None,
        block: BlockId(1),
        stamp: Stamp(1),
        pipeline: Vec::new(),
    });
    let other = SessionId([2; 16]);
    let code = |outcome: Outcome| outcome.expect_err("refused").code;
    assert_eq!(code(driver.apply_as(other, CallId(1), add)), Code::LeaseLost);
    assert_eq!(code(driver.apply_as(other, CallId(2), create("/f", false))), Code::LeaseHeld);
    assert!(driver.apply_as(other, CallId(3), create("/f", true)).is_ok(), "overwrite takes the path");
    assert_eq!(driver.add_block(inode, None), Err(Code::LeaseLost), "the old writer has lost its file");
    driver.apply(delete("/f", false)).expect("an open file can be deleted");
    assert_eq!(driver.state.open_files(), 0);
}

/// Each record of leases twice under the same call, and once more in a second namespace: nothing differs.
#[test]
fn records_of_leases_are_applied_once_and_replay_alike() {
    let mut driver = Driver::new();
    let namenode = SessionId::default();
    let inode = driver.create("/f").expect("created");
    let id = driver.add_block(inode, None).expect("added");
    let old = BlockRefV1 { block: id, stamp: Stamp(1), length: 10 };
    let given = |stamp| Ok(Applied::StampGiven(StampGiven { block: old, stamp: Stamp(stamp) }));
    let steps = [
        (WRITER, ChangeV1::NewStamp(NewStampV1 { inode, block: old, stamp: Stamp(2) }), given(2)),
        (WRITER, ChangeV1::NewStamp(NewStampV1 { inode, block: old, stamp: Stamp(3) }), given(3)),
        (
            WRITER,
            ChangeV1::UpdatePipeline(UpdatePipelineV1 { inode, old, stamp: Stamp(3), pipeline: Vec::new() }),
            Ok(Applied::Done),
        ),
        (
            namenode,
            ChangeV1::FenceWriter(FenceWriterV1 { inode, block: id, stamp: Stamp(4) }),
            Ok(Applied::Done),
        ),
        (
            namenode,
            ChangeV1::CloseFile(CloseFileV1 {
                inode,
                holder: WRITER,
                recovery_stamp: Some(Stamp(4)),
                end: FileEndV1::Commit(BlockRefV1 { stamp: Stamp(4), ..old }),
                crc: None,
            }),
            Ok(Applied::Completed(inode)),
        ),
    ];
    for (number, (session, change, expected)) in steps.into_iter().enumerate() {
        for _ in 0..2 {
            let outcome = driver.apply_as(session, CallId(900 + number as u64), change.clone());
            if session == WRITER || outcome.is_ok() {
                assert_eq!(outcome, expected, "{change:?}");
            }
        }
    }
    let status = driver.status("/f").expect("there");
    assert_eq!((status.is_open, status.length, driver.state.last_stamp()), (false, 10, Stamp(4)));
    let mut replayed = State::new("super", "supergroup");
    for record in &driver.records {
        replayed.set_values_at(values_at(record.index));
        let _outcome = replayed.apply(record, &mut Vec::new());
    }
    assert_eq!(replayed.digest(), driver.state.digest());
}

#[test]
fn a_file_is_not_closed_for_its_writer_when_it_changed_meanwhile() {
    let mut driver = Driver::new();
    let inode = driver.create("/f").expect("created");
    let id = driver.add_block(inode, None).expect("added");
    let block = BlockRefV1 { block: id, stamp: Stamp(1), length: 10 };
    let given = NewStampV1 { inode, block, stamp: Stamp(2) };
    driver.apply(ChangeV1::NewStamp(given)).expect("given");
    let update = UpdatePipelineV1 { inode, old: block, stamp: Stamp(2), pipeline: Vec::new() };
    driver.apply(ChangeV1::UpdatePipeline(update)).expect("stands");
    driver.apply(ChangeV1::FenceWriter(FenceWriterV1 { inode, block: id, stamp: Stamp(3) })).expect("fenced");
    let close = |holder, stamp, end| {
        ChangeV1::CloseFile(CloseFileV1 { inode, holder, recovery_stamp: Some(Stamp(stamp)), end, crc: None })
    };
    let commit = |stamp, length| FileEndV1::Commit(BlockRefV1 { block: id, stamp: Stamp(stamp), length });
    let refused = [
        close(WRITER, 2, commit(2, 10)),
        close(WRITER, 3, commit(2, 10)),
        close(WRITER, 3, commit(3, 9)),
        close(SessionId([2; 16]), 3, commit(3, 10)),
        close(WRITER, 3, FileEndV1::Remove(id)),
        close(WRITER, 3, FileEndV1::AsIs),
    ];
    for change in refused {
        let outcome = driver.apply_as(SessionId::default(), CallId(0), change.clone());
        assert_eq!(outcome.expect_err("refused").code, Code::InvalidArgument, "{change:?}");
    }
    assert_eq!(driver.add_block(inode, Some(block)), Err(Code::LeaseLost), "its writer is fenced");
    let close = close(WRITER, 3, commit(3, 11));
    assert_eq!(
        driver.apply_as(SessionId::default(), CallId(0), close),
        Ok(Applied::Completed(inode)),
        "longer than what was acknowledged is fine"
    );
}

#[test]
fn a_call_that_comes_twice_is_carried_out_once() {
    let mut driver = Driver::new();
    let first = driver.apply_as(WRITER, CallId(9), create("/f", false));
    let digest = driver.state.tree_digest();
    assert_eq!(driver.apply_as(WRITER, CallId(9), create("/f", false)), first);
    assert_eq!(driver.state.tree_digest(), digest);
    assert_eq!(driver.state.retry_result(WRITER, CallId(9)), Some(&first));
}

#[test]
fn refusals_have_the_codes_of_hdfs() {
    let mut driver = Driver::new();
    driver.create("/d/f").expect("created");
    let code = |outcome: Outcome| outcome.expect_err("refused").code;
    assert_eq!(code(driver.apply(mkdirs("/d/f"))), Code::AlreadyExists);
    assert_eq!(code(driver.apply(mkdirs("/d/f/x"))), Code::NotADirectory);
    assert_eq!(code(driver.apply(create("/d", false))), Code::IsADirectory);
    assert_eq!(code(driver.apply(create("/d/f/x", false))), Code::NotADirectory);
    assert_eq!(code(driver.apply(delete("/d", false))), Code::NotEmpty);
    assert_eq!(driver.apply(delete("/missing", true)), Ok(Applied::Deleted(false)));
    assert_eq!(driver.apply(delete("/", true)), Ok(Applied::Deleted(false)));
    assert_eq!(code(driver.apply(rename("/missing", "/x", false))), Code::NotFound);
    assert_eq!(code(driver.apply(rename("/d", "/d/e", false))), Code::InvalidArgument);
    assert_eq!(code(driver.apply(rename("/d", "/d", false))), Code::AlreadyExists);
    assert_eq!(code(driver.apply(rename("/", "/x", false))), Code::InvalidArgument);
    assert_eq!(code(driver.apply(rename("/d", "/no/x", false))), Code::NotFound);
    assert_eq!(code(driver.apply(rename("/d", "/d/f", true))), Code::InvalidArgument);
    driver.apply(mkdirs("/e/full")).expect("made");
    assert_eq!(code(driver.apply(rename("/d", "/e", false))), Code::AlreadyExists);
    assert_eq!(code(driver.apply(rename("/d", "/e", true))), Code::NotEmpty);
    assert_eq!(code(driver.apply(rename("/d/f", "/e", true))), Code::IsADirectory);
    assert_eq!(code(driver.apply(rename("/e", "/d/f", true))), Code::NotADirectory);
    assert_eq!(driver.apply(rename("/d", "/e/full", true)), Ok(Applied::Done));
    assert!(driver.status("/e/full/f").is_ok());
}

#[test]
fn a_deep_tree_is_deleted_without_deep_recursion() {
    let mut driver = Driver::new();
    driver.apply(mkdirs(&"/d".repeat(1000))).expect("made");
    for file in 0..2000 {
        driver.create(&format!("/d/d/f{file}")).expect("created");
    }
    assert_eq!(driver.apply(delete("/d", true)), Ok(Applied::Deleted(true)));
    while driver.state.has_detached() {
        driver.apply(ChangeV1::Free).expect("freed");
    }
    assert_eq!(driver.state.counts(), Counts { directories: 1, ..Counts::default() });
}

#[test]
fn a_file_with_one_block_keeps_its_memory_budget() {
    let mut driver = Driver::new();
    let before = driver.state.memory_bytes();
    let files = 100_000;
    for file in 0..files {
        let inode = driver.create(&format!("/data/part-{file:015}")).expect("created");
        let id = driver.add_block(inode, None).expect("added");
        let last = Some(BlockRefV1 { block: id, stamp: Stamp(id.0), length: 1 });
        driver
            .apply(ChangeV1::Complete(CompleteV1 { inode, last, crc: None, tail: None }))
            .expect("completed");
        driver.records.clear();
        driver.effects.clear();
    }
    let bytes_per_file = (driver.state.memory_bytes() - before) / files;
    assert!(bytes_per_file <= 160, "{bytes_per_file} bytes per file");
}

/// What a path is, in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File,
}

/// The namespace as a sorted map of paths: slow and obvious.
#[derive(Debug, Default)]
struct Model {
    nodes: BTreeMap<String, Node>,
}

impl Model {
    fn get(&self, path: &str) -> Option<Node> {
        if path == "/" { Some(Node::Directory) } else { self.nodes.get(path).cloned() }
    }

    fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        self.nodes.keys().filter(|other| other.starts_with(&prefix)).cloned().collect()
    }

    fn parents(path: &str) -> Vec<String> {
        path.match_indices('/').skip(1).map(|(at, _)| path[..at].to_owned()).collect()
    }

    fn make(&mut self, path: &str, node: &Node) -> Result<(), Code> {
        match self.get(path) {
            Some(Node::Directory) if *node == Node::Directory => return Ok(()),
            Some(Node::Directory) => return Err(Code::IsADirectory),
            Some(Node::File) if *node == Node::Directory => return Err(Code::AlreadyExists),
            Some(Node::File) => return Err(Code::LeaseHeld),
            None => {}
        }
        let parents = Self::parents(path);
        if parents.iter().any(|parent| self.get(parent) == Some(Node::File)) {
            return Err(Code::NotADirectory);
        }
        for parent in parents {
            self.nodes.insert(parent, Node::Directory);
        }
        self.nodes.insert(path.to_owned(), node.clone());
        Ok(())
    }

    fn remove(&mut self, path: &str) {
        for below in self.below(path) {
            self.nodes.remove(&below);
        }
        self.nodes.remove(path);
    }

    fn delete(&mut self, path: &str, recursive: bool) -> Result<bool, Code> {
        if self.get(path).is_none() {
            return Ok(false);
        }
        if !recursive && !self.below(path).is_empty() {
            return Err(Code::NotEmpty);
        }
        self.remove(path);
        Ok(true)
    }

    fn rename(&mut self, source: &str, target: &str, overwrite: bool) -> Result<(), Code> {
        if source == target {
            return Err(Code::AlreadyExists);
        }
        if target.starts_with(&format!("{source}/")) {
            return Err(Code::InvalidArgument);
        }
        let node = self.get(source).ok_or(Code::NotFound)?;
        if let Some(occupied) = self.get(target) {
            match (overwrite, &node, &occupied) {
                (false, ..) => return Err(Code::AlreadyExists),
                (true, Node::Directory, Node::File) => return Err(Code::NotADirectory),
                (true, Node::File, Node::Directory) => return Err(Code::IsADirectory),
                (true, ..) if !self.below(target).is_empty() => return Err(Code::NotEmpty),
                (true, ..) => self.remove(target),
            }
        }
        let parents = Self::parents(target);
        if parents.iter().any(|parent| self.get(parent) == Some(Node::File)) {
            return Err(Code::NotADirectory);
        }
        if parents.last().is_some_and(|parent| self.get(parent).is_none()) {
            return Err(Code::NotFound);
        }
        for below in self.below(source) {
            let moved = self.nodes.remove(&below).expect("listed");
            self.nodes.insert(format!("{target}{}", &below[source.len()..]), moved);
        }
        self.nodes.remove(source);
        self.nodes.insert(target.to_owned(), node);
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Mkdirs(String),
    Create(String),
    Delete(String, bool),
    Rename(String, String, bool),
}

fn paths() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|names| format!("/{}", names.join("/")))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        paths().prop_map(Step::Mkdirs),
        paths().prop_map(Step::Create),
        (paths(), any::<bool>()).prop_map(|(path, recursive)| Step::Delete(path, recursive)),
        (paths(), paths(), any::<bool>())
            .prop_map(|(source, target, over)| Step::Rename(source, target, over)),
    ];
    prop::collection::vec(step, 1..60)
}

fn run(driver: &mut Driver, model: &mut Model, step: &Step) {
    let code = |outcome: Outcome| outcome.map_err(|error| error.code);
    match step {
        Step::Mkdirs(path) => {
            assert_eq!(
                code(driver.apply(mkdirs(path))).map(|_| ()),
                model.make(path, &Node::Directory),
                "{step:?}"
            );
        }
        Step::Create(path) => {
            assert_eq!(
                code(driver.apply(create(path, false))).map(|_| ()),
                model.make(path, &Node::File),
                "{step:?}"
            );
        }
        Step::Delete(path, recursive) => {
            let expected = model.delete(path, *recursive).map(Applied::Deleted);
            assert_eq!(code(driver.apply(delete(path, *recursive))), expected, "{step:?}");
        }
        Step::Rename(source, target, overwrite) => {
            let expected = model.rename(source, target, *overwrite).map(|()| Applied::Done);
            assert_eq!(code(driver.apply(rename(source, target, *overwrite))), expected, "{step:?}");
        }
    }
}

/// Every path of the namespace, by listing it from the root in pages of two.
fn walk(state: &State, path: &str, found: &mut BTreeMap<String, Node>) {
    let mut after = String::new();
    loop {
        let page = state.list(&Components::parse(path).expect("valid"), &after, 2).expect("listed");
        for entry in &page.entries {
            let child = format!("{}/{}", path.trim_end_matches('/'), entry.name);
            match entry.kind {
                FileKind::Directory => {
                    found.insert(child.clone(), Node::Directory);
                    walk(state, &child, found);
                }
                FileKind::File => {
                    found.insert(child, Node::File);
                }
            }
            after.clone_from(&entry.name);
        }
        if page.remaining == 0 {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn namespace_agrees_with_the_model_and_replays_alike(steps in steps()) {
        let (mut driver, mut model) = (Driver::new(), Model::default());
        for step in &steps {
            run(&mut driver, &mut model, step);
        }
        let mut found = BTreeMap::new();
        walk(&driver.state, "/", &mut found);
        prop_assert_eq!(&found, &model.nodes);
        let counts = driver.state.counts();
        prop_assert_eq!(counts.files + counts.directories, model.nodes.len() as u64 + 1);
        let mut replayed = State::new("super", "supergroup");
        for record in &driver.records {
            replayed.set_values_at(values_at(record.index));
        let _outcome = replayed.apply(record, &mut Vec::new());
        }
        prop_assert_eq!(replayed.digest(), driver.state.digest());
    }
}
