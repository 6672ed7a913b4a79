//! Copies under way, and replicas of closed blocks that are still to be reported. HDFS: `PendingReconstructionBlocks`.

use std::collections::{BTreeMap, BTreeSet};

use crate::blocks::StorageIndex;
use crate::state::Slot;

/// Closed blocks whose last replicas are awaited, at most; of more, the missing ones are copied at once.
const ARRIVALS_MAX: usize = 100_000;

/// Replicas of one block that are expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The datanode that copies; none when the writer's pipeline is to report.
    pub source: Option<usize>,
    /// Where they will appear.
    pub targets: Vec<StorageIndex>,
    /// Bytes of each.
    pub bytes: u64,
    /// When they are given up, ms on the monotonic clock.
    pub until_ms: u64,
}

/// What came of an expected replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// The datanode that is done with copying, if it was the last target.
    pub source: Option<usize>,
    /// Whether it was a copy.
    pub is_copy: bool,
    /// Bytes of it.
    pub bytes: u64,
}

/// All that is expected.
#[derive(Debug, Default)]
pub struct Copies {
    by_slot: BTreeMap<Slot, Vec<Expected>>,
    deadlines: BTreeSet<(u64, Slot)>,
    copied_blocks: u64,
}

impl Copies {
    /// Expects replicas. Those of a pipeline are not noted when too many are expected.
    pub fn expect(&mut self, slot: Slot, expected: Expected) {
        if expected.source.is_none() && self.by_slot.len() >= ARRIVALS_MAX {
            return;
        }
        self.deadlines.insert((expected.until_ms, slot));
        self.change(slot, |all| all.push(expected));
    }

    /// Where replicas of a block will appear.
    pub fn targets(&self, slot: Slot) -> impl Iterator<Item = StorageIndex> + '_ {
        self.by_slot.get(&slot).into_iter().flatten().flat_map(|expected| expected.targets.iter().copied())
    }

    /// A replica was reported.
    pub fn arrived(&mut self, slot: Slot, storage: StorageIndex) -> Option<Arrived> {
        if !self.targets(slot).any(|target| target == storage) {
            return None;
        }
        let mut arrived = None;
        self.change(slot, |all| {
            if let Some(expected) = all.iter_mut().find(|expected| expected.targets.contains(&storage)) {
                expected.targets.retain(|target| *target != storage);
                let source = expected.source.filter(|_| expected.targets.is_empty());
                let is_copy = expected.source.is_some();
                arrived = Some(Arrived { source, is_copy, bytes: expected.bytes });
            }
            all.retain(|expected| !expected.targets.is_empty());
        });
        arrived
    }

    /// A block is gone: nothing is expected of it.
    pub fn cancel(&mut self, slot: Slot) -> Vec<Expected> {
        let mut cancelled = Vec::new();
        self.change(slot, |all| cancelled.append(all));
        cancelled
    }

    /// Gives up what a datanode was to copy, or to receive on one of its storages.
    pub fn cancel_node(&mut self, node: usize, storages: &[StorageIndex]) -> Vec<(Slot, Expected)> {
        let is_of = |expected: &Expected| {
            expected.source == Some(node) || expected.targets.iter().any(|target| storages.contains(target))
        };
        self.take(|_, expected| is_of(expected), None)
    }

    /// Gives up what has not come in time.
    pub fn expired(&mut self, now_ms: u64) -> Vec<(Slot, Expected)> {
        let due: Vec<Slot> = self.deadlines.range(..=(now_ms, Slot::MAX)).map(|(_, slot)| *slot).collect();
        self.deadlines = self.deadlines.split_off(&(now_ms + 1, 0));
        due.into_iter()
            .flat_map(|slot| self.take(|_, expected| expected.until_ms <= now_ms, Some(slot)))
            .collect()
    }

    /// Whether a block is being copied.
    pub fn is_copied(&self, slot: Slot) -> bool {
        self.by_slot.get(&slot).is_some_and(|all| all.iter().any(|expected| expected.source.is_some()))
    }

    /// Blocks that are being copied.
    pub fn copied_blocks(&self) -> u64 {
        self.copied_blocks
    }

    fn take(
        &mut self,
        is_taken: impl Fn(Slot, &Expected) -> bool,
        only: Option<Slot>,
    ) -> Vec<(Slot, Expected)> {
        let range = only.map_or(0..=Slot::MAX, |slot| slot..=slot);
        let has_some = |(slot, all): (&Slot, &Vec<Expected>)| {
            all.iter().any(|expected| is_taken(*slot, expected)).then_some(*slot)
        };
        let slots: Vec<Slot> = self.by_slot.range(range).filter_map(has_some).collect();
        let mut taken = Vec::new();
        for slot in slots {
            self.change(slot, |all| {
                taken.extend(all.extract_if(.., |expected| is_taken(slot, expected)).map(|one| (slot, one)));
            });
        }
        taken
    }

    /// Changes what is expected of a block, and the count with it.
    fn change(&mut self, slot: Slot, act: impl FnOnce(&mut Vec<Expected>)) {
        let all = self.by_slot.entry(slot).or_default();
        let is_copied = |all: &[Expected]| all.iter().any(|expected| expected.source.is_some());
        let was_copied = is_copied(all);
        act(all);
        self.copied_blocks += u64::from(is_copied(all));
        self.copied_blocks -= u64::from(was_copied);
        if all.is_empty() {
            self.by_slot.remove(&slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(source: usize, targets: &[StorageIndex], until_ms: u64) -> Expected {
        Expected { source: Some(source), targets: targets.to_vec(), bytes: 10, until_ms }
    }

    #[test]
    fn a_source_is_done_when_all_its_targets_have_reported() {
        let mut copies = Copies::default();
        copies.expect(5, copy(7, &[1, 2], 100));
        assert_eq!((copies.copied_blocks(), copies.targets(5).count()), (1, 2));
        assert_eq!(copies.arrived(5, 3), None);
        let arrived = |source| Some(Arrived { source, is_copy: true, bytes: 10 });
        assert_eq!(copies.arrived(5, 1), arrived(None));
        assert_eq!(copies.arrived(5, 1), None, "once");
        assert_eq!(copies.arrived(5, 2), arrived(Some(7)));
        assert_eq!(copies.copied_blocks(), 0);
        assert_eq!(copies.expired(100), []);
    }

    #[test]
    fn what_does_not_come_is_given_up() {
        let mut copies = Copies::default();
        copies.expect(5, copy(7, &[1], 100));
        copies.expect(5, copy(8, &[2], 200));
        copies.expect(6, Expected { source: None, ..copy(0, &[3], 150) });
        assert_eq!(copies.copied_blocks(), 1);
        assert_eq!(copies.expired(99), []);
        assert_eq!(copies.expired(150).len(), 2);
        assert_eq!(copies.targets(5).collect::<Vec<_>>(), [2]);
        assert_eq!(copies.cancel_node(9, &[2]), [(5, copy(8, &[2], 200))]);
        copies.expect(7, copy(9, &[4], 300));
        assert_eq!(copies.cancel_node(9, &[]).len(), 1);
        copies.expect(8, copy(9, &[4], 300));
        assert_eq!(copies.cancel(8).len(), 1);
        assert_eq!((copies.copied_blocks(), copies.expired(1000).len()), (0, 0));
    }
}
