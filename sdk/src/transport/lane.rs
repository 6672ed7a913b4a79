//! One connection to a datanode while ranges are read over it: requests ahead, credits, parts as they come.
//!
//! A lane never waits: [`Lane::step`] does what the socket allows now.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;

use ringfs_proto::Code;
use ringfs_proto::WireError;
use ringfs_proto::frame::{self, Header};
use ringfs_proto::ids::CallId;
use ringfs_proto::limits::{FRAME_HEADER_BYTES, READ_RANGES_MAX};
use ringfs_proto::meta::data::{CreditV1, RangeDataV1, ReadHint, ReadRangeV1, ReadRangesRequestV1};
use ringfs_proto::ops::{Credit, Op, Operation, ReadRanges};
use ringfs_proto::wire::Message;

use crate::error::Fault;
use crate::net::connection::Connection;
use crate::read::part::{PartReceiver, Target};
use crate::read::range::RangeProgress;

/// Metadata of a part: [`RangeDataV1`] has one length.
const PART_META_BYTES: usize = 28;
/// Times that one step goes to the socket before other lanes have their turn.
const STEP_TURNS_MAX: usize = 64;

/// What the lane reads into: by index, as its owner numbers the ranges.
pub(crate) trait Ranges {
    /// Where the bytes of a range belong now, and how far it has come.
    fn target(&mut self, index: usize) -> Option<(Target<'_>, &mut RangeProgress)>;
    /// Whether no further part should begin: all that the target can hold is there.
    fn is_satisfied(&self) -> bool {
        false
    }
    /// The node refused a range.
    fn refused(&mut self, index: usize, error: WireError);
}

/// What a lane needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for the socket.
    Wait { write: bool },
    /// The target is full; another one lets it go on.
    Full,
    /// Every request has been answered: the connection is at a frame boundary.
    Idle,
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub connection: Connection,
    receiver: PartReceiver,
    calls: VecDeque<OpenCall>,
    sent: usize,
    /// Index of the range whose part is arriving.
    current: Option<usize>,
    /// Bytes that have arrived since the lane was made.
    pub received_bytes: u64,
}

/// A request on the wire.
#[derive(Debug)]
struct OpenCall {
    id: CallId,
    /// Which ranges of the owner it asks for.
    ranges: Range<usize>,
    /// Ranges that are not answered to the end.
    open: usize,
    /// What the node was allowed to send at first.
    credit_bytes: u64,
    /// Payload that has arrived since credit was last given.
    uncredited: u64,
}

impl Lane {
    /// A lane over a connection at a frame boundary.
    pub fn new(connection: Connection) -> Self {
        let (receiver, calls) = (PartReceiver::default(), VecDeque::new());
        Self { connection, receiver, calls, sent: 0, current: None, received_bytes: 0 }
    }

    /// The range whose part is arriving, or arrived last.
    pub fn current(&self) -> Option<usize> {
        self.current
    }

    /// Whether the connection is at a frame boundary and nothing is owed on it.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && !self.receiver.is_receiving() && self.sent == self.connection.out.len()
    }

    /// Requests that are not answered to the end.
    pub fn calls_open(&self) -> usize {
        self.calls.len()
    }

    /// Encodes a request for ranges that the owner numbers from `first` on. It is sent by the next step.
    /// `credit_bytes` is the payload that the node may send before it hears of more.
    pub fn request(&mut self, first: usize, ranges: Vec<ReadRangeV1>, hint: ReadHint, credit_bytes: u64) {
        debug_assert!(ranges.len() <= READ_RANGES_MAX);
        let id = self.connection.next_call();
        let span = first..first + ranges.len();
        let open = ranges.len();
        let message = ReadRangesRequestV1 { ranges, credit_bytes, hint, record_bytes: 0 };
        let header = Header { op_version: ReadRanges::VERSION, ..Header::request(Op::ReadRanges, id) };
        self.forget_sent();
        frame::append(&mut self.connection.out, header, 0, |meta| message.encode_into(meta));
        self.calls.push_back(OpenCall { id, ranges: span, open, credit_bytes, uncredited: 0 });
    }

    /// The receiver, for what it holds ahead.
    pub fn receiver(&mut self) -> &mut PartReceiver {
        &mut self.receiver
    }

    /// Sends and receives until the socket has no more, the target is full, or all is answered.
    pub fn step(&mut self, ranges: &mut impl Ranges) -> Result<Step, Fault> {
        for _ in 0..STEP_TURNS_MAX {
            let is_sent = self.flush()?;
            if !self.receiver.is_receiving() {
                if ranges.is_satisfied() && !self.calls.is_empty() {
                    return Ok(Step::Full);
                }
                if self.begin_part(ranges)? {
                    continue;
                }
            }
            if self.calls.is_empty() && !self.receiver.is_receiving() {
                return Ok(if is_sent { Step::Idle } else { Step::Wait { write: true } });
            }
            match self.receive(ranges)? {
                Some(true) => {}
                Some(false) => return Ok(Step::Full),
                None => return Ok(Step::Wait { write: !is_sent }),
            }
        }
        // Others are served before this lane goes on; its socket is ready, so the wait is short.
        Ok(Step::Wait { write: false })
    }

    /// Sends what is encoded. Returns whether all of it has left.
    pub fn flush(&mut self) -> Result<bool, Fault> {
        while self.sent < self.connection.out.len() {
            match self.connection.try_send(&[IoSlice::new(&self.connection.out[self.sent..])])? {
                Some(len) => self.sent += len,
                None => return Ok(false),
            }
        }
        self.forget_sent();
        Ok(true)
    }

    fn forget_sent(&mut self) {
        self.connection.out.drain(..self.sent);
        self.sent = 0;
    }

    /// Decodes frames in the inbox up to the begin of a part. Returns whether one was there.
    fn begin_part(&mut self, ranges: &mut impl Ranges) -> Result<bool, Fault> {
        let Some((header, meta)) = self.connection.inbox.frame()? else { return Ok(false) };
        let frame_len = FRAME_HEADER_BYTES + meta.len();
        let call = self.calls.iter().position(|call| call.id == header.call);
        let Some(call) = call.filter(|_| header.is_reply()) else {
            return Err(Fault::Protocol(format!("{} answers no call", header.op.name())));
        };
        if let Some(error) = frame::reply_error(&header, meta) {
            self.connection.inbox.consume(frame_len);
            self.refuse_call(call, &error, ranges);
            return Ok(true);
        }
        let part = RangeDataV1::decode(meta)?;
        if part.code != 0 {
            return self.refuse_range(call, &header, &part, frame_len, ranges);
        }
        self.connection.inbox.consume(frame_len);
        let index = self.range_index(call, part.range)?;
        let (_, progress) = ranges.target(index).ok_or_else(|| unexpected(part.range))?;
        if progress.has_ended() {
            return Err(unexpected(part.range));
        }
        self.receiver.begin(&part, header.payload_len, progress)?;
        self.current = Some(index);
        self.take_into_account(call, header.payload_len, part.is_last);
        Ok(true)
    }

    fn range_index(&self, call: usize, range: u32) -> Result<usize, Fault> {
        let ranges = self.calls.get(call).map(|call| call.ranges.clone()).unwrap_or_default();
        let index = ranges.start + range as usize;
        if ranges.contains(&index) { Ok(index) } else { Err(unexpected(range)) }
    }

    /// The payload of the part that begins counts against the credit; when half is used up there is more.
    fn take_into_account(&mut self, call: usize, payload_len: u32, is_last: bool) {
        let Some(open) = self.calls.get_mut(call) else { return };
        open.uncredited += u64::from(payload_len);
        open.open -= usize::from(is_last);
        if open.open == 0 {
            self.calls.remove(call);
        } else if open.uncredited >= open.credit_bytes / 2 {
            let (id, bytes) = (open.id, std::mem::take(&mut open.uncredited));
            let header = Header { op_version: Credit::VERSION, ..Header::request(Op::Credit, id) };
            self.forget_sent();
            frame::append(&mut self.connection.out, header, 0, |meta| CreditV1 { bytes }.encode_into(meta));
        }
    }

    fn refuse_call(&mut self, call: usize, error: &WireError, ranges: &mut impl Ranges) {
        if let Some(refused) = self.calls.remove(call) {
            refused.ranges.for_each(|index| ranges.refused(index, error.clone()));
        }
    }

    fn refuse_range(
        &mut self,
        call: usize,
        header: &Header,
        part: &RangeDataV1,
        frame_len: usize,
        ranges: &mut impl Ranges,
    ) -> Result<bool, Fault> {
        if header.payload_len as usize > frame::ERROR_MESSAGE_BYTES_MAX {
            return Err(Fault::Protocol(format!("error message of {} bytes", header.payload_len)));
        }
        let len = frame_len + header.payload_len as usize;
        let Some(message) = self.connection.inbox.filled().get(frame_len..len) else { return Ok(false) };
        let message = String::from_utf8_lossy(message).into_owned();
        self.connection.inbox.consume(len);
        let index = self.range_index(call, part.range)?;
        ranges.refused(index, WireError::new(Code::from_u16(part.code), message));
        self.take_into_account(call, header.payload_len, true);
        Ok(true)
    }

    /// Receives once. `None`: nothing is there. `false`: the target has no room.
    fn receive(&mut self, ranges: &mut impl Ranges) -> Result<Option<bool>, Fault> {
        if !self.receiver.is_receiving() {
            return self.receive_frame();
        }
        let Some((mut target, progress)) = self.current.and_then(|index| ranges.target(index)) else {
            return Ok(Some(false));
        };
        let Self { connection, receiver, calls, .. } = self;
        // Bytes that came with the metadata belong to the payload.
        let early = take_early(&mut connection.inbox, receiver, progress, &mut target);
        if early > 0 {
            let left = receiver.arrived(early, progress, &target)?;
            debug_assert_eq!(left, 0);
            return Ok(Some(true));
        }
        let mut inbox = std::mem::take(&mut connection.inbox);
        let (slots, covers_all) = receiver.slots(progress, &mut target);
        // The next frame's begin comes with the end of this part: one system call less per part.
        let ahead =
            (covers_all && !calls.is_empty()).then(|| inbox.space(FRAME_HEADER_BYTES + PART_META_BYTES));
        let mut count = 0;
        let mut all: [IoSliceMut<'_>; 5] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for slot in slots.into_iter().flatten().chain(ahead.map(IoSliceMut::new)) {
            if let Some(place) = all.get_mut(count) {
                *place = slot;
                count += 1;
            }
        }
        let received = if count == 0 { Ok(Some(0)) } else { connection.try_receive(&mut all[..count]) };
        let result = match received {
            Ok(Some(0)) => Ok(Some(false)),
            Ok(Some(len)) => {
                self.received_bytes += len as u64;
                let left = receiver.arrived(len, progress, &target);
                left.map_err(Fault::from).map(|left| {
                    inbox.arrived(left);
                    Some(true)
                })
            }
            Ok(None) => Ok(None),
            Err(fault) => Err(fault),
        };
        connection.inbox = inbox;
        result
    }

    fn receive_frame(&mut self) -> Result<Option<bool>, Fault> {
        let missing = self.connection.inbox.missing(PART_META_BYTES)?;
        // 0: the frame is there, and what is missing is the message of a refused range.
        let len = if missing == 0 { frame::ERROR_MESSAGE_BYTES_MAX } else { missing };
        let is_there = self.connection.try_receive_inbox(len)?;
        self.received_bytes += u64::from(is_there);
        Ok(is_there.then_some(true))
    }
}

/// Copies payload that was received with the metadata before it; at most some bytes.
fn take_early(
    inbox: &mut crate::net::inbox::Inbox,
    receiver: &mut PartReceiver,
    progress: &RangeProgress,
    target: &mut Target<'_>,
) -> usize {
    let mut taken = 0;
    if inbox.filled().is_empty() {
        return 0;
    }
    let (slots, _) = receiver.slots(progress, target);
    for mut slot in slots.into_iter().flatten() {
        let bytes = &inbox.filled()[taken..];
        let len = bytes.len().min(slot.len());
        slot[..len].copy_from_slice(&bytes[..len]);
        taken += len;
    }
    inbox.consume(taken);
    taken
}

fn unexpected(range: u32) -> Fault {
    Fault::Protocol(format!("part of range {range}, which was not asked for or has ended"))
}
