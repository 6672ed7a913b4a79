//! Examples of the messages about many inodes at once, and of the changes beside the plain ones.

use ringfs_proto::ids::*;
use ringfs_proto::meta::changes::*;
use ringfs_proto::meta::namespace::{DeleteRequestV1, MkdirsRequestV1, RenameRequestV1};
use ringfs_proto::meta::tree::*;

use super::{Examples, located, status};

fn path() -> String {
    "/data/part-0".to_owned()
}

/// Calls that change nothing.
pub fn reads(examples: &mut Examples) {
    walks(examples);
    let paths = vec![path(), "/b".to_owned()];
    examples.add("BatchStatRequest", &BatchStatRequestV1 { paths });
    let failed = StatResultV1::Failed(2, "File does not exist: /b".to_owned());
    examples
        .add("BatchStatReply", &BatchStatReplyV1 { results: vec![StatResultV1::Found(status()), failed] });
    examples.add("ContentSummaryRequest", &ContentSummaryRequestV1 { path: path() });
    let summary = ContentSummaryReplyV1 { files: 1, directories: 2, length: 3, space_consumed: 9 };
    examples.add("ContentSummaryReply", &summary);
    let request = ListOpenFilesRequestV1 { path: path(), after: InodeId(7), entries_max: 10 };
    examples.add("ListOpenFilesRequest", &request);
    let open = OpenFileV1 {
        inode: InodeId(8),
        path: path(),
        session: SessionId([6; 16]),
        user: "ann".to_owned(),
        host: "10.0.0.1".to_owned(),
        is_recovering: true,
    };
    examples.add("ListOpenFilesReply", &ListOpenFilesReplyV1 { files: vec![open], next: Some(InodeId(8)) });
    examples.add("ListCorruptFilesRequest", &ListCorruptFilesRequestV1 { path: path(), cookie: 5 });
    let corrupt = CorruptFileV1 { path: path(), inode: InodeId(8), block: BlockId(0x11) };
    examples.add("ListCorruptFilesReply", &ListCorruptFilesReplyV1 { files: vec![corrupt], next: Some(6) });
}

fn walks(examples: &mut Examples) {
    let request = WalkRequestV1 {
        path: path(),
        start_after: "a/b".to_owned(),
        depth_max: 3,
        files_only: true,
        with_locations: true,
        entries_max: 10,
    };
    examples.add("WalkRequest", &request);
    let entry = WalkEntryV1 {
        path: "a/a name longer than eight".to_owned(),
        status: status(),
        blocks: vec![located()],
        has_all_blocks: true,
    };
    examples.add("WalkReply", &WalkReplyV1 { entries: vec![entry], next: Some("a/c".to_owned()) });
    let request =
        GlobRequestV1 { pattern: "/d*/{a,b}".to_owned(), start_after: "x".to_owned(), entries_max: 10 };
    examples.add("GlobRequest", &request);
    let matched = GlobMatchV1 { path: path(), status: status() };
    examples.add("GlobReply", &GlobReplyV1 { matches: vec![matched], next: None });
}

/// Changes beside the plain ones.
pub fn changes(examples: &mut Examples) {
    examples.add("AppendRequest", &AppendRequestV1 { path: path(), new_block: true });
    examples
        .add("AppendReply", &AppendReplyV1 { status: status(), last: Some(located()), inline_bytes_max: 9 });
    examples.add("TruncateRequest", &TruncateRequestV1 { path: path(), length: 0x1234 });
    examples.add("TruncateReply", &TruncateReplyV1 { is_done: true });
    let sources = vec!["/data/part-1".to_owned(), "/data/part-2".to_owned()];
    examples.add("ConcatRequest", &ConcatRequestV1 { target: path(), sources });
    let version = ContentVersionV1 { inode: InodeId(5), version: LogIndex(6) };
    let create = CreateEmptyV1 {
        path: path(),
        mode: 0o644,
        unmasked_mode: 0o644,
        replication: 3,
        block_size: 1 << 20,
    };
    let create = CommitActionV1::CreateEmpty(create);
    let mkdirs = MkdirsRequestV1 { path: path(), mode: 0o755, unmasked_mode: 0o755, create_parents: true };
    let mkdirs = CommitActionV1::Mkdirs(mkdirs);
    let rename = RenameRequestV1 { source: path(), target: "/x".to_owned(), overwrite: true };
    let rename = CommitActionV1::Rename(rename);
    let delete = CommitActionV1::Delete(DeleteRequestV1 { path: path(), recursive: true });
    let conditions = [ExpectedV1::Missing, ExpectedV1::Exists, ExpectedV1::Version(version)];
    let conditions: Vec<_> = conditions.into_iter().map(|expected| (path(), expected)).collect();
    let steps = [create, mkdirs, rename, delete, CommitActionV1::Check];
    let step = |action| CommitStepV1 { conditions: conditions.clone(), action };
    examples.add("CommitRequest", &CommitRequestV1 { steps: steps.into_iter().map(step).collect() });
    examples.add("CommitReply", &CommitReplyV1 { index: LogIndex(7), versions: vec![Some(version), None] });
}
