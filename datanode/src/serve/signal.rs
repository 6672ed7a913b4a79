//! Waiting for a condition among the futures of one task.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Wakes the task that waits for a condition. The futures that share it belong to one task.
#[derive(Debug, Default)]
pub struct Signal {
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Something has changed: conditions are looked at again.
    pub fn notify(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Waits until `condition` gives a value.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| {
            if let Some(value) = condition() {
                return Poll::Ready(value);
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
