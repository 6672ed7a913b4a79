//! A value that one operation at a time may use. It travels with the operation and comes home when that ends, also when
//! nobody waits for the operation any more: so the next one waits for the last, and finds nothing half done.

use std::ops::{Deref, DerefMut};

use async_channel::{Receiver, Sender};

use crate::driver::process::OfProcess;

/// Where the value is when nobody uses it.
#[derive(Debug)]
pub(crate) struct Seat<T> {
    home: OfProcess<(Sender<T>, Receiver<T>)>,
}

impl<T> Seat<T> {
    pub fn new(value: T) -> Self {
        let seat = Self { home: OfProcess::new(async_channel::bounded(1)) };
        if let Some((home, _)) = seat.home.get() {
            drop(Seated { value: Some(value), home: home.clone() });
        }
        seat
    }

    /// Waits for the value.
    ///
    /// # Errors
    /// Why there will be none: an operation was cut off in the middle, or this process is a child of the one that had it.
    pub async fn take(&self) -> Result<Seated<T>, &'static str> {
        let (home, value) = self.home.get().ok_or("it belongs to the parent process")?;
        let value = value.recv().await.map_err(|_closed| "an operation on it was cut off in the middle")?;
        Ok(Seated { value: Some(value), home: home.clone() })
    }
}

/// The value, until it goes home.
#[derive(Debug)]
pub(crate) struct Seated<T> {
    /// Taken by `drop` alone.
    value: Option<T>,
    home: Sender<T>,
}

impl<T> Deref for Seated<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until the drop")
    }
}

impl<T> DerefMut for Seated<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until the drop")
    }
}

impl<T> Drop for Seated<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Cut off in the middle of a call: nobody may use what is left of it.
            self.home.close();
        } else if let Some(value) = self.value.take() {
            // There is room for the one value that there is; it is dropped with the last owner of the seat.
            let _home = self.home.try_send(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn the_next_user_waits_for_the_last() {
        let seat = Seat::new(1);
        let mut first = block_on(seat.take()).expect("at home");
        let mut second = Box::pin(seat.take());
        assert!(block_on(poll_once(&mut second)).is_none());
        *first += 1;
        drop(first);
        assert_eq!(*block_on(second).expect("it came home"), 2);
    }

    #[test]
    fn what_was_cut_off_is_of_no_more_use() {
        let seat = Seat::new(1);
        let seated = block_on(seat.take()).expect("at home");
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _seated = seated;
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(cut.is_err() && block_on(seat.take()).is_err());
    }
}
