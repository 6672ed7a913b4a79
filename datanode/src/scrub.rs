//! What the scrubber reads next, and how fast. No I/O, no clock.
//!
//! A round reads every finalized replica of a volume once, by block id, and begins at most once a period. Where a round is
//! outlives the process, in a small file, so that a datanode that is started again every day still comes to its end.
//! HDFS: `VolumeScanner`, `dfs.datanode.scan.period.hours`, `dfs.block.scanner.volume.bytes.per.second`.

use std::collections::VecDeque;
use std::time::Duration;

use ringfs_proto::ids::BlockId;
use serde::{Deserialize, Serialize};

/// Replicas that are listed at once.
pub const PAGE_REPLICAS_MAX: usize = 1024;
/// The longest wait between two looks at the time.
const WAIT_S_MAX: u64 = 60;
/// Where a round is becomes durable at most this often, seconds. What is read again after a crash is no loss.
const SAVE_INTERVAL_S: u64 = 60;

/// Where a round is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// When the round began, seconds since 1970.
    pub began_s: u64,
    /// The last block that was read; 0 at the beginning.
    pub last: u64,
    /// Whether the round has come to its end.
    pub is_done: bool,
    /// When the last round came to its end, seconds since 1970; 0: none has.
    #[serde(default)]
    pub ended_s: u64,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// List the next replicas behind a block, at most [`PAGE_REPLICAS_MAX`], for [`Planner::listed`].
    List(BlockId),
    /// Read this one.
    Verify(BlockId),
    /// Write down where the round is.
    Save(Cursor),
    /// Nothing for so long.
    Wait(Duration),
}

/// Plans the scrubbing of one volume.
#[derive(Debug)]
pub struct Planner {
    cursor: Cursor,
    period_s: u64,
    page: VecDeque<BlockId>,
    saved: Cursor,
    saved_s: u64,
}

impl Planner {
    /// Goes on where `cursor` was. A round begins `period_s` after the one before began, or when that one ends.
    pub fn new(cursor: Cursor, period_s: u64) -> Self {
        Self { cursor, period_s, page: VecDeque::new(), saved: cursor, saved_s: 0 }
    }

    /// The next step at a time of day. The clock may jump: back, and a round that seems to have begun later begins now.
    pub fn next(&mut self, now_s: u64) -> Step {
        if self.cursor == Cursor::default() {
            // A volume that was never scrubbed: its first round begins now.
            self.cursor.began_s = now_s;
        }
        self.cursor.began_s = self.cursor.began_s.min(now_s);
        self.cursor.ended_s = self.cursor.ended_s.min(now_s);
        if self.cursor.is_done && self.cursor.ended_s < self.cursor.began_s {
            self.cursor.ended_s = now_s;
        }
        self.saved_s = self.saved_s.min(now_s);
        let is_worth_saving = self.cursor.is_done || now_s - self.saved_s >= SAVE_INTERVAL_S;
        if self.cursor != self.saved && is_worth_saving {
            (self.saved, self.saved_s) = (self.cursor, now_s);
            return Step::Save(self.cursor);
        }
        if let Some(block) = self.page.pop_front() {
            self.cursor.last = block.0;
            return Step::Verify(block);
        }
        if !self.cursor.is_done {
            return Step::List(BlockId(self.cursor.last));
        }
        let since_s = now_s - self.cursor.began_s;
        if since_s >= self.period_s {
            self.cursor = Cursor { began_s: now_s, last: 0, is_done: false, ..self.cursor };
            return Step::List(BlockId(0));
        }
        Step::Wait(Duration::from_secs((self.period_s - since_s).min(WAIT_S_MAX)))
    }

    /// What [`Step::List`] asked for, by block; none: the round is at its end.
    pub fn listed(&mut self, page: Vec<BlockId>) {
        self.cursor.is_done = page.is_empty();
        self.page = page.into();
    }
}

/// How long to rest after so many bytes, to read no more than `bytes_per_second` on average.
pub fn rest(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / bytes_per_second.max(1))
}

/// While clients read or write, the scrubber is slower by this factor.
const BUSY_FACTOR: u64 = 8;

/// How fast a volume is read: at a rate, and at a fraction of it while clients move data, for the disk and the kernel know no
/// weights.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    bytes_per_second: u64,
    /// What clients had moved in all.
    moved_bytes: u64,
}

impl Pace {
    /// At most so many bytes a second, on average; clients have moved so many until now.
    pub fn new(bytes_per_second: u64, moved_bytes: u64) -> Self {
        Self { bytes_per_second, moved_bytes }
    }

    /// How long to rest after so many bytes; `moved_bytes` is what clients have moved since the datanode was started.
    pub fn rest(&mut self, bytes: u64, moved_bytes: u64) -> Duration {
        let is_busy = moved_bytes != self.moved_bytes;
        self.moved_bytes = moved_bytes;
        let factor = if is_busy { BUSY_FACTOR } else { 1 };
        rest(bytes.saturating_mul(factor), self.bytes_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD_S: u64 = 1000;

    /// Runs until the planner waits; returns what was read, and what was saved last.
    fn run(planner: &mut Planner, blocks: &[u64], now_s: u64) -> (Vec<u64>, Option<Cursor>) {
        let (mut read, mut saved) = (Vec::new(), None);
        loop {
            match planner.next(now_s) {
                Step::List(after) => {
                    let page = blocks.iter().filter(|block| **block > after.0).take(2);
                    planner.listed(page.map(|block| BlockId(*block)).collect());
                }
                Step::Verify(block) => read.push(block.0),
                Step::Save(cursor) => saved = Some(cursor),
                Step::Wait(_) => return (read, saved),
            }
        }
    }

    #[test]
    fn a_round_reads_everything_once_and_the_next_waits_for_its_time() {
        let mut planner = Planner::new(Cursor::default(), PERIOD_S);
        let blocks = [3, 5, 8, 9, 20];
        let (read, saved) = run(&mut planner, &blocks, 10_000);
        assert_eq!(read, blocks);
        assert!(saved.is_some_and(|cursor| cursor.is_done));
        assert_eq!(run(&mut planner, &blocks, 10_500).0, [0; 0]);
        assert!(matches!(planner.next(10_500), Step::Wait(_)));
        let mut planner = Planner::new(Cursor { began_s: 10_000, ..Cursor::default() }, PERIOD_S);
        assert_eq!(run(&mut planner, &blocks, 10_001).0, blocks);
        assert_eq!(run(&mut planner, &blocks, 10_999).0, [0; 0]);
        assert_eq!(run(&mut planner, &blocks, 11_000).0, blocks);
    }

    #[test]
    fn a_restart_goes_on_where_the_round_was() {
        let cursor = Cursor { began_s: 10_000, last: 5, is_done: false, ended_s: 9_500 };
        let (read, saved) = run(&mut Planner::new(cursor, PERIOD_S), &[3, 5, 8, 9], 10_100);
        assert_eq!(read, [8, 9]);
        assert_eq!(saved, Some(Cursor { began_s: 10_000, last: 9, is_done: true, ended_s: 10_100 }));
    }

    #[test]
    fn where_the_round_is_becomes_durable_now_and_then() {
        let mut planner = Planner::new(Cursor { began_s: 10_000, ..Cursor::default() }, PERIOD_S);
        assert_eq!(planner.next(10_000), Step::List(BlockId(0)));
        planner.listed(vec![BlockId(1), BlockId(2), BlockId(3)]);
        assert_eq!(planner.next(10_000), Step::Verify(BlockId(1)));
        let saved = Cursor { began_s: 10_000, last: 1, is_done: false, ended_s: 0 };
        assert_eq!(planner.next(10_000), Step::Save(saved));
        assert_eq!(planner.next(10_059), Step::Verify(BlockId(2)));
        assert_eq!(planner.next(10_059), Step::Verify(BlockId(3)));
        assert_eq!(planner.next(10_060), Step::Save(Cursor { last: 3, ..saved }));
    }

    #[test]
    fn a_clock_that_jumps_back_stops_nothing() {
        let cursor = Cursor { began_s: 1_000_000, last: 9, is_done: true, ended_s: 1_000_500 };
        let mut planner = Planner::new(cursor, PERIOD_S);
        run(&mut planner, &[1], 500);
        assert_eq!(run(&mut planner, &[1], 1500).0, [1], "a period later, by the new clock");
    }

    #[test]
    fn the_rest_holds_the_rate_and_gives_way_to_clients() {
        assert_eq!(Pace::new(1 << 20, 9).rest(1 << 20, 9), Duration::from_secs(1));
        let mut pace = Pace::new(8 << 20, 0);
        assert_eq!(pace.rest(512 << 10, 0), Duration::from_micros(62_500));
        assert_eq!(pace.rest(512 << 10, 100), Duration::from_micros(500_000), "a client has read");
        assert_eq!(pace.rest(512 << 10, 200), Duration::from_micros(500_000), "and again");
        assert_eq!(pace.rest(512 << 10, 200), Duration::from_micros(62_500));
        assert!(Pace::new(0, 0).rest(u64::MAX, 1) > Duration::ZERO);
    }
}
