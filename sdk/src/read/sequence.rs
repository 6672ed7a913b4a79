//! Reading a file in order: a stream per block, the next block's opened before the last byte of this one.

use std::sync::Arc;

use ringfs_proto::meta::data::ReadRangeV1;

use super::OpenFile;
use super::locations::Place;
use crate::driver::process::generation;
use crate::error::Result;
use crate::limits::{STREAM_CREDIT_BYTES, STREAM_REQUEST_BYTES};
use crate::transport::RangeStream;

/// Reads in order before the datanode is asked to send ahead.
const READS_BEFORE_STREAM: u32 = 1;

/// The state of sequential reads: at most the stream of the current block and that of the next.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    current: Option<Stream>,
    ahead: Option<Stream>,
    /// Where the next sequential read begins, and how many there have been in a row.
    expected: u64,
    reads: u32,
    generation: u64,
}

#[derive(Debug)]
struct Stream {
    bytes: Box<dyn RangeStream>,
    /// Offsets in the file.
    position: u64,
    end: u64,
}

impl Sequence {
    /// Reads at `position`; returns the bytes read, fewer than asked for only at the end of the file.
    pub fn read(&mut self, file: &OpenFile, position: u64, target: &mut [u8]) -> Result<usize> {
        self.observe(position);
        let is_large = target.len() as u64 > STREAM_REQUEST_BYTES;
        if is_large || self.reads <= READS_BEFORE_STREAM {
            // Large reads go to several datanodes at once; a first read may be the only one.
            let len = file.read(&mut [(position, target)])?;
            self.expected = position + len as u64;
            return Ok(len);
        }
        let mut filled = 0;
        while filled < target.len() {
            let at = position + filled as u64;
            let len = self.read_block(file, at, &mut target[filled..])?;
            if len == 0 {
                break;
            }
            filled += len;
        }
        self.expected = position + filled as u64;
        Ok(filled)
    }

    /// Forgets streams that are of no use: of another place, or of the parent process.
    fn observe(&mut self, position: u64) {
        let generation = generation();
        if position != self.expected || self.generation != generation {
            *self = Self { generation, expected: position, ..Self::default() };
        }
        self.reads = self.reads.saturating_add(1);
    }

    /// Reads within the block that holds `at`.
    fn read_block(&mut self, file: &OpenFile, at: u64, target: &mut [u8]) -> Result<usize> {
        if self.current.as_ref().is_none_or(|stream| stream.position != at || at >= stream.end) {
            let ahead = self.ahead.take().filter(|stream| stream.position == at);
            self.current = match ahead {
                Some(stream) => Some(stream),
                None => match file.place(at)? {
                    Some(place) => open(file, at, &place),
                    None => return Ok(0),
                },
            };
        }
        let Some(stream) = &mut self.current else { return file.read(&mut [(at, target)]) };
        let len = target.len().min((stream.end - at) as usize);
        match stream.bytes.read(&mut target[..len]) {
            Ok(len) if len > 0 => {
                stream.position += len as u64;
                let (position, end) = (stream.position, stream.end);
                self.open_ahead(file, position, end);
                Ok(len)
            }
            // Another replica, with all the care of a single read; the next read begins a stream again.
            Ok(_) | Err(_) => {
                self.current = None;
                file.read(&mut [(at, &mut target[..len])])
            }
        }
    }

    /// Asks for the next block while this one still comes.
    fn open_ahead(&mut self, file: &OpenFile, position: u64, end: u64) {
        if self.ahead.is_none()
            && end - position <= STREAM_CREDIT_BYTES
            && end < file.length
            && let Ok(Some(place)) = file.place(end)
        {
            self.ahead = open(file, end, &place);
        }
    }
}

/// A stream from `at` to the end of its block; `None` when no replica takes the request.
fn open(file: &OpenFile, at: u64, place: &Arc<Place>) -> Option<Stream> {
    let located = &place.located;
    let range = ReadRangeV1 {
        capability: located.capability,
        block: located.block.block,
        stamp: located.block.stamp,
        offset: at - place.begin(),
        length: place.end() - at,
    };
    place.replicas.iter().find_map(|node| {
        let bytes = file.shared.transport.stream(*node, range.clone(), file.hint).ok()?;
        Some(Stream { bytes, position: at, end: place.end() })
    })
}
