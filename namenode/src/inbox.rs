//! Where everything meets that the namespace thread works on: calls, the lane of the datanodes, the log, disconnects.
//!
//! Producers pay one lock per batch; the consumer takes all there is at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::calls::Call;
use crate::wal::Completion;

/// All that waited.
#[derive(Debug, Default)]
pub struct Work {
    /// Registrations, heartbeats, reports: first, so that a storm of calls declares nobody dead.
    pub urgent: Vec<Call>,
    /// Everything else.
    pub calls: Vec<Call>,
    /// What the log finished.
    pub completions: Vec<Completion>,
    /// Connections that are gone.
    pub disconnected: Vec<u64>,
    /// Whether no more shall come.
    pub is_stopping: bool,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty()
            && self.calls.is_empty()
            && self.completions.is_empty()
            && self.disconnected.is_empty()
            && !self.is_stopping
    }
}

/// The meeting point. Calls are bounded by their producers, which wait for room before they read on.
#[derive(Debug, Default)]
pub struct Inbox {
    work: Mutex<Work>,
    arrived: Condvar,
}

impl Inbox {
    /// Adds something and wakes the namespace thread.
    pub fn add(&self, put: impl FnOnce(&mut Work)) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        put(&mut work);
        self.arrived.notify_one();
    }

    /// Takes all there is, waiting at most `timeout` for something.
    pub fn take(&self, timeout: Duration) -> Work {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.arrived.wait_timeout_while(work, timeout, |work| work.is_empty());
        let (mut work, _timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        core::mem::take(&mut work)
    }
}
