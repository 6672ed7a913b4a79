//! A datanode's volume: block files and the journal.

use ringfs_datanode::format::block::{HEAD_BYTES, HEADER_BYTES, Header, Layout, SLOT_BYTES, TailSlot};
use ringfs_datanode::format::journal::{self, Event, RECORD_BYTES, Record, Scan};
use ringfs_proto::checksum::{ChecksumType, crc32};
use ringfs_proto::ids::{BlockId, ClusterId, Stamp, StorageId};

use crate::wire::seal;

const STORAGE: StorageId = StorageId([2; 16]);
const BLOCK: BlockId = BlockId(3);
/// Where the two slots are in a block file.
const SLOTS: [usize; 2] = [1024, 2048];

/// A whole journal, as it is and with checksums and sequences that are right.
pub fn journal(data: &[u8]) {
    read_journal(data);
    let mut sealed = data.to_vec();
    if sealed.len() < RECORD_BYTES {
        return;
    }
    sealed[..RECORD_BYTES].copy_from_slice(&journal::encode_header(STORAGE));
    for (record, sequence) in sealed[RECORD_BYTES..].chunks_exact_mut(RECORD_BYTES).zip(1u64..) {
        record[32..40].copy_from_slice(&sequence.to_le_bytes());
        let crc = ChecksumType::Crc32.append(crc32(&STORAGE.0), &record[..44]);
        record[44..].copy_from_slice(&crc.to_le_bytes());
    }
    read_journal(&sealed);
}

fn read_journal(bytes: &[u8]) {
    match journal::scan(bytes, STORAGE) {
        Scan::Good { records, len } => {
            assert_eq!(len, (records.len() + 1) * RECORD_BYTES);
            let mut again = journal::encode_header(STORAGE).to_vec();
            for (record, sequence) in records.iter().zip(1..) {
                again.extend(record.encode(STORAGE, sequence));
            }
            let scanned = journal::scan(&again, STORAGE);
            assert_eq!(scanned, Scan::Good { records, len }, "what was read survives");
        }
        Scan::Damaged { offset } => assert!(offset <= bytes.len(), "damage is inside"),
    }
}

/// The first 4 KiB of a block file, as they are and with checksums that are right.
pub fn block_file(data: &[u8]) {
    read_block_file(data);
    let mut sealed = data.to_vec();
    sealed.resize(HEAD_BYTES, 0);
    // What a fuzzer puts behind the header is the slots': their places are far behind.
    let tails = [0, 1].map(|slot| {
        let begin = HEADER_BYTES + slot * SLOT_BYTES;
        data.get(begin..begin + SLOT_BYTES).unwrap_or_default()
    });
    sealed[..8].copy_from_slice(b"RFSD\x01\0\0\0");
    seal(&mut sealed, 72);
    for (at, tail) in SLOTS.into_iter().zip(tails) {
        let slot = &mut sealed[at..at + SLOT_BYTES];
        slot[..tail.len()].copy_from_slice(tail);
        slot[..4].copy_from_slice(b"RFST");
        let crc = ChecksumType::Crc32.append(crc32(&slot[..SLOT_BYTES - 4]), &BLOCK.0.to_le_bytes());
        let crc = ChecksumType::Crc32.append(crc, &STORAGE.0);
        slot[SLOT_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    }
    read_block_file(&sealed);
}

fn read_block_file(bytes: &[u8]) {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(Header::decode(&header.encode()), Ok(header), "a header survives");
        let layout = header.layout;
        assert!(layout.checksum_offset(layout.limit / u64::from(layout.chunk_bytes)) <= layout.data_offset());
        assert!(
            layout.data_offset().checked_add(layout.limit).is_some(),
            "offsets in a file do not overflow"
        );
    }
    if let Some(slot) = TailSlot::newest(bytes, BLOCK, STORAGE) {
        assert!(slot.synced_length <= slot.length);
        assert_eq!(TailSlot::decode(&slot.encode(BLOCK, STORAGE), BLOCK, STORAGE), Some(slot));
    }
}

/// Journals of different lengths, one with a torn end.
pub fn journal_seeds() -> Vec<Vec<u8>> {
    let events = [Event::BeingWritten, Event::Finalized, Event::Deleted, Event::Corrupt];
    let mut bytes = journal::encode_header(STORAGE).to_vec();
    let mut seeds = vec![bytes.clone()];
    for (sequence, event) in (1u64..).zip(events.into_iter().cycle().take(6)) {
        let record = Record { event, block: BlockId(sequence % 3), stamp: Stamp(1), length: 4096 * sequence };
        bytes.extend(record.encode(STORAGE, sequence));
    }
    seeds.push(bytes.clone());
    bytes.truncate(bytes.len() - 20);
    seeds.push(bytes);
    seeds
}

/// Heads with no, one and two slots.
pub fn block_file_seeds() -> Vec<Vec<u8>> {
    let layout = Layout { checksum: ChecksumType::Crc32c, chunk_bytes: 4096, limit: 128 << 20 };
    let cluster = ClusterId([1; 16]);
    let header = Header { cluster, storage: STORAGE, block: BLOCK, stamp: Stamp(4), layout, is_direct: true };
    let mut head = header.encode().to_vec();
    let short = head.clone();
    head.resize(HEAD_BYTES, 0);
    let slot = |sequence, is_finalized| {
        let (stamp, length, synced_length) = (Stamp(4), 100, 50);
        TailSlot { sequence, stamp, length, synced_length, tail_crc: 7, synced_crc: 8, is_finalized }
    };
    let mut packed = short.clone();
    for slot in [slot(1, false), slot(2, true)] {
        let at = slot.offset() as usize;
        let bytes = slot.encode(BLOCK, STORAGE);
        head[at..at + SLOT_BYTES].copy_from_slice(&bytes);
        packed.extend(bytes);
    }
    vec![short, head, packed]
}
