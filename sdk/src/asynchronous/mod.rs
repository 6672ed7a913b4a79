//! The async face: the operations of [`crate::Client`], [`crate::Reader`] and [`crate::Writer`] as futures of a
//! [`crate::Reactor`]. It decides nothing: every method hands one synchronous call to the reactor.

mod client;
mod listing;
mod reader;
mod writer;

pub use client::AsyncClient;
pub use listing::AsyncListing;
pub use reader::AsyncReader;
pub use writer::AsyncWriter;

use std::sync::Arc;

use crate::driver::process::OfProcess;
use crate::driver::reactor::Remote;
use crate::error::{Error, Fault, Result};
use crate::reactor::operation::{Call, Dropped};
use crate::reactor::seat::Seat;

/// A value of the synchronous face behind one of this: used by one operation at a time, each carried out to its end.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    seat: Seat<T>,
    remote: Arc<OfProcess<Arc<Remote>>>,
    path: String,
}

impl<T: Send + 'static> Turns<T> {
    fn new(value: T, remote: Arc<OfProcess<Arc<Remote>>>, path: &str) -> Self {
        Self { seat: Seat::new(value), remote, path: path.to_owned() }
    }

    /// Waits for the last operation, then carries out this one.
    async fn run<R: Send + 'static>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&mut T) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let taken = self.seat.take().await;
        let mut seated = taken.map_err(|why| Error::new(operation, &self.path, Fault::Handle(why)))?;
        let call = Call { remote: &self.remote, operation, subject: &self.path, dropped: Dropped::GoesOn };
        call.run(move || body(&mut seated)).await
    }
}
