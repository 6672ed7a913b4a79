//! A replica being written: packets of a client that may say anything, groups that are written, acks that come back.

use ringfs_datanode::engine::DIRECT_ALIGN;
use ringfs_datanode::format::block::Layout;
use ringfs_datanode::serve::pipeline::{Downstream, Pipeline, Start, Written};
use ringfs_proto::checksum::{CHECKSUM_BYTES, ChecksumType};
use ringfs_proto::meta::data::WritePacketV1;

use crate::input::Input;

const LIMIT: u64 = 256 << 10;
const BUFFER_BYTES: usize = 64 << 10;
const CHUNKS: [u32; 3] = [512, 1024, 4096];

/// What the disk of this node would hold.
struct Disk {
    data: Vec<u8>,
    checksums: Vec<u8>,
}

/// The first bytes choose the chunks; then steps: a packet that fits, a packet that says what it wants, a write, an ack.
pub fn packets(data: &[u8]) {
    let mut input = Input(data);
    let [stored, sent, has_downstream] = input.array();
    let stored_chunk = CHUNKS[usize::from(stored) % CHUNKS.len()];
    let packet_chunk = CHUNKS[usize::from(sent) % CHUNKS.len()];
    let layout = Layout { checksum: ChecksumType::Crc32c, chunk_bytes: stored_chunk, limit: LIMIT };
    let buffer = || vec![0u8; BUFFER_BYTES];
    let packet_kind = (ChecksumType::Crc32c, packet_chunk);
    let mut pipeline = Pipeline::new(
        layout,
        packet_kind,
        Start::default(),
        [buffer(), buffer()],
        has_downstream.is_multiple_of(2),
    );
    let mut client = Client { chunk: packet_chunk, sequence: 0, sent: Vec::new() };
    let mut disk = Disk { data: Vec::new(), checksums: Vec::new() };
    let (mut written, mut acked) = (None, None);
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => client.send(&mut pipeline, &mut input),
            1 => client.lie(&pipeline, &mut input),
            2 => written = disk.write(&mut pipeline).or(written),
            _ => {
                let sequence = Some(u64::from(input.byte()));
                let synced_length = u64::from(input.u32());
                pipeline.downstream =
                    Downstream { sequence, synced_length, is_finalized: input.byte().is_multiple_of(2) };
            }
        }
        if let Some(ack) = pipeline.take_ackable() {
            assert!(Some(ack.sequence) <= written, "nothing is acknowledged before it is written");
            assert!(Some(ack.sequence) > acked, "acks do not go back");
            acked = Some(ack.sequence);
        }
        disk.check(&client, stored_chunk);
    }
}

/// A client and what it has sent.
struct Client {
    chunk: u32,
    sequence: u64,
    sent: Vec<u8>,
}

impl Client {
    /// A packet as it should be, if there is room for it.
    fn send(&mut self, pipeline: &mut Pipeline<Vec<u8>>, input: &mut Input<'_>) {
        let (seed, flags) = (input.byte(), input.byte() % 4);
        let len = usize::from(input.u16()) % (BUFFER_BYTES / 2);
        let data: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let offset = self.sent.len() as u64;
        let checksums = self.checksums(&data);
        let (checksums_len, data_len) = (checksums.len() as u32, len as u32);
        let packet = WritePacketV1 { sequence: self.sequence, offset, checksums_len, data_len, flags };
        if pipeline.check(&packet, checksums_len + data_len).is_err() {
            return;
        }
        let Some((mut buffer, at)) = pipeline.take_room(len) else { return };
        buffer[at..at + len].copy_from_slice(&data);
        pipeline.verify(&packet, &checksums, &data).expect("a true checksum matches");
        pipeline.put_back(buffer, &packet, &checksums);
        self.sent.extend(data);
        self.sequence += 1;
    }

    /// A packet whose fields are the fuzzer's: checked, and never taken when it is not what follows.
    fn lie(&self, pipeline: &Pipeline<Vec<u8>>, input: &mut Input<'_>) {
        let packet = WritePacketV1 {
            sequence: input.u64(),
            offset: input.u64(),
            checksums_len: input.u32(),
            data_len: input.u32(),
            flags: input.byte(),
        };
        let payload_len = input.u32();
        if pipeline.check(&packet, payload_len).is_ok() {
            assert_eq!((packet.sequence, packet.offset), (self.sequence, self.sent.len() as u64));
            assert!(packet.offset + u64::from(packet.data_len) <= LIMIT);
            let (checksums, data) = input.0.split_at(input.0.len().min(packet.checksums_len as usize));
            let data = &data[..data.len().min(packet.data_len as usize)];
            let _mismatch = pipeline.verify(&packet, checksums, data);
        }
    }

    fn checksums(&self, data: &[u8]) -> Vec<u8> {
        let (mut at, mut rest, mut sums) = (self.sent.len() as u64, data, Vec::new());
        while !rest.is_empty() {
            let room = (u64::from(self.chunk) - at % u64::from(self.chunk)) as usize;
            let (piece, later) = rest.split_at(room.min(rest.len()));
            sums.extend(ChecksumType::Crc32c.of(piece).to_be_bytes());
            (at, rest) = (at + piece.len() as u64, later);
        }
        sums
    }
}

impl Disk {
    /// Writes the group that waits, if there is one; returns its last packet.
    fn write(&mut self, pipeline: &mut Pipeline<Vec<u8>>) -> Option<u64> {
        let mut checksums = Vec::new();
        let group = pipeline.take_group(&mut checksums)?;
        assert_eq!(group.base % DIRECT_ALIGN as u64, 0, "direct writes are aligned");
        assert!(group.base <= self.data.len() as u64, "no hole is left");
        let len = (group.until - group.base) as usize;
        self.data.truncate(group.base as usize);
        self.data.extend(&group.buffer[..len]);
        if !checksums.is_empty() {
            self.checksums.truncate(group.first_chunk as usize * CHECKSUM_BYTES);
            self.checksums.extend(checksums);
        }
        assert_eq!(group.tail.length, self.data.len() as u64);
        let sequence = group.arrived.sequence?;
        let is_finalized = group.arrived.is_last;
        pipeline.written(
            group.buffer,
            Written { sequence, tail: group.tail, synced_length: group.tail.length, is_finalized },
        );
        Some(sequence)
    }

    /// The disk holds a prefix of what was sent, and its checksums.
    fn check(&self, client: &Client, chunk: u32) {
        assert!(client.sent.starts_with(&self.data), "what is written is what was sent");
        let expected = self.data.chunks(chunk as usize).map(|piece| ChecksumType::Crc32c.of(piece));
        assert!(
            expected.flat_map(u32::to_be_bytes).eq(self.checksums.iter().copied()),
            "checksums are those of the data"
        );
    }
}

/// Packets of several sizes, written one by one and together, with and without a next node.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (stored, sent, downstream) in [(0, 0, 1), (2, 0, 0), (0, 2, 1), (1, 2, 0)] {
        let mut seed = vec![stored, sent, downstream];
        for (number, len) in [100u16, 512, 1, 4096, 5000, 30_000, 0].into_iter().enumerate() {
            let flags = if number == 6 { 2 } else { number as u8 % 2 };
            seed.extend([0, number as u8, flags]);
            seed.extend(len.to_le_bytes());
            if number % 2 == 1 {
                seed.push(2);
            }
            seed.extend([3, number as u8, 0xff, 0xff, 0, 0, 0]);
        }
        seed.extend([2, 1]);
        seed.extend([0; 29]);
        seeds.push(seed);
    }
    seeds
}
