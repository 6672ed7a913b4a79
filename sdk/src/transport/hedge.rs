//! Hedged reads: what a late datanode was asked for is asked for again at another, and the first that has all of it wins.
//!
//! The second answer goes to memory of its own. It is copied to the caller's memory only after the connection of the first is
//! closed, so that no late byte lands in memory that was returned; when the first wins, the second's connection is closed.

use std::net::SocketAddr;
use std::time::Duration;

use ringfs_proto::meta::data::ReadRangeV1;

use super::Fetch;
use super::latency::Latencies;
use crate::limits::HEDGE_BYTES_MAX;

/// When and how often to hedge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HedgePolicy {
    /// Hedges per thousand reads, at most; 0: never.
    pub budget_permille: u32,
    /// A replica that was silent for less is not late.
    pub after_min: Duration,
}

impl HedgePolicy {
    /// How long an address may be silent: its own p95. One that is not known well has the least.
    pub fn patience(self, latencies: &Latencies, address: SocketAddr) -> Option<Duration> {
        if self.budget_permille == 0 {
            return None;
        }
        Some(latencies.p95(address).unwrap_or(self.after_min).max(self.after_min))
    }
}

/// Where the bytes of a copy belong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Which fetch of the batch.
    fetch: usize,
    /// Bytes of the fetch that were there before: they are not asked for again.
    skipped: usize,
}

/// One fetch that is made twice.
#[derive(Debug)]
pub(super) struct Copy {
    pub place: Place,
    pub node: SocketAddr,
    pub range: ReadRangeV1,
    pub memory: Vec<u8>,
}

fn is_open(fetch: &Fetch<'_>) -> bool {
    fetch.result.is_none() && !fetch.progress.is_complete()
}

/// What is made twice of a late node's fetches, which are `order`: all of it that has not arrived, or nothing.
pub(super) fn copies_of(order: &[usize], fetches: &[Fetch<'_>]) -> Option<Vec<Copy>> {
    let mut bytes = 0;
    let mut copies = Vec::new();
    for index in order {
        let fetch = fetches.get(*index)?;
        if !is_open(fetch) {
            continue;
        }
        let skipped = fetch.progress.verified_len();
        let length = fetch.range.length - skipped;
        bytes += length;
        if bytes > HEDGE_BYTES_MAX {
            return None;
        }
        let range = ReadRangeV1 { offset: fetch.range.offset + skipped, length, ..fetch.range.clone() };
        let place = Place { fetch: *index, skipped: skipped as usize };
        copies.push(Copy { place, node: fetch.other?, range, memory: vec![0; length as usize] });
    }
    (!copies.is_empty()).then_some(copies)
}

/// The copy of a fetch that has all its bytes.
fn whole<'c, 'm>(index: usize, copies: &'c [Fetch<'m>], places: &[Place]) -> Option<(&'c Fetch<'m>, usize)> {
    let slot = places.iter().position(|place| place.fetch == index)?;
    let copy = copies.get(slot).filter(|copy| matches!(copy.result, Some(Ok(()))))?;
    Some((copy, places[slot].skipped))
}

/// Whether all that a node still owes is there by another way.
pub(super) fn is_overtaken(
    order: &[usize],
    fetches: &[Fetch<'_>],
    copies: &[Fetch<'_>],
    places: &[Place],
) -> bool {
    order.iter().all(|index| !is_open(&fetches[*index]) || whole(*index, copies, places).is_some())
}

/// Takes what a node still owes from the copies. Its connection must be closed: nothing of it may arrive any more.
pub(super) fn take_over(order: &[usize], fetches: &mut [Fetch<'_>], copies: &[Fetch<'_>], places: &[Place]) {
    for index in order {
        let fetch = &mut fetches[*index];
        if fetch.result.is_none() {
            if let Some((copy, skipped)) = whole(*index, copies, places)
                && is_open(fetch)
            {
                fetch.target[skipped..].copy_from_slice(copy.target);
                fetch.progress.complete();
            }
            fetch.result = Some(Ok(()));
        }
    }
}
