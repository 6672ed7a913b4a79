//! Reading frames from a connection: headers and metadata through a small buffer, payloads straight to their place.

use std::io;

use ringfs_proto::frame::{FrameError, Header};
use ringfs_proto::hello::{HELLO_PREFIX_BYTES, HelloError, Prefix};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, META_BYTES_MAX};
use ringfs_proto::wire::{DecodeError, Message};

use super::watch::Watch;
use crate::engine::Reader;

/// Bytes that are read ahead.
pub const READ_AHEAD_BYTES: usize = 16 << 10;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The peer or the network ended it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The stream has lost its frame boundary.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Bytes that no HDFS client sends.
    #[error(transparent)]
    Hadoop(#[from] ringfs_hadoop::packets::PacketError),
    /// No hello of ours.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// Metadata that is not of its operation.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Frames in an order, or with fields, that the protocol does not have.
    #[error("{0}")]
    Protocol(String),
}

/// The receiving half of a connection, frame by frame.
pub struct Frames<R> {
    reader: R,
    watch: Watch,
    ahead: Vec<u8>,
    begin: usize,
    end: usize,
    head: [u8; FRAME_HEADER_BYTES],
    meta: Vec<u8>,
}

impl<R: Reader> Frames<R> {
    /// Reads frames from `reader`.
    pub fn new(reader: R, watch: Watch) -> Self {
        let ahead = vec![0; READ_AHEAD_BYTES];
        Self { reader, watch, ahead, begin: 0, end: 0, head: [0; FRAME_HEADER_BYTES], meta: Vec::new() }
    }

    /// Reads a hello, or its reply.
    pub async fn hello<M: Message>(&mut self, is_reply: bool) -> Result<M, Closed> {
        let mut prefix = [0; HELLO_PREFIX_BYTES];
        self.watch.set_busy(true);
        self.fill(&mut prefix).await?;
        let prefix = Prefix::decode(&prefix, is_reply)?;
        let mut body = vec![0; prefix.body_len];
        self.fill(&mut body).await?;
        self.watch.set_busy(false);
        Ok(prefix.decode_body(&body)?)
    }

    /// Reads the next header and its metadata; `None` when the peer has ended between frames.
    pub async fn next(&mut self) -> Result<Option<Header>, Closed> {
        let mut head = [0; FRAME_HEADER_BYTES];
        if self.begin == self.end && !self.refill().await? {
            return Ok(None);
        }
        self.watch.set_busy(true);
        self.fill(&mut head).await?;
        let header = Header::decode(&head, META_BYTES_MAX)?;
        let mut meta = core::mem::take(&mut self.meta);
        meta.clear();
        meta.resize(header.meta_len as usize, 0);
        let filled = self.fill(&mut meta).await;
        (self.meta, self.head) = (meta, head);
        filled?;
        self.watch.set_busy(header.payload_len > 0);
        header.check_meta(&self.meta)?;
        Ok(Some(header))
    }

    /// The metadata of the last header.
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }

    /// The bytes of the last header, for passing the frame on.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The first bytes of a connection, which stay; `None` when the peer has ended before.
    pub async fn first<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Closed> {
        while self.end - self.begin < N {
            let len = self.reader.read(&mut self.ahead[self.end..]).await?;
            self.watch.progress();
            if len == 0 {
                return Ok(None);
            }
            self.end += len;
        }
        Ok(self.ahead[self.begin..self.end].first_chunk().copied())
    }

    /// Whether another byte comes; not when the peer has ended.
    pub async fn has_more(&mut self) -> Result<bool, Closed> {
        Ok(self.begin < self.end || self.refill().await?)
    }

    /// Receives a part of the payload.
    pub async fn payload(&mut self, target: &mut [u8]) -> Result<(), Closed> {
        self.fill(target).await?;
        Ok(())
    }

    /// The payload is received as a whole.
    pub fn payload_done(&self) {
        self.watch.set_busy(false);
    }

    /// The watch of this connection.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn fill(&mut self, mut target: &mut [u8]) -> io::Result<()> {
        while !target.is_empty() {
            if self.begin == self.end {
                // What is large goes straight to its place.
                if target.len() >= self.ahead.len() {
                    match self.reader.read(target).await? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        len => target = &mut target[len..],
                    }
                    self.watch.progress();
                    continue;
                }
                if !self.refill().await? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let len = target.len().min(self.end - self.begin);
            let (now, later) = target.split_at_mut(len);
            now.copy_from_slice(&self.ahead[self.begin..self.begin + len]);
            self.begin += len;
            target = later;
        }
        Ok(())
    }

    async fn refill(&mut self) -> io::Result<bool> {
        let len = self.reader.read(&mut self.ahead).await?;
        self.watch.progress();
        (self.begin, self.end) = (0, len);
        Ok(len > 0)
    }
}
