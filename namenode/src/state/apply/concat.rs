//! Moving the blocks of files behind those of another.

use std::collections::BTreeSet;

use ringfs_proto::limits::FILE_BLOCKS_MAX;
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::arena::Slot;
use super::super::{Applied, Effect, Outcome, State};
use crate::wal::record::ConcatV1;

impl State {
    /// HDFS: `FSDirConcatOp.concat`.
    pub(super) fn concat(&mut self, change: &ConcatV1, effects: &mut Vec<Effect>) -> Outcome {
        let (target, sources) = self.concatenated(change)?;
        let replication = self.replication_of(target);
        let mut moved = Vec::new();
        for slot in sources {
            let mut list = self.list_of(slot);
            let blocks = self.blocks.take(&mut list);
            self.set_list(slot, list);
            if self.replication_of(slot) != replication {
                let are_on_datanodes = blocks.iter().filter(|block| self.blocks.in_slot(**block).is_some());
                effects.extend(are_on_datanodes.map(|block| Effect::ReplicationChanged(*block)));
            }
            moved.extend(blocks);
            self.remove_tree(slot, effects);
        }
        let mut list = self.list_of(target);
        self.blocks.join(&mut list, self.checksum_of(target), &moved, target);
        self.set_list(target, list);
        self.content_changed(target);
        Ok(Applied::Done)
    }

    fn replication_of(&self, slot: Slot) -> u16 {
        self.file_view(slot).map_or(0, |file| file.replication)
    }

    /// The inodes that a change is about, if it can be carried out.
    fn concatenated(&self, change: &ConcatV1) -> Result<(Slot, Vec<Slot>), WireError> {
        let invalid = |message: String| Err(WireError::new(Code::InvalidArgument, message));
        let path = &change.target;
        let target = self.concat_file(path)?;
        if self.is_written(target) {
            return invalid(format!("concat: target file {path} is under construction"));
        }
        let parent = self.inodes.get(target).parent;
        let mut blocks = self.blocks.count(&self.list_of(target));
        let mut seen = BTreeSet::new();
        let mut sources = Vec::with_capacity(change.sources.len());
        for name in &change.sources {
            let source = self.concat_file(name)?;
            let count = self.blocks.count(&self.list_of(source));
            if self.inodes.get(source).parent != parent {
                return invalid(format!(
                    "Source file {name} is not in the same directory with the target {path}"
                ));
            }
            if source == target {
                return invalid(format!(
                    "concat: the src file {name} is the same with the target file {path}"
                ));
            }
            if self.is_written(source) || count == 0 {
                return invalid(format!(
                    "concat: source file {name} is invalid or empty or underConstruction"
                ));
            }
            self.check_alike(source, target, name)?;
            if !seen.insert(source) {
                return invalid("concat: at least two of the source files are the same".to_owned());
            }
            blocks += count;
            sources.push(source);
        }
        if blocks > FILE_BLOCKS_MAX as usize {
            let message = format!("concat: {path} would have {blocks} blocks, at most {FILE_BLOCKS_MAX}");
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        Ok((target, sources))
    }

    fn concat_file(&self, name: &str) -> Result<Slot, WireError> {
        let slot = self.find_existing(&Components::parse(name)?)?;
        if self.inodes.get(slot).is_directory() {
            return Err(WireError::new(Code::IsADirectory, format!("Path is not a file: {name}")));
        }
        Ok(slot)
    }

    /// Refuses a source whose blocks do not fit into the target.
    fn check_alike(&self, source: Slot, target: Slot, name: &str) -> Result<(), WireError> {
        let (Some(of_source), Some(of_target)) = (self.file_view(source), self.file_view(target)) else {
            return Ok(());
        };
        let message = if of_source.block_size > of_target.block_size {
            format!(
                "concat: source file {name} has preferred block size {} which is greater than the target file's \
                 preferred block size {}",
                of_source.block_size, of_target.block_size
            )
        } else if (of_source.checksum, of_source.chunk_bytes) != (of_target.checksum, of_target.chunk_bytes) {
            // Not in HDFS, whose checksums belong to replicas: here a file has one kind, so that it has one checksum.
            format!("concat: source file {name} has other checksums than the target file")
        } else {
            return Ok(());
        };
        Err(WireError::new(Code::InvalidArgument, message))
    }

    /// Whether somebody writes a file, or it is being truncated.
    pub(super) fn is_written(&self, slot: Slot) -> bool {
        let inode = self.inodes.get(slot).id;
        self.leases.get(inode).is_some() || self.truncations.get(inode).is_some()
    }

    /// A closed file has other bytes from now on.
    pub(super) fn content_changed(&mut self, slot: Slot) {
        let (index, time_ms) = (self.applied, self.time_ms);
        let inode = self.inodes.get_mut(slot);
        (inode.version, inode.mtime_ms) = (index, time_ms);
    }
}
