//! The store on real directories: restarts after crashes, damage, full disks, tails that grow under readers.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use ringfs_disk::SystemDisk;
use ringfs_proto::buffer::AlignedBuffer;
use ringfs_proto::checksum::{ChecksumType, compute_chunks};
use tempfile::TempDir;

use super::replica::Tail;
use super::*;
use crate::format::block::HEAD_BYTES;
use crate::machine::SystemMachine;

const CLUSTER: ClusterId = ClusterId([1; 16]);
const CHUNK: u32 = 512;

struct Fixture {
    temp: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { temp: TempDir::new().expect("temporary directory") }
    }

    fn path(&self) -> PathBuf {
        self.temp.path().join("volume")
    }

    fn open(&self) -> Store {
        Store::open(Arc::new(SystemMachine), &[VolumeSettings::new(self.path())], CLUSTER).expect("opened")
    }
}

fn layout() -> Layout {
    Layout { checksum: ChecksumType::Crc32c, chunk_bytes: CHUNK, limit: 1 << 20 }
}

fn new_replica(store: &Store, block: u64) -> NewReplica {
    let storage = store.volumes()[0].storage;
    NewReplica {
        block: BlockId(block),
        stamp: Stamp(1),
        storage,
        layout: layout(),
        is_direct: false,
        expected: 1 << 20,
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 253) as u8).collect()
}

/// Checksum of the partial chunk before `length`.
fn crc_before(length: u64, data: &[u8]) -> u32 {
    let rest = (length % u64::from(CHUNK)) as usize;
    if rest == 0 { 0 } else { ChecksumType::Crc32c.of(&data[length as usize - rest..length as usize]) }
}

fn slot(sequence: u64, length: u64, synced_length: u64, data: &[u8], is_finalized: bool) -> TailSlot {
    let tail_crc = crc_before(length, data);
    let synced_crc = crc_before(synced_length, data);
    TailSlot { sequence, stamp: Stamp(1), length, synced_length, tail_crc, synced_crc, is_finalized }
}

/// Writes data, checksums and slot, as a pipeline does.
fn write(store: &Store, created: &Created, sequence: u64, data: &[u8], synced_length: u64) {
    let file = OpenOptions::new().write(true).open(&created.path).expect("opened");
    let mut sums = vec![0; data.len().div_ceil(CHUNK as usize) * 4];
    compute_chunks(ChecksumType::Crc32c, data, CHUNK, &mut sums);
    file.write_all_at(data, layout().data_offset()).expect("written");
    file.write_all_at(&sums, layout().checksum_offset(0)).expect("written");
    let slot = slot(sequence, data.len() as u64, synced_length, data, false);
    let bytes = slot.encode(created.replica.block, store.volumes()[0].storage);
    file.write_all_at(&bytes, slot.offset()).expect("written");
    store.grow(&created.replica, Tail { length: slot.length, crc: slot.tail_crc });
}

fn finalized(store: &Store, block: u64, len: usize) -> Created {
    let created = store.create(&new_replica(store, block)).expect("created").0;
    let data = content(len);
    write(store, &created, 1, &data, 0);
    store.finalize(&created, &slot(2, len as u64, len as u64, &data, true)).expect("finalized");
    created
}

fn code<T: std::fmt::Debug>(result: Result<T, WireError>) -> Code {
    result.expect_err("refused").code
}

#[test]
fn replicas_are_found_again_in_their_states() {
    let fixture = Fixture::new();
    let store = fixture.open();
    finalized(&store, 1, 1000);
    let open = store.create(&new_replica(&store, 2)).expect("created").0;
    write(&store, &open, 1, &content(700), 0);
    finalized(&store, 3, 10);
    store.delete(BlockId(3), Stamp(1)).expect("deleted");
    assert_eq!(code(store.create(&new_replica(&store, 1))), Code::ReplicaExists);
    drop((store, open));
    let store = fixture.open();
    let found = |block| store.find(BlockId(block)).map(|replica| (replica.state(), replica.tail().length));
    assert_eq!(found(1), Some((ReplicaState::Finalized, 1000)));
    assert_eq!(found(2), Some((ReplicaState::WaitingForRecovery, 700)));
    assert_eq!(found(3), None);
    let volume = &store.volumes()[0];
    assert_eq!((volume.replicas, volume.used_bytes), (2, 1700));
    store.delete(BlockId(1), Stamp(0)).expect("nothing to do");
    assert!(store.find(BlockId(1)).is_some(), "a newer replica is not deleted by an older command");
}

#[test]
fn an_open_replica_is_cut_to_what_verifies() {
    for (damage_at, synced_length, expected, is_corrupt) in [
        (1600, 0, 1536, false),
        (1600, 1536, 1536, false),
        (1600, 1700, 1536, true),
        (100, 0, 0, false),
        (100, 512, 0, true),
    ] {
        let fixture = Fixture::new();
        let store = fixture.open();
        let open = store.create(&new_replica(&store, 1)).expect("created").0;
        write(&store, &open, 1, &content(1700), synced_length);
        let file = OpenOptions::new().write(true).open(&open.path).expect("opened");
        file.write_all_at(&[0xff], layout().data_offset() + damage_at).expect("damaged");
        drop((store, open, file));
        let replica = fixture.open().find(BlockId(1)).expect("found");
        assert_eq!(
            (replica.tail().length, replica.is_corrupt()),
            (expected, is_corrupt),
            "damage at {damage_at}, synced {synced_length}"
        );
    }
}

#[test]
fn a_torn_slot_leaves_the_one_before() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let open = store.create(&new_replica(&store, 1)).expect("created").0;
    write(&store, &open, 1, &content(600), 0);
    write(&store, &open, 2, &content(900), 0);
    let file = OpenOptions::new().write(true).open(&open.path).expect("opened");
    let newest = slot(2, 900, 0, &content(900), false);
    file.write_all_at(&[0xff; 8], newest.offset() + 20).expect("torn");
    drop((store, open));
    assert_eq!(fixture.open().find(BlockId(1)).expect("found").tail().length, 600);
}

#[test]
fn a_file_cut_short_or_gone_is_no_panic() {
    for keep in [None, Some(0), Some(100), Some(HEAD_BYTES as u64), Some(layout().data_offset() + 600)] {
        let fixture = Fixture::new();
        let store = fixture.open();
        let open = store.create(&new_replica(&store, 1)).expect("created").0;
        write(&store, &open, 1, &content(1700), 0);
        match keep {
            None => fs::remove_file(&open.path).expect("removed"),
            Some(keep) => {
                OpenOptions::new().write(true).open(&open.path).expect("opened").set_len(keep).expect("cut");
            }
        }
        drop((store, open));
        let length = fixture.open().find(BlockId(1)).map(|replica| replica.tail().length);
        let expected = match keep {
            None | Some(0 | 100) => None,
            Some(keep) if keep < layout().data_offset() => Some(0),
            Some(_) => Some(512),
        };
        assert_eq!(length, expected, "kept {keep:?}");
    }
}

#[test]
fn a_damaged_or_missing_journal_is_rebuilt_from_the_block_files() {
    for damage in 0..3 {
        let fixture = Fixture::new();
        let store = fixture.open();
        for block in 1..=20 {
            finalized(&store, block, 100 * block as usize);
        }
        let open = store.create(&new_replica(&store, 21)).expect("created").0;
        write(&store, &open, 1, &content(333), 0);
        drop((store, open));
        let journal = fixture.path().join("journal");
        let mut bytes = fs::read(&journal).expect("read");
        match damage {
            0 => fs::remove_file(&journal).expect("removed"),
            1 => {
                bytes[300] ^= 1;
                fs::write(&journal, &bytes).expect("damaged");
            }
            _ => fs::write(&journal, b"").expect("emptied"),
        }
        let store = fixture.open();
        for block in 1..=20 {
            let replica = store.find(BlockId(block)).expect("found again");
            assert_eq!((replica.state(), replica.tail().length), (ReplicaState::Finalized, 100 * block));
        }
        let open = store.find(BlockId(21)).expect("found again");
        assert_eq!((open.state(), open.tail().length), (ReplicaState::WaitingForRecovery, 333));
    }
}

#[test]
fn many_replicas_are_loaded_from_the_journal_alone() {
    let fixture = Fixture::new();
    let storage = fixture.open().volumes()[0].storage;
    let record =
        |block| Record { event: Event::Finalized, block: BlockId(block), stamp: Stamp(1), length: 1 };
    let records: Vec<Record> = (1..=200_000).map(record).collect();
    Journal::rewrite(&SystemDisk, &fixture.path(), storage, records.into_iter(), 0).expect("written");
    let store = fixture.open();
    let (replicas, corrupt) = store.snapshot(storage);
    assert_eq!((replicas.len(), corrupt.len()), (200_000, 0));
    assert!(replicas.windows(2).all(|pair| pair[0].block.block < pair[1].block.block), "sorted");
}

#[test]
fn below_the_reserve_nothing_is_created() {
    let fixture = Fixture::new();
    let settings = VolumeSettings { reserved_bytes: u64::MAX / 2, ..VolumeSettings::new(fixture.path()) };
    let store = Store::open(Arc::new(SystemMachine), &[settings], CLUSTER).expect("opened");
    assert_eq!(code(store.create(&new_replica(&store, 1))), Code::NoRoom);
    assert!(store.find(BlockId(1)).is_none());
    assert_eq!(store.volumes()[0].remaining_bytes, 0);
    let stranger = NewReplica { storage: StorageId([9; 16]), ..new_replica(&store, 1) };
    assert_eq!(code(store.create(&stranger)), Code::InvalidArgument);
}

#[test]
fn a_corrupt_replica_stays_corrupt_and_is_reported() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let created = finalized(&store, 1, 100);
    store.mark_corrupt(&created.replica);
    let storage = store.volumes()[0].storage;
    drop((store, created));
    let store = fixture.open();
    assert!(store.find(BlockId(1)).expect("found").is_corrupt());
    let (replicas, corrupt) = store.snapshot(storage);
    assert!(replicas.is_empty() && matches!(corrupt[..], [ReplicaChangeV1::Corrupt(_)]));
}

#[test]
fn readers_of_a_deleted_replica_go_on() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let created = finalized(&store, 1, 1000);
    let reader = File::open(&created.path).expect("opened");
    store.delete(BlockId(1), Stamp(1)).expect("deleted");
    assert!(created.replica.is_gone() && !created.path.exists());
    let mut bytes = vec![0; 1000];
    reader.read_exact_at(&mut bytes, layout().data_offset()).expect("read");
    assert_eq!(bytes, content(1000));
}

/// Append rewrites the last page of a finalized length directly, with the same bytes at its beginning, while others
/// read that length through the page cache. They must see the right bytes, and no write may fail for it.
#[test]
fn tails_rewritten_directly_under_cached_readers_are_right() {
    const LENGTH: usize = 10_000;
    let fixture = Fixture::new();
    let store = fixture.open();
    let created = finalized(&store, 1, LENGTH);
    let data_offset = layout().data_offset();
    let direct =
        OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&created.path).expect("direct I/O");
    direct.set_len(data_offset + (64 << 10)).expect("room");
    let reader = File::open(&created.path).expect("opened");
    let expected = content(LENGTH);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            read_until(&stop, || {
                let mut bytes = vec![0; LENGTH];
                reader.read_exact_at(&mut bytes, data_offset).expect("pread");
                assert_eq!(bytes, expected);
            });
        });
        scope.spawn(|| read_until(&stop, || assert_eq!(mapped(&reader, data_offset, LENGTH), expected)));
        scope.spawn(|| read_until(&stop, || assert_eq!(sent(&reader, data_offset, LENGTH), expected)));
        let base = LENGTH / 4096 * 4096;
        for grown in 0..500usize {
            let mut page = AlignedBuffer::new(4096);
            page.set_len(4096);
            page.as_mut()[..LENGTH - base].copy_from_slice(&expected[base..]);
            page.as_mut()[LENGTH - base..].fill(grown as u8);
            direct.write_all_at(page.as_ref(), data_offset + base as u64).expect("no EIO");
        }
        direct.sync_data().expect("no EIO");
        stop.store(true, Ordering::Relaxed);
    });
    File::open(&created.path).expect("opened").sync_data().expect("no EIO left behind");
}

fn read_until(stop: &AtomicBool, mut read: impl FnMut()) {
    while !stop.load(Ordering::Relaxed) {
        read();
    }
}

fn mapped(file: &File, offset: u64, len: usize) -> Vec<u8> {
    use std::num::NonZeroUsize;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
    let length = NonZeroUsize::new(len).expect("not empty");
    // SAFETY: the mapping is private to this function, within the file, read only, and unmapped before it returns.
    let memory =
        unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, offset.cast_signed()) };
    let memory = memory.expect("mapped");
    // SAFETY: `len` bytes are mapped and readable until the call below.
    let bytes = unsafe { std::slice::from_raw_parts(memory.as_ptr().cast::<u8>(), len) }.to_vec();
    // SAFETY: just this mapping, and nothing refers to it any more.
    unsafe { munmap(memory, len) }.expect("unmapped");
    bytes
}

fn sent(file: &File, offset: u64, len: usize) -> Vec<u8> {
    use std::io::Read;
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let mut at = offset.cast_signed();
    // SAFETY: the kernel only reads and advances `at`; both descriptors are open.
    let sent = unsafe { libc::sendfile(writer.as_raw_fd(), file.as_raw_fd(), &raw mut at, len) };
    assert_eq!(usize::try_from(sent).ok(), Some(len), "a socket buffer takes so little at once");
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).expect("received");
    bytes
}

#[test]
fn a_writer_that_gives_up_and_a_replica_that_is_deleted_give_their_room_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let promised = || store.disks[0].volume.room.promised_bytes();
    let whole = layout().data_offset() + (1 << 20);
    let (aborted, seat) = store.create(&new_replica(&store, 1)).expect("created");
    let (kept, _kept_seat) = store.create(&new_replica(&store, 2)).expect("created");
    let taken = layout().checksum_offset(0);
    assert_eq!(promised(), 2 * (whole - taken), "through the page cache, a file has what is written");
    store.has_taken(&aborted, 512 << 10);
    assert!(promised() < 2 * whole - (512 << 10));
    drop((aborted, seat));
    assert_eq!(promised(), whole - taken);
    assert!(!store.needs_room(&kept, 1 << 20));
    assert!(store.needs_room(&kept, (1 << 20) + 1), "its writer has announced fewer");
    store.promise_more(&kept, (1 << 20) + 1).expect("there is room");
    assert!(!store.needs_room(&kept, (1 << 20) + 1));
    let data = content(1000);
    write(&store, &kept, 1, &data, 0);
    store.finalize(&kept, &slot(2, 1000, 1000, &data, true)).expect("finalized");
    assert_eq!(promised(), 0, "before its writer has gone");
    let direct = NewReplica { is_direct: true, ..new_replica(&store, 3) };
    let (direct, seat) = store.create(&direct).expect("created");
    assert_eq!(promised(), 0, "all of it is allocated");
    store.delete(BlockId(3), Stamp(1)).expect("deleted");
    drop((direct, seat));
    assert_eq!((promised(), store.volumes()[0].replicas), (0, 2));
}
