//! The scrubber of a shard: reads the replicas of its volumes when nobody else wants the disk, around the page cache.
//! [`crate::scrub`] decides what and how fast; a replica that does not verify is marked, reported and never served.

use std::rc::Rc;
use std::time::Duration;

use ringfs_proto::ids::BlockId;

use super::Shard;
use crate::engine::{Engine, Weight};
use crate::scrub::{PAGE_REPLICAS_MAX, Pace, Planner, Step};

/// Before the first read: a start has better things to do.
const START_PAUSE: Duration = Duration::from_secs(1);

impl<E: Engine> Shard<E> {
    /// Begins to scrub the volumes whose turn falls on this shard.
    pub(super) fn start_scrubbing(self: &Rc<Self>) {
        let config = &self.node.config;
        if config.scrub_period_s == 0 || config.scrub_bytes_per_second == 0 {
            return;
        }
        for volume in self.volumes() {
            self.engine.spawn(Weight::Background, self.clone().scrub(volume));
        }
    }

    /// The volumes that this shard looks after.
    pub(super) fn volumes(&self) -> impl Iterator<Item = usize> + use<E> {
        (self.engine.shard()..self.node.store.volume_count()).step_by(self.node.metrics.len())
    }

    async fn scrub(self: Rc<Self>, volume: usize) {
        self.engine.sleep(START_PAUSE).await;
        let node = self.node.clone();
        let cursor = self.engine.blocking(move || node.store.scrub_cursor(volume)).await;
        let mut planner = Planner::new(cursor, self.node.config.scrub_period_s);
        while !self.node.store.is_out_of_use(volume) {
            let node = self.node.clone();
            match planner.next(u64::try_from(node.store.unix_s()).unwrap_or(0)) {
                Step::List(after) => {
                    let list = move || node.store.finalized_after(volume, after, PAGE_REPLICAS_MAX);
                    planner.listed(self.engine.blocking(list).await);
                }
                Step::Verify(block) => self.scrub_replica(volume, block).await,
                Step::Save(cursor) => {
                    self.engine.blocking(move || node.store.save_scrub_cursor(volume, &cursor)).await;
                }
                Step::Wait(duration) => self.engine.sleep(duration).await,
            }
        }
    }

    /// Reads a replica that was listed. It may be gone, moved or written again by now: then it is somebody else's matter.
    async fn scrub_replica(&self, volume: usize, block: BlockId) {
        let listed = self.node.store.find(block).filter(|replica| usize::from(replica.volume) == volume);
        if listed.is_none_or(|replica| replica.is_gone() || replica.is_corrupt()) {
            return;
        }
        let Ok(reading) = self.read_replica(block).await else { return };
        if reading.is_finalized() {
            let pace = Pace::new(self.node.config.scrub_bytes_per_second, self.node.moved_bytes());
            let verified = self.verify(&reading, Some(pace)).await;
            match verified {
                Ok(()) => self.metrics.scrubbed_replicas.add(1),
                Err(error) => tracing::warn!(%block, %error, "the scrubber found a bad replica"),
            }
        }
        reading.close().await;
    }
}
