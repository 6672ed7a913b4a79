//! Renaming, as HDFS's `rename2` (`FSDirRenameOp.unprotectedRenameTo`).

use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::arena::Slot;
use super::super::inode::Inode;
use super::super::tree::Found;
use super::super::{Applied, Effect, Outcome, ROOT_SLOT, State};
use super::{parent_is_file, parent_missing};
use crate::wal::record::RenameV1;

/// What is renamed, what it replaces, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renaming {
    slot: Slot,
    occupied: Option<Slot>,
    parent: Slot,
}

impl State {
    pub(super) fn rename(&mut self, change: &RenameV1, effects: &mut Vec<Effect>) -> Outcome {
        let Renaming { slot, occupied, parent } = self.renaming(change)?;
        let target = Components::parse(&change.target)?;
        if let Some(occupied) = occupied {
            self.remove_tree(occupied, effects);
        }
        self.move_to(slot, parent, &target);
        Ok(Applied::Done)
    }

    /// What a renaming is about, if it can be carried out.
    pub(super) fn renaming(&self, change: &RenameV1) -> Result<Renaming, WireError> {
        let (source, target) = (Components::parse(&change.source)?, Components::parse(&change.target)?);
        check_paths(&source, &target)?;
        let Found::Inode(slot) = self.find(source.names()) else {
            let message = format!("rename source {} is not found.", source.canonical());
            return Err(WireError::new(Code::NotFound, message));
        };
        if let Found::Inode(occupied) = self.find(target.names()) {
            self.check_target(slot, occupied, change.overwrite, &target)?;
            let parent = self.inodes.get(occupied).parent;
            return Ok(Renaming { slot, occupied: Some(occupied), parent });
        }
        let parent = self.target_parent(&target)?;
        self.check_room(parent)?;
        Ok(Renaming { slot, occupied: None, parent })
    }

    fn check_target(
        &self,
        slot: Slot,
        occupied: Slot,
        overwrite: bool,
        target: &Components<'_>,
    ) -> Result<(), WireError> {
        let target = target.canonical();
        if !overwrite {
            return Err(WireError::new(
                Code::AlreadyExists,
                format!("rename destination {target} already exists"),
            ));
        }
        let both =
            || format!("Source {} and destination {target} must both be directories", self.path_of(slot));
        match (self.inodes.get(slot).is_directory(), self.inodes.get(occupied).is_directory()) {
            (true, false) => Err(WireError::new(Code::NotADirectory, both())),
            (false, true) => Err(WireError::new(Code::IsADirectory, both())),
            _ if self.child_count(occupied) > 0 => Err(WireError::new(
                Code::NotEmpty,
                format!("rename destination directory is not empty: {target}"),
            )),
            _ => Ok(()),
        }
    }

    fn target_parent(&self, target: &Components<'_>) -> Result<Slot, WireError> {
        let names = target.names();
        match self.find(&names[..names.len() - 1]) {
            Found::Inode(parent) if self.inodes.get(parent).is_directory() => Ok(parent),
            Found::Inode(_) => Err(parent_is_file(names, names.len() - 1)),
            Found::BelowFile { existing } => Err(parent_is_file(names, existing)),
            Found::Missing { .. } => Err(parent_missing(names)),
        }
    }

    fn move_to(&mut self, slot: Slot, parent: Slot, target: &Components<'_>) {
        let Inode { parent: old_parent, name: old_name, .. } = *self.inodes.get(slot);
        let undone = self.undo.is_some().then(|| String::from_utf8_lossy(self.name_of(slot)).into_owned());
        self.unlink(slot, self.time_ms);
        self.names.remove(old_name);
        let name = self.names.insert(target.names().last().expect("the root is no target"));
        self.link(slot, parent, name, self.time_ms);
        if let Some(name) = undone {
            self.note_moved(slot, old_parent, name);
        }
        debug_assert_ne!(slot, ROOT_SLOT);
    }
}

fn check_paths(source: &Components<'_>, target: &Components<'_>) -> Result<(), WireError> {
    let (from, to) = (source.canonical(), target.canonical());
    if source.is_root() || target.is_root() {
        return Err(WireError::new(
            Code::InvalidArgument,
            format!("rename {from} to {to}: the root cannot be renamed"),
        ));
    }
    if from == to {
        return Err(WireError::new(
            Code::AlreadyExists,
            format!("The source {from} and destination {to} are the same"),
        ));
    }
    if target.names().starts_with(source.names()) {
        let message = format!("Rename destination {to} is a directory or file under source {from}");
        return Err(WireError::new(Code::InvalidArgument, message));
    }
    Ok(())
}
