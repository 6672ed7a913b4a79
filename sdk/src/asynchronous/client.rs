//! The namespace, with futures.

use std::sync::Arc;

use super::{AsyncListing, AsyncReader, AsyncWriter};
use crate::client::{Client, CreateOptions};
use crate::driver::process::OfProcess;
use crate::driver::reactor::Remote;
use crate::error::Result;
use crate::reactor::operation::{Call, Dropped};
use crate::{FileStatus, FsStats, LocatedBlock};

/// A client whose operations are futures. Made by [`crate::Reactor::client`]; cloning is cheap.
///
/// Nothing happens before a future is first polled. The errors of each operation are those of the method of [`Client`] with
/// the same name, and `BadHandle` when the reactor has stopped or belongs to the parent process.
///
/// # Cancel safety
/// Every future may be dropped at any time. A question is then given up. A change ([`Self::mkdirs`], [`Self::rename`],
/// [`Self::delete`]) that was begun is carried out wholly or not at all: the namenode may have had the request.
#[derive(Debug, Clone)]
pub struct AsyncClient {
    client: Client,
    remote: Arc<OfProcess<Arc<Remote>>>,
}

impl AsyncClient {
    pub(crate) fn new(client: Client, remote: Arc<OfProcess<Arc<Remote>>>) -> Self {
        Self { client, remote }
    }

    /// The client for synchronous calls, over the same connections.
    pub fn blocking(&self) -> &Client {
        &self.client
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        (operation, dropped): (&'static str, Dropped),
        subject: &str,
        body: impl FnOnce(&Client) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let client = self.client.clone();
        let call = Call { remote: &self.remote, operation, subject, dropped };
        call.run(move || body(&client)).await
    }

    /// As [`Client::stat`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// The question is given up.
    pub async fn stat(&self, path: &str) -> Result<FileStatus> {
        let owned = path.to_owned();
        self.run(("stat", Dropped::Ends), path, move |client| client.stat(&owned)).await
    }

    /// As [`Client::list`]. The first page is fetched.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// The question is given up.
    pub async fn list(&self, path: &str) -> Result<AsyncListing> {
        let owned = path.to_owned();
        let listing = self.run(("list", Dropped::Ends), path, move |client| client.list(&owned)).await?;
        Ok(AsyncListing::new(listing, self.remote.clone(), path))
    }

    /// As [`Client::mkdirs`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// The directory may be made.
    pub async fn mkdirs(&self, path: &str) -> Result<()> {
        let owned = path.to_owned();
        self.run(("make directory", Dropped::Ends), path, move |client| client.mkdirs(&owned)).await
    }

    /// As [`Client::rename`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// It may have been renamed, or be renamed yet.
    pub async fn rename(&self, source: &str, target: &str, overwrite: bool) -> Result<()> {
        let (from, to) = (source.to_owned(), target.to_owned());
        self.run(("rename", Dropped::Ends), source, move |client| client.rename(&from, &to, overwrite)).await
    }

    /// As [`Client::delete`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// It may have been deleted, or be deleted yet.
    pub async fn delete(&self, path: &str, recursive: bool) -> Result<bool> {
        let owned = path.to_owned();
        self.run(("delete", Dropped::Ends), path, move |client| client.delete(&owned, recursive)).await
    }

    /// As [`Client::fs_stats`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// The question is given up.
    pub async fn fs_stats(&self) -> Result<FsStats> {
        self.run(("ask totals of", Dropped::Ends), "/", Client::fs_stats).await
    }

    /// As [`Client::block_locations`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// The question is given up.
    pub async fn block_locations(&self, path: &str, offset: u64, length: u64) -> Result<Vec<LocatedBlock>> {
        let owned = path.to_owned();
        let ask = move |client: &Client| client.block_locations(&owned, offset, length);
        self.run(("locate blocks of", Dropped::Ends), path, ask).await
    }

    /// As [`Client::open`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// Nothing was opened.
    pub async fn open(&self, path: &str) -> Result<AsyncReader> {
        let owned = path.to_owned();
        let reader = self.run(("open", Dropped::Ends), path, move |client| client.open(&owned)).await?;
        Ok(AsyncReader::new(reader, self.remote.clone(), path))
    }

    /// As [`Client::create`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// The file may be created, empty and without a writer, as after a writer that was dropped without a close.
    pub async fn create(&self, path: &str) -> Result<AsyncWriter> {
        self.create_with(path, &CreateOptions::default()).await
    }

    /// As [`Client::create_with`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As [`Self::create`].
    pub async fn create_with(&self, path: &str, options: &CreateOptions) -> Result<AsyncWriter> {
        let (owned, options) = (path.to_owned(), options.clone());
        let create = move |client: &Client| client.create_with(&owned, &options);
        let writer = self.run(("create", Dropped::Ends), path, create).await?;
        Ok(AsyncWriter::new(writer, self.remote.clone()))
    }

    /// As [`Client::append`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// The file may be open without a writer, as after a writer that was dropped without a close.
    pub async fn append(&self, path: &str) -> Result<AsyncWriter> {
        let owned = path.to_owned();
        let append = move |client: &Client| client.append(&owned);
        let writer = self.run(("append to", Dropped::Ends), path, append).await?;
        Ok(AsyncWriter::new(writer, self.remote.clone()))
    }

    /// As [`Client::put`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// A small file may be there, whole. A large one may be there, open, as after a writer that was dropped without a close.
    pub async fn put(
        &self,
        path: &str,
        content: impl AsRef<[u8]> + Send + 'static,
        options: &CreateOptions,
    ) -> Result<FileStatus> {
        let (owned, options) = (path.to_owned(), options.clone());
        let put = move |client: &Client| client.put(&owned, content.as_ref(), &options);
        self.run(("put", Dropped::Ends), path, put).await
    }

    /// As [`Client::read_many`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// The question is given up.
    pub async fn read_many(&self, paths: Vec<String>) -> Result<Vec<Result<Vec<u8>>>> {
        self.run(("read", Dropped::Ends), "several files", move |client| client.read_many(&paths)).await
    }

    /// Any other operation of [`Client`], or several one after the other. Where `body` waits for a server, others go on; it
    /// must not wait for anything else, nor compute for long, for all operations of the reactor share one thread.
    ///
    /// # Errors
    /// Those of `body`.
    ///
    /// # Cancel safety
    /// As that of its operations: it ends where it waits next.
    ///
    /// ```no_run
    /// # async fn run(client: ringfs_sdk::AsyncClient) -> Result<(), ringfs_sdk::Error> {
    /// let bytes = client.with(|client| client.content_summary("/datasets").map(|sum| sum.length)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn with<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Client) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(("carry out", Dropped::Ends), "an operation", body).await
    }
}
