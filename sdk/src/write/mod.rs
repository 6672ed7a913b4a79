//! Writing files: packets into a window over a pipeline, block after block.
//!
//! A pipeline that fails is replaced while the write goes on: [`recovery`] decides how, [`repair`] carries it out. Packets
//! are kept in the [`window`] until every node has them, so that they can be sent again.

mod attachment;
mod block;
mod checksums;
mod policy;
mod recovery;
mod repair;
mod window;

use std::io;
use std::sync::Arc;

use ringfs_proto::Code;
use ringfs_proto::ids::{DatanodeId, InodeId};
use ringfs_proto::limits::CHUNK_BYTES_NATIVE;
use ringfs_proto::meta::data::{WriteHint, packet_flags};
use ringfs_proto::meta::namespace::{AckedReplicaV1, CompleteRequestV1, InlineTailV1};
use ringfs_proto::ops::Complete;

use crate::client::{CreateOptions, Shared};
use crate::driver::process::generation;
use crate::error::{Error, Fault, Kind, Result};
use crate::{BlockRef, FileStatus, LocatedBlock};
use attachment::Attachment;
use block::{Goal, OpenBlock};
pub use policy::ReplacePolicy;
use repair::Failures;
use window::Window;

/// A file that is open for writing. Made by [`crate::Client::create`] and [`crate::Client::append`].
///
/// Writes are collected in packets, and packets are sent ahead of their acknowledgements up to a window of bytes. What a
/// write returned without error is safe only after [`Self::hflush`] (in a completed write on every datanode of the
/// pipeline, visible to readers), [`Self::hsync`] (on stable storage of them) or [`Self::close`].
///
/// A datanode that fails meanwhile is dropped, and perhaps replaced ([`ReplacePolicy`]): the call in progress takes longer
/// and then does what it promises. When no datanode of the pipeline is left, calls fail with `PipelineFailed`; what was
/// flushed before is safe.
///
/// [`Self::close`] commits the file. Dropping a writer without it leaves the file open, with what was flushed, and drops
/// what was not. After an error other than `TimedOut` from `close` the writer is of no more use.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    path: String,
    inode: InodeId,
    block_size: u64,
    hint: WriteHint,
    announced_length: Option<u64>,
    replication: u16,
    generation: u64,
    state: State,
    /// The last block that is finished.
    previous: Option<BlockRef>,
    acked: Vec<AckedReplicaV1>,
    excluded: Vec<DatanodeId>,
    block: Option<OpenBlock>,
    /// The last block of a file that was opened again, until the first packet goes behind its bytes.
    reopened: Option<LocatedBlock>,
    /// Packets of the open block.
    window: Window,
    /// Whether readers may rely on bytes of the open block.
    is_flushed: bool,
    failures: Failures,
    attachment: Attachment,
    /// Data of the packet that is being collected.
    packet: Vec<u8>,
    /// Bytes of the largest file that the namenode keeps itself.
    inline_bytes_max: usize,
    /// How many bytes of the packet are those of the last block, which the namenode keeps: a larger one may take its place.
    inline_bytes: usize,
    /// Bytes of the file in finished blocks.
    finished_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Failed,
    Closed,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, path: &str, status: &FileStatus, options: &CreateOptions) -> Self {
        let window = Window::new(shared.options.write_window_bytes);
        Self {
            shared,
            path: path.to_owned(),
            replication: status.replication,
            inode: status.inode,
            block_size: status.block_size.max(1),
            hint: if options.reuse { WriteHint::Reuse } else { WriteHint::Normal },
            announced_length: options.announced_length,
            generation: generation(),
            state: State::Open,
            previous: None,
            acked: Vec::new(),
            excluded: Vec::new(),
            block: None,
            reopened: None,
            window,
            is_flushed: false,
            failures: Failures::default(),
            attachment: Attachment::default(),
            packet: Vec::new(),
            inline_bytes_max: 0,
            inline_bytes: 0,
            finished_bytes: 0,
        }
    }

    /// A writer behind the end of a file, whose last block is `last`.
    pub(crate) fn behind(
        shared: Arc<Shared>,
        path: &str,
        status: &FileStatus,
        last: Option<LocatedBlock>,
        options: &CreateOptions,
    ) -> Self {
        let mut writer = Self::new(shared, path, status, options);
        let Some(last) = last else { return writer };
        writer.previous = Some(last.block);
        writer.finished_bytes = last.offset;
        let packet_max = writer.packet_bytes_max();
        let fits = |bytes: &Vec<u8>| bytes.len() as u64 == last.block.length && bytes.len() <= packet_max;
        if let Some(bytes) = last.inline.clone().filter(fits) {
            writer.inline_bytes = bytes.len();
            writer.packet = bytes;
        } else if last.is_open {
            // Readers have relied on its bytes for as long as it was closed.
            writer.is_flushed = true;
            writer.window.begin_at(last.block.length);
            writer.reopened = Some(last);
        } else {
            writer.finished_bytes += last.block.length;
        }
        writer
    }

    /// Files of so many bytes go to the namenode when they are closed.
    pub(crate) fn with_inline(mut self, inline_bytes_max: u32) -> Self {
        self.inline_bytes_max = inline_bytes_max as usize;
        self
    }

    /// The path that was created, or opened for appending.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Bytes that were written so far.
    pub fn position(&self) -> u64 {
        self.finished_bytes + self.window.length() + self.packet.len() as u64
    }

    /// Takes all of `data`. It may wait for acknowledgements when the window is full.
    ///
    /// # Errors
    /// `NoRoom`, `PipelineFailed` (after data had flowed, no datanode of the pipeline is left), `LeaseLost`,
    /// `Unreachable` (no pipeline could be set up), `BadHandle`.
    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        self.check("write to")?;
        let appended = self.append_packets(data);
        self.fail_on_error(appended)
    }

    /// Waits until all that was written is in a completed write on every datanode of the pipeline; readers see it then.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn hflush(&mut self) -> Result<()> {
        self.check("flush")?;
        let flushed = self.flush_packets(0);
        self.fail_on_error(flushed)
    }

    /// As [`Self::hflush`], and waits until all of it is on stable storage of every datanode of the pipeline.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn hsync(&mut self) -> Result<()> {
        self.check("sync")?;
        let synced = self.flush_packets(packet_flags::SYNC);
        self.fail_on_error(synced)
    }

    /// Commits the file: its last block is finalized on every datanode, and the namenode has logged its length. Returns
    /// its status. After `TimedOut` it may be called again.
    ///
    /// # Errors
    /// As [`Self::append`], and `TimedOut` when the namenode does not hear of the last block in time.
    pub fn close(&mut self) -> Result<FileStatus> {
        self.check("close")?;
        let status = match self.close_inline()? {
            Some(status) => status,
            None => {
                let finished = self.finish_last_block();
                self.fail_on_error(finished)?;
                self.complete(None)?
            }
        };
        self.state = State::Closed;
        Ok(status)
    }

    /// Closes a small file, whose bytes go to the namenode; `None` if it is none.
    fn close_inline(&mut self) -> Result<Option<FileStatus>> {
        let is_small = self.position() <= self.inline_bytes_max as u64;
        let has_block = self.block.is_some() || self.reopened.is_some() || self.window.length() > 0;
        if self.packet.len() == self.inline_bytes || !is_small || has_block {
            return Ok(None);
        }
        let tail = InlineTailV1 { bytes: self.packet.clone(), replaces_last: self.inline_bytes > 0 };
        match self.complete(Some(tail)) {
            Ok(status) => Ok(Some(status)),
            // It takes no more of them: datanodes do.
            Err(error) if error.code() == Some(Code::LimitExceeded) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn complete(&self, tail: Option<InlineTailV1>) -> Result<FileStatus> {
        let (inode, last, acked) = (self.inode, self.previous, self.acked.clone());
        let request = CompleteRequestV1 { inode, last, acked, tail };
        self.shared.namenode.call::<Complete>("close", &self.path, &request)
    }

    /// What is written from now on goes to datanodes, behind a last block that the namenode keeps.
    fn leave_inline(&mut self) {
        self.packet.drain(..self.inline_bytes);
        self.finished_bytes += self.inline_bytes as u64;
        self.inline_bytes = 0;
    }

    fn check(&mut self, operation: &'static str) -> Result<()> {
        let why = match self.state {
            _ if self.generation != generation() => "the writer belongs to the parent process",
            State::Failed => "the writer has failed before",
            State::Closed => "the writer is closed",
            State::Open => {
                self.attachment.check(&self.shared);
                return Ok(());
            }
        };
        Err(Error::new(operation, &self.path, Fault::Handle(why)))
    }

    fn fail_on_error<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.state = State::Failed;
            self.block = None;
        }
        result
    }

    fn append_packets(&mut self, data: &[u8]) -> Result<()> {
        let mut data = data;
        let inline_max = self.inline_bytes_max.min(self.packet_bytes_max());
        if self.inline_bytes > 0 && self.packet.len() + data.len() > inline_max {
            self.leave_inline();
        }
        while !data.is_empty() {
            let packet_max = self.packet_bytes_max();
            let (now, later) = data.split_at(data.len().min(packet_max - self.packet.len()));
            // A copy, while its bytes come into the cache anyway: they are needed again until they are acknowledged.
            self.packet.extend_from_slice(now);
            data = later;
            if self.packet.len() == packet_max {
                self.send(0)?;
            }
        }
        Ok(())
    }

    /// Bytes of the packet that is collected now: up to the end of the block, and so that the next one begins with a chunk.
    fn packet_bytes_max(&self) -> usize {
        let length = self.window.length();
        let into_chunk = (length % u64::from(CHUNK_BYTES_NATIVE)) as usize;
        let packet =
            self.shared.options.packet_bytes / CHUNK_BYTES_NATIVE as usize * CHUNK_BYTES_NATIVE as usize;
        let room = usize::try_from(self.block_size - length).unwrap_or(usize::MAX);
        (packet - into_chunk).min(room)
    }

    /// Sends the packet that was collected; the one that fills its block finishes it.
    fn send(&mut self, flags: u8) -> Result<()> {
        let mut block = match self.block.take() {
            Some(block) => block,
            None => match self.reopened.take() {
                Some(last) => self.reopen_block(last)?,
                None => self.open_block()?,
            },
        };
        self.drive(&mut block, Goal::Room(self.packet.len()))?;
        let is_last = self.window.length() + self.packet.len() as u64 >= self.block_size;
        let flags = flags | if is_last { packet_flags::LAST } else { 0 };
        self.window.push(&mut self.packet, flags);
        if flags & packet_flags::LAST != 0 {
            self.drive(&mut block, Goal::Finalized)?;
            return self.finish(&block);
        }
        self.drive(&mut block, Goal::Sent)?;
        self.block = Some(block);
        Ok(())
    }

    /// The block is finalized on every node of its pipeline.
    fn finish(&mut self, block: &OpenBlock) -> Result<()> {
        let (acked, length) = (self.window.acked_length(), self.window.length());
        if acked != length {
            let text = format!("a finalized block of {acked} bytes, {length} were sent");
            return Err(
                Error::new("write to", &self.path, Fault::Protocol(text)).with_kind(Kind::PipelineFailed)
            );
        }
        self.finished_bytes += length;
        self.previous = Some(BlockRef { length, ..block.block });
        self.acked = block.replicas();
        self.window.begin_block();
        self.is_flushed = false;
        Ok(())
    }

    fn flush_packets(&mut self, flags: u8) -> Result<()> {
        self.leave_inline();
        let needs_sync = flags != 0 && self.block.is_some() && !self.window.is_synced();
        if !self.packet.is_empty() || needs_sync {
            self.send(flags)?;
        }
        // Without a block every one of them is finalized, which is more.
        let Some(mut block) = self.block.take() else { return Ok(()) };
        let goal = if flags & packet_flags::SYNC != 0 { Goal::Synced } else { Goal::Acked };
        self.drive(&mut block, goal)?;
        self.is_flushed = true;
        self.block = Some(block);
        Ok(())
    }

    fn finish_last_block(&mut self) -> Result<()> {
        self.leave_inline();
        if self.packet.is_empty() && self.block.is_none() {
            return Ok(());
        }
        self.send(packet_flags::LAST)
    }
}

impl io::Write for Writer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.append(data)?;
        Ok(data.len())
    }

    /// As [`Writer::hflush`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(self.hflush()?)
    }
}
