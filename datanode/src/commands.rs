//! Commands of the namenode on their way from the link to the shards that carry them out.
//!
//! Commands for one block go to one shard, in order. A full queue refuses: the namenode gives a command again whose
//! result does not show.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use ringfs_proto::ids::BlockId;
use ringfs_proto::meta::membership::CommandV1;

/// Commands that wait for one shard, at most.
pub const COMMANDS_QUEUED_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<CommandV1>,
    waker: Option<Waker>,
}

/// The queues of all shards.
#[derive(Debug)]
pub struct Commands(Vec<Mutex<Queue>>);

impl Commands {
    /// Empty queues.
    ///
    /// # Panics
    /// If there is no shard.
    pub fn new(shards: usize) -> Self {
        assert!(shards > 0, "commands need a shard that carries them out");
        Self((0..shards).map(|_| Mutex::default()).collect())
    }

    /// Hands a command to its shard.
    ///
    /// # Errors
    /// The command, when too many wait.
    pub fn push(&self, command: CommandV1) -> Result<(), CommandV1> {
        let shard = block_of(&command).map_or(0, |block| block.0 as usize % self.0.len());
        let waker = {
            let mut queue = self.0[shard].lock();
            if queue.commands.len() >= COMMANDS_QUEUED_MAX {
                return Err(command);
            }
            queue.commands.push_back(command);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The next command for a shard.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn next(&self, shard: usize) -> CommandV1 {
        poll_fn(|context| {
            let mut queue = self.0[shard].lock();
            match queue.commands.pop_front() {
                Some(command) => Poll::Ready(command),
                None => {
                    queue.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

fn block_of(command: &CommandV1) -> Option<BlockId> {
    match command {
        CommandV1::Invalidate(invalidate) => invalidate.replicas.first().map(|replica| replica.block),
        CommandV1::Report(_) => None,
        CommandV1::Transfer(transfer) => Some(transfer.block.block),
        CommandV1::BeginRecovery(begin) => Some(begin.block),
        CommandV1::FinishRecovery(finish) => Some(finish.block.block),
        CommandV1::Verify(verify) => verify.blocks.first().copied(),
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use ringfs_proto::ids::{Stamp, StorageId};
    use ringfs_proto::meta::membership::BeginRecoveryV1;

    use super::*;

    fn begin(block: u64, stamp: u64) -> CommandV1 {
        let (block, recovery_stamp) = (BlockId(block), Stamp(stamp));
        CommandV1::BeginRecovery(BeginRecoveryV1 { block, storage: StorageId::default(), recovery_stamp })
    }

    #[test]
    fn commands_for_a_block_come_in_order_on_one_shard() {
        let commands = Commands::new(2);
        for (block, stamp) in [(4, 1), (5, 2), (4, 3)] {
            commands.push(begin(block, stamp)).expect("room");
        }
        assert_eq!(block_on(commands.next(0)), begin(4, 1));
        assert_eq!(block_on(commands.next(0)), begin(4, 3));
        assert_eq!(block_on(commands.next(1)), begin(5, 2));
    }

    #[test]
    fn a_waiting_shard_is_woken_and_a_full_queue_refuses() {
        let commands = std::sync::Arc::new(Commands::new(1));
        let waiting = std::thread::spawn({
            let commands = commands.clone();
            move || block_on(commands.next(0))
        });
        commands.push(begin(1, 1)).expect("room");
        assert_eq!(waiting.join().expect("no panic"), begin(1, 1));
        for stamp in 0..COMMANDS_QUEUED_MAX as u64 {
            commands.push(begin(1, stamp)).expect("room");
        }
        assert_eq!(commands.push(begin(1, 9)), Err(begin(1, 9)));
    }
}
