//! Where everything meets that the namespace thread works on: calls, the lane of the datanodes, the log, disconnects.
//!
//! Producers pay one lock per batch. The consumer takes a bounded number of calls a turn, and everything else at once:
//! reports, heartbeats and what the log finished never wait for a storm of calls.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::activity::Usages;
use crate::calls::Call;
use crate::checkpoint::Done;
use crate::fair::FairCalls;
use crate::topology::Racks;
use crate::wal::Completion;
use crate::wal::collect::Collected;

/// Calls that the namespace thread takes before it looks at everything else again.
const CALLS_PER_TURN: usize = 1024;

/// Calls that somebody else serves in a turn that he takes at once.
const CALLS_AT_ONCE: usize = 64;

/// What is worked on in one turn.
#[derive(Debug, Default)]
pub struct Work {
    /// Registrations, heartbeats, reports: first, so that a storm of calls declares nobody dead.
    pub urgent: Vec<Call>,
    /// Everything else that is asked.
    pub calls: Vec<Call>,
    /// What users asked since the last turn, `calls` included.
    pub usages: Usages,
    /// What the log finished.
    pub completions: Vec<Completion>,
    /// Checkpoints that are written, or have failed.
    pub checkpoints: Vec<Done>,
    /// What was found out for the collection of values.
    pub collected: Vec<Collected>,
    /// Connections that are gone.
    pub disconnected: Vec<u64>,
    /// Racks that were learnt.
    pub racks: Vec<Racks>,
    /// Whether no more shall come.
    pub is_stopping: bool,
    /// Whether a turn that was taken at once has left something to do.
    pub is_left: bool,
}

#[derive(Debug)]
struct Waiting {
    /// All but its calls.
    work: Work,
    calls: FairCalls,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        let Work {
            urgent,
            completions,
            checkpoints,
            collected,
            disconnected,
            racks,
            is_stopping,
            is_left,
            calls: _,
            usages: _,
        } = &self.work;
        urgent.is_empty()
            && self.calls.is_empty()
            && completions.is_empty()
            && checkpoints.is_empty()
            && collected.is_empty()
            && disconnected.is_empty()
            && racks.is_empty()
            && !is_stopping
            && !is_left
    }
}

/// Takes a turn with the calls that wait, if nobody else has one; whether it did.
type AtOnce = Box<dyn Fn() -> bool + Send + Sync>;

/// The meeting point. Calls are bounded by their producers, which wait for room before they read on.
pub struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    begin: Instant,
    at_once: OnceLock<AtOnce>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Inbox {
    /// Room for so many calls of each user.
    pub fn new(calls_per_user_max: usize) -> Self {
        let waiting = Waiting { work: Work::default(), calls: FairCalls::new(calls_per_user_max) };
        let (waiting, at_once) = (Mutex::new(waiting), OnceLock::new());
        Self { waiting, arrived: Condvar::new(), begin: Instant::now(), at_once }
    }

    /// From now on who adds calls tries to take a turn himself: to wake the namespace thread costs more than most calls do.
    pub fn serve_at_once(&self, at_once: AtOnce) {
        let _served = self.at_once.set(at_once);
    }

    /// Adds something other than calls of clients, and wakes the namespace thread.
    pub fn add(&self, put: impl FnOnce(&mut Work)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        put(&mut waiting.work);
        self.arrived.notify_one();
    }

    /// Adds calls of clients, and has them served: at once, or by the namespace thread. Returns those whose users have too many
    /// waiting already.
    pub fn add_calls(&self, calls: &mut Vec<Call>) -> Vec<Call> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now_us = self.now_us();
        let refused = calls.drain(..).filter_map(|call| waiting.calls.push(call, now_us)).collect();
        drop(waiting);
        if !self.at_once.get().is_some_and(|at_once| at_once()) {
            self.arrived.notify_one();
        }
        refused
    }

    /// Waits at most `timeout` for something to do.
    pub fn wait(&self, timeout: Duration) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let _waited = self.arrived.wait_timeout_while(waiting, timeout, |waiting| waiting.is_empty());
    }

    /// Takes what one turn is made of.
    pub fn take(&self) -> Work {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = waiting.calls.take(CALLS_PER_TURN, self.now_us());
        let usages = waiting.calls.take_usages();
        Work { calls, usages, ..core::mem::take(&mut waiting.work) }
    }

    /// Takes calls only, for a turn that is taken at once: not many, as others wait for the thread that takes it.
    /// The last tells whether more wait.
    pub fn take_calls(&self) -> (Vec<Call>, Usages, bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = waiting.calls.take(CALLS_AT_ONCE, self.now_us());
        (calls, waiting.calls.take_usages(), !waiting.calls.is_empty())
    }

    fn now_us(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }
}
