//! What the namenode wants of a datanode: commands that wait for its next heartbeat.
//!
//! A command is a wish, not a promise: the answer that carries it may be lost, and a datanode that is lost or registers
//! anew gets none of the old ones. Whoever asked looks at what is reported, and asks again after a time of its own.

use std::collections::VecDeque;

use ringfs_proto::limits::COMMAND_BLOCKS_MAX;
use ringfs_proto::meta::membership::CommandV1;

use super::Datanodes;
use crate::blocks::StorageIndex;

/// Commands that wait for one datanode, at most.
pub const COMMANDS_QUEUED_MAX: usize = 10_000;

/// The commands for one datanode, oldest first.
#[derive(Debug, Default)]
pub(super) struct Commands {
    waiting: VecDeque<CommandV1>,
}

impl Commands {
    /// Those for one answer: as many as name `COMMAND_BLOCKS_MAX` replicas and targets in all.
    pub(super) fn take(&mut self) -> Vec<CommandV1> {
        let mut taken = Vec::new();
        let mut weight = 0;
        while let Some(next) = self.waiting.front().map(weight_of) {
            weight += next;
            if weight > COMMAND_BLOCKS_MAX && !taken.is_empty() {
                break;
            }
            taken.extend(self.waiting.pop_front());
        }
        taken
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What a command counts towards the bound of an answer.
fn weight_of(command: &CommandV1) -> usize {
    match command {
        CommandV1::Invalidate(invalidate) => invalidate.replicas.len().max(1),
        CommandV1::Verify(verify) => verify.blocks.len().max(1),
        CommandV1::Transfer(transfer) => 1 + transfer.targets.len(),
        CommandV1::Report(_) | CommandV1::BeginRecovery(_) | CommandV1::FinishRecovery(_) => 1,
    }
}

impl Datanodes {
    /// Tells the datanode of `storage` something with its next heartbeat. False, and nothing waits, when the datanode is
    /// not connected or too many commands wait for it: to be asked again later.
    pub fn command(&mut self, storage: StorageIndex, command: CommandV1) -> bool {
        let node = &mut self.nodes[self.storages[storage as usize].datanode];
        if node.connection.is_none() || node.commands.waiting.len() >= COMMANDS_QUEUED_MAX {
            return false;
        }
        node.commands.waiting.push_back(command);
        true
    }

    /// Whether a datanode has reason to send its next heartbeat at once.
    pub fn has_commands(&self, index: usize) -> bool {
        !self.nodes[index].commands.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use ringfs_proto::ids::{BlockId, StorageId};
    use ringfs_proto::meta::membership::VerifyV1;

    use super::*;

    fn verify(blocks: usize) -> CommandV1 {
        CommandV1::Verify(VerifyV1 { storage: StorageId([1; 16]), blocks: vec![BlockId(1); blocks] })
    }

    #[test]
    fn an_answer_names_a_bounded_number_of_replicas_and_the_rest_waits() {
        let mut commands = Commands::default();
        commands.waiting.extend([verify(600), verify(400), verify(1), verify(COMMAND_BLOCKS_MAX + 1)]);
        assert_eq!(commands.take(), [verify(600), verify(400)]);
        assert_eq!(commands.take(), [verify(1)]);
        assert_eq!(commands.take().len(), 1, "one that is too large alone still goes");
        assert!(commands.is_empty() && commands.take().is_empty());
    }
}
