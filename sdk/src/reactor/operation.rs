//! A call as a future: handed to the reactor, its result awaited, given up when the future is dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll};

use futures_channel::oneshot;

use crate::driver::process::OfProcess;
use crate::driver::reactor::{Operation, Remote};
use crate::error::{Error, Fault, Result};

const OF_THE_PARENT: &str = "the reactor belongs to the parent process: start one in this process";
const STOPPED: &str = "the reactor has stopped";

/// What happens to an operation whose future is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// It ends where it waits next.
    Ends,
    /// It is carried out to its end.
    GoesOn,
}

/// Where a call is to run, and what it is called in errors.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub remote: &'a Arc<OfProcess<Arc<Remote>>>,
    pub operation: &'static str,
    pub subject: &'a str,
    pub dropped: Dropped,
}

impl Call<'_> {
    /// Carries out `body` on the reactor.
    ///
    /// # Errors
    /// Those of `body`, and `BadHandle` when the reactor has stopped or is another process's.
    pub async fn run<T: Send + 'static>(
        self,
        body: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Self { remote, operation, subject, dropped } = self;
        let ran = InProcess::new(submit(remote.clone(), dropped, body)).await;
        ran.unwrap_or_else(|why| Err(Error::new(operation, subject, Fault::Handle(why))))
    }
}

async fn submit<T: Send + 'static>(
    remote: Arc<OfProcess<Arc<Remote>>>,
    dropped: Dropped,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::result::Result<T, &'static str> {
    let remote = remote.get().ok_or(OF_THE_PARENT)?;
    let (sender, receiver) = oneshot::channel();
    let body = Box::new(move || {
        let _unwanted = sender.send(body());
    });
    let abandoned = (dropped == Dropped::Ends).then(|| Arc::new(AtomicBool::new(false)));
    let mut interest = Interest { remote, abandoned: abandoned.clone() };
    remote.submit(Operation { body, abandoned }).await.map_err(|_stopped| STOPPED)?;
    let result = receiver.await;
    interest.abandoned = None;
    result.map_err(|_dropped| STOPPED)
}

/// Somebody waits for an operation.
struct Interest<'a> {
    remote: &'a Remote,
    abandoned: Option<Arc<AtomicBool>>,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        if let Some(abandoned) = self.abandoned.take() {
            abandoned.store(true, SeqCst);
            self.remote.note_abandoned();
        }
    }
}

/// A future that a forked child neither polls nor drops.
struct InProcess<F> {
    future: OfProcess<Pin<Box<F>>>,
}

impl<F> InProcess<F> {
    fn new(future: F) -> Self {
        Self { future: OfProcess::new(Box::pin(future)) }
    }
}

impl<T, F: Future<Output = std::result::Result<T, &'static str>>> Future for InProcess<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.future.get_mut() {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Ready(Err(OF_THE_PARENT)),
        }
    }
}
