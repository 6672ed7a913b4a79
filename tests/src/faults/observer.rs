//! When the namenode notices that a datanode is not heard: asked again and again, by a thread of its own.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringfs_sdk::{Client, DatanodeInfo, DatanodeState};
use serde::Serialize;

use super::shared::Shared;
use crate::wait;

const INTERVAL: Duration = Duration::from_millis(20);
/// The namenode answers within this, or it is not looked at.
const DEADLINE: Duration = Duration::from_millis(300);

/// How a datanode went silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Silence {
    /// Its connections were reset.
    Killed,
    /// Its connections stand, and nothing comes.
    Paused,
    /// Nothing comes, and nothing arrives there.
    Cut,
}

/// What the namenode made of one that went silent.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Detection {
    /// How it went silent.
    pub silence: Silence,
    /// When it was avoided, ms since it went silent; `None`: it was back before.
    pub avoided_ms: Option<u64>,
    /// When it was taken as lost.
    pub lost_ms: Option<u64>,
}

#[derive(Debug)]
struct Watched {
    host: String,
    since: Instant,
    detection: Detection,
}

/// What is watched, and what was seen.
#[derive(Debug, Default)]
pub struct Observer {
    watched: Mutex<Vec<Watched>>,
    /// Those that were heard when the namenode was last asked.
    live: Mutex<BTreeSet<String>>,
    detections: Mutex<Vec<Detection>>,
}

impl Observer {
    /// A datanode has just gone silent. One that is still missed from the fault before says nothing.
    pub fn begin(&self, host: String, silence: Silence) {
        if !hold(&self.live).contains(&host) {
            return;
        }
        let detection = Detection { silence, avoided_ms: None, lost_ms: None };
        hold(&self.watched).push(Watched { host, since: Instant::now(), detection });
    }

    /// A datanode comes back: what was seen until now is kept.
    pub fn end(&self, host: &str) {
        let mut watched = hold(&self.watched);
        if let Some(at) = watched.iter().position(|watched| watched.host == host) {
            hold(&self.detections).push(watched.remove(at).detection);
        }
    }

    /// The namenode is about to be broken too: what it notices from now on says nothing.
    pub fn forget(&self) {
        hold(&self.watched).clear();
        hold(&self.live).clear();
    }

    /// All that was seen.
    pub fn detections(&self) -> Vec<Detection> {
        hold(&self.detections).clone()
    }

    /// Asks the namenode until the run stops.
    ///
    /// # Panics
    /// If the address is none.
    pub fn watch(&self, uri: &str, shared: &Shared) {
        let client = Client::builder().deadline(DEADLINE).connect_timeout(DEADLINE).io_timeout(DEADLINE);
        let client = client.connect(uri).expect("the address of the namenode");
        while !shared.is_stopping() {
            wait::pass(INTERVAL);
            if let Ok(datanodes) = client.datanode_report() {
                self.see(&datanodes);
            }
        }
    }

    fn see(&self, datanodes: &[DatanodeInfo]) {
        let live = datanodes.iter().filter(|datanode| datanode.state == DatanodeState::Live);
        *hold(&self.live) = live.map(|datanode| datanode.host.clone()).collect();
        for Watched { host, since, detection } in hold(&self.watched).iter_mut() {
            let Some(datanode) = datanodes.iter().find(|datanode| datanode.host == *host) else { continue };
            let now_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            if datanode.state != DatanodeState::Live {
                detection.avoided_ms.get_or_insert(now_ms);
            }
            if datanode.state == DatanodeState::Dead {
                detection.lost_ms.get_or_insert(now_ms);
            }
        }
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
