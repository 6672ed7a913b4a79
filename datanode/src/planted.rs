//! Mistakes that are made on purpose, so that tests can show that they would be found. Compiled with the feature
//! `planted-bugs` only, which no binary has.
//!
//! A switch holds for the thread that sets it: a simulated cluster is one thread.

use std::cell::Cell;

thread_local! {
    static SKIPS_FENCES: Cell<bool> = const { Cell::new(false) };
}

/// From now on, whoever recovers a replica does not wait until its writer has ended, nor tells it to end.
pub fn skip_fences(is_on: bool) {
    SKIPS_FENCES.set(is_on);
}

/// Whether fences are skipped.
pub(crate) fn skips_fences() -> bool {
    SKIPS_FENCES.get()
}
