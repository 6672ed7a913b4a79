//! Replicas whose bytes do not match their checksums: reported to the namenode, each once, off the path of the bytes.

use std::collections::VecDeque;

use parking_lot::Mutex;
use ringfs_proto::meta::namespace::{BadReplicaV1, ReportBadBlocksRequestV1};
use ringfs_proto::ops::ReportBadBlocks;

use crate::client::Shared;
use crate::limits::{BAD_REPLICAS_MAX, BAD_REPORT_TIMEOUT};

/// What a client has found. The oldest are forgotten first, and then reported again if they are found again.
#[derive(Debug, Default)]
pub(crate) struct BadReplicas {
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    waiting: VecDeque<BadReplicaV1>,
    reported: VecDeque<BadReplicaV1>,
}

impl BadReplicas {
    /// Notes a replica.
    pub fn note(&self, replica: BadReplicaV1) {
        let mut found = self.found.lock();
        if !found.waiting.contains(&replica) && !found.reported.contains(&replica) {
            push(&mut found.waiting, replica);
        }
    }

    /// Reports what waits. Whatever fails waits for the next time.
    pub fn report(&self, shared: &Shared) {
        let replicas: Vec<_> = self.found.lock().waiting.drain(..).collect();
        if replicas.is_empty() {
            return;
        }
        let request = ReportBadBlocksRequestV1 { replicas };
        let called = shared.namenode.try_once::<ReportBadBlocks>(&request, BAD_REPORT_TIMEOUT);
        let mut found = self.found.lock();
        let kept = if called.is_ok() { &mut found.reported } else { &mut found.waiting };
        request.replicas.into_iter().for_each(|replica| push(kept, replica));
        if let Err(fault) = called {
            tracing::debug!(%fault, "bad replicas could not be reported");
        }
    }
}

fn push(kept: &mut VecDeque<BadReplicaV1>, replica: BadReplicaV1) {
    if kept.len() == BAD_REPLICAS_MAX {
        kept.pop_front();
    }
    kept.push_back(replica);
}
