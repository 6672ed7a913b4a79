//! Writing, with futures.

use std::sync::Arc;

use super::Turns;
use crate::FileStatus;
use crate::driver::process::OfProcess;
use crate::driver::reactor::Remote;
use crate::error::Result;
use crate::write::Writer;

/// A file that is open for writing. Made by [`crate::AsyncClient::create`]; promises what [`Writer`] does.
///
/// # Cancel safety
/// An operation that was begun is carried out to its end, whether its future is dropped or not, and the next one waits for
/// it. So bytes are never written twice, and never in part unless the write fails; a failure that nobody waited for is
/// that of the next operation.
///
/// Dropping a writer without [`Self::close`] leaves the file open, with what was flushed.
#[derive(Debug)]
pub struct AsyncWriter {
    turns: Turns<Writer>,
}

impl AsyncWriter {
    pub(crate) fn new(writer: Writer, remote: Arc<OfProcess<Arc<Remote>>>) -> Self {
        let path = writer.path().to_owned();
        Self { turns: Turns::new(writer, remote, &path) }
    }

    /// The path that was created.
    pub fn path(&self) -> &str {
        &self.turns.path
    }

    /// Takes all of `data`, as [`Writer::append`]. It may wait for acknowledgements when the window is full.
    ///
    /// # Errors
    /// As there, and `BadHandle` when the reactor has stopped.
    ///
    /// # Cancel safety
    /// The data is written whole, or not at all if the operation before was still in progress.
    pub async fn write(&mut self, data: impl AsRef<[u8]> + Send + 'static) -> Result<()> {
        self.turns.run("write to", move |writer| writer.append(data.as_ref())).await
    }

    /// As [`Self::write`], for one that is shared: operations take turns.
    #[cfg(feature = "object_store")]
    pub(crate) async fn write_shared(&self, data: impl AsRef<[u8]> + Send + 'static) -> Result<()> {
        self.turns.run("write to", move |writer| writer.append(data.as_ref())).await
    }

    /// As [`Self::close`], for one that is shared.
    #[cfg(feature = "object_store")]
    pub(crate) async fn close_shared(&self) -> Result<FileStatus> {
        self.turns.run("close", Writer::close).await
    }

    /// As [`Writer::hflush`].
    ///
    /// # Errors
    /// As [`Self::write`].
    ///
    /// # Cancel safety
    /// The flush goes on.
    pub async fn hflush(&mut self) -> Result<()> {
        self.turns.run("flush", Writer::hflush).await
    }

    /// As [`Writer::hsync`].
    ///
    /// # Errors
    /// As [`Self::write`].
    ///
    /// # Cancel safety
    /// The sync goes on.
    pub async fn hsync(&mut self) -> Result<()> {
        self.turns.run("sync", Writer::hsync).await
    }

    /// Commits the file, as [`Writer::close`]. After `TimedOut` it may be called again.
    ///
    /// # Errors
    /// As there, and `BadHandle` when the reactor has stopped.
    ///
    /// # Cancel safety
    /// The file is closed all the same; a second call then says that it is.
    pub async fn close(&mut self) -> Result<FileStatus> {
        self.turns.run("close", Writer::close).await
    }
}
