//! Several changes in one step: all or none.

use ringfs_proto::meta::changes::{
    CommitActionV1, CommitReplyV1, CommitRequestV1, CommitStepV1, CreateEmptyV1, ExpectedV1,
};
use ringfs_proto::meta::namespace::{DeleteRequestV1, MkdirsRequestV1, RenameRequestV1};
use ringfs_proto::ops;

use crate::client::Client;
use crate::error::Result;
use crate::{ContentVersion, FileStatus};

/// Changes that are carried out together, in order, or not at all. Each sees what those before it have done. Conditions
/// belong to the change that follows them.
///
/// ```no_run
#[doc = include_str!("../examples/publish.rs")]
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "it is carried out by Client::commit"]
pub struct Commit {
    steps: Vec<CommitStepV1>,
    conditions: Vec<(String, ExpectedV1)>,
}

impl Commit {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next change needs that there is nothing at a path.
    pub fn if_missing(self, path: &str) -> Self {
        self.condition(path, ExpectedV1::Missing)
    }

    /// The next change needs that there is something at a path.
    pub fn if_exists(self, path: &str) -> Self {
        self.condition(path, ExpectedV1::Exists)
    }

    /// The next change needs that a path is the file, in the version, that a status was told of, and that nobody writes it.
    pub fn if_unchanged(self, path: &str, seen: &FileStatus) -> Self {
        let version = ContentVersion { inode: seen.inode, version: seen.version };
        self.condition(path, ExpectedV1::Version(version))
    }

    /// Makes a directory and its missing parents (mode 777 less the umask 022).
    pub fn mkdirs(self, path: &str) -> Self {
        let mkdirs = MkdirsRequestV1 {
            path: path.to_owned(),
            mode: 0o777,
            unmasked_mode: 0o777,
            create_parents: true,
        };
        self.step(CommitActionV1::Mkdirs(mkdirs))
    }

    /// Makes an empty file, and its missing parents; the path must be free.
    pub fn create_empty(self, path: &str) -> Self {
        let (replication, block_size) = (0, 0);
        let create = CreateEmptyV1 {
            path: path.to_owned(),
            mode: 0o666,
            unmasked_mode: 0o666,
            replication,
            block_size,
        };
        self.step(CommitActionV1::CreateEmpty(create))
    }

    /// Renames, as [`Client::rename`].
    pub fn rename(self, source: &str, target: &str, overwrite: bool) -> Self {
        let rename = RenameRequestV1 { source: source.to_owned(), target: target.to_owned(), overwrite };
        self.step(CommitActionV1::Rename(rename))
    }

    /// Deletes, as [`Client::delete`]; but the path must be there.
    pub fn delete(self, path: &str, recursive: bool) -> Self {
        self.step(CommitActionV1::Delete(DeleteRequestV1 { path: path.to_owned(), recursive }))
    }

    fn condition(mut self, path: &str, expected: ExpectedV1) -> Self {
        self.conditions.push((path.to_owned(), expected));
        self
    }

    fn step(mut self, action: CommitActionV1) -> Self {
        let conditions = std::mem::take(&mut self.conditions);
        self.steps.push(CommitStepV1 { conditions, action });
        self
    }

    /// The steps; conditions behind the last change are a step of their own.
    fn steps(&self) -> Vec<CommitStepV1> {
        let mut steps = self.steps.clone();
        if !self.conditions.is_empty() {
            let conditions = self.conditions.clone();
            steps.push(CommitStepV1 { conditions, action: CommitActionV1::Check });
        }
        steps
    }
}

impl Client {
    /// Carries out all changes of a commit, or none, and returns what each has left at its path. At most 256 changes.
    ///
    /// # Errors
    /// Those of the change that is refused, with its number in the message; `Refused` with the code `ConditionFailed`,
    /// or `InvalidArgument` (no changes, or too many); `SafeMode`.
    pub fn commit(&self, commit: &Commit) -> Result<CommitReplyV1> {
        let mut steps = commit.steps();
        for step in &mut steps {
            match &mut step.action {
                CommitActionV1::Mkdirs(mkdirs) => mkdirs.mode &= !self.umask(),
                CommitActionV1::CreateEmpty(create) => create.mode &= !self.umask(),
                _ => {}
            }
        }
        let request = CommitRequestV1 { steps };
        let subject = format!("{} changes", request.steps.len());
        self.shared.namenode.call::<ops::Commit>("commit", &subject, &request)
    }
}
