//! Pipelines packet by packet, and cut and resumed anywhere.

use super::*;

const CHUNK: u32 = 512;

fn pipeline(stored_chunk: u32, has_downstream: bool) -> Pipeline<Vec<u8>> {
    let layout = Layout { checksum: ChecksumType::Crc32c, chunk_bytes: stored_chunk, limit: 1 << 20 };
    let buffer = || vec![0u8; 64 << 10];
    Pipeline::new(
        layout,
        (ChecksumType::Crc32c, CHUNK),
        Start::default(),
        [buffer(), buffer()],
        has_downstream,
    )
}

fn checksums_of(offset: u64, data: &[u8]) -> Vec<u8> {
    let (mut at, mut rest, mut sums) = (offset, data, Vec::new());
    while !rest.is_empty() {
        let room = (u64::from(CHUNK) - at % u64::from(CHUNK)) as usize;
        let (piece, later) = rest.split_at(room.min(rest.len()));
        sums.extend(ChecksumType::Crc32c.of(piece).to_be_bytes());
        (at, rest) = (at + piece.len() as u64, later);
    }
    sums
}

fn send(
    pipeline: &mut Pipeline<Vec<u8>>,
    sequence: u64,
    offset: u64,
    data: &[u8],
    flags: u8,
) -> Result<(), WireError> {
    let sums = checksums_of(offset, data);
    let (checksums_len, data_len) = (sums.len() as u32, data.len() as u32);
    let packet = WritePacketV1 { sequence, offset, checksums_len, data_len, flags };
    pipeline.check(&packet, checksums_len + data_len)?;
    let (mut buffer, at) = pipeline.take_room(data.len()).expect("room");
    buffer[at..at + data.len()].copy_from_slice(data);
    pipeline.verify(&packet, &sums, data)?;
    pipeline.put_back(buffer, &packet, &sums);
    Ok(())
}

#[test]
fn checksums_of_whole_chunks_come_out_however_packets_are_cut() {
    let data: Vec<u8> = (0..20_000u32).map(|at| (at * 7 % 251) as u8).collect();
    for (stored_chunk, cut) in [(512, 700), (512, 512), (512, 1), (4096, 3000), (4096, 513)] {
        let mut pipeline = pipeline(stored_chunk, false);
        let (mut file, mut sums, mut group_sums) = (vec![0; 24_576], vec![0; 400], Vec::new());
        for (sequence, begin) in (0..data.len()).step_by(cut).enumerate() {
            let end = (begin + cut).min(data.len());
            send(&mut pipeline, sequence as u64, begin as u64, &data[begin..end], 0).expect("accepted");
            if sequence % 3 != 2 && end != data.len() {
                continue;
            }
            let group = pipeline.take_group(&mut group_sums).expect("a group");
            assert_eq!(group.base % DIRECT_ALIGN as u64, 0);
            let len = (group.until - group.base) as usize;
            file[group.base as usize..group.until as usize].copy_from_slice(&group.buffer[..len]);
            let at = group.first_chunk as usize * 4;
            sums[at..at + group_sums.len()].copy_from_slice(&group_sums);
            let sequence = group.arrived.sequence.expect("a packet");
            let written = Written { sequence, tail: group.tail, synced_length: 0, is_finalized: false };
            pipeline.written(group.buffer, written);
            assert_eq!(pipeline.take_ackable(), Some(written));
        }
        assert_eq!(&file[..data.len()], &data[..]);
        let expected: Vec<u8> = data
            .chunks(stored_chunk as usize)
            .flat_map(|chunk| ChecksumType::Crc32c.of(chunk).to_be_bytes())
            .collect();
        assert_eq!(&sums[..expected.len()], &expected[..], "chunk {stored_chunk}, cut {cut}");
    }
}

#[test]
fn packets_out_of_order_too_large_or_with_wrong_checksums_are_refused() {
    let mut pipeline = pipeline(CHUNK, false);
    let code = |result: Result<(), WireError>| result.expect_err("refused").code;
    assert_eq!(code(send(&mut pipeline, 1, 0, &[1; 10], 0)), Code::Malformed);
    assert_eq!(code(send(&mut pipeline, 0, 5, &[1; 10], 0)), Code::Malformed);
    assert_eq!(code(send(&mut pipeline, 0, 0, &[1; 10], 8)), Code::Malformed);
    let packet = WritePacketV1 { sequence: 0, offset: 0, checksums_len: 4, data_len: 3, flags: 0 };
    assert_eq!(code(pipeline.check(&packet, 8)), Code::Malformed);
    assert_eq!(code(pipeline.verify(&packet, &[1, 2, 3, 4], b"abc")), Code::ChecksumMismatch);
    pipeline.limit = 100;
    assert_eq!(code(send(&mut pipeline, 0, 0, &[1; 101], 0)), Code::LimitExceeded);
}

#[test]
fn an_ack_waits_for_every_node_behind() {
    let mut pipeline = pipeline(CHUNK, true);
    let mut sums = Vec::new();
    for sequence in 0..3u64 {
        send(&mut pipeline, sequence, sequence * 10, &[1; 10], 0).expect("accepted");
        let group = pipeline.take_group(&mut sums).expect("a group");
        let tail = Tail { length: group.until, crc: 0 };
        pipeline.written(group.buffer, Written { sequence, tail, synced_length: 30, is_finalized: false });
    }
    assert_eq!(pipeline.take_ackable(), None);
    pipeline.downstream = Downstream { sequence: Some(1), synced_length: 5, is_finalized: false };
    let acked = pipeline.take_ackable().expect("two packets");
    assert_eq!((acked.sequence, acked.tail.length, acked.synced_length), (1, 20, 5));
    assert_eq!(pipeline.take_ackable(), None);
}

/// A file that a pipeline writes: data, stored checksums, and the end that its slot says.
struct TestFile {
    layout: Layout,
    data: Vec<u8>,
    sums: Vec<u8>,
    slot: Tail,
}

impl TestFile {
    fn new(stored_chunk: u32) -> Self {
        let layout = Layout { checksum: ChecksumType::Crc32c, chunk_bytes: stored_chunk, limit: 1 << 20 };
        Self { layout, data: vec![0xaa; 96 << 10], sums: vec![0xbb; 4 * 192], slot: Tail::default() }
    }

    /// A pipeline that goes on at `length`.
    fn resume(&self, length: u64) -> Pipeline<Vec<u8>> {
        let chunk = length / u64::from(self.layout.chunk_bytes) * u64::from(self.layout.chunk_bytes);
        let partial = &self.data[chunk as usize..length as usize];
        let crc = if partial.is_empty() { 0 } else { ChecksumType::Crc32c.of(partial) };
        let start = Start { tail: Tail { length, crc }, existing: self.slot };
        let mut buffers = [vec![0; 64 << 10], vec![0; 64 << 10]];
        let page = &self.data[start.page_begin() as usize..length as usize];
        buffers[0][..page.len()].copy_from_slice(page);
        Pipeline::new(self.layout, (ChecksumType::Crc32c, CHUNK), start, buffers, false)
    }

    /// Writes what has arrived, as a direct write does: whole pages.
    fn write_group(&mut self, pipeline: &mut Pipeline<Vec<u8>>) -> u64 {
        let mut sums = Vec::new();
        let mut group = pipeline.take_group(&mut sums).expect("a group");
        let len = (group.until - group.base) as usize;
        let padded = len.next_multiple_of(DIRECT_ALIGN);
        group.buffer[len..padded].fill(0);
        let base = group.base as usize;
        self.data[base..base + padded].copy_from_slice(&group.buffer[..padded]);
        let at = group.first_chunk as usize * CHECKSUM_BYTES;
        self.sums[at..at + sums.len()].copy_from_slice(&sums);
        self.slot = group.recorded;
        let sequence = group.arrived.sequence.expect("a packet");
        let written = Written { sequence, tail: group.tail, synced_length: 0, is_finalized: false };
        pipeline.written(group.buffer, written);
        group.tail.length
    }

    /// Compares everything below the slot's length with `data`, as a start would.
    fn check(&self, data: &[u8]) {
        let length = self.slot.length as usize;
        assert_eq!(&self.data[..length], &data[..length]);
        let chunk = self.layout.chunk_bytes as usize;
        for (index, piece) in data[..length].chunks(chunk).enumerate() {
            let crc = ChecksumType::Crc32c.of(piece);
            if piece.len() == chunk {
                let at = index * CHECKSUM_BYTES;
                assert_eq!(self.sums[at..at + CHECKSUM_BYTES], crc.to_be_bytes(), "chunk {index}");
            } else {
                assert_eq!(self.slot.crc, crc);
            }
        }
    }
}

proptest::proptest! {
    /// Cut anywhere and resumed anywhere at or behind what was acknowledged, with packets and groups of any size: after
    /// each group everything that was there before is there, and verifies; in the end all is as in one go.
    #[test]
    fn a_pipeline_that_is_cut_and_resumed_writes_what_one_go_writes(
        stored_chunk in proptest::sample::select(vec![512u32, 1024, 4096, 16_384]),
        lives in proptest::collection::vec((0u64..=100, proptest::collection::vec((1usize..9000, 0u8..3), 1..8)), 1..6),
    ) {
        let data: Vec<u8> = (0..90_000u32).map(|at| (at * 7 % 251) as u8).collect();
        let mut file = TestFile::new(stored_chunk);
        let mut acked = 0;
        for (percent, packets) in lives {
            // The writer knows of any length between what it was told and what is here.
            let begin = acked + (file.slot.length - acked) * percent / 100;
            let mut pipeline = file.resume(begin);
            let (mut offset, mut sequence, mut is_waiting) = (begin as usize, 0, false);
            for (len, turn) in packets {
                let until = (offset + len).min(data.len());
                if until - pipeline.base as usize > 60 << 10 {
                    break;
                }
                send(&mut pipeline, sequence, offset as u64, &data[offset..until], 0).expect("accepted");
                (offset, sequence, is_waiting) = (until, sequence + 1, true);
                if turn > 0 {
                    let before = file.slot.length;
                    let written = file.write_group(&mut pipeline);
                    proptest::prop_assert!(file.slot.length >= before.max(written));
                    file.check(&data);
                    is_waiting = false;
                    if turn > 1 {
                        acked = acked.max(written);
                    }
                }
            }
            // What waits is lost with the pipeline, or was just written.
            if is_waiting && percent % 2 == 0 {
                file.write_group(&mut pipeline);
                file.check(&data);
            }
        }
    }
}
