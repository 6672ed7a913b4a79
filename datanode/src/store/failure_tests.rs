//! Volumes that fail while others serve.

use std::io;

use ringfs_disk::{Disk, SimulatedDisk};
use ringfs_proto::checksum::ChecksumType;

use super::*;

#[derive(Debug)]
struct TestMachine(SimulatedDisk);

impl Machine for TestMachine {
    fn files(&self) -> &dyn Disk {
        &self.0
    }

    fn unix_s(&self) -> i64 {
        0
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        // Each volume another id.
        let files = self.0.files().len() as u8;
        bytes.fill(files + 1);
        Ok(())
    }

    fn process(&self) -> u32 {
        1
    }
}

fn open(disk: &SimulatedDisk) -> Result<Store, StartError> {
    let machine = Arc::new(TestMachine(disk.clone()));
    Store::open(machine, &["/one", "/two"].map(VolumeSettings::new), ClusterId([1; 16]))
}

/// Makes and finalizes an empty replica.
fn put(store: &Store, volume: usize, block: u64) -> Result<Arc<Replica>, WireError> {
    let layout = Layout { checksum: ChecksumType::Crc32c, chunk_bytes: 512, limit: 1 << 20 };
    let storage = store.volumes()[volume].storage;
    let (block, stamp) = (BlockId(block), Stamp(1));
    let new = NewReplica { block, stamp, storage, layout, is_direct: false, expected: 0 };
    let (created, _seat) = store.create(&new)?;
    let slot = TailSlot {
        sequence: 1,
        stamp,
        length: 0,
        synced_length: 0,
        tail_crc: 0,
        synced_crc: 0,
        is_finalized: true,
    };
    store.finalize(&created, &slot)?;
    Ok(created.replica)
}

#[test]
fn a_failed_volume_is_left_and_the_other_goes_on() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk).expect("opened");
    let (lost, kept) = (put(&store, 0, 1).expect("put"), put(&store, 1, 2).expect("put"));
    disk.set_failed(Path::new("/one"), true);
    put(&store, 0, 3).expect_err("the volume has failed");
    assert!(store.needs_care());
    store.take_changes();
    let told = store.retired_volumes();
    store.take_care();
    assert!(!store.needs_care() && store.retired_volumes() == told + 1, "the namenode is to be told");
    assert!(lost.is_gone() && store.find(BlockId(1)).is_none());
    assert!(!kept.is_gone() && store.find(BlockId(2)).is_some());
    let volumes = store.volumes();
    assert!(volumes[0].is_failed && volumes[0].replicas == 0 && !volumes[1].is_failed);
    assert_eq!(put(&store, 0, 4).expect_err("refused").code, Code::VolumeFailed);
    put(&store, 1, 5).expect("the other takes blocks");
    assert_eq!(store.failure(None), None);
    let failure = store.failure(Some(0)).expect("none may fail");
    assert_eq!(failure, "1 of 2 volumes have failed, volumes_failed_max is 0");
    disk.set_failed(Path::new("/two"), true);
    put(&store, 1, 6).expect_err("the volume has failed");
    assert_eq!(store.failure(None).as_deref(), Some("no volume is left"));
}

#[test]
fn a_volume_that_cannot_be_opened_counts_as_failed() {
    let disk = SimulatedDisk::new(2);
    let store = open(&disk).expect("opened");
    put(&store, 1, 2).expect("put");
    drop(store);
    disk.set_failed(Path::new("/one"), true);
    let store = open(&disk).expect("one volume is enough");
    assert!(store.find(BlockId(2)).is_some());
    assert_eq!(store.failure(None), None);
    assert!(store.failure(Some(0)).is_some());
    drop(store);
    disk.set_failed(Path::new("/two"), true);
    assert!(open(&disk).is_err(), "no volume is left");
}

#[test]
fn a_failed_read_costs_the_replica_and_only_a_failed_probe_the_volume() {
    let disk = SimulatedDisk::new(3);
    let store = open(&disk).expect("opened");
    let replica = put(&store, 0, 1).expect("put");
    let error = io::Error::from_raw_os_error(libc::EIO);
    store.read_failed(&replica, &error);
    assert!(replica.is_corrupt() && store.needs_care());
    store.take_care();
    assert!(!store.is_out_of_use(0) && !store.needs_care());
    let other = put(&store, 0, 2).expect("the volume is in use");
    disk.set_failed(Path::new("/one"), true);
    store.read_failed(&other, &error);
    store.take_care();
    assert!(store.is_out_of_use(0) && !store.is_out_of_use(1));
}

#[test]
fn the_scrubber_is_given_what_is_finalized_in_order_and_finds_its_place_again() {
    let disk = SimulatedDisk::new(4);
    let store = open(&disk).expect("opened");
    for block in [70, 3, 9, 200, 1000, 64] {
        put(&store, 0, block).expect("put");
    }
    put(&store, 1, 5).expect("put");
    store.mark_corrupt(&store.find(BlockId(9)).expect("there"));
    assert_eq!(store.finalized_after(0, BlockId(0), 2), [BlockId(3), BlockId(64)]);
    assert_eq!(store.finalized_after(0, BlockId(64), 9), [70, 200, 1000].map(BlockId));
    assert_eq!(store.finalized_after(1, BlockId(0), 9), [BlockId(5)]);
    let cursor = crate::scrub::Cursor { began_s: 7, last: 70, is_done: false, ended_s: 5 };
    assert_eq!(store.scrub_cursor(0), crate::scrub::Cursor::default());
    store.save_scrub_cursor(0, &cursor);
    let volume = |store: &Store| (store.volumes()[0].scrubbed_s, store.volumes()[0].bad_replicas);
    assert_eq!(volume(&store), (5, 1));
    drop(store);
    let store = open(&disk).expect("opened");
    assert_eq!(store.scrub_cursor(0), cursor);
    assert_eq!(volume(&store), (5, 0), "when it was scrubbed outlives the process");
}

#[test]
fn a_short_write_is_a_full_disk_and_no_failed_volume() {
    let disk = SimulatedDisk::new(5);
    let store = open(&disk).expect("opened");
    let replica = put(&store, 0, 1).expect("put");
    // Glommio wraps what the kernel says in a text of its own, and the number is gone.
    let wrapped = io::Error::new(io::Error::from_raw_os_error(libc::ENOSPC).kind(), "write to a path");
    for error in [io::ErrorKind::WriteZero.into(), io::Error::from_raw_os_error(libc::ENOSPC), wrapped] {
        assert_eq!(store.write_failed(&replica, &error).code, Code::NoRoom, "{error}");
    }
    assert!(!store.is_out_of_use(0));
    let error = io::Error::from_raw_os_error(libc::EIO);
    assert_eq!(store.write_failed(&replica, &error).code, Code::Io);
    assert!(store.is_out_of_use(0));
}
