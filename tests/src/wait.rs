//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long a condition may take before the test fails. Generous: the machine is shared.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` gives a value.
///
/// # Panics
/// After [`DEADLINE`], naming `what`.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    attempt(condition).unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain: {what}"))
}

/// Waits until `condition` gives a value; `None` after [`DEADLINE`].
pub fn attempt<T>(condition: impl FnMut() -> Option<T>) -> Option<T> {
    attempt_within(DEADLINE, condition)
}

/// Waits until `condition` gives a value; `None` after `deadline`.
pub fn attempt_within<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    while begin.elapsed() < deadline {
        if let Some(value) = condition() {
            return Some(value);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    None
}

/// Lets time pass, for a fault that lasts: what follows waits for conditions.
pub fn pass(duration: Duration) {
    std::thread::sleep(duration);
}

/// Waits until `condition` holds.
///
/// # Panics
/// After [`DEADLINE`], naming `what`.
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}
