//! Frames on a simulated stream, for the ends whose own shell is replaced: the namenode's and the client's.

use std::io;
use std::rc::Rc;

use ringfs_proto::frame::Header;
use ringfs_proto::hello::{HELLO_PREFIX_BYTES, Prefix};
use ringfs_proto::limits::FRAME_HEADER_BYTES;
use ringfs_proto::wire::Message;

use crate::network::End;

/// Taken off the stream at once.
const READ_BYTES: usize = 16 << 10;

/// One end of a stream, read frame by frame.
pub struct Wire {
    /// The stream; who writes may share it.
    pub end: Rc<End>,
    bytes: Vec<u8>,
}

impl Wire {
    /// Reads from `end`.
    pub fn new(end: End) -> Self {
        Self { end: Rc::new(end), bytes: Vec::new() }
    }

    /// Whether nothing is half received.
    pub fn is_at_boundary(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Receives a hello, or its reply.
    ///
    /// # Errors
    /// What the stream says; `InvalidData` for what is no hello.
    pub async fn hello<M: Message>(&mut self, is_reply: bool) -> io::Result<M> {
        let prefix = self.take(HELLO_PREFIX_BYTES).await?;
        let prefix = prefix.first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        let prefix = Prefix::decode(prefix, is_reply).map_err(invalid)?;
        let body = self.take(prefix.body_len).await?;
        prefix.decode_body(&body).map_err(invalid)
    }

    /// Receives the next header and its metadata; `None` when the peer has ended between frames.
    ///
    /// # Errors
    /// What the stream says; `InvalidData` for what is no frame.
    pub async fn frame(&mut self, meta_bytes_max: usize) -> io::Result<Option<(Header, Vec<u8>)>> {
        if self.bytes.is_empty() && self.receive().await? == 0 {
            return Ok(None);
        }
        let head = self.take(FRAME_HEADER_BYTES).await?;
        let head = head.first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        let header = Header::decode(head, meta_bytes_max).map_err(invalid)?;
        let meta = self.take(header.meta_len as usize).await?;
        header.check_meta(&meta).map_err(invalid)?;
        Ok(Some((header, meta)))
    }

    /// Receives so many bytes.
    ///
    /// # Errors
    /// `UnexpectedEof`, or what the stream says.
    pub async fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.bytes.len() < len {
            if self.receive().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.bytes.split_off(len);
        Ok(std::mem::replace(&mut self.bytes, rest))
    }

    async fn receive(&mut self) -> io::Result<usize> {
        let before = self.bytes.len();
        self.bytes.resize(before + READ_BYTES, 0);
        let received = self.end.read(&mut self.bytes[before..]).await;
        self.bytes.truncate(before + received.as_ref().copied().unwrap_or(0));
        received
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
