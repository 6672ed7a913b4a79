//! Telling every shard to stop, from any thread and under any runtime.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

#[derive(Debug, Default)]
struct Inner {
    is_stopped: bool,
    wakers: Vec<Waker>,
}

/// A flag that can be awaited. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    inner: Arc<Mutex<Inner>>,
}

impl Stop {
    /// Sets the flag and wakes everyone who waits for it.
    pub fn stop(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.is_stopped = true;
        inner.wakers.drain(..).for_each(Waker::wake);
    }

    /// Whether the flag is set.
    pub fn is_stopped(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).is_stopped
    }

    /// Waits until the flag is set.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn stopped(&self) {
        poll_fn(|context| {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            if inner.is_stopped {
                return Poll::Ready(());
            }
            if !inner.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                inner.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
