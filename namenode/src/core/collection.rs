//! Collection of dead values: what is left in a segment that is mostly dead is written again, behind all others, and a
//! checkpoint removes the segment.
//!
//! One segment at a time, a bounded piece at a time, beside everything else. A value that was replaced or deleted meanwhile is
//! left alone when its move is applied; who looked a value up before it was moved looks again.

use std::collections::{BTreeSet, VecDeque};

use ringfs_proto::ids::{BlockId, LogIndex};

use super::{Core, Now};
use crate::state::State;
use crate::wal::collect::{Collected, Wanted};
use crate::wal::record::{ChangeV1, MoveValuesV1, MovedV1, ValueV1};
use crate::wal::{SEGMENT_BYTES_MIN, ValuePlace};

/// Bytes that are written again at once; one value may be more.
const MOVED_BYTES_MAX: usize = 1 << 20;
/// Values that are written again at once.
const MOVED_MAX: usize = 1024;

/// The collection that is in progress.
#[derive(Debug, Default)]
pub(super) struct Collection {
    running: Option<Running>,
    order: Option<Wanted>,
    /// Segments with values that cannot be read: they stay until the next start.
    stuck: BTreeSet<LogIndex>,
}

#[derive(Debug)]
struct Running {
    segment: LogIndex,
    /// Where to look for more values; `None` when all were found.
    next: Option<u64>,
    /// Values that were found alive.
    alive: VecDeque<(BlockId, ValuePlace)>,
}

impl Core {
    /// Something that the shell shall find out, with [`crate::wal::Values::collect`].
    pub fn take_collection(&mut self) -> Option<Wanted> {
        self.collection.order.take()
    }

    /// The shell has found it out.
    pub fn collected(&mut self, collected: Collected, now: Now) {
        let Some(running) = &mut self.collection.running else { return };
        match collected {
            Collected::Names(Ok(names)) => {
                running.next = names.next;
                let alive =
                    names.found.into_iter().filter(|(block, place)| is_at(&self.state, *block, *place));
                running.alive.extend(alive);
                self.go_on_collecting();
            }
            Collected::Names(Err(reason)) => {
                tracing::error!(segment = %running.segment, reason, "a segment of the log cannot be collected: it stays");
                self.collection.stuck.insert(running.segment);
                self.collection.running = None;
            }
            Collected::Bytes(read) => self.move_values(read, now),
        }
    }

    /// Begins to collect the segment that has the least left, if any is mostly dead and no start needs its records.
    pub(super) fn look_at_collection(&mut self) {
        if self.collection.running.is_some() || !self.changes_are_accepted() {
            return;
        }
        let half = self.config.wal_segment_bytes.max(SEGMENT_BYTES_MIN) / 2;
        // Those before the newest checkpoint, all but the one that is being written: of one that goes on behind the checkpoint
        // the records are still needed, and it goes with the next.
        let before = self.state.values_at().segment.min(LogIndex(self.checkpoints.last.0 + 1));
        let covered = self.state.values().by_segment.range(..before);
        let dead =
            covered.filter(|(segment, left)| **left < half && !self.collection.stuck.contains(segment));
        if let Some((segment, _)) = dead.min_by_key(|(_, left)| **left) {
            let running = Running { segment: *segment, next: Some(0), alive: VecDeque::new() };
            self.collection.running = Some(running);
            self.go_on_collecting();
        }
    }

    /// The values of an order are where their record says.
    pub(super) fn values_moved(&mut self, change: &MoveValuesV1) {
        self.metrics.count_moved(change.moved.len());
        self.go_on_collecting();
    }

    fn go_on_collecting(&mut self) {
        let Some(running) = &mut self.collection.running else { return };
        let (mut bytes, mut places) = (0, Vec::new());
        while let Some((block, place)) = running.alive.pop_front() {
            bytes += place.len as usize;
            places.push((block, place));
            if bytes >= MOVED_BYTES_MAX || places.len() >= MOVED_MAX {
                break;
            }
        }
        if !places.is_empty() {
            self.collection.order = Some(Wanted::Bytes(places));
        } else if let Some(next) = running.next {
            self.collection.order = Some(Wanted::Names(running.segment, next));
        } else {
            let segment = running.segment;
            self.collection.running = None;
            if self.state.values().by_segment.contains_key(&segment) {
                tracing::warn!(%segment, "values of a segment of the log could not be moved: it stays");
                self.collection.stuck.insert(segment);
            }
        }
    }

    fn move_values(
        &mut self,
        read: Vec<(BlockId, ValuePlace, Result<Vec<u8>, ringfs_proto::WireError>)>,
        now: Now,
    ) {
        let Some(running) = &self.collection.running else { return };
        let segment = running.segment;
        let (mut moved, mut values) = (Vec::new(), Vec::new());
        for (block, place, bytes) in read {
            // One that cannot be read was told where it was read.
            if let (Ok(bytes), true) = (bytes, is_at(&self.state, block, place)) {
                moved.push(MovedV1 { block, offset: place.offset, value: ValueV1::of(&bytes) });
                values.push(bytes);
            }
        }
        if moved.is_empty() {
            return self.go_on_collecting();
        }
        if !self.changes_are_accepted() {
            self.collection.running = None;
            return;
        }
        self.log_own_with(ChangeV1::MoveValues(MoveValuesV1 { segment, moved }), &values, now);
    }
}

fn is_at(state: &State, block: BlockId, place: ValuePlace) -> bool {
    state.value(block).is_some_and(|now| (now.segment, now.offset) == (place.segment, place.offset))
}
