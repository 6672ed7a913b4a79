//! Blocks that need a copy, by urgency. HDFS: `LowRedundancyBlocks`.

use roaring::RoaringBitmap;

use crate::state::Slot;

/// How urgently a committed block needs a copy, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// One good replica is left.
    Highest,
    /// It has less than a third of the replicas that it should have.
    VeryLow,
    /// It has fewer than it should have.
    Low,
    /// It has enough, but all on one rack.
    BadlySpread,
    /// No good replica is known: there is nothing to copy.
    Missing,
}

impl Level {
    /// Those from which something can be copied.
    pub const COPIED: [Self; 4] = [Self::Highest, Self::VeryLow, Self::Low, Self::BadlySpread];
    const COUNT: usize = 5;

    /// The level of a block with `good` of `wanted` replicas.
    pub fn of(good: usize, wanted: usize, is_well_spread: bool) -> Option<Self> {
        match good {
            0 => Some(Self::Missing),
            _ if good >= wanted => (!is_well_spread).then_some(Self::BadlySpread),
            1 => Some(Self::Highest),
            _ if good * 3 < wanted => Some(Self::VeryLow),
            _ => Some(Self::Low),
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    slots: RoaringBitmap,
    /// Where the next turn begins, so that blocks that cannot be copied now do not keep others waiting.
    next: Slot,
}

/// The queues: a block is in one of them at most.
#[derive(Debug, Default)]
pub struct Levels {
    queues: [Queue; Level::COUNT],
}

impl Levels {
    /// Puts a block where it belongs.
    pub fn set(&mut self, slot: Slot, level: Option<Level>) {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if level.is_some_and(|level| level as usize == index) {
                queue.slots.insert(slot);
            } else {
                queue.slots.remove(slot);
            }
        }
    }

    /// At most `count` blocks of a level; the next turn goes on behind them.
    pub fn turn(&mut self, level: Level, count: usize) -> Vec<Slot> {
        take_turn(&self.queues[level as usize].slots, &mut self.queues[level as usize].next, count)
    }

    /// The blocks of a level, from a slot on.
    pub fn from(&self, level: Level, slot: Slot) -> impl Iterator<Item = Slot> + '_ {
        self.queues[level as usize].slots.range(slot..)
    }

    /// How many blocks there are on a level.
    pub fn count(&self, level: Level) -> u64 {
        self.queues[level as usize].slots.len()
    }

    /// Blocks with at least one good replica, and fewer than wanted.
    pub fn short(&self) -> u64 {
        [Level::Highest, Level::VeryLow, Level::Low].into_iter().map(|level| self.count(level)).sum()
    }
}

/// At most `count` of `slots`, each once, from `next` on and around the end.
pub fn take_turn(slots: &RoaringBitmap, next: &mut Slot, count: usize) -> Vec<Slot> {
    let mut turn: Vec<Slot> = slots.range(*next..).take(count).collect();
    if turn.len() < count {
        turn.extend(slots.range(..*next).take(count - turn.len()));
    }
    if let Some(last) = turn.last() {
        *next = last.wrapping_add(1);
    }
    turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_follows_what_is_left() {
        let of = |good, wanted| Level::of(good, wanted, true);
        assert_eq!(of(0, 3), Some(Level::Missing));
        assert_eq!(of(1, 2), Some(Level::Highest));
        assert_eq!(of(1, 1), None);
        assert_eq!(of(2, 3), Some(Level::Low));
        assert_eq!(of(2, 7), Some(Level::VeryLow));
        assert_eq!(of(3, 9), Some(Level::Low));
        assert_eq!(of(4, 3), None);
        assert_eq!(Level::of(3, 3, false), Some(Level::BadlySpread));
        assert_eq!(Level::of(2, 3, false), Some(Level::Low));
    }

    #[test]
    fn a_block_is_on_one_level_and_turns_go_round() {
        let mut levels = Levels::default();
        for slot in 0..10 {
            levels.set(slot, Some(Level::Low));
        }
        levels.set(4, Some(Level::Highest));
        levels.set(5, None);
        assert_eq!((levels.count(Level::Low), levels.count(Level::Highest), levels.short()), (8, 1, 9));
        assert_eq!(levels.turn(Level::Low, 3), [0, 1, 2]);
        assert_eq!(levels.turn(Level::Low, 3), [3, 6, 7]);
        assert_eq!(levels.turn(Level::Low, 4), [8, 9, 0, 1]);
        assert_eq!(levels.turn(Level::Low, 100), [2, 3, 6, 7, 8, 9, 0, 1], "each once");
        assert!(levels.turn(Level::VeryLow, 100).is_empty());
        levels.set(4, Some(Level::Missing));
        assert_eq!(levels.short(), 8);
    }
}
