//! Who may write a replica: one task at a time, on whatever shard, and nobody below the stamp of the last fence.
//!
//! The task that writes a replica holds its [`Seat`] and ends soon after it is fenced: it takes no packet more, lets its
//! I/O in flight end, never waits for its peer, and gives the seat back by dropping it. Whoever recovers the replica
//! under a higher stamp waits for that, and has the seat next. So stamps fence an old writer across shards, and nothing
//! is shared but this.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use ringfs_proto::ids::Stamp;

use super::replica::Replica;

/// Tasks that wait for one seat at once, at most: recoveries of one replica, of which the highest stamp wins.
const WAITING_MAX: usize = 64;

/// Why a seat cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The replica was fenced for a higher stamp than the one that asks: this one.
    Fenced(Stamp),
    /// Too many wait already.
    Crowded,
}

#[derive(Debug)]
struct Holder {
    stamp: Stamp,
    is_fenced: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Inner {
    floor: Stamp,
    holder: Option<Holder>,
    waiting: Vec<Waker>,
}

/// The seat of a replica and those who wait for it.
#[derive(Debug, Default)]
pub struct Seating(Mutex<Inner>);

/// The right to write a replica, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    replica: Arc<Replica>,
    /// Planted: another has it, too.
    #[cfg(feature = "planted-bugs")]
    is_shared: bool,
}

impl Seating {
    /// The lowest stamp that may still write the replica.
    pub fn floor(&self) -> Stamp {
        self.lock().floor
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Fences whoever writes `replica` under `stamp` or a lower one, and takes the seat once that task has ended. From the
    /// first moment on, no lower stamp is given the seat.
    ///
    /// The caller bounds the wait: a disk may hang.
    ///
    /// # Errors
    /// [`Refused`].
    ///
    /// # Cancel safety
    /// May be dropped at any time; the fence stays.
    pub async fn seize(replica: &Arc<Replica>, stamp: Stamp) -> Result<Self, Refused> {
        poll_fn(|context| {
            let mut inner = replica.seating.lock();
            if stamp < inner.floor {
                return Poll::Ready(Err(Refused::Fenced(inner.floor)));
            }
            inner.floor = stamp;
            #[cfg(feature = "planted-bugs")]
            if crate::planted::skips_fences() && inner.holder.is_some() {
                return Poll::Ready(Ok(Self { replica: replica.clone(), is_shared: true }));
            }
            let Some(holder) = &mut inner.holder else {
                inner.holder = Some(Holder { stamp, is_fenced: false, waker: None });
                return Poll::Ready(Ok(Self::of(replica)));
            };
            debug_assert!(holder.stamp <= stamp, "the holder's stamp was the floor when it sat down");
            holder.is_fenced = true;
            if let Some(waker) = holder.waker.take() {
                waker.wake();
            }
            if !inner.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                if inner.waiting.len() >= WAITING_MAX {
                    return Poll::Ready(Err(Refused::Crowded));
                }
                inner.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The seat of a replica that nobody else knows yet.
    ///
    /// # Panics
    /// If somebody has it.
    pub fn first(replica: &Arc<Replica>) -> Self {
        let mut inner = replica.seating.lock();
        let stamp = replica.stamp();
        assert!(inner.holder.is_none(), "a new replica has no writer");
        inner.floor = stamp;
        inner.holder = Some(Holder { stamp, is_fenced: false, waker: None });
        drop(inner);
        Self::of(replica)
    }

    fn of(replica: &Arc<Replica>) -> Self {
        Self {
            replica: replica.clone(),
            #[cfg(feature = "planted-bugs")]
            is_shared: false,
        }
    }

    /// The replica.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Waits until the holder has to end.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn fenced(&self) {
        poll_fn(|context| {
            #[cfg(feature = "planted-bugs")]
            if self.is_shared {
                return Poll::Pending;
            }
            let mut inner = self.replica.seating.lock();
            let holder = inner.holder.as_mut().expect("the seat is held while it exists");
            if holder.is_fenced {
                return Poll::Ready(());
            }
            if !holder.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                holder.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        #[cfg(feature = "planted-bugs")]
        if self.is_shared {
            return;
        }
        let waiting = {
            let mut inner = self.replica.seating.lock();
            inner.holder = None;
            core::mem::take(&mut inner.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use futures_lite::future::block_on;
    use ringfs_proto::ids::BlockId;
    use ringfs_proto::meta::membership::ReplicaState;
    use ringfs_proto::meta::namespace::BlockRefV1;

    use super::*;

    fn replica() -> Arc<Replica> {
        let block = BlockRefV1 { block: BlockId(1), stamp: Stamp(1), length: 0 };
        Arc::new(Replica::new(block, 0, ReplicaState::BeingWritten, 0))
    }

    fn is_pending(future: std::pin::Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[test]
    fn a_higher_stamp_waits_until_the_holder_has_ended() {
        let replica = replica();
        let old = Seat::first(&replica);
        let mut fenced = Box::pin(old.fenced());
        assert!(is_pending(fenced.as_mut()));
        let mut seize = pin!(Seat::seize(&replica, Stamp(3)));
        assert!(is_pending(seize.as_mut()));
        block_on(fenced);
        assert!(is_pending(seize.as_mut()), "the old task has not ended yet");
        assert_eq!(block_on(Seat::seize(&replica, Stamp(2))).expect_err("lower"), Refused::Fenced(Stamp(3)));
        drop(old);
        let new = block_on(seize).expect("free now");
        assert!(is_pending(pin!(new.fenced())), "the new holder is not fenced");
    }

    #[test]
    fn the_fence_outlives_who_asked_for_it() {
        let replica = replica();
        drop(Seat::first(&replica));
        drop(block_on(Seat::seize(&replica, Stamp(5))).expect("nobody holds it"));
        assert_eq!(block_on(Seat::seize(&replica, Stamp(4))).expect_err("lower"), Refused::Fenced(Stamp(5)));
        assert!(block_on(Seat::seize(&replica, Stamp(5))).is_ok(), "the same request comes twice");
        assert_eq!(replica.seating.floor(), Stamp(5));
    }

    #[test]
    fn the_seat_goes_from_thread_to_thread() {
        let replica = replica();
        let old = Seat::first(&replica);
        let other = replica.clone();
        let taker = std::thread::spawn(move || block_on(Seat::seize(&other, Stamp(2))).is_ok());
        block_on(old.fenced());
        drop(old);
        assert!(taker.join().expect("no panic"));
    }
}
