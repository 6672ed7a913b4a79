//! A datanode with its replicas in memory.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use ringfs_proto::Code;
use ringfs_proto::checksum::{ChecksumType, chunk_count, compute_chunks, verify_chunks};
use ringfs_proto::frame::{self, Header};
use ringfs_proto::ids::{BlockId, DatanodeId, Stamp, StorageId};
use ringfs_proto::meta::admin::PingV1;
use ringfs_proto::meta::data::*;
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_proto::meta::namespace::NodeV1;
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;

use super::chain::Moment;
use super::{Connection, Server, lock, wait_until};

const CHUNK: u32 = 4096;

/// What it does wrong, and what it has seen.
#[derive(Debug, Default)]
pub struct State {
    pub blocks: Mutex<HashMap<BlockId, Vec<u8>>>,
    /// Every reply to a read has a flipped bit in its data.
    pub corrupts: AtomicBool,
    /// Reads are answered when this is off again.
    pub holds_reads: AtomicBool,
    /// Replies to reads are cut in the middle, and the connection with them.
    pub truncates: AtomicBool,
    /// Pipelines are refused.
    pub refuses_writes: AtomicBool,
    /// Pipelines end with an error after this many packets; 0 = never.
    pub packets_until_failure: AtomicUsize,
    /// Reads are answered only when so many are in progress; 0 = at once.
    pub reads_together: AtomicUsize,
    /// Block data per part; 0 = 64 KiB.
    pub part_bytes: AtomicUsize,
    pub reads_active: AtomicUsize,
    pub reads_active_max: AtomicUsize,
    pub reads: AtomicUsize,
    pub received_bytes: AtomicU64,
    pub packets: Mutex<Vec<(u64, u64, u32, u8)>>,
    /// The other datanodes, for pipelines of several.
    pub peers: Mutex<Vec<(DatanodeId, Arc<State>)>>,
    /// Stamp of each replica, and whether it is finalized.
    pub replicas: Mutex<HashMap<BlockId, (Stamp, bool)>>,
    /// When it dies: at the how manieth such moment.
    pub dies_at: Mutex<Option<(Moment, usize)>>,
    /// Accepts connections and closes them.
    pub is_dead: AtomicBool,
    /// Accepts connections and never says anything, as a stopped process.
    pub is_silent: AtomicBool,
    /// Copies of open replicas that it made.
    pub transfers: AtomicUsize,
    acks_held: Mutex<bool>,
    acks_released: Condvar,
}

#[derive(Debug)]
pub struct FakeDatanode {
    pub server: Server,
    pub state: Arc<State>,
    pub id: DatanodeId,
}

impl FakeDatanode {
    pub fn start(number: u8) -> Self {
        Self::start_over(number, Arc::default())
    }

    /// One that was another process before, on another port.
    pub fn start_over(number: u8, state: Arc<State>) -> Self {
        let served = state.clone();
        let server = Server::start(move |connection| serve(&served, connection));
        Self { server, state, id: DatanodeId([number; 16]) }
    }

    pub fn node(&self) -> NodeV1 {
        NodeV1 {
            datanode: self.id,
            storage: StorageId([9; 16]),
            host: self.server.address.ip().to_string(),
            port: self.server.address.port(),
            is_stale: false,
        }
    }

    pub fn hold_acks(&self, held: bool) {
        *lock(&self.state.acks_held) = held;
        self.state.acks_released.notify_all();
    }
}

fn serve(state: &State, mut connection: Connection) -> io::Result<()> {
    loop {
        state.live()?;
        let (header, meta, _) = connection.next()?;
        state.live()?;
        match header.op {
            Op::WriteOpen if !lock(&state.peers).is_empty() => {
                super::chain::write(state, &mut connection, &header, &meta)?;
            }
            Op::TransferReplica => super::chain::transfer(state, &mut connection, &header, &meta)?,
            Op::Ping => connection.reply(&header, &PingV1 { echo: 0 }, &[])?,
            Op::ReadRanges => read_ranges(state, &mut connection, &header, &meta)?,
            Op::WriteOpen => write(state, &mut connection, &header, &meta)?,
            Op::ReplicaInfo => info(state, &mut connection, &header, &meta)?,
            Op::Credit => {}
            _ => connection.refuse(&header, Code::Unsupported)?,
        }
    }
}

fn info(state: &State, connection: &mut Connection, header: &Header, meta: &[u8]) -> io::Result<()> {
    let request = ReplicaInfoRequestV1::decode(meta).map_err(io::Error::other)?;
    let length = lock(&state.blocks).get(&request.block).map(|data| data.len() as u64);
    match length {
        Some(visible_length) => {
            let state = ReplicaState::BeingWritten;
            connection.reply(header, &ReplicaInfoReplyV1 { stamp: Stamp(1), state, visible_length }, &[])
        }
        None => connection.refuse(header, Code::BlockMissing),
    }
}

fn read_ranges(state: &State, connection: &mut Connection, header: &Header, meta: &[u8]) -> io::Result<()> {
    let request = ReadRangesRequestV1::decode(meta).map_err(io::Error::other)?;
    let active = state.reads_active.fetch_add(1, SeqCst) + 1;
    state.reads_active_max.fetch_max(active, SeqCst);
    state.reads.fetch_add(1, SeqCst);
    let together = state.reads_together.load(SeqCst);
    wait_until("reads are answered", || !state.holds_reads.load(SeqCst));
    wait_until("reads in progress", || state.reads_active_max.load(SeqCst) >= together);
    let mut credit = request.credit_bytes;
    // Ranges are answered last one first: a client must not rely on their order.
    let mut result = Ok(());
    for (index, range) in request.ranges.iter().enumerate().rev() {
        let data = lock(&state.blocks).get(&range.block).cloned();
        result = result.and_then(|()| match data {
            Some(data) => send_range(state, connection, header, index as u32, range, &data, &mut credit),
            None => fail_range(connection, header, index as u32, Code::BlockMissing),
        });
    }
    state.reads_active.fetch_sub(1, SeqCst);
    result
}

fn fail_range(connection: &mut Connection, header: &Header, range: u32, code: Code) -> io::Result<()> {
    let message = code.text().as_bytes();
    let part = RangeDataV1 {
        range,
        code: code as u16,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 0,
        offset: 0,
        checksums_len: 0,
        data_len: message.len() as u32,
        is_last: true,
    };
    connection.reply(header, &part, message)
}

fn send_range(
    state: &State,
    connection: &mut Connection,
    header: &Header,
    index: u32,
    range: &ReadRangeV1,
    data: &[u8],
    credit: &mut u64,
) -> io::Result<()> {
    let chunk = u64::from(CHUNK);
    let end = range.offset + range.length;
    if end > data.len() as u64 {
        return fail_range(connection, header, index, Code::OutOfRange);
    }
    let until = end.next_multiple_of(chunk).min(data.len() as u64);
    let part_bytes = match state.part_bytes.load(SeqCst) as u64 {
        0 => 64 << 10,
        bytes => bytes,
    };
    let mut at = range.offset / chunk * chunk;
    while at < until {
        let len = part_bytes.min(until - at);
        let bytes = &data[at as usize..(at + len) as usize];
        let mut payload = vec![0; chunk_count(bytes.len(), CHUNK) * 4];
        compute_chunks(ChecksumType::Crc32c, bytes, CHUNK, &mut payload);
        let part = RangeDataV1 {
            range: index,
            code: 0,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: CHUNK,
            offset: at,
            checksums_len: payload.len() as u32,
            data_len: len as u32,
            is_last: at + len == until,
        };
        payload.extend(bytes);
        while *credit < payload.len() as u64 {
            let (next, meta, _) = connection.next()?;
            assert_eq!((next.op, next.call), (Op::Credit, header.call), "credit for the call that waits");
            *credit += CreditV1::decode(&meta).map_err(io::Error::other)?.bytes;
        }
        *credit -= payload.len() as u64;
        if state.corrupts.load(SeqCst) {
            let last = payload.len() - 1;
            payload[last] ^= 1;
        }
        if state.truncates.load(SeqCst) {
            let mut frame = Vec::new();
            frame::append(&mut frame, header.reply(), payload.len(), |meta| part.encode_into(meta));
            frame.extend(&payload[..payload.len() / 2]);
            connection.stream.write_all(&frame)?;
            return connection.stream.shutdown(std::net::Shutdown::Both);
        }
        connection.reply(header, &part, &payload)?;
        at += len;
    }
    Ok(())
}

fn write(state: &State, connection: &mut Connection, header: &Header, meta: &[u8]) -> io::Result<()> {
    let request = WriteOpenRequestV1::decode(meta).map_err(io::Error::other)?;
    if state.refuses_writes.load(SeqCst) || request.stage != WriteStage::Create {
        let reply =
            WriteOpenReplyV1 { code: Code::VolumeFailed as u16, failed_node: 0, message: "broken".into() };
        return connection.reply(header, &reply, &[]);
    }
    lock(&state.blocks).insert(request.block, Vec::new());
    connection.reply(header, &WriteOpenReplyV1 { code: 0, failed_node: 0, message: String::new() }, &[])?;
    let mut synced_length = 0;
    loop {
        let (packet_header, meta, payload) = connection.next()?;
        assert_eq!((packet_header.op, packet_header.call), (Op::WritePacket, header.call));
        let packet = WritePacketV1::decode(&meta).map_err(io::Error::other)?;
        check_packet(&packet, &payload);
        let data = &payload[packet.checksums_len as usize..];
        state.received_bytes.fetch_add(data.len() as u64, SeqCst);
        let count = {
            let mut packets = lock(&state.packets);
            packets.push((packet.sequence, packet.offset, packet.data_len, packet.flags));
            packets.len()
        };
        let length = {
            let mut blocks = lock(&state.blocks);
            let block = blocks.entry(request.block).or_default();
            assert_eq!(block.len() as u64, packet.offset, "packets follow each other");
            block.extend(data);
            block.len() as u64
        };
        if packet.flags != 0 {
            synced_length = length;
        }
        let limit = state.packets_until_failure.load(SeqCst);
        let has_failed = limit > 0 && count >= limit;
        let ack = WriteAckV1 {
            sequence: packet.sequence,
            length,
            synced_length,
            is_finalized: packet.flags & packet_flags::LAST != 0,
            code: if has_failed { Code::PipelineFailed as u16 } else { 0 },
            failed_node: 0,
        };
        let is_last = ack.is_finalized;
        if state.may_ack(connection)? {
            connection.reply(&packet_header, &ack, &[])?;
        }
        if is_last {
            return Ok(());
        }
        if has_failed {
            return Err(io::Error::other("failed on demand"));
        }
    }
}

impl State {
    /// Fails when it is dead; waits while it is silent.
    pub fn live(&self) -> io::Result<()> {
        wait_until("it speaks again", || !self.is_silent.load(SeqCst) || self.is_dead.load(SeqCst));
        if self.is_dead.load(SeqCst) { Err(io::Error::other("dead")) } else { Ok(()) }
    }

    /// Waits until acknowledgements are released; false when another packet has come before: its acknowledgement will
    /// cover this one too.
    fn may_ack(&self, connection: &Connection) -> io::Result<bool> {
        let mut held = lock(&self.acks_held);
        while *held {
            if connection_has_more(connection)? {
                return Ok(false);
            }
            let waited = self.acks_released.wait_timeout(held, std::time::Duration::from_millis(5));
            held = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        Ok(true)
    }
}

fn connection_has_more(connection: &Connection) -> io::Result<bool> {
    connection.stream.set_nonblocking(true)?;
    let peeked = connection.stream.peek(&mut [0]);
    connection.stream.set_nonblocking(false)?;
    Ok(peeked.is_ok())
}

pub fn check_packet(packet: &WritePacketV1, payload: &[u8]) {
    let (checksums, data) = payload.split_at(packet.checksums_len as usize);
    assert_eq!(data.len(), packet.data_len as usize);
    let into = (packet.offset % u64::from(CHUNK)) as usize;
    let first = if into == 0 { 0 } else { data.len().min(CHUNK as usize - into) };
    let (head, rest) = data.split_at(first);
    let (head_sum, rest_sums) = checksums.split_at(usize::from(first > 0) * 4);
    if first > 0 {
        assert_eq!(head_sum, ChecksumType::Crc32c.of(head).to_be_bytes());
    }
    verify_chunks(ChecksumType::Crc32c, rest, CHUNK, rest_sums).expect("packet checksums");
}
