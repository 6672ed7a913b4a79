//! Bytes that have arrived and are not decoded yet, up to whole frames. Does no I/O.

use ringfs_proto::frame::{FrameError, Header};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, META_BYTES_MAX};

/// Received bytes, in order.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Inbox {
    /// What has arrived.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }

    /// Room for at least `len` more bytes, exactly `len` long.
    pub fn space(&mut self, len: usize) -> &mut [u8] {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        if self.bytes.len() < self.end + len {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            let needed = (self.end + len).max(self.bytes.len());
            self.bytes.resize(needed, 0);
        }
        &mut self.bytes[self.end..self.end + len]
    }

    /// Notes that `len` bytes were put into [`Self::space`].
    pub fn arrived(&mut self, len: usize) {
        self.end = (self.end + len).min(self.bytes.len());
    }

    /// Forgets the first `len` bytes.
    pub fn consume(&mut self, len: usize) {
        self.begin = (self.begin + len).min(self.end);
    }

    /// The next frame's header and metadata, once they have arrived. The frame is not consumed.
    ///
    /// # Errors
    /// [`FrameError`]; the connection must be closed.
    pub fn frame(&self) -> Result<Option<(Header, &[u8])>, FrameError> {
        let bytes = self.filled();
        let Some(head) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(head, META_BYTES_MAX)?;
        let Some(meta) = bytes[FRAME_HEADER_BYTES..].get(..header.meta_len as usize) else { return Ok(None) };
        header.check_meta(meta)?;
        Ok(Some((header, meta)))
    }

    /// How many bytes are missing until [`Self::frame`] gives one; 0 when it is there. Where the header is not complete,
    /// `meta_likely` bytes of metadata are expected. Asking the kernel for no more keeps payload out of here, as long as
    /// frames with a payload have at least that much metadata.
    ///
    /// # Errors
    /// [`FrameError`]; the connection must be closed.
    pub fn missing(&self, meta_likely: usize) -> Result<usize, FrameError> {
        let bytes = self.filled();
        let Some(head) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(FRAME_HEADER_BYTES + meta_likely - bytes.len());
        };
        let header = Header::decode(head, META_BYTES_MAX)?;
        Ok((FRAME_HEADER_BYTES + header.meta_len as usize).saturating_sub(bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use ringfs_proto::frame;
    use ringfs_proto::ids::CallId;
    use ringfs_proto::ops::Op;

    use super::*;

    #[test]
    fn frames_are_found_wherever_they_are_cut() {
        let mut bytes = Vec::new();
        for call in 1..=3 {
            let header = Header::request(Op::Ping, CallId(call));
            frame::append(&mut bytes, header, 0, |meta| meta.extend([call as u8; 9]));
        }
        for piece in 1..bytes.len() {
            let mut inbox = Inbox::default();
            let mut calls = Vec::new();
            for part in bytes.chunks(piece) {
                inbox.space(part.len()).copy_from_slice(part);
                inbox.arrived(part.len());
                while let Some((header, meta)) = inbox.frame().expect("valid") {
                    let len = FRAME_HEADER_BYTES + meta.len();
                    assert_eq!(meta, [header.call.0 as u8; 9]);
                    calls.push(header.call.0);
                    inbox.consume(len);
                }
            }
            assert_eq!(calls, [1, 2, 3], "pieces of {piece}");
        }
    }
}
