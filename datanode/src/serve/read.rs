//! Reading ranges: in parts of whole chunks, with the checksums that were stored for them.
//!
//! Finalized lengths are read through the page cache, and sent from it without a copy when they are in it as a whole.
//! An open replica is read as it is written: around the page cache, up to what the whole pipeline has acknowledged.

use std::rc::Rc;

use ringfs_proto::capability::Mode;
use ringfs_proto::checksum::{CHECKSUM_BYTES, chunk_count};
use ringfs_proto::frame::{self, Header, flags};
use ringfs_proto::limits::{READ_RANGES_MAX, READ_REQUEST_BYTES_MAX};
use ringfs_proto::meta::data::{CreditV1, RangeDataV1, ReadRangeV1, ReadRangesRequestV1};
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::Shard;
use super::connection::Connection;
use super::frames::Closed;
use super::open_files::OpenFile;
use crate::engine::{DIRECT_ALIGN, Engine, File, Writer};
use crate::store::replica::Tail;

/// Block data in one part of a range.
pub(crate) const PART_BYTES: u64 = 1 << 20;
/// How far ahead of what is sent the kernel is told to read.
const READ_AHEAD_BYTES: u64 = 4 << 20;

/// What is to be sent of a range.
pub(crate) struct Plan<E: Engine> {
    /// The replica.
    pub file: Rc<OpenFile<E>>,
    /// First byte, at a chunk's beginning.
    pub begin: u64,
    /// Behind the last byte, at a chunk's or the replica's end.
    pub until: u64,
    /// For an open replica, its length and the checksum of its last chunk at one moment.
    open: Option<Tail>,
}

impl<E: Engine> Shard<E> {
    /// Answers `ReadRanges`.
    pub(super) async fn read_ranges(
        self: &Rc<Self>,
        connection: &mut Connection<E>,
        header: &Header,
    ) -> Result<(), Closed> {
        let request = ReadRangesRequestV1::decode(connection.frames.meta())?;
        let total = request.ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.length));
        if request.ranges.is_empty()
            || request.ranges.len() > READ_RANGES_MAX
            || total > READ_REQUEST_BYTES_MAX
        {
            let message =
                format!("{} ranges of {total} bytes exceed the limits of one request", request.ranges.len());
            return connection
                .reply::<RangeDataV1>(header, Err(WireError::new(Code::LimitExceeded, message)))
                .await;
        }
        self.metrics.reads_active.add(1);
        self.metrics.reads_active_max.raise(self.metrics.reads_active.get());
        let mut credit = Credit { bytes: request.credit_bytes };
        let mut served = Ok(());
        for (index, range) in request.ranges.iter().enumerate() {
            let is_last_range = index + 1 == request.ranges.len();
            served =
                self.read_range(connection, header, index as u32, range, is_last_range, &mut credit).await;
            if served.is_err() {
                break;
            }
        }
        self.metrics.reads_active.sub(1);
        served
    }

    async fn read_range(
        &self,
        connection: &mut Connection<E>,
        header: &Header,
        index: u32,
        range: &ReadRangeV1,
        is_last_range: bool,
        credit: &mut Credit,
    ) -> Result<(), Closed> {
        self.metrics.read_ranges.add(1);
        let plan = match self.plan(range).await {
            Ok(plan) => plan,
            Err(error) => return self.fail_range(connection, header, index, is_last_range, &error).await,
        };
        let mut at = plan.begin;
        while at < plan.until {
            let len = PART_BYTES.min(plan.until - at);
            let checksums = match self.checksums(&plan, at, len).await {
                Ok(checksums) => checksums,
                Err(error) => return self.fail_range(connection, header, index, is_last_range, &error).await,
            };
            credit.take(connection, header, len + checksums.as_ref().len() as u64).await?;
            let is_last = at + len == plan.until;
            let part = RangeDataV1 {
                range: index,
                code: 0,
                checksum: plan.file.layout.checksum,
                chunk_bytes: plan.file.layout.chunk_bytes,
                offset: at,
                checksums_len: checksums.as_ref().len() as u32,
                data_len: len as u32,
                is_last,
            };
            let more = !(is_last && is_last_range);
            let head = |out: &mut Vec<u8>| begin_part(out, header, &part, more);
            if let Err(error) = self.send_part(connection, &plan, &part, checksums.as_ref(), head).await? {
                return self.fail_range(connection, header, index, !more, &error).await;
            }
            at += len;
        }
        Ok(())
    }

    /// Finds what is to be sent.
    pub(crate) async fn plan(&self, range: &ReadRangeV1) -> Result<Plan<E>, WireError> {
        self.check(&range.capability, Mode::Read, range.block, range.stamp)?;
        let missing =
            || WireError::new(Code::BlockMissing, format!("no replica of block {} here", range.block));
        let replica = self.node.store.find(range.block).ok_or_else(missing)?;
        // The state is read before the length: a replica that is finalized in between is only longer.
        let is_open = replica.state() != ReplicaState::Finalized;
        let file = self.files.get(&self.engine, &self.node, range.block, is_open).await?;
        if file.replica.is_corrupt() {
            return Err(WireError::new(
                Code::BlockCorrupt,
                format!("replica of block {} is corrupt", range.block),
            ));
        }
        if file.replica.stamp() < range.stamp || file.replica.state() == ReplicaState::Temporary {
            let message = format!(
                "replica of block {} has stamp {}, asked for {}",
                range.block,
                file.replica.stamp(),
                range.stamp
            );
            return Err(WireError::new(Code::StampMismatch, message));
        }
        let tail = file.replica.tail();
        let end =
            range.offset.checked_add(range.length).filter(|end| *end <= tail.length && range.length > 0);
        let end = end.ok_or_else(|| {
            let message = format!(
                "block {}: {} bytes at offset {} exceed its {} bytes",
                range.block, range.length, range.offset, tail.length
            );
            WireError::new(Code::OutOfRange, message)
        })?;
        let chunk = u64::from(file.layout.chunk_bytes);
        let begin = range.offset / chunk * chunk;
        let until = end.next_multiple_of(chunk).min(tail.length);
        Ok(Plan { file, begin, until, open: is_open.then_some(tail) })
    }

    /// The stored checksums of a part. That of an open replica's partial last chunk is kept beside its length.
    pub(crate) async fn checksums(
        &self,
        plan: &Plan<E>,
        at: u64,
        len: u64,
    ) -> Result<E::ReadBuffer, WireError> {
        let layout = &plan.file.layout;
        let count = chunk_count(len as usize, layout.chunk_bytes);
        let offset = layout.checksum_offset(at / u64::from(layout.chunk_bytes));
        let read = plan.file.buffered.read_at(offset, count * CHECKSUM_BYTES).await;
        read.map_err(|error| self.read_failed(plan, &error)).and_then(|checksums| {
            if checksums.as_ref().len() == count * CHECKSUM_BYTES {
                Ok(checksums)
            } else {
                Err(self.cut_short(plan))
            }
        })
    }

    /// Sends a part behind its head. The inner error is that of its data: nothing of the part was sent.
    pub(crate) async fn send_part(
        &self,
        connection: &mut Connection<E>,
        plan: &Plan<E>,
        part: &RangeDataV1,
        checksums: &[u8],
        head: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Result<(), WireError>, Closed> {
        let (file, layout) = (&plan.file, &plan.file.layout);
        let offset = layout.data_offset() + part.offset;
        let len = part.data_len as usize;
        let mut stored = [0; CHECKSUM_BYTES];
        let whole = self.split_tail(plan, part, checksums, &mut stored);
        let is_resident = plan.open.is_none() && file.buffered.is_resident(offset, len as u64);
        if is_resident {
            head(&mut connection.out);
            connection.send(&[whole, &stored[..part.checksums_len as usize - whole.len()]]).await?;
            connection.frames.watch().set_busy(true);
            connection.writer.send_file(&file.buffered, offset, len).await?;
            connection.frames.watch().set_busy(false);
            self.metrics.sendfile_bytes.add(len as u64);
        } else {
            // Data of an open replica is written around the page cache: nothing may bring it in.
            if plan.open.is_none() {
                let rest = plan.until - part.offset - len as u64;
                file.buffered.will_need(offset + len as u64, READ_AHEAD_BYTES.min(rest));
            }
            let (data, skip) = match self.data(plan, offset, len).await {
                Ok(data) => data,
                Err(error) => return Ok(Err(error)),
            };
            head(&mut connection.out);
            let mut sums = whole.to_vec();
            sums.extend(&stored[..part.checksums_len as usize - whole.len()]);
            connection.send(&[&sums, &data.as_ref()[skip..skip + len]]).await?;
        }
        self.metrics.read_bytes.add(len as u64);
        Ok(Ok(()))
    }

    /// Splits off the checksum of an open replica's partial last chunk, which is not the one in the file.
    fn split_tail<'a>(
        &self,
        plan: &Plan<E>,
        part: &RangeDataV1,
        checksums: &'a [u8],
        stored: &mut [u8; CHECKSUM_BYTES],
    ) -> &'a [u8] {
        let end = part.offset + u64::from(part.data_len);
        match plan.open {
            _ if checksums.is_empty() => checksums,
            Some(tail) if end == tail.length && !end.is_multiple_of(u64::from(part.chunk_bytes)) => {
                *stored = tail.crc.to_be_bytes();
                &checksums[..checksums.len() - CHECKSUM_BYTES]
            }
            _ => checksums,
        }
    }

    /// The data of a part, and how many bytes of what was read come before it.
    pub(crate) async fn data(
        &self,
        plan: &Plan<E>,
        offset: u64,
        len: usize,
    ) -> Result<(E::ReadBuffer, usize), WireError> {
        let (data, skip) = match (&plan.file.direct, plan.open) {
            (Some(direct), Some(_)) => {
                let begin = offset / DIRECT_ALIGN as u64 * DIRECT_ALIGN as u64;
                let skip = (offset - begin) as usize;
                (direct.read_at(begin, (skip + len).next_multiple_of(DIRECT_ALIGN)).await, skip)
            }
            _ => (plan.file.buffered.read_at(offset, len).await, 0),
        };
        let data = data.map_err(|error| self.read_failed(plan, &error))?;
        if data.as_ref().len() < skip + len { Err(self.cut_short(plan)) } else { Ok((data, skip)) }
    }

    fn read_failed(&self, plan: &Plan<E>, error: &std::io::Error) -> WireError {
        self.node.store.mark_corrupt(&plan.file.replica);
        WireError::new(Code::Io, format!("read block {}: {error}", plan.file.replica.block))
    }

    fn cut_short(&self, plan: &Plan<E>) -> WireError {
        let (block, length) = (plan.file.replica.block, plan.file.replica.tail().length);
        if length < plan.until {
            // A block recovery has chosen a lower length meanwhile.
            let message = format!("block {block} has {length} bytes now, {} were asked for", plan.until);
            return WireError::new(Code::OutOfRange, message);
        }
        self.node.store.mark_corrupt(&plan.file.replica);
        WireError::new(
            Code::BlockCorrupt,
            format!("the file of block {} is shorter than its length", plan.file.replica.block),
        )
    }

    /// Answers one range with an error; the others go on.
    async fn fail_range(
        &self,
        connection: &mut Connection<E>,
        header: &Header,
        range: u32,
        is_last_range: bool,
        error: &WireError,
    ) -> Result<(), Closed> {
        self.metrics.read_errors.add(1);
        let part = RangeDataV1 {
            range,
            code: error.code as u16,
            checksum: ringfs_proto::checksum::ChecksumType::Crc32c,
            chunk_bytes: 0,
            offset: 0,
            checksums_len: 0,
            data_len: error.message.len() as u32,
            is_last: true,
        };
        begin_part(&mut connection.out, header, &part, !is_last_range);
        connection.send(&[error.message.as_bytes()]).await
    }
}

/// Appends the head of a part.
fn begin_part(out: &mut Vec<u8>, header: &Header, part: &RangeDataV1, more: bool) {
    let mut reply = header.reply();
    reply.flags |= if more { flags::MORE } else { 0 };
    let payload_len = part.checksums_len as usize + part.data_len as usize;
    frame::append(out, reply, payload_len, |meta| part.encode_into(meta));
}

/// What the reader allows to be sent.
struct Credit {
    bytes: u64,
}

impl Credit {
    /// Takes `bytes`, waiting for `Credit` frames while there is not enough.
    async fn take<E: Engine>(
        &mut self,
        connection: &mut Connection<E>,
        header: &Header,
        bytes: u64,
    ) -> Result<(), Closed> {
        while self.bytes < bytes {
            let next = connection.frames.next().await?;
            let next = next.ok_or_else(|| Closed::Io(std::io::ErrorKind::UnexpectedEof.into()))?;
            if next.op != Op::Credit || next.call != header.call || next.payload_len > 0 {
                return Err(Closed::Protocol(format!(
                    "{} while call {} waits for credit",
                    next.op.name(),
                    header.call
                )));
            }
            self.bytes = self.bytes.saturating_add(CreditV1::decode(connection.frames.meta())?.bytes);
        }
        self.bytes -= bytes;
        Ok(())
    }
}
