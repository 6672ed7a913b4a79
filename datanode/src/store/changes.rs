//! What the namenode is to be told of replicas: changes wait here, in order, for the task that reports them.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use ringfs_proto::ids::StorageId;
use ringfs_proto::meta::membership::ReplicaChangeV1;

use super::Store;

/// Changes that wait to be reported, in order, and a task that waits for them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub waiting: Vec<(StorageId, ReplicaChangeV1)>,
    /// There is something else to tell.
    pub is_nudged: bool,
    pub waker: Option<Waker>,
}

impl Store {
    /// Takes the changes that wait to be reported, in order.
    pub fn take_changes(&self) -> Vec<(StorageId, ReplicaChangeV1)> {
        let mut changes = self.changes.lock();
        changes.is_nudged = false;
        core::mem::take(&mut changes.waiting)
    }

    /// Waits until there are changes to report, or somebody wakes, for at most `timeout`. Blocks.
    pub fn wait_for_changes(&self, timeout: std::time::Duration) {
        let mut changes = self.changes.lock();
        if changes.waiting.is_empty() && !changes.is_nudged {
            let _timed_out = self.changed.wait_for(&mut changes, timeout);
        }
    }

    /// Waits until there are changes to report. For one task at a time.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn changed(&self) {
        poll_fn(|context| {
            let mut changes = self.changes.lock();
            if !changes.waiting.is_empty() || changes.is_nudged {
                return Poll::Ready(());
            }
            changes.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Wakes the thread that waits for changes.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    pub(super) fn report(&self, storage: StorageId, change: ReplicaChangeV1) {
        let mut changes = self.changes.lock();
        changes.waiting.push((storage, change));
        let waker = changes.waker.take();
        drop(changes);
        self.changed.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
