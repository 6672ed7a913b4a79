//! Values that stay on the thread that made them, for seams of code that serves many threads.

#![allow(unsafe_code, reason = "the simulation has one thread, the seams of the SDK allow for more")]

use std::fmt;
use std::thread::{self, ThreadId};

/// A value of one thread: any other that touches it panics.
pub struct OneThread<T> {
    value: T,
    thread: ThreadId,
}

// SAFETY: the value is only given out, and only dropped, on the thread that made it; both are checked.
unsafe impl<T> Send for OneThread<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for OneThread<T> {}

impl<T> OneThread<T> {
    /// A value of this thread.
    pub fn new(value: T) -> Self {
        Self { value, thread: thread::current().id() }
    }

    /// The value.
    ///
    /// # Panics
    /// On another thread.
    pub fn get(&self) -> &T {
        assert_eq!(self.thread, thread::current().id(), "one thread runs a simulation");
        &self.value
    }
}

impl<T> Drop for OneThread<T> {
    fn drop(&mut self) {
        assert_eq!(self.thread, thread::current().id(), "one thread runs a simulation");
    }
}

impl<T> fmt::Debug for OneThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of one thread")
    }
}
