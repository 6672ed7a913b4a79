//! A replica as every shard sees it: small, shared, read without locks but for the tail of an open one.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ringfs_proto::ids::{BlockId, Stamp};
use ringfs_proto::meta::membership::{ReplicaState, ReplicaV1};
use ringfs_proto::meta::namespace::BlockRefV1;

use super::seat::Seating;
pub use crate::format::block::Tail;

/// A copy of a block on a volume.
#[derive(Debug)]
pub struct Replica {
    /// The block.
    pub block: BlockId,
    /// Index of its volume.
    pub volume: u16,
    /// Who may write it.
    pub seating: Seating,
    stamp: AtomicU64,
    state: AtomicU8,
    is_gone: AtomicBool,
    is_corrupt: AtomicBool,
    tail: Mutex<Tail>,
}

impl Replica {
    /// A replica in a state.
    pub fn new(block: BlockRefV1, volume: u16, state: ReplicaState, tail_crc: u32) -> Self {
        Self {
            block: block.block,
            volume,
            seating: Seating::default(),
            stamp: AtomicU64::new(block.stamp.0),
            state: AtomicU8::new(state as u8),
            is_gone: AtomicBool::new(false),
            is_corrupt: AtomicBool::new(false),
            tail: Mutex::new(Tail { length: block.length, crc: tail_crc }),
        }
    }

    /// Its stamp.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Ordering::Acquire))
    }

    /// Gives it a new stamp.
    pub fn set_stamp(&self, stamp: Stamp) {
        self.stamp.store(stamp.0, Ordering::Release);
    }

    /// Its state.
    pub fn state(&self) -> ReplicaState {
        match self.state.load(Ordering::Acquire) {
            value if value == ReplicaState::Finalized as u8 => ReplicaState::Finalized,
            value if value == ReplicaState::BeingWritten as u8 => ReplicaState::BeingWritten,
            value if value == ReplicaState::WaitingForRecovery as u8 => ReplicaState::WaitingForRecovery,
            _ => ReplicaState::Temporary,
        }
    }

    /// Sets its state.
    pub fn set_state(&self, state: ReplicaState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Its length and the checksum of its partial last chunk, as readers may see them.
    pub fn tail(&self) -> Tail {
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets readers see more; never less. Returns the length before.
    pub fn raise_tail(&self, tail: Tail) -> u64 {
        let mut current = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let before = current.length;
        if tail.length > before {
            *current = tail;
        }
        before
    }

    /// Sets the end that a block recovery agreed on: the one case in which readers may see less than before, namely not
    /// what some other replica never had. Returns the length before.
    pub fn set_tail(&self, tail: Tail) -> u64 {
        let mut current = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        core::mem::replace(&mut *current, tail).length
    }

    /// Whether it was deleted: what shards keep of it is to be dropped.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// It is deleted.
    pub fn set_gone(&self) {
        self.is_gone.store(true, Ordering::Release);
    }

    /// Whether its bytes are known to be bad: it is never served.
    pub fn is_corrupt(&self) -> bool {
        self.is_corrupt.load(Ordering::Acquire)
    }

    /// Its bytes are bad.
    pub fn set_corrupt(&self) {
        self.is_corrupt.store(true, Ordering::Release);
    }

    /// Block, stamp and length.
    pub fn block_ref(&self) -> BlockRefV1 {
        BlockRefV1 { block: self.block, stamp: self.stamp(), length: self.tail().length }
    }

    /// As the namenode is told of it.
    pub fn report(&self) -> ReplicaV1 {
        ReplicaV1 { block: self.block_ref(), state: self.state() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_see_never_shrinks() {
        let block = BlockRefV1 { block: BlockId(1), stamp: Stamp(1), length: 0 };
        let replica = Replica::new(block, 0, ReplicaState::BeingWritten, 0);
        assert_eq!(replica.raise_tail(Tail { length: 10, crc: 1 }), 0);
        // The ack of an earlier group may come after the replica was finalized.
        assert_eq!(replica.raise_tail(Tail { length: 7, crc: 2 }), 10);
        assert_eq!(replica.tail(), Tail { length: 10, crc: 1 });
    }
}
