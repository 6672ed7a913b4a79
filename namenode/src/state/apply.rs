//! The one place where the namespace changes.

mod append;
mod attributes;
mod commit;
mod concat;
mod delete;
mod extras;
mod file;
mod lease;
mod permit;
mod rename;
mod replication;
mod truncate;
mod value;

pub(crate) use extras::check_xattr_size;

use ringfs_proto::ids::SessionId;
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::arena::Slot;
use super::tree::{Found, Modes};
use super::{Applied, Effect, Outcome, State};
use crate::wal::record::{ChangeV1, CompleteV1, MkdirsV1, RecordV1, TruncateV1};

/// Owner's write and search bits, which parents made along the way always have (HDFS: `FSDirMkdirOp`).
const PARENT_MODE: u16 = 0o300;
/// Bits that a mode may have: no setuid, no setgid.
pub(super) const MODE_MASK: u16 = 0o1777;

impl State {
    /// Applies a durable record; tells `effects` what it means for the block map.
    ///
    /// A record whose call was applied before gives the same outcome again and changes nothing.
    ///
    /// # Errors
    /// The refusal that the caller gets. It is as durable as a success.
    ///
    /// # Panics
    /// If records do not come in order: that is a defect of the log.
    pub fn apply(&mut self, record: &RecordV1, effects: &mut Vec<Effect>) -> Outcome {
        assert_eq!(record.index.0, self.applied.0 + 1, "records are applied in order");
        assert!(record.time_ms >= self.time_ms, "time in the log never decreases");
        self.applied = record.index;
        self.time_ms = record.time_ms;
        self.detached.begin_record();
        // Whether or not the record is refused: an id that was logged is never given out again.
        match &record.change {
            ChangeV1::AddBlock(change) => {
                self.last_block = self.last_block.max(change.block);
                self.last_stamp = self.last_stamp.max(change.stamp);
            }
            ChangeV1::NewStamp(change) => self.last_stamp = self.last_stamp.max(change.stamp),
            ChangeV1::FenceWriter(change) => self.last_stamp = self.last_stamp.max(change.stamp),
            ChangeV1::Truncate(TruncateV1 { cut: Some(cut), .. }) => {
                self.last_block = self.last_block.max(cut.block);
                self.last_stamp = self.last_stamp.max(cut.stamp);
            }
            ChangeV1::Put(change) => self.last_block = self.last_block.max(change.block),
            ChangeV1::Complete(CompleteV1 { tail: Some(tail), .. }) => {
                self.last_block = self.last_block.max(tail.block);
            }
            ChangeV1::RaiseIds(change) => {
                self.last_block = self.last_block.max(change.block);
                self.last_stamp = self.last_stamp.max(change.stamp);
            }
            _ => {}
        }
        if let Some(outcome) = self.retry.get(record.session, record.call) {
            return outcome.clone();
        }
        let outcome = self.change(record, effects);
        self.retry.insert(
            record.index,
            record.session,
            record.call,
            record.lowest_unanswered,
            outcome.clone(),
        );
        outcome
    }

    /// Permissions are looked at here, as they are now: a rename before it may have changed what a path means.
    fn change(&mut self, record: &RecordV1, effects: &mut Vec<Effect>) -> Outcome {
        self.permit(record.author(), &record.change)?;
        match &record.change {
            ChangeV1::Mkdirs(change) => self.mkdirs(change, &record.user),
            ChangeV1::Create(change) => self.create(change, record, effects),
            ChangeV1::AddBlock(change) => self.add_block(change, record.session, effects),
            ChangeV1::AbandonBlock(change) => self.abandon_block(change, record.session, effects),
            ChangeV1::Complete(change) => self.complete(change, record.session, effects),
            ChangeV1::Rename(change) => self.rename(change, effects),
            ChangeV1::Delete(change) => self.delete(change, effects),
            ChangeV1::SetReplication(change) => self.set_replication(change, effects),
            ChangeV1::NewStamp(change) => self.new_stamp(change, record.session, effects),
            ChangeV1::UpdatePipeline(change) => self.update_pipeline(change, record.session, effects),
            ChangeV1::FenceWriter(change) => self.fence_writer(change),
            ChangeV1::CloseFile(change) => self.close_file(change, effects),
            ChangeV1::RaiseIds(_) => Ok(Applied::Done),
            ChangeV1::SetPermission(change) => self.set_permission(change),
            ChangeV1::SetOwner(change) => self.set_owner(change),
            ChangeV1::SetTimes(change) => self.set_times(change),
            ChangeV1::Touch(change) => self.touch(change),
            ChangeV1::ChangeAcl(change) => self.change_acl(change),
            ChangeV1::SetXattr(change) => self.set_xattr(change),
            ChangeV1::RemoveXattr(change) => self.remove_xattr(change),
            ChangeV1::SetStoragePolicy(change) => self.set_storage_policy(change),
            ChangeV1::Append(change) => self.append(change, record.session, effects),
            ChangeV1::Concat(change) => self.concat(change, effects),
            ChangeV1::Truncate(change) => self.truncate(change, record.session, effects),
            ChangeV1::EndTruncate(change) => self.end_truncate(change, effects),
            ChangeV1::Put(change) => self.put(change, record, effects),
            ChangeV1::MoveValues(change) => self.move_values(change),
            ChangeV1::Commit(change) => self.commit(change, record, effects),
            ChangeV1::Free => {
                self.free_detached(effects);
                Ok(Applied::Done)
            }
        }
    }

    /// What will become of a change that is about to be logged, where that is known: a refusal, or that there is nothing to
    /// do. It holds as long as no other change comes before.
    pub fn foresee(&self, change: &ChangeV1, session: SessionId) -> Option<Outcome> {
        match change {
            ChangeV1::Mkdirs(change) => match self.to_make(change) {
                Ok(Some(_)) => None,
                Ok(None) => Some(Ok(Applied::Done)),
                Err(error) => Some(Err(error)),
            },
            // Who wants a file that somebody writes may take it over: that begins when it is applied.
            ChangeV1::Create(change) => self
                .check_create(change, session)
                .err()
                .filter(|error| error.code != Code::LeaseHeld)
                .map(Err),
            ChangeV1::Put(change) => self
                .check_create(&change.file, session)
                .err()
                .filter(|error| error.code != Code::LeaseHeld)
                .map(Err),
            ChangeV1::Delete(change) => match self.to_delete(change) {
                Ok(Some(_)) => None,
                Ok(None) => Some(Ok(Applied::Deleted(false))),
                Err(error) => Some(Err(error)),
            },
            ChangeV1::Rename(change) => self.renaming(change).err().map(Err),
            _ => None,
        }
    }

    /// HDFS: `FSDirMkdirOp.mkdirs`.
    fn mkdirs(&mut self, change: &MkdirsV1, user: &str) -> Outcome {
        let Some((parent, existing)) = self.to_make(change)? else { return Ok(Applied::Done) };
        let path = Components::parse(&change.path)?;
        let Some((last, parents)) = path.names()[existing..].split_last() else { return Ok(Applied::Done) };
        let owner = self.principals.intern(user);
        let modes = Modes { masked: change.mode & MODE_MASK, unmasked: change.unmasked_mode & MODE_MASK };
        let parent = self.make_directories(parent, parents, owner, modes.with(PARENT_MODE));
        self.make_directories(parent, &[last], owner, modes);
        Ok(Applied::Done)
    }

    /// The deepest directory that exists, and how many names lead to it; `None` if there is nothing to make.
    fn to_make(&self, change: &MkdirsV1) -> Result<Option<(Slot, usize)>, WireError> {
        let path = Components::parse(&change.path)?;
        let names = path.names();
        let (parent, existing) = match self.find(names) {
            Found::Inode(slot) if self.inodes.get(slot).is_directory() => return Ok(None),
            Found::Inode(_) => {
                let message = format!("Path is not a directory: {}", path.canonical());
                return Err(WireError::new(Code::AlreadyExists, message));
            }
            Found::BelowFile { existing } => return Err(parent_is_file(names, existing)),
            Found::Missing { parent, existing } => (parent, existing),
        };
        if existing + 1 < names.len() && !change.create_parents {
            return Err(parent_missing(names));
        }
        self.check_room(parent)?;
        Ok(Some((parent, existing)))
    }
}

fn parent_is_file(names: &[&str], existing: usize) -> WireError {
    let path = names[..existing].join("/");
    WireError::new(Code::NotADirectory, format!("Parent path is not a directory: /{path}"))
}

fn parent_missing(names: &[&str]) -> WireError {
    let parent = names[..names.len().saturating_sub(1)].join("/");
    WireError::new(Code::NotFound, format!("Parent directory doesn't exist: /{parent}"))
}
