//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long a condition may take before the test fails. Generous: the machine is shared.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` gives a value.
///
/// # Panics
/// After [`DEADLINE`], naming `what`.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
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
