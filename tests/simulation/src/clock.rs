//! The time of day of a host: it follows the time of the simulation, and may jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::executor::{Executor, Micros};

/// Time of day when a simulation begins, ms since 1970.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// The clock of a host. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct HostClock {
    offset_ms: Arc<AtomicI64>,
    now: Arc<AtomicU64>,
}

impl HostClock {
    /// Follows the executor's time from now on, for those who cannot ask the executor.
    pub fn follow(&self, executor: &Executor) {
        self.now.store(executor.now(), Ordering::Relaxed);
    }

    /// Jumps.
    pub fn jump(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// The time of day at a time of the simulation, ms since 1970.
    pub fn unix_ms(&self, now: Micros) -> u64 {
        (BEGIN_MS + self.offset_ms.load(Ordering::Relaxed) + (now / 1000) as i64).max(0) as u64
    }

    /// The time of day when [`HostClock::follow`] was last called, s since 1970.
    pub fn unix_s(&self) -> i64 {
        (self.unix_ms(self.now.load(Ordering::Relaxed)) / 1000) as i64
    }
}
