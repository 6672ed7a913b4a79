//! The reactor: the one thread that carries out what futures ask for.
//!
//! An operation is a synchronous call of this crate on a stack of its own ([`crate::driver::fiber`]); where it would wait, the
//! reactor runs others. [`operation`] makes a future of a call; [`seat`] lends what one call at a time may use.

pub(crate) mod operation;
pub(crate) mod seat;

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::asynchronous::AsyncClient;
use crate::client::Client;
use crate::driver::process::OfProcess;
use crate::driver::reactor::{self, Remote};
use crate::error::{Error, Fault, Kind, Result};

/// A thread that carries out the operations of [`AsyncClient`]s, all of them in progress at once.
///
/// Nothing of it depends on the runtime of the caller: its futures work on tokio, smol, or a plain `block_on`. At most 128
/// operations are in progress and 1024 more are queued; further ones wait for room when they are polled.
///
/// Dropping it, or [`Self::stop`], ends the thread within a turn: what is in progress is dropped, and every future, present
/// or later, fails with `BadHandle`.
///
/// **fork.** A child has no reactor: futures and clients of its parent's fail there with `BadHandle`. It may start its own.
///
/// ```no_run
#[doc = include_str!("../../examples/futures.rs")]
/// ```
#[derive(Debug)]
pub struct Reactor {
    remote: Arc<OfProcess<Arc<Remote>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reactor {
    /// Starts a thread called `name` (the kernel shows its first 15 bytes). It blocks all signals.
    ///
    /// # Errors
    /// `Internal`: the process may have no more threads or descriptors.
    pub fn start(name: &str) -> Result<Self> {
        let started = reactor::start(name);
        let (remote, thread) = started
            .map_err(|error| Error::new("start reactor", name, Fault::Io(error)).with_kind(Kind::Internal))?;
        Ok(Self { remote: Arc::new(OfProcess::new(remote)), thread: Some(thread) })
    }

    /// The same client, with futures. They are carried out by this reactor, over the connections that all clients share.
    pub fn client(&self, client: Client) -> AsyncClient {
        AsyncClient::new(client, self.remote.clone())
    }

    /// Ends the thread and waits for its end, which takes no longer than a turn of an operation.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        let Some(remote) = self.remote.get() else {
            // The thread is the parent's.
            let _left_to_the_end_of_the_process = self.thread.take().map(std::mem::ManuallyDrop::new);
            return;
        };
        remote.stop();
        // A waker that the reactor calls may drop the last owner of it: a thread cannot wait for itself.
        if let Some(thread) =
            self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the reactor had panicked");
        }
    }
}
