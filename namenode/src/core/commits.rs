//! Several changes in one call: checked, and their numbers resolved, before they are logged.

use ringfs_proto::limits::{COMMIT_CONDITIONS_MAX, COMMIT_STEPS_MAX};
use ringfs_proto::meta::changes::{CommitActionV1, CommitRequestV1, CommitStepV1};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::Core;
use super::changes::made;
use crate::wal::record::{ChangeV1, CommitV1};

impl Core {
    pub(super) fn filter_commit(&self, request: &CommitRequestV1) -> Result<ChangeV1, WireError> {
        let count = request.steps.len();
        self.check_safe_mode(&format!("commit {count} changes"))?;
        if count == 0 || count > COMMIT_STEPS_MAX {
            let message = format!("commit: {count} steps, not 1 to {COMMIT_STEPS_MAX}");
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        let steps = request.steps.iter().map(|step| self.resolve_step(step)).collect::<Result<_, _>>()?;
        Ok(ChangeV1::Commit(CommitV1 { steps }))
    }

    fn resolve_step(&self, step: &CommitStepV1) -> Result<CommitStepV1, WireError> {
        if step.conditions.len() > COMMIT_CONDITIONS_MAX {
            let message = format!(
                "commit: {} conditions of a step, at most {COMMIT_CONDITIONS_MAX}",
                step.conditions.len()
            );
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        let canonical = |path: &str| Ok(Components::parse(path)?.canonical());
        let conditions = step.conditions.iter().map(|(path, expected)| Ok((canonical(path)?, *expected)));
        let mut action = step.action.clone();
        match &mut action {
            CommitActionV1::Mkdirs(mkdirs) => mkdirs.path = made(&mkdirs.path)?,
            CommitActionV1::CreateEmpty(create) => {
                (create.replication, create.block_size) =
                    self.file_layout(&create.path, create.replication, create.block_size)?;
                create.path = made(&create.path)?;
            }
            CommitActionV1::Rename(rename) => {
                rename.source = canonical(&rename.source)?;
                rename.target = made(&rename.target)?;
            }
            CommitActionV1::Delete(delete) => delete.path = canonical(&delete.path)?,
            CommitActionV1::Check => {}
        }
        Ok(CommitStepV1 { conditions: conditions.collect::<Result<_, WireError>>()?, action })
    }
}
