//! Block data over a transport in memory, which completes out of order and in splits of any size: nothing above the seam
//! may assume a stream of bytes.

mod fake;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fake::namenode::FakeNamenode;
use fake::{lock, pattern};
use ringfs_proto::checksum::{ChecksumType, chunk_count, compute_chunks};
use ringfs_proto::ids::{BlockId, DatanodeId, Stamp, StorageId};
use ringfs_proto::meta::data::*;
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_proto::meta::namespace::NodeV1;
use ringfs_proto::{Code, WireError};
use ringfs_sdk::transport::*;
use ringfs_sdk::{Client, CreateOptions};

const CHUNK: u32 = 512;

#[derive(Debug, Default)]
struct Memory {
    blocks: Mutex<HashMap<BlockId, Vec<u8>>>,
    /// Seed of the order in which operations make progress.
    seed: Mutex<u64>,
    /// Node whose bytes are wrong.
    corrupt: Option<SocketAddr>,
}

/// What is left to deliver of one fetch.
struct Delivery {
    parts: VecDeque<(RangeDataV1, VecDeque<u8>)>,
    receiver: PartReceiver,
}

impl Memory {
    fn random(&self, below: usize) -> usize {
        let mut seed = lock(&self.seed);
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize % below
    }

    fn delivery(&self, node: SocketAddr, range: &ReadRangeV1) -> Result<Delivery, TransportError> {
        let missing = || TransportError::refused(node, WireError::new(Code::BlockMissing, "not here"));
        let data = lock(&self.blocks).get(&range.block).cloned().ok_or_else(missing)?;
        let chunk = u64::from(CHUNK);
        let until = (range.offset + range.length).next_multiple_of(chunk).min(data.len() as u64);
        let mut at = range.offset / chunk * chunk;
        let mut parts = VecDeque::new();
        while at < until {
            let len = (chunk * (1 + self.random(8) as u64)).min(until - at);
            let bytes = &data[at as usize..(at + len) as usize];
            let mut payload = vec![0; chunk_count(bytes.len(), CHUNK) * 4];
            compute_chunks(ChecksumType::Crc32c, bytes, CHUNK, &mut payload);
            let meta = RangeDataV1 {
                range: 0,
                code: 0,
                checksum: ChecksumType::Crc32c,
                chunk_bytes: CHUNK,
                offset: at,
                checksums_len: payload.len() as u32,
                data_len: len as u32,
                is_last: at + len == until,
            };
            payload.extend(bytes);
            if self.corrupt == Some(node) {
                payload[0] ^= 1;
            }
            parts.push_back((meta, payload.into()));
            at += len;
        }
        Ok(Delivery { parts, receiver: PartReceiver::default() })
    }
}

impl Delivery {
    /// Delivers at most `len` bytes of the first part. Returns whether all is there.
    fn deliver(
        &mut self,
        len: usize,
        progress: &mut RangeProgress,
        target: &mut Target<'_>,
    ) -> Result<bool, PartError> {
        let Some((meta, payload)) = self.parts.front_mut() else { return Ok(true) };
        if !self.receiver.is_receiving() {
            self.receiver.begin(meta, payload.len() as u32, progress)?;
        }
        let (slots, _) = self.receiver.slots(progress, target);
        let mut left = len;
        let mut copied = 0;
        for mut slot in slots.into_iter().flatten() {
            let len = left.min(slot.len()).min(payload.len());
            for byte in &mut slot[..len] {
                *byte = payload.pop_front().unwrap_or_default();
            }
            (left, copied) = (left - len, copied + len);
        }
        assert_eq!(self.receiver.arrived(copied, progress, target)?, 0);
        if !self.receiver.is_receiving() {
            self.parts.pop_front();
        }
        Ok(self.parts.is_empty())
    }
}

impl Transport for Memory {
    fn fetch(&self, fetches: &mut [Fetch<'_>], _hint: ReadHint) {
        let mut open: Vec<(usize, Delivery)> = Vec::new();
        for (index, fetch) in fetches.iter_mut().enumerate() {
            match self.delivery(fetch.node, &fetch.range) {
                Ok(delivery) => open.push((index, delivery)),
                Err(error) => fetch.result = Some(Err(error)),
            }
        }
        while !open.is_empty() {
            let turn = self.random(open.len());
            let len = 1 + self.random(3000);
            let (index, delivery) = &mut open[turn];
            let fetch = &mut fetches[*index];
            let offset = fetch.progress.begin();
            let mut target = Target { offset, memory: fetch.target, ahead_bytes: 0 };
            match delivery.deliver(len, &mut fetch.progress, &mut target) {
                Ok(false) => continue,
                Ok(true) => fetch.result = Some(Ok(())),
                Err(error) => {
                    let error = WireError::new(Code::ChecksumMismatch, error.to_string());
                    fetch.result = Some(Err(TransportError::refused(fetch.node, error)));
                }
            }
            open.swap_remove(turn);
        }
    }

    fn stream(
        &self,
        node: SocketAddr,
        range: ReadRangeV1,
        _hint: ReadHint,
    ) -> Result<Box<dyn RangeStream>, TransportError> {
        let missing = || TransportError::refused(node, WireError::new(Code::BlockMissing, "not here"));
        let data = lock(&self.blocks).get(&range.block).cloned().ok_or_else(missing)?;
        let end = (range.offset + range.length) as usize;
        Ok(Box::new(MemoryStream { bytes: data[range.offset as usize..end].to_vec().into() }))
    }

    fn replica_info(
        &self,
        node: SocketAddr,
        request: &ReplicaInfoRequestV1,
    ) -> Result<ReplicaInfoReplyV1, TransportError> {
        let blocks = lock(&self.blocks);
        let data = blocks
            .get(&request.block)
            .ok_or_else(|| TransportError::refused(node, WireError::new(Code::BlockMissing, "not here")))?;
        let (stamp, state) = (Stamp(1), ReplicaState::BeingWritten);
        Ok(ReplicaInfoReplyV1 { stamp, state, visible_length: data.len() as u64 })
    }

    fn open_pipeline(
        &self,
        node: SocketAddr,
        _request: &WriteOpenRequestV1,
    ) -> Result<Box<dyn Pipeline>, PipelineError> {
        let source = TransportError::unreachable(node, io::Error::other("read only"));
        Err(PipelineError { failed_node: Some(0), source })
    }

    fn transfer_replica(
        &self,
        node: SocketAddr,
        _request: &TransferReplicaRequestV1,
    ) -> Result<(), TransportError> {
        Err(TransportError::unreachable(node, io::Error::other("read only")))
    }
}

#[derive(Debug)]
struct MemoryStream {
    bytes: VecDeque<u8>,
}

impl RangeStream for MemoryStream {
    fn read(&mut self, target: &mut [u8]) -> Result<usize, TransportError> {
        let len = target.len().min(self.bytes.len());
        for byte in &mut target[..len] {
            *byte = self.bytes.pop_front().unwrap_or_default();
        }
        Ok(len)
    }
}

fn node(number: u8) -> NodeV1 {
    let (datanode, storage) = (DatanodeId([number; 16]), StorageId([1; 16]));
    NodeV1 { datanode, storage, host: "192.0.2.1".to_owned(), port: u16::from(number), is_stale: false }
}

/// A file of several blocks whose bytes are in memory only.
fn client(data: &[u8], block_size: usize, corrupt: Option<u8>) -> Client {
    let datanode = fake::datanode::FakeDatanode::start(9);
    let namenode = FakeNamenode::start(vec![datanode.node()]);
    let client = Client::connect(&namenode.uri()).expect("client");
    let options = CreateOptions { block_size: block_size as u64, ..CreateOptions::default() };
    let mut writer = client.create_with("/f", &options).expect("create");
    writer.append(data).expect("write");
    writer.close().expect("close");
    lock(&namenode.state).nodes = vec![node(1), node(2)];
    let blocks = lock(&datanode.state.blocks).clone();
    let corrupt = corrupt.map(|number| SocketAddr::from(([192, 0, 2, 1], u16::from(number))));
    client.with_transport(Arc::new(Memory { blocks: Mutex::new(blocks), seed: Mutex::new(7), corrupt }))
}

#[test]
fn reads_are_right_whatever_the_order_and_the_splits() {
    let data = pattern(60_000);
    let reader = client(&data, 10_240, None).open("/f").expect("open");
    for round in 0..50usize {
        let begin = round * 991;
        let len = 1 + round * 613 % 25_000;
        let end = data.len().min(begin + len);
        let mut found = vec![0; len];
        assert_eq!(reader.read_at(begin as u64, &mut found).expect("read"), end - begin);
        assert!(found[..end - begin] == data[begin..end], "{begin} {len}");
    }
}

#[test]
fn a_corrupt_node_is_replaced_over_any_transport() {
    let data = pattern(30_000);
    let mut reader = client(&data, 10_240, Some(1)).open("/f").expect("open");
    let mut found = vec![0; 30_000];
    assert_eq!(reader.read_at(0, &mut found).expect("read"), 30_000);
    assert!(found == data);
    let mut again = Vec::new();
    let mut buffer = [0; 7000];
    loop {
        let len = ringfs_sdk::Reader::read(&mut reader, &mut buffer).expect("read");
        if len == 0 {
            break;
        }
        again.extend_from_slice(&buffer[..len]);
    }
    assert!(again == data);
}
