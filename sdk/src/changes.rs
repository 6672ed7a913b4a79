//! Changes of closed files: append, truncate, concat.

use ringfs_proto::meta::changes::{AppendRequestV1, ConcatRequestV1, TruncateRequestV1};
use ringfs_proto::ops::{Append, Concat, Truncate};

use crate::client::{Client, CreateOptions};
use crate::error::Result;
use crate::write::Writer;

/// How a file is opened for appending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendOptions {
    /// Whether the bytes begin a new block, also when the last one is not full.
    pub new_block: bool,
    /// Whether the file will be read soon: keep it in memory.
    pub reuse: bool,
}

impl Client {
    /// Opens a closed file for writing behind its end.
    ///
    /// # Errors
    /// As [`Self::append_with`].
    ///
    /// ```no_run
    /// use std::io::Write;
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// let mut writer = client.append("/logs/run-1")?;
    /// writer.write_all(b"step 2: loss 0.91\n")?;
    /// writer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn append(&self, path: &str) -> Result<Writer> {
        self.append_with(path, &AppendOptions::default())
    }

    /// Opens a closed file for writing behind its end. Readers see what was there before, throughout. Until the first
    /// bytes are flushed or the writer is closed, no datanode is asked anything.
    ///
    /// # Errors
    /// `NotFound`, `Refused` (`IsADirectory`), `Busy` (another writer has it open, or it is being truncated), `SafeMode`,
    /// `TimedOut` (no replica of the last block is known).
    pub fn append_with(&self, path: &str, options: &AppendOptions) -> Result<Writer> {
        let request = AppendRequestV1 { path: path.to_owned(), new_block: options.new_block };
        let reply = self.shared.namenode.call::<Append>("append to", path, &request)?;
        let options = CreateOptions { reuse: options.reuse, ..CreateOptions::default() };
        let writer = Writer::behind(self.shared.clone(), path, &reply.status, reply.last, &options);
        Ok(writer.with_inline(reply.inline_bytes_max))
    }

    /// Cuts a closed file. Returns whether it has its new length. If not, its last block is being copied up to there: until
    /// that has ended the file is as it was, and its status says that it is open.
    ///
    /// # Errors
    /// `NotFound`, `Refused` (`IsADirectory`; `InvalidArgument`: longer than the file), `Busy` (somebody writes it), `SafeMode`,
    /// `TimedOut` (no replica of the last block is known).
    pub fn truncate(&self, path: &str, length: u64) -> Result<bool> {
        let request = TruncateRequestV1 { path: path.to_owned(), length };
        self.shared.namenode.call::<Truncate>("truncate", path, &request).map(|reply| reply.is_done)
    }

    /// Moves the blocks of files behind those of another, in order, and removes the files: no byte is copied.
    ///
    /// # Errors
    /// `NotFound`, `Refused` (`IsADirectory`; `InvalidArgument`: sources that are open, empty, in another directory, named
    /// twice, of larger blocks, or the target itself; `LimitExceeded`), `SafeMode`.
    pub fn concat(&self, target: &str, sources: &[impl AsRef<str>]) -> Result<()> {
        let sources = sources.iter().map(|source| source.as_ref().to_owned()).collect();
        let request = ConcatRequestV1 { target: target.to_owned(), sources };
        self.shared.namenode.call::<Concat>("concat", target, &request).map(|_done| ())
    }
}
