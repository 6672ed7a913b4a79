//! What the clients of a run share, with each other and with what injects the faults.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ledger::{Contradiction, Ledger};
use crate::wait;

/// Errors that are kept with their texts; all are counted.
const ERRORS_KEPT: usize = 50;
/// How often a client that rests looks whether it may go on.
const REST: Duration = Duration::from_millis(5);

/// A call that a client makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A file is made.
    Create,
    /// Bytes are flushed.
    Flush,
    /// Bytes are synced.
    Sync,
    /// A file is closed.
    Close,
    /// A file is renamed.
    Rename,
    /// A file is deleted.
    Delete,
    /// A file is read as a whole and compared.
    Read,
}

/// Names of the operations, as they are counted.
pub const OPERATIONS: [&str; 7] = ["create", "hflush", "hsync", "close", "rename", "delete", "read"];

impl Operation {
    /// Whether the namenode has to log it.
    fn is_change(self) -> bool {
        matches!(self, Self::Create | Self::Close | Self::Rename | Self::Delete)
    }
}

/// How long a client waited after the namenode was killed.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// From the kill to the first change that was acknowledged.
    pub since_kill: Duration,
    /// From the start of the new process to that.
    pub since_start: Duration,
}

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    /// What was acknowledged.
    pub ledger: Ledger,
    /// Bytes that were read and compared.
    pub compared_bytes: AtomicU64,
    begin: Instant,
    stop: AtomicBool,
    rest: AtomicBool,
    resting: AtomicUsize,
    acknowledged: [AtomicU64; OPERATIONS.len()],
    slowest_ms: [AtomicU64; OPERATIONS.len()],
    errors: AtomicU64,
    texts: Mutex<Vec<String>>,
    contradictions: Mutex<Vec<Contradiction>>,
    outage: Mutex<Option<(Instant, Instant)>>,
    outages: Mutex<Vec<Outage>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            compared_bytes: AtomicU64::default(),
            begin: Instant::now(),
            stop: AtomicBool::default(),
            rest: AtomicBool::default(),
            resting: AtomicUsize::default(),
            acknowledged: Default::default(),
            slowest_ms: Default::default(),
            errors: AtomicU64::default(),
            texts: Mutex::default(),
            contradictions: Mutex::default(),
            outage: Mutex::default(),
            outages: Mutex::default(),
        }
    }
}

impl Shared {
    /// Since the run began.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// An operation that began then was acknowledged.
    pub fn acknowledge(&self, operation: Operation, began: Instant) {
        let at = operation as usize;
        self.acknowledged[at].fetch_add(1, Ordering::Relaxed);
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.slowest_ms[at].fetch_max(took_ms, Ordering::Relaxed);
        if operation.is_change()
            && let Some((killed, started)) = hold(&self.outage).take()
        {
            let outage = Outage { since_kill: killed.elapsed(), since_start: started.elapsed() };
            hold(&self.outages).push(outage);
        }
    }

    /// Operations that were acknowledged, by kind.
    pub fn acknowledged(&self) -> [u64; OPERATIONS.len()] {
        self.acknowledged.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// The longest that an operation took until it was acknowledged, ms, by kind.
    pub fn slowest_ms(&self) -> [u64; OPERATIONS.len()] {
        self.slowest_ms.each_ref().map(|time| time.load(Ordering::Relaxed))
    }

    /// A call failed.
    pub fn fail(&self, what: &str, error: &dyn std::fmt::Display) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:.1} s: {what}: {error}", self.elapsed().as_secs_f64());
        eprintln!("  CLIENT ERROR {text}");
        let mut texts = hold(&self.texts);
        if texts.len() < ERRORS_KEPT {
            texts.push(text);
        }
    }

    /// Calls that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Texts of the first calls that failed.
    pub fn error_texts(&self) -> Vec<String> {
        hold(&self.texts).clone()
    }

    /// Notes what must not be.
    pub fn contradict(&self, contradiction: Contradiction) {
        eprintln!("  LOST {contradiction}");
        hold(&self.contradictions).push(contradiction);
    }

    /// What was found that must not be.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        hold(&self.contradictions).clone()
    }

    /// The namenode was killed then, and is about to be started: the next change that is acknowledged ends the outage.
    pub fn namenode_starts(&self, killed: Instant) {
        *hold(&self.outage) = Some((killed, Instant::now()));
    }

    /// All outages that have ended.
    pub fn outages(&self) -> Vec<Outage> {
        hold(&self.outages).clone()
    }

    /// All clients shall end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether clients shall end.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Writing clients shall close what they have open, and rest.
    pub fn let_rest(&self, is_wanted: bool) {
        self.rest.store(is_wanted, Ordering::Relaxed);
    }

    /// Whether so many clients rest.
    pub fn are_resting(&self, clients: usize) -> bool {
        self.resting.load(Ordering::Relaxed) == clients
    }

    /// Whether clients shall rest.
    pub fn is_rest_wanted(&self) -> bool {
        self.rest.load(Ordering::Relaxed)
    }

    /// A client that has nothing open rests as long as it shall.
    pub fn rest(&self) {
        self.resting.fetch_add(1, Ordering::Relaxed);
        while self.is_rest_wanted() && !self.is_stopping() {
            wait::pass(REST);
        }
        self.resting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a client that panicked left is still good for a report.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
