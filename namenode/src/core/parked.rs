//! Calls that wait until a block is reported by enough datanodes: closing a file, adding a block behind another.

use std::collections::BTreeMap;

use ringfs_proto::ids::BlockId;

use crate::calls::Call;

/// How long a call waits, ms; then its caller asks again.
pub const PARKED_MS: u64 = 5000;
/// Calls that wait at once.
pub const PARKED_MAX: usize = 65_536;

/// The waiting calls.
#[derive(Debug, Default)]
pub struct Parked {
    by_block: BTreeMap<BlockId, Vec<(u64, Call)>>,
    count: usize,
}

impl Parked {
    /// Lets a call wait; gives it back when too many do.
    pub fn park(&mut self, block: BlockId, call: Call, now_ms: u64) -> Option<Call> {
        if self.count >= PARKED_MAX {
            return Some(call);
        }
        self.count += 1;
        self.by_block.entry(block).or_default().push((now_ms + PARKED_MS, call));
        None
    }

    /// The calls that wait for a block, to be looked at again.
    pub fn wake(&mut self, block: BlockId) -> Vec<(u64, Call)> {
        let calls = self.by_block.remove(&block).unwrap_or_default();
        self.count -= calls.len();
        calls
    }

    /// Puts a call back that still has to wait, with its old deadline.
    pub fn put_back(&mut self, block: BlockId, deadline_ms: u64, call: Call) {
        self.count += 1;
        self.by_block.entry(block).or_default().push((deadline_ms, call));
    }

    /// The calls that have waited for too long.
    pub fn expired(&mut self, now_ms: u64) -> Vec<Call> {
        let mut expired = Vec::new();
        self.by_block.retain(|_, calls| {
            expired.extend(
                calls.extract_if(.., |(deadline_ms, _)| *deadline_ms <= now_ms).map(|(_, call)| call),
            );
            !calls.is_empty()
        });
        self.count -= expired.len();
        expired
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.count
    }
}
