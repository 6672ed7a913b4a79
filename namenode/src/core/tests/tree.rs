//! Calls about many inodes: pages, patterns, totals, and the bound of each turn.

use ringfs_proto::meta::tree::*;
use ringfs_proto::path::Components;

use super::*;
use crate::core::summaries::INODES_PER_TURN_MAX;
use crate::core::tree::COST_PER_CALL_MAX;

impl Fixture {
    fn make_file(&mut self, client: &Arc<Caller>, path: &str) -> InodeId {
        let inode = self.create(client, path);
        let complete = CompleteRequestV1 { inode, last: None, acked: Vec::new(), tail: None };
        self.call(client, Request::Complete(complete)).expect("closed");
        inode
    }

    fn walk(&mut self, client: &Arc<Caller>, request: &WalkRequestV1) -> WalkReplyV1 {
        match self.call(client, Request::Walk(request.clone())) {
            Ok(Reply::Walk(reply)) => reply,
            other => panic!("walk answered {other:?}"),
        }
    }

    /// All pages of a walk.
    fn walk_all(&mut self, client: &Arc<Caller>, mut request: WalkRequestV1) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let reply = self.walk(client, &request);
            found.extend(reply.entries.into_iter().map(|entry| entry.path));
            match reply.next {
                Some(next) => request.start_after = next,
                None => return found,
            }
        }
    }

    fn glob(&mut self, client: &Arc<Caller>, pattern: &str, entries_max: u32) -> Result<Vec<String>, Code> {
        let (mut found, mut start_after) = (Vec::new(), String::new());
        loop {
            let request = GlobRequestV1 { pattern: pattern.to_owned(), start_after, entries_max };
            let Reply::Glob(reply) = self.call(client, Request::Glob(request))? else { panic!("no glob") };
            found.extend(reply.matches.into_iter().map(|found| found.path));
            match reply.next {
                Some(next) => start_after = next,
                None => return Ok(found),
            }
        }
    }

    fn summary(&mut self, client: &Arc<Caller>, path: &str) -> ContentSummaryReplyV1 {
        let request = Request::ContentSummary(ContentSummaryRequestV1 { path: path.to_owned() });
        match self.call(client, request) {
            Ok(Reply::ContentSummary(summary)) => summary,
            other => panic!("content summary answered {other:?}"),
        }
    }
}

fn walk_of(path: &str) -> WalkRequestV1 {
    WalkRequestV1 {
        path: path.to_owned(),
        start_after: String::new(),
        depth_max: 0,
        files_only: false,
        with_locations: false,
        entries_max: 0,
    }
}

/// A tree of `directories` times `files` files, by records alone.
pub(super) fn wide_state(directories: u64, files: u64) -> State {
    let mut state = State::new("ann", "staff");
    for number in 0..directories * files {
        let path = format!("/t/d{:04}/f{:06}", number / files, number % files);
        let change = crate::wal::record::ChangeV1::Create(crate::wal::record::CreateV1 {
            path,
            mode: 0o644,
            unmasked_mode: 0o644,
            overwrite: false,
            create_parents: true,
            replication: 2,
            block_size: BLOCK_BYTES,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: 4096,
        });
        feed(&mut state, change);
    }
    state
}

/// Applies a change as the log would.
pub(super) fn feed(state: &mut State, change: crate::wal::record::ChangeV1) {
    let record = RecordV1 {
        index: LogIndex(state.applied().0 + 1),
        term: ringfs_proto::ids::Term(1),
        time_ms: 1000,
        session: SessionId([9; 16]),
        call: CallId(state.applied().0 + 1),
        lowest_unanswered: CallId(state.applied().0 + 1),
        user: "ann".to_owned(),
        groups: Vec::new(),
        is_privileged: true,
        change,
    };
    state.apply(&record, &mut Vec::new()).expect("applied");
}

#[test]
fn a_walk_sees_everything_once_in_order_whatever_the_page() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    for path in ["/t/b/x/1", "/t/b/2", "/t/a/3", "/t/a-b/4", "/t/c", "/u/5"] {
        fixture.make_file(&client, path);
    }
    let all = ["a", "a/3", "a-b", "a-b/4", "b", "b/2", "b/x", "b/x/1", "c"];
    for entries_max in 1..12 {
        let request = WalkRequestV1 { entries_max, ..walk_of("/t") };
        assert_eq!(fixture.walk_all(&client, request), all, "{entries_max} a page");
        let request = WalkRequestV1 { entries_max, files_only: true, ..walk_of("/t") };
        assert_eq!(fixture.walk_all(&client, request), ["a/3", "a-b/4", "b/2", "b/x/1", "c"]);
        let request = WalkRequestV1 { entries_max, depth_max: 1, ..walk_of("/t") };
        assert_eq!(fixture.walk_all(&client, request), ["a", "a-b", "b", "c"]);
    }
    let file = fixture.walk(&client, &walk_of("/t/c"));
    assert_eq!((file.entries.len(), file.entries[0].path.as_str(), file.next), (1, "", None));
    assert_eq!(fixture.call(&client, Request::Walk(walk_of("/none"))).map(|_| ()), Err(Code::NotFound));
}

#[test]
fn a_walk_goes_on_where_it_was_when_the_place_is_gone() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    for path in ["/t/a/1", "/t/b/2", "/t/b/3", "/t/c/4"] {
        fixture.make_file(&client, path);
    }
    let first = fixture.walk(&client, &WalkRequestV1 { entries_max: 4, ..walk_of("/t") });
    assert_eq!(first.next.as_deref(), Some("b/2"));
    let delete = DeleteRequestV1 { path: "/t/b".to_owned(), recursive: true };
    fixture.call(&client, Request::Delete(delete)).expect("deleted");
    let request = WalkRequestV1 { start_after: "b/2".to_owned(), ..walk_of("/t") };
    assert_eq!(fixture.walk_all(&client, request), ["c", "c/4"]);
}

#[test]
fn a_walk_tells_where_blocks_are() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    let mut nodes = [fixture.join(1, 100 * BLOCK_BYTES), fixture.join(2, 100 * BLOCK_BYTES)];
    fixture.file(&client, "/t/f", &mut nodes.each_mut());
    let request = WalkRequestV1 { with_locations: true, ..walk_of("/t") };
    let reply = fixture.walk(&client, &request);
    let entry = &reply.entries[0];
    assert!(entry.has_all_blocks && entry.blocks.len() == 1);
    assert_eq!((entry.blocks[0].block.length, entry.blocks[0].nodes.len()), (100, 2));
}

#[test]
fn patterns_are_matched_on_the_server() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    for path in ["/d/2024/a.csv", "/d/2024/b.txt", "/d/2025/a.csv", "/d/2025/c/d.csv", "/e", "/d/[x]"] {
        fixture.make_file(&client, path);
    }
    let cases: &[(&str, &[&str])] = &[
        ("/d/*/*.csv", &["/d/2024/a.csv", "/d/2025/a.csv"]),
        ("/d/202[45]/{a,b}*", &["/d/2024/a.csv", "/d/2024/b.txt", "/d/2025/a.csv"]),
        ("/*/2025/c/?.csv", &["/d/2025/c/d.csv"]),
        ("/{d/2024/b.txt,e}", &["/d/2024/b.txt", "/e"]),
        ("/d/\\[x\\]", &["/d/[x]"]),
        ("/*", &["/d", "/e"]),
        ("/", &["/"]),
        ("/e/*", &[]),
        ("/none", &[]),
        ("/d/2024", &["/d/2024"]),
        ("/d/*/", &["/d/2024", "/d/2025", "/d/[x]"]),
    ];
    for (pattern, expected) in cases {
        for entries_max in [0, 1, 2] {
            let found = fixture.glob(&client, pattern, entries_max).expect(pattern);
            assert_eq!(found, *expected, "{pattern}, {entries_max} a page");
        }
    }
    assert_eq!(fixture.glob(&client, "/[", 0), Err(Code::InvalidArgument));
}

#[test]
fn a_batch_of_paths_has_a_result_for_each() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    let inode = fixture.make_file(&client, "/f");
    let paths = ["/f", "/none", "f"].map(str::to_owned).to_vec();
    let reply = fixture.call(&client, Request::BatchStat(BatchStatRequestV1 { paths }));
    let Ok(Reply::BatchStat(reply)) = reply else { panic!("{reply:?}") };
    assert!(matches!(&reply.results[0], StatResultV1::Found(status) if status.inode == inode));
    let code = |result: &StatResultV1| match result {
        StatResultV1::Failed(code, _) => Some(Code::from_u16(*code)),
        StatResultV1::Found(_) => None,
    };
    assert_eq!(code(&reply.results[1]), Some(Code::NotFound));
    assert_eq!(code(&reply.results[2]), Some(Code::InvalidArgument));
    let paths = vec!["/f".to_owned(); 1001];
    let refused = fixture.call(&client, Request::BatchStat(BatchStatRequestV1 { paths }));
    assert_eq!(refused, Err(Code::InvalidArgument));
}

#[test]
fn totals_are_those_of_hdfs() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    let mut nodes = [fixture.join(1, 100 * BLOCK_BYTES), fixture.join(2, 100 * BLOCK_BYTES)];
    fixture.file(&client, "/t/a/f", &mut nodes.each_mut());
    fixture.make_file(&client, "/t/g");
    let expected = ContentSummaryReplyV1 { files: 2, directories: 2, length: 100, space_consumed: 200 };
    assert_eq!(fixture.summary(&client, "/t"), expected);
    let of_file = ContentSummaryReplyV1 { files: 1, directories: 0, length: 100, space_consumed: 200 };
    assert_eq!(fixture.summary(&client, "/t/a/f"), of_file);
    let inode = fixture.create(&client, "/o");
    let add = AddBlockRequestV1 { inode, previous: None, excluded: Vec::new() };
    fixture.call(&client, Request::AddBlock(add)).expect("added");
    let open = fixture.summary(&client, "/o");
    assert_eq!((open.length, open.space_consumed), (0, 2 * BLOCK_BYTES), "an open block counts as full");
}

#[test]
fn a_large_tree_takes_many_turns_and_others_are_served_between_them() {
    let mut fixture = Fixture::with_state(wide_state(20, 1000));
    let client = fixture.client();
    let request = Request::ContentSummary(ContentSummaryRequestV1 { path: "/".to_owned() });
    fixture.send(&client, CallId(1), request);
    let mut turns = 0;
    while fixture.core.has_work() {
        assert!(fixture.answer().is_none());
        let stat = Request::Stat(StatRequestV1 { path: "/t".to_owned() });
        fixture.send(&client, CallId(2), stat);
        assert!(fixture.answer().expect("served in between").is_ok());
        fixture.core.work(fixture.now);
        turns += 1;
    }
    let Some(Ok(Reply::ContentSummary(summary))) = fixture.answer() else { panic!("no totals") };
    assert_eq!((summary.files, summary.directories), (20_000, 22));
    assert!(turns >= 20_000 / INODES_PER_TURN_MAX, "{turns} turns");
    let longest = fixture.core.longest_summary_turn();
    assert!(longest <= INODES_PER_TURN_MAX + 2, "{longest} inodes in one turn");
}

#[test]
fn one_call_looks_at_a_bounded_number_of_entries() {
    let mut fixture = Fixture::with_state(wide_state(10, 1000));
    let client = fixture.client();
    let request =
        GlobRequestV1 { pattern: "/t/*/none*".to_owned(), start_after: String::new(), entries_max: 0 };
    let Ok(Reply::Glob(reply)) = fixture.call(&client, Request::Glob(request)) else { panic!("no glob") };
    assert!(reply.matches.is_empty());
    let next = reply.next.expect("there is more to look at");
    assert_eq!(next, format!("0:t/d0004/f{:06}", COST_PER_CALL_MAX - 1 - 4 - 4 * 1000 - 2));
    assert_eq!(fixture.glob(&client, "/t/*/none*", 0), Ok(Vec::new()));
    assert_eq!(fixture.glob(&client, "/t/*/f00000[01]", 3).map(|found| found.len()), Ok(20));
}

#[test]
fn open_files_are_listed_with_their_writers() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    let inodes = ["/t/a", "/t/b", "/u"].map(|path| fixture.create(&client, path));
    let mut list = |path: &str, after, entries_max| {
        let request = ListOpenFilesRequestV1 { path: path.to_owned(), after, entries_max };
        match fixture.call(&client, Request::ListOpenFiles(request)) {
            Ok(Reply::ListOpenFiles(reply)) => reply,
            other => panic!("{other:?}"),
        }
    };
    let page = list("/", InodeId(0), 2);
    assert_eq!(page.files.iter().map(|file| file.inode).collect::<Vec<_>>(), inodes[..2]);
    assert_eq!((page.files[0].user.as_str(), page.files[0].host.as_str()), ("ann", "127.0.0.1"));
    let page = list("/", page.next.expect("more"), 2);
    assert_eq!(page.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["/u"]);
    assert_eq!(list("/t", InodeId(0), 0).files.len(), 2);
}

#[test]
fn files_without_a_good_replica_are_listed() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    let mut nodes = [fixture.join(1, 100 * BLOCK_BYTES), fixture.join(2, 100 * BLOCK_BYTES)];
    fixture.file(&client, "/t/f", &mut nodes.each_mut());
    let inode = fixture.core.state().stat(&Components::parse("/t/f").expect("valid")).expect("there").inode;
    let list = |fixture: &mut Fixture, path: &str| {
        let request = ListCorruptFilesRequestV1 { path: path.to_owned(), cookie: 0 };
        match fixture.call(&client, Request::ListCorruptFiles(request)) {
            Ok(Reply::ListCorruptFiles(reply)) => reply.files,
            other => panic!("{other:?}"),
        }
    };
    assert!(list(&mut fixture, "/").is_empty());
    fixture.pass(60_000);
    let found = list(&mut fixture, "/t");
    assert_eq!(
        found.iter().map(|file| (file.path.as_str(), file.inode)).collect::<Vec<_>>(),
        [("/t/f", inode)]
    );
    fixture.make_file(&client, "/u");
    assert!(list(&mut fixture, "/u").is_empty());
}
