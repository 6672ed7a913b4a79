//! A range read in order over one connection: the node sends ahead into the socket, each read names where the next bytes go.

use std::net::SocketAddr;
use std::time::Instant;

use ringfs_proto::WireError;
use ringfs_proto::limits::READ_REQUEST_BYTES_MAX;
use ringfs_proto::meta::data::{ReadHint, ReadRangeV1};

use super::lane::{Lane, Ranges, Step};
use super::{RangeStream, TransportError};
use crate::error::Fault;
use crate::limits::{STREAM_CREDIT_BYTES, STREAM_REQUEST_BYTES, STREAM_TAIL_BYTES};
use crate::net::connection::Caller;
use crate::net::pool::{Keep, Pool};
use crate::read::part::Target;
use crate::read::range::RangeProgress;

const _: () = assert!(STREAM_REQUEST_BYTES <= READ_REQUEST_BYTES_MAX);

/// A stream over TCP. One request is on the wire at a time, so that its parts come in order.
#[derive(Debug)]
pub(crate) struct TcpStream {
    node: SocketAddr,
    range: ReadRangeV1,
    hint: ReadHint,
    caller: Caller,
    lane: Option<Lane>,
    /// Offset in the block of the next byte for the reader.
    position: u64,
    /// The request on the wire.
    progress: RangeProgress,
}

impl TcpStream {
    pub fn open(
        node: SocketAddr,
        range: ReadRangeV1,
        hint: ReadHint,
        caller: &Caller,
    ) -> Result<Self, Fault> {
        let connection = Pool::current().checkout(node, caller)?.connection;
        let mut stream = Self {
            node,
            position: range.offset,
            progress: RangeProgress::new(range.offset, 0),
            range,
            hint,
            caller: caller.clone(),
            lane: Some(Lane::new(connection)),
        };
        stream.request_next();
        // On the wire before the first read: what it brings waits in the socket.
        stream.send()?;
        Ok(stream)
    }

    fn end(&self) -> u64 {
        self.range.offset + self.range.length
    }

    fn request_next(&mut self) {
        let offset = self.progress.end();
        let length = (self.end() - offset).min(STREAM_REQUEST_BYTES);
        self.progress = RangeProgress::new(offset, length);
        if let Some(lane) = &mut self.lane {
            lane.request(
                0,
                vec![ReadRangeV1 { offset, length, ..self.range.clone() }],
                self.hint,
                STREAM_CREDIT_BYTES,
            );
        }
    }

    /// Sends the request. Nothing is received: no target is named yet.
    fn send(&mut self) -> Result<(), Fault> {
        let Some(lane) = &mut self.lane else { return Ok(()) };
        while !lane.flush()? {
            let now = Instant::now();
            lane.connection.wait(false, true, now, now + self.caller.io_timeout)?;
        }
        Ok(())
    }

    fn fill(&mut self, target: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        loop {
            filled += self.take_ahead(&mut target[filled..]);
            if filled == target.len() || self.position == self.end() {
                return Ok(filled);
            }
            if self.position == self.progress.end() {
                self.request_next();
            }
            filled += self.receive(&mut target[filled..])?;
        }
    }

    fn take_ahead(&mut self, target: &mut [u8]) -> usize {
        let verified = self.progress.begin() + self.progress.verified_len();
        let Some(lane) = &mut self.lane else { return 0 };
        let len = lane.receiver().take_ahead(self.position, verified, target);
        self.position += len as u64;
        len
    }

    /// Receives into `target` until it is full or the request on the wire is answered.
    fn receive(&mut self, target: &mut [u8]) -> Result<usize, Fault> {
        let Some(lane) = &mut self.lane else { return Err(Fault::Handle("the stream has failed")) };
        lane.receiver().begin_target();
        let is_small = (target.len() as u64) < STREAM_TAIL_BYTES;
        let wanted_end = (self.position + target.len() as u64).min(self.progress.end());
        let mut window = Window {
            offset: self.position,
            memory: target,
            ahead_bytes: if is_small { STREAM_TAIL_BYTES } else { 0 },
            wanted_end,
            progress: &mut self.progress,
            refused: None,
        };
        let mut received = lane.received_bytes;
        let mut since = Instant::now();
        loop {
            let step = lane.step(&mut window)?;
            if let Some(error) = window.refused.take() {
                return Err(error.into());
            }
            let verified = window.progress.begin() + window.progress.verified_len();
            if verified >= wanted_end && lane.receiver().is_settled() {
                let len = (wanted_end - self.position) as usize;
                self.position = wanted_end;
                return Ok(len);
            }
            let Step::Wait { write } = step else {
                return Err(Fault::Protocol("the answer ended before its range".to_owned()));
            };
            if lane.received_bytes != received {
                (received, since) = (lane.received_bytes, Instant::now());
            }
            lane.connection.wait(true, write, since, since + self.caller.io_timeout)?;
        }
    }
}

impl RangeStream for TcpStream {
    fn read(&mut self, target: &mut [u8]) -> Result<usize, TransportError> {
        self.fill(target).map_err(|fault| {
            self.lane = None;
            TransportError::from_fault(self.node, fault)
        })
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take()
            && lane.is_idle()
        {
            Pool::current().give_back(lane.connection, &self.caller, Keep::Briefly);
        }
    }
}

/// The one range of the request on the wire, and the memory that the current read has named.
struct Window<'w> {
    offset: u64,
    memory: &'w mut [u8],
    ahead_bytes: u64,
    wanted_end: u64,
    progress: &'w mut RangeProgress,
    refused: Option<WireError>,
}

impl Ranges for Window<'_> {
    fn target(&mut self, index: usize) -> Option<(Target<'_>, &mut RangeProgress)> {
        let Self { offset, memory, ahead_bytes, progress, .. } = self;
        let target = Target { offset: *offset, memory, ahead_bytes: *ahead_bytes };
        (index == 0).then_some((target, &mut **progress))
    }

    fn is_satisfied(&self) -> bool {
        self.progress.begin() + self.progress.verified_len() >= self.wanted_end
    }

    fn refused(&mut self, _index: usize, error: WireError) {
        self.refused = Some(error);
    }
}
