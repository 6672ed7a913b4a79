//! Several changes in one record: all or none.

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::limits::CHUNK_BYTES_NATIVE;
use ringfs_proto::meta::changes::{
    CommitActionV1, CommitStepV1, ContentVersionV1, CreateEmptyV1, ExpectedV1,
};
use ringfs_proto::meta::namespace::{DeleteRequestV1, MkdirsRequestV1, RenameRequestV1};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::permissions::Asked;
use super::super::tree::Found;
use super::super::{Applied, Effect, Outcome, State};
use crate::wal::record::{ChangeV1, CommitV1, CreateV1, DeleteV1, MkdirsV1, RecordV1, RenameV1};

impl State {
    /// Each step sees what those before it have done; a step that is refused takes them back.
    pub(super) fn commit(
        &mut self,
        change: &CommitV1,
        record: &RecordV1,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        self.begin_undo();
        for (number, step) in change.steps.iter().enumerate() {
            if let Err(error) = self.commit_step(step, record) {
                self.undo_all();
                let message = format!("step {} of {}: {}", number + 1, change.steps.len(), error.message);
                return Err(WireError::new(error.code, message));
            }
        }
        self.keep_all();
        self.free_detached(effects);
        Ok(Applied::Committed(change.steps.iter().map(|step| self.left_by(step)).collect()))
    }

    fn commit_step(&mut self, step: &CommitStepV1, record: &RecordV1) -> Result<(), WireError> {
        for (path, expected) in &step.conditions {
            self.check(record.author(), &Components::parse(path)?, Asked::TRAVERSE)?;
            self.check_condition(path, *expected)?;
        }
        // Nothing is freed before all is carried out, so there is nothing to tell the block map either.
        let mut effects = Vec::new();
        match &step.action {
            CommitActionV1::Mkdirs(MkdirsRequestV1 { path, mode, unmasked_mode, create_parents }) => {
                let (path, create_parents) = (path.clone(), *create_parents);
                let (mode, unmasked_mode) = (*mode, *unmasked_mode);
                let change = MkdirsV1 { path, mode, unmasked_mode, create_parents };
                self.permit(record.author(), &ChangeV1::Mkdirs(change.clone()))?;
                self.mkdirs(&change, &record.user)?;
            }
            CommitActionV1::CreateEmpty(create) => self.create_empty(create, record, &mut effects)?,
            CommitActionV1::Rename(RenameRequestV1 { source, target, overwrite }) => {
                let (source, target, overwrite) = (source.clone(), target.clone(), *overwrite);
                let change = RenameV1 { source, target, overwrite };
                self.permit(record.author(), &ChangeV1::Rename(change.clone()))?;
                self.rename(&change, &mut effects)?;
            }
            CommitActionV1::Delete(DeleteRequestV1 { path, recursive }) => {
                let change =
                    DeleteV1 { path: path.clone(), recursive: *recursive, is_subtree_permitted: false };
                self.permit(record.author(), &ChangeV1::Delete(change.clone()))?;
                if self.delete(&change, &mut effects)? == Applied::Deleted(false) {
                    return Err(WireError::new(Code::NotFound, format!("File does not exist: {path}")));
                }
            }
            CommitActionV1::Check => {}
        }
        debug_assert!(effects.is_empty(), "{effects:?}");
        Ok(())
    }

    fn create_empty(
        &mut self,
        create: &CreateEmptyV1,
        record: &RecordV1,
        effects: &mut Vec<Effect>,
    ) -> Result<(), WireError> {
        let change = CreateV1 {
            path: create.path.clone(),
            mode: create.mode,
            unmasked_mode: create.unmasked_mode,
            overwrite: false,
            create_parents: true,
            replication: create.replication,
            block_size: create.block_size,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: CHUNK_BYTES_NATIVE,
        };
        self.permit(record.author(), &ChangeV1::Create(change.clone()))?;
        if let Applied::Created(inode) = self.create(&change, record, effects)? {
            self.leases.close(inode);
            if let Some(slot) = self.slot_of(inode) {
                self.content_changed(slot);
            }
        }
        Ok(())
    }

    fn check_condition(&self, path: &str, expected: ExpectedV1) -> Result<(), WireError> {
        let found = self.version_at(path)?;
        let failed = |message: String| Err(WireError::new(Code::ConditionFailed, message));
        match (expected, found) {
            (ExpectedV1::Missing, None) | (ExpectedV1::Exists, Some(_)) => Ok(()),
            (ExpectedV1::Missing, Some(found)) => {
                failed(format!("{path} is expected to be missing, and is inode {}", found.inode))
            }
            (_, None) => failed(format!("{path} is expected to exist, and is missing")),
            (ExpectedV1::Version(version), Some(found)) if version != found => failed(format!(
                "{path} is expected to be version {} of inode {}, and is version {} of inode {}",
                version.version, version.inode, found.version, found.inode
            )),
            (ExpectedV1::Version(version), Some(_)) => match self.slot_of(version.inode) {
                Some(slot) if self.is_written(slot) => {
                    failed(format!("{path} is expected not to change, and is being written"))
                }
                _ => Ok(()),
            },
        }
    }

    fn version_at(&self, path: &str) -> Result<Option<ContentVersionV1>, WireError> {
        let Found::Inode(slot) = self.find(Components::parse(path)?.names()) else { return Ok(None) };
        let inode = self.inodes.get(slot);
        Ok(Some(ContentVersionV1 { inode: inode.id, version: inode.version }))
    }

    fn left_by(&self, step: &CommitStepV1) -> Option<ContentVersionV1> {
        let path = match &step.action {
            CommitActionV1::Mkdirs(mkdirs) => &mkdirs.path,
            CommitActionV1::CreateEmpty(create) => &create.path,
            CommitActionV1::Rename(rename) => &rename.target,
            CommitActionV1::Delete(_) | CommitActionV1::Check => return None,
        };
        self.version_at(path).ok().flatten()
    }
}
