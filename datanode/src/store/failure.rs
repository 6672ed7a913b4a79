//! Volumes that fail: taken out of use as a whole, with what was on them, while the others go on serving.
//!
//! A failed sync or write condemns a volume at once: what is on the disk is not known any more. A failed read is first a matter
//! of the one replica; only a volume that a small file cannot be written to and synced on is taken out
//! (HDFS: `DatasetVolumeChecker`, `dfs.datanode.failed.volumes.tolerated`).

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::task::Waker;

use ringfs_disk::{Create, OpenOptions};
use ringfs_proto::ids::BlockId;
use ringfs_proto::meta::membership::ReplicaState;

use super::Store;
use crate::scrub::Cursor;

const PROBE: &str = "write-probe";
const CURSOR: &str = "scrub.toml";
/// Bytes that a probe writes.
const PROBE_BYTES: usize = 4096;

impl Store {
    /// How many volumes there are, failed ones included.
    pub fn volume_count(&self) -> usize {
        self.disks.len()
    }

    /// Whether a volume has failed.
    pub fn is_out_of_use(&self, volume: usize) -> bool {
        self.disks.get(volume).is_none_or(|disk| disk.volume.has_failed())
    }

    /// Time of day, seconds since 1970.
    pub fn unix_s(&self) -> i64 {
        self.machine.unix_s()
    }

    /// Why the datanode must end: too many volumes have failed. `tolerated` of them may; when it does not say, all but one.
    pub fn failure(&self, tolerated: Option<usize>) -> Option<String> {
        let failed =
            self.unusable_at_start + self.disks.iter().filter(|disk| disk.volume.has_failed()).count();
        let all = self.unusable_at_start + self.disks.len();
        if failed == all {
            return Some("no volume is left".to_owned());
        }
        let tolerated = tolerated.unwrap_or(all - 1);
        (failed > tolerated)
            .then(|| format!("{failed} of {all} volumes have failed, volumes_failed_max is {tolerated}"))
    }

    /// Whether there is something for [`Store::take_care`].
    pub fn needs_care(&self) -> bool {
        self.disks.iter().any(|disk| disk.volume.is_suspected() || disk.volume.is_to_be_retired())
    }

    /// Looks after the volumes: those on which a read has failed, and those that have failed since the last call. Blocks.
    pub fn take_care(&self) {
        self.probe_suspects();
        self.retire_failed();
    }

    /// How many failed volumes have lost their replicas: the namenode is to be told when it rises.
    pub fn retired_volumes(&self) -> usize {
        self.retired.load(Ordering::Acquire)
    }

    /// Forgets the replicas of volumes that have failed since the last call: they are served no more, whoever still writes
    /// one is refused, and the namenode copies them.
    fn retire_failed(&self) {
        for (index, disk) in self.disks.iter().enumerate() {
            if !disk.volume.has_failed() || disk.volume.retire() {
                continue;
            }
            let mut lost = 0;
            for stripe in &self.replicas {
                stripe.lock().retain(|_, replica| {
                    let is_lost = usize::from(replica.volume) == index;
                    if is_lost {
                        replica.set_gone();
                        lost += 1;
                    }
                    !is_lost
                });
            }
            let mut changes = self.changes.lock();
            changes.waiting.retain(|(storage, _)| *storage != disk.volume.id);
            changes.is_nudged = true;
            self.retired.fetch_add(1, Ordering::Release);
            let waker = changes.waker.take();
            drop(changes);
            self.changed.notify_one();
            waker.into_iter().for_each(Waker::wake);
            tracing::error!(path = %disk.volume.path().display(), storage = %disk.volume.id, replicas = lost, "the replicas of the failed volume are left to others");
        }
    }

    fn probe_suspects(&self) {
        for disk in self.disks.iter().filter(|disk| disk.volume.take_suspicion() && !disk.volume.has_failed())
        {
            match probe(self, disk.volume.path()) {
                Ok(()) => {
                    tracing::warn!(path = %disk.volume.path().display(), "a read failed, and the volume can be written: it stays in use");
                }
                // Room is no question of health.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {}
                Err(error) => disk.volume.fail(&error),
            }
        }
    }

    /// The next finalized replicas of a volume behind a block, by block. Looks at all replicas.
    pub fn finalized_after(&self, volume: usize, after: BlockId, max: usize) -> Vec<BlockId> {
        let mut found = Vec::new();
        for stripe in &self.replicas {
            let stripe = stripe.lock();
            let of_volume = stripe.values().filter(|replica| usize::from(replica.volume) == volume);
            let is_due = |block: BlockId| block > after;
            let finalized = of_volume.filter(|replica| {
                is_due(replica.block) && replica.state() == ReplicaState::Finalized && !replica.is_corrupt()
            });
            found.extend(finalized.map(|replica| replica.block));
            drop(stripe);
            if found.len() > max.saturating_mul(4) {
                found.sort_unstable();
                found.truncate(max);
            }
        }
        found.sort_unstable();
        found.truncate(max);
        found
    }

    /// Where the scrubbing of a volume was; at the beginning when that is not known. Blocks.
    pub fn scrub_cursor(&self, volume: usize) -> Cursor {
        let Some(disk) = self.disks.get(volume) else { return Cursor::default() };
        let text = self.machine.files().read_to_string(&disk.volume.path().join(CURSOR));
        let cursor: Cursor = text.ok().and_then(|text| toml::from_str(&text).ok()).unwrap_or_default();
        disk.volume.set_scrubbed(cursor.ended_s);
        cursor
    }

    /// Writes down where the scrubbing of a volume is. Blocks.
    pub fn save_scrub_cursor(&self, volume: usize, cursor: &Cursor) {
        let Some(disk) = self.disks.get(volume) else { return };
        disk.volume.set_scrubbed(cursor.ended_s);
        let write = || -> io::Result<()> {
            let text = toml::to_string(cursor).map_err(io::Error::other)?;
            self.machine.files().write_durably(&disk.volume.path().join(CURSOR), text.as_bytes())
        };
        match write() {
            Ok(()) => {}
            // A full disk costs the next start some reading.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                tracing::warn!(%error, path = %disk.volume.path().display(), "cannot write down where the scrubber is");
            }
            Err(error) => disk.volume.fail(&error),
        }
    }
}

/// Writes and syncs a small file.
fn probe(store: &Store, path: &Path) -> io::Result<()> {
    let files = store.machine.files();
    let path = path.join(PROBE);
    let file = files.open(&path, OpenOptions::WRITE.create(Create::Empty))?;
    file.write_all_at(&[0; PROBE_BYTES], 0)?;
    file.sync_all()?;
    files.remove(&path)
}
