//! Append, truncate, concat and rename: HDFS's tables, line by line.

use super::*;

const BLOCK: u64 = 128 << 20;

fn code(outcome: &Outcome) -> Option<Code> {
    outcome.as_ref().err().map(|error| error.code)
}

fn message(outcome: Outcome) -> String {
    outcome.expect_err("refused").message
}

fn append(path: &str, reopened: Option<BlockRefV1>) -> ChangeV1 {
    ChangeV1::Append(AppendV1 { path: path.to_owned(), reopened, pipeline: Vec::new() })
}

fn concat(target: &str, sources: &[&str]) -> ChangeV1 {
    let sources = sources.iter().map(|source| (*source).to_owned()).collect();
    ChangeV1::Concat(ConcatV1 { target: target.to_owned(), sources })
}

#[test]
fn append_opens_a_closed_file_with_its_last_block() {
    let mut driver = Driver::new();
    let inode = driver.file("/f", &[BLOCK, 100]);
    let last = driver.state.last_block_of(&driver.state.file(inode).expect("there")).expect("a block");
    driver.effects.clear();
    assert_eq!(driver.apply(append("/f", Some(last.block))), Ok(Applied::Opened(inode)));
    assert_eq!(driver.effects, [Effect::BlockReopened(last.slot, last.block)]);
    let file = driver.state.leases().get(inode).expect("open");
    assert_eq!((file.session, file.acked_length, file.has_stood), (WRITER, 100, true));
    assert!(driver.status("/f").expect("there").is_open);
    let shorter = BlockRefV1 { length: 99, ..last.block };
    let complete = |last| ChangeV1::Complete(CompleteV1 { inode, last: Some(last), crc: None, tail: None });
    assert_eq!(code(&driver.apply(complete(shorter))), Some(Code::InvalidArgument), "old bytes stay");
    let abandon = ChangeV1::AbandonBlock(AbandonBlockV1 { inode, block: last.block.block });
    assert_eq!(code(&driver.apply(abandon)), Some(Code::InvalidArgument), "old bytes stay");
    let longer = BlockRefV1 { length: 150, ..last.block };
    driver.apply(complete(longer)).expect("closed");
    assert_eq!(driver.status("/f").expect("there").length, BLOCK + 150);
}

#[test]
fn append_is_refused_as_hdfs_refuses_it() {
    let mut driver = Driver::new();
    let inode = driver.file("/f", &[100]);
    driver.apply(mkdirs("/d")).expect("made");
    assert_eq!(code(&driver.apply(append("/none", None))), Some(Code::NotFound));
    assert_eq!(code(&driver.apply(append("/d", None))), Some(Code::IsADirectory));
    let stale = block(1, 50);
    assert_eq!(code(&driver.apply(append("/f", Some(stale)))), Some(Code::LeaseHeld), "it is another by now");
    assert_eq!(driver.apply(append("/f", None)), Ok(Applied::Opened(inode)), "a new block");
    let again = driver.apply(append("/f", None));
    assert_eq!(code(&again), Some(Code::LeaseHeld));
    assert!(message(again).ends_with("is already the current lease holder."));
    let other = driver.apply_as(SessionId([2; 16]), CallId(1), append("/f", None));
    assert_eq!(code(&other), Some(Code::LeaseHeld));
    assert!(message(other).contains("because this file lease is currently owned by"));
}

#[test]
fn truncate_at_a_boundary_is_done_at_once() {
    for (length, expected) in [(2 * BLOCK, vec![BLOCK, BLOCK]), (BLOCK, vec![BLOCK]), (0, vec![])] {
        let mut driver = Driver::new();
        let inode = driver.file("/f", &[BLOCK, BLOCK, 100]);
        let version = driver.status("/f").expect("there").version;
        let change = driver.truncation("/f", length);
        assert_eq!(driver.apply(change), Ok(Applied::Truncated(true)), "{length}");
        assert_eq!(driver.blocks_of(inode), expected);
        let status = driver.status("/f").expect("there");
        assert_eq!((status.length, status.is_open), (length, false));
        assert!(status.version > version, "the content is another");
    }
}

#[test]
fn truncate_answers_as_hdfs_does() {
    let mut driver = Driver::new();
    driver.file("/f", &[100]);
    driver.apply(mkdirs("/d")).expect("made");
    let mut truncate = |path: &str, length| {
        let change = driver.truncation(path, length);
        driver.apply(change)
    };
    assert_eq!(truncate("/f", 100), Ok(Applied::Truncated(true)), "the same length");
    assert_eq!(code(&truncate("/none", 0)), Some(Code::NotFound));
    assert_eq!(code(&truncate("/d", 0)), Some(Code::IsADirectory));
    let longer = truncate("/f", 101);
    assert_eq!(code(&longer), Some(Code::InvalidArgument));
    assert_eq!(
        message(longer),
        "Cannot truncate to a larger file size. Current size: 100, truncate size: 101."
    );
}

#[test]
fn truncate_inside_a_block_ends_with_a_new_block() {
    let mut driver = Driver::new();
    let inode = driver.file("/f", &[BLOCK, BLOCK, 100]);
    let change = driver.truncation("/f", BLOCK + 70);
    assert_eq!(driver.apply(change), Ok(Applied::Truncated(false)));
    let status = driver.status("/f").expect("there");
    assert_eq!((status.length, status.is_open), (2 * BLOCK + 100, true), "as it was, and closed to writers");
    assert_eq!(code(&driver.apply(append("/f", None))), Some(Code::LeaseHeld));
    let again = driver.truncation("/f", 0);
    assert_eq!(code(&driver.apply(again)), Some(Code::LeaseHeld));
    assert_eq!(code(&driver.apply(concat("/f", &["/g"]))), Some(Code::InvalidArgument));
    let new = driver.state.truncations().get(inode).expect("begun").new;
    assert_eq!((new.block, new.length), (BlockId(4), 70));
    driver.effects.clear();
    let end = ChangeV1::EndTruncate(EndTruncateV1 { inode, block: new.block, crc: None });
    assert_eq!(driver.apply(end.clone()), Ok(Applied::Completed(inode)));
    assert_eq!(driver.blocks_of(inode), [BLOCK, 70]);
    let removed = driver.effects.iter().filter(|effect| matches!(effect, Effect::BlockRemoved(..))).count();
    assert_eq!(removed, 2, "the block that was cut, and the one behind it");
    let counts = driver.state.counts();
    assert_eq!((counts.blocks, counts.committed_blocks), (2, 2));
    assert!(!driver.status("/f").expect("there").is_open);
    assert_eq!(code(&driver.apply(end)), Some(Code::InvalidArgument), "it has ended");
}

#[test]
fn a_file_that_is_deleted_while_it_is_cut_leaves_nothing() {
    let mut driver = Driver::new();
    driver.file("/f", &[100]);
    let change = driver.truncation("/f", 70);
    driver.apply(change).expect("begun");
    driver.effects.clear();
    driver.apply(delete("/f", false)).expect("deleted");
    assert_eq!(driver.effects.len(), 2);
    assert_eq!((driver.state.counts().blocks, driver.state.truncations().count()), (0, 0));
}

#[test]
fn concat_moves_blocks_and_removes_sources() {
    let mut driver = Driver::new();
    let inode = driver.file("/d/t", &[BLOCK, 10]);
    driver.file("/d/a", &[20]);
    driver.file("/d/b", &[BLOCK, 30]);
    driver.apply(concat("/d/t", &["/d/b", "/d/a"])).expect("moved");
    assert_eq!(driver.blocks_of(inode), [BLOCK, 10, BLOCK, 30, 20]);
    assert_eq!(driver.status("/d/t").expect("there").length, 2 * BLOCK + 60);
    assert_eq!(driver.status("/d/a").map(|status| status.inode), Err(Code::NotFound));
    let counts = driver.state.counts();
    assert_eq!((counts.files, counts.blocks, counts.committed_blocks), (1, 5, 5));
    let (_, file) = driver.state.block(BlockId(3)).expect("a moved block");
    assert_eq!(file.inode, inode, "blocks know their new file");
}

#[test]
fn concat_is_refused_as_hdfs_refuses_it() {
    let mut driver = Driver::new();
    driver.file("/d/t", &[10]);
    driver.file("/d/a", &[20]);
    driver.file("/d/empty", &[]);
    driver.file("/e/far", &[20]);
    driver.create("/d/open").expect("created");
    driver.apply(mkdirs("/d/dir")).expect("made");
    let ChangeV1::Create(small) = create("/d/small", false) else { panic!("a create") };
    let small = ChangeV1::Create(CreateV1 { block_size: BLOCK / 2, ..small });
    let Ok(Applied::Created(inode)) = driver.apply(small) else { panic!("created") };
    driver
        .apply(ChangeV1::Complete(CompleteV1 { inode, last: None, crc: None, tail: None }))
        .expect("closed");
    let cases: &[(&str, &[&str], Code, &str)] = &[
        ("/d/none", &["/d/a"], Code::NotFound, "File does not exist: /d/none"),
        ("/d/t", &["/d/none"], Code::NotFound, "File does not exist: /d/none"),
        ("/d/dir", &["/d/a"], Code::IsADirectory, "Path is not a file: /d/dir"),
        ("/d/t", &["/d/dir"], Code::IsADirectory, "Path is not a file: /d/dir"),
        ("/d/open", &["/d/a"], Code::InvalidArgument, "target file /d/open is under construction"),
        ("/d/t", &["/e/far"], Code::InvalidArgument, "is not in the same directory with the target /d/t"),
        ("/d/t", &["/d/t"], Code::InvalidArgument, "is the same with the target file /d/t"),
        ("/d/t", &["/d/open"], Code::InvalidArgument, "is invalid or empty or underConstruction"),
        ("/d/t", &["/d/empty"], Code::InvalidArgument, "is invalid or empty or underConstruction"),
        ("/d/t", &["/d/a", "/d/a"], Code::InvalidArgument, "at least two of the source files are the same"),
        ("/d/small", &["/d/a"], Code::InvalidArgument, "has preferred block size 134217728 which is greater"),
    ];
    for (target, sources, expected, text) in cases {
        let before = driver.state.tree_digest();
        let outcome = driver.apply(concat(target, sources));
        assert_eq!(code(&outcome), Some(*expected), "{target} {sources:?}");
        assert!(message(outcome).contains(text), "{target} {sources:?}");
        assert_eq!(driver.state.tree_digest(), before, "nothing is changed");
    }
}

#[test]
fn rename_answers_as_rename2_of_hdfs() {
    let cases: &[(&str, &str, bool, Result<(), Code>)] = &[
        ("/none", "/x", false, Err(Code::NotFound)),
        ("/f", "/missing/x", false, Err(Code::NotFound)),
        ("/f", "/g/x", false, Err(Code::NotADirectory)),
        ("/f", "/f", false, Err(Code::AlreadyExists)),
        ("/d", "/d", true, Err(Code::AlreadyExists)),
        ("/d", "/d/x", false, Err(Code::InvalidArgument)),
        ("/d", "/empty", false, Err(Code::AlreadyExists)),
        ("/d", "/empty", true, Ok(())),
        ("/empty", "/d", true, Err(Code::NotEmpty)),
        ("/f", "/d", true, Err(Code::IsADirectory)),
        ("/d", "/f", true, Err(Code::NotADirectory)),
        ("/f", "/g", false, Err(Code::AlreadyExists)),
        ("/f", "/g", true, Ok(())),
        ("/f", "/x", false, Ok(())),
        ("/", "/x", false, Err(Code::InvalidArgument)),
        ("/f", "/", true, Err(Code::InvalidArgument)),
    ];
    for (source, target, overwrite, expected) in cases {
        let mut driver = Driver::new();
        driver.file("/f", &[10]);
        driver.file("/g", &[BLOCK, 20]);
        driver.file("/d/inner", &[30]);
        driver.apply(mkdirs("/empty")).expect("made");
        let (before, inode) = (driver.state.tree_digest(), driver.status(source).map(|status| status.inode));
        driver.effects.clear();
        let outcome = driver.apply(rename(source, target, *overwrite)).map(|_| ());
        assert_eq!(outcome.map_err(|error| error.code), *expected, "{source} to {target}");
        if expected.is_err() {
            assert_eq!(driver.state.tree_digest(), before, "{source} to {target} changes nothing");
            continue;
        }
        assert_eq!(driver.status(target).map(|status| status.inode), inode, "{source} to {target}");
        assert_eq!(driver.status(source).map(|status| status.inode), Err(Code::NotFound));
        let freed = if *target == "/g" { 2 } else { 0 };
        assert_eq!(driver.effects.len(), freed, "the blocks of a replaced file are freed");
    }
}

#[test]
fn what_a_file_is_created_with_is_kept() {
    let mut driver = Driver::new();
    let ChangeV1::Create(plain) = create("/f", false) else { panic!("a create") };
    let change = CreateV1 { replication: 7, block_size: 4096, ..plain.clone() };
    driver.apply(ChangeV1::Create(change.clone())).expect("created");
    let status = driver.status("/f").expect("there");
    assert_eq!((status.replication, status.block_size), (7, 4096));
    let other = SessionId([2; 16]);
    let exclusive = driver.apply_as(other, CallId(1), ChangeV1::Create(change.clone()));
    assert_eq!(code(&exclusive), Some(Code::LeaseHeld), "somebody writes it");
    driver
        .apply(ChangeV1::Complete(CompleteV1 { inode: status.inode, last: None, crc: None, tail: None }))
        .expect("closed");
    assert_eq!(code(&driver.apply(ChangeV1::Create(change))), Some(Code::AlreadyExists));
    driver.apply(create("/f", true)).expect("replaced");
    assert!(driver.status("/f").expect("there").inode > status.inode);
}
