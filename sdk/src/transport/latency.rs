//! How fast each datanode answers this process, and when one is so late that another is asked too. Takes the measurements;
//! reads no clock and does no I/O.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::limits::{HEDGES_AT_ONCE_MAX, LATENCY_ADDRESSES_MAX, LATENCY_SAMPLES_MAX, LATENCY_SAMPLES_MIN};

/// Each doubling of the latency has so many buckets.
const BUCKETS_PER_DOUBLING: u32 = 2;
/// From a microsecond to more than an hour.
const BUCKETS: usize = 64;
const PERMILLE: u64 = 1000;

/// Latencies by address, and what hedging may still cost. One lock, held for some instructions once or twice a read.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    hosts: HashMap<SocketAddr, Histogram>,
    /// Thousandths of a hedge that are left.
    budget: u64,
}

/// Latencies of one address; old ones count less and less.
#[derive(Debug)]
struct Histogram {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Latencies {
    /// Notes how long an address took to send its first byte of an answer, and that a read was made: it adds
    /// `budget_permille` thousandths to what hedging may cost.
    pub fn record(&self, address: SocketAddr, latency: Duration, budget_permille: u32) {
        let mut inner = self.inner.lock();
        let most = HEDGES_AT_ONCE_MAX * PERMILLE;
        inner.budget = most.min(inner.budget + u64::from(budget_permille));
        if inner.hosts.len() >= LATENCY_ADDRESSES_MAX && !inner.hosts.contains_key(&address) {
            // More datanodes than anybody reads from at once: begin anew.
            inner.hosts.clear();
        }
        inner.hosts.entry(address).or_default().record(latency);
    }

    /// The latency that 95 of 100 answers of an address did not exceed; `None` before there are enough to tell.
    pub fn p95(&self, address: SocketAddr) -> Option<Duration> {
        self.inner.lock().hosts.get(&address)?.p95()
    }

    /// Takes the cost of a hedge from the budget, if there is enough.
    pub fn may_hedge(&self) -> bool {
        let mut inner = self.inner.lock();
        let left = inner.budget.checked_sub(PERMILLE);
        inner.budget = left.unwrap_or(inner.budget);
        left.is_some()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    fn record(&mut self, latency: Duration) {
        if self.total >= LATENCY_SAMPLES_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        self.counts[bucket(latency)] += 1;
        self.total += 1;
    }

    fn p95(&self) -> Option<Duration> {
        if self.total < LATENCY_SAMPLES_MIN {
            return None;
        }
        let mut above = self.total / 20;
        let bucket = self.counts.iter().rposition(|count| {
            let is_here = *count > above;
            above = above.saturating_sub(*count);
            is_here
        })?;
        Some(upper_bound(bucket))
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
    let doublings = micros.ilog2();
    // The upper half of each doubling has the second bucket.
    let is_upper = doublings > 0 && micros >> (doublings - 1) & 1 == 1;
    ((doublings * BUCKETS_PER_DOUBLING) as usize + usize::from(is_upper)).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let doubling = 1u64 << (bucket as u32 / BUCKETS_PER_DOUBLING);
    let is_upper = bucket as u32 % BUCKETS_PER_DOUBLING == 1;
    Duration::from_micros(if is_upper { doubling * 2 } else { doubling + doubling / 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn the_95th_percentile_is_that_of_each_address() {
        let latencies = Latencies::default();
        assert_eq!(latencies.p95(address(1)), None);
        for sample in 0..200u64 {
            let slow = sample % 25 == 0;
            latencies.record(address(1), Duration::from_micros(if slow { 90_000 } else { 900 }), 0);
            latencies.record(address(2), Duration::from_millis(if sample % 10 == 0 { 90 } else { 1 }), 0);
        }
        let fast = latencies.p95(address(1)).expect("enough samples");
        assert!(fast >= Duration::from_micros(900) && fast < Duration::from_millis(2), "{fast:?}");
        let slow = latencies.p95(address(2)).expect("enough samples");
        assert!(slow >= Duration::from_millis(90) && slow < Duration::from_millis(150), "{slow:?}");
    }

    #[test]
    fn old_latencies_are_forgotten() {
        let latencies = Latencies::default();
        (0..LATENCY_SAMPLES_MAX).for_each(|_| latencies.record(address(1), Duration::from_millis(50), 0));
        (0..6 * LATENCY_SAMPLES_MAX).for_each(|_| latencies.record(address(1), Duration::from_millis(1), 0));
        assert!(latencies.p95(address(1)).expect("samples") < Duration::from_millis(3));
    }

    #[test]
    fn hedges_are_a_share_of_the_reads_and_do_not_pile_up() {
        let latencies = Latencies::default();
        assert!(!latencies.may_hedge());
        (0..39).for_each(|_| latencies.record(address(1), Duration::from_millis(1), 50));
        assert!(latencies.may_hedge() && !latencies.may_hedge());
        (0..100_000).for_each(|_| latencies.record(address(1), Duration::from_millis(1), 50));
        assert_eq!((0..1000).filter(|_| latencies.may_hedge()).count() as u64, HEDGES_AT_ONCE_MAX);
    }

    #[test]
    fn every_latency_is_below_the_bound_of_its_bucket() {
        for micros in [0, 1, 2, 3, 4, 5, 6, 7, 8, 1000, 1023, 1024, 1_000_000, 3_600_000_000] {
            let latency = Duration::from_micros(micros);
            assert!(latency <= upper_bound(bucket(latency)), "{micros}");
        }
    }
}
