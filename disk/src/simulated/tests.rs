use super::*;

const A: &str = "/d/a";

fn disk_with(bytes: &[u8]) -> (SimulatedDisk, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::new(1);
    disk.create_directories(Path::new("/d")).expect("made");
    let file = disk.open(Path::new(A), OpenOptions::READ_WRITE.create(Create::New)).expect("made");
    file.write_all_at(bytes, 0).expect("written");
    (disk, file)
}

fn synced(bytes: &[u8], seed: u64) -> SimulatedDisk {
    let (disk, file) = disk_with(bytes);
    disk.inner().random = Random::new(seed);
    file.sync_all().expect("synced");
    disk.sync_directory(Path::new("/d")).expect("synced");
    disk.sync_directory(Path::new("/")).expect("synced");
    disk
}

#[test]
fn a_killed_process_leaves_what_it_wrote() {
    let (disk, file) = disk_with(b"bytes");
    disk.kill();
    assert_eq!(disk.read(Path::new(A)).expect("there"), b"bytes");
    assert!(file.write_all_at(b"more", 5).is_err(), "the handle is of the killed process");
}

#[test]
fn a_power_cut_leaves_what_was_synced() {
    for seed in 0..50 {
        let disk = synced(&[7; 10_000], seed);
        let file = disk.open(Path::new(A), OpenOptions::WRITE).expect("open");
        file.write_all_at(&[8; 5000], 3000).expect("written");
        disk.cut_power();
        let bytes = disk.read(Path::new(A)).expect("there");
        assert_eq!(bytes.len(), 10_000);
        assert!(bytes[..3000].iter().chain(&bytes[8000..]).all(|byte| *byte == 7));
        assert!(bytes[3000..8000].iter().all(|byte| [7, 8].contains(byte)));
    }
}

#[test]
fn unsynced_writes_are_kept_lost_or_torn_at_sectors() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let disk = synced(&[7; 4096], seed);
        disk.open(Path::new(A), OpenOptions::WRITE)
            .expect("open")
            .write_all_at(&[8; 4096], 0)
            .expect("written");
        disk.cut_power();
        let bytes = disk.read(Path::new(A)).expect("there");
        assert!(bytes.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        match bytes.iter().filter(|byte| **byte == 8).count() {
            0 => lost += 1,
            4096 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(kept > 20 && lost > 20 && torn > 20, "{kept} kept, {lost} lost, {torn} torn");
}

#[test]
fn names_are_durable_when_their_directory_is_synced() {
    let (mut there, mut gone) = (0, 0);
    for seed in 0..100 {
        let disk = synced(b"old", seed);
        disk.open(Path::new("/d/b"), OpenOptions::WRITE.create(Create::New)).expect("made");
        disk.rename(Path::new("/d/b"), Path::new("/d/c")).expect("renamed");
        disk.cut_power();
        assert!(disk.exists(Path::new(A)));
        let names = disk.list(Path::new("/d")).expect("listed");
        match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["a"] => gone += 1,
            ["a", "b"] => {}
            ["a", "c"] => there += 1,
            _ => panic!("{names:?}"),
        }
    }
    assert!(there > 10 && gone > 10, "{there} there, {gone} gone");
}

#[test]
fn a_file_is_lost_with_the_name_of_a_directory_above_it() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed);
        disk.create_directories(Path::new("/x/y")).expect("made");
        let file = disk.open(Path::new("/x/y/f"), OpenOptions::WRITE.create(Create::New)).expect("made");
        file.sync_all().expect("synced");
        disk.sync_directory(Path::new("/x/y")).expect("synced");
        disk.sync_directory(Path::new("/x")).expect("synced");
        disk.cut_power();
        lost += u32::from(!disk.exists(Path::new("/x/y/f")));
        assert_eq!(disk.exists(Path::new("/x")), disk.exists(Path::new("/x/y/f")));
    }
    assert!(lost > 10, "{lost} lost");
}

#[test]
fn a_cut_that_was_not_synced_may_be_undone_and_what_is_behind_the_end_is_zero() {
    for seed in 0..50 {
        let disk = synced(&[7; 6000], seed);
        let file = disk.open(Path::new(A), OpenOptions::WRITE).expect("open");
        file.set_len(1000).expect("cut");
        disk.cut_power();
        let len = disk.read(Path::new(A)).expect("there").len();
        assert!([1000, 6000].contains(&len));
        let file = disk.open(Path::new(A), OpenOptions::READ_WRITE).expect("open");
        file.set_len(500).expect("cut");
        file.set_len(9000).expect("extended");
        let bytes = disk.read(Path::new(A)).expect("there");
        assert!(bytes[500..].iter().all(|byte| *byte == 0) && bytes.len() == 9000);
    }
}

#[test]
fn a_synced_write_is_durable_when_it_returns() {
    for seed in 0..50 {
        let disk = synced(&[0; 8192], seed);
        let options = OpenOptions::WRITE.direct().synced();
        let file = disk.open(Path::new(A), options).expect("open");
        file.write_all_at(&[9; 4096], 4096).expect("written");
        assert!(file.write_all_at(&[9; 100], 0).is_err(), "not aligned");
        disk.cut_power();
        assert_eq!(disk.read(Path::new(A)).expect("there")[4096..], [9; 4096]);
    }
}

#[test]
fn the_last_operation_of_a_process_is_made_in_part() {
    let mut lengths = BTreeSet::new();
    for seed in 0..50 {
        let disk = synced(b"", seed);
        let file = disk.open(Path::new(A), OpenOptions::WRITE).expect("open");
        disk.stop_after(1);
        file.write_all_at(&[1; 512], 0).expect("the operation before the last");
        assert!(file.write_all_at(&[2; 2048], 512).is_err() && disk.is_stopped());
        assert!(file.sync_all().is_err() && disk.read(Path::new(A)).is_err(), "the process has ended");
        disk.kill();
        lengths.insert(disk.read(Path::new(A)).expect("there").len());
    }
    assert_eq!(lengths, BTreeSet::from([512, 1024, 1536, 2048, 2560]));
}

#[test]
fn failures_full_disks_and_flipped_bits_are_seen() {
    let (disk, file) = disk_with(&[1; 4096]);
    disk.fail(Kind::Sync, 1);
    assert!(file.sync_data().is_err() && file.sync_data().is_ok());
    disk.set_failed(Path::new("/d"), true);
    let mut byte = [0];
    assert!(file.read_at(&mut byte, 0).is_err() && disk.list(Path::new("/d")).is_err());
    disk.set_failed(Path::new("/d"), false);
    assert!(disk.flip_bit(Path::new(A), 100, 2) && !disk.flip_bit(Path::new(A), 5000, 0));
    file.read_at(&mut byte, 100).expect("read");
    assert_eq!(byte, [5]);
    disk.set_capacity(8192);
    assert!(file.write_all_at(&[2; 4096], 4096).is_ok());
    let full = file.write_all_at(&[3; 1], 8192).expect_err("no room");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_lock_ends_with_its_process() {
    let disk = SimulatedDisk::new(1);
    let path = Path::new("/lock");
    let held = disk.lock(path).expect("free");
    assert_eq!(disk.lock(path).expect_err("held").kind(), io::ErrorKind::WouldBlock);
    disk.kill();
    let next = disk.lock(path).expect("the process that held it has ended");
    drop(held);
    assert!(disk.lock(path).is_err(), "the lock of the new process is its own");
    drop(next);
    assert!(disk.lock(path).is_ok());
}

#[test]
fn a_sync_that_is_forgotten_says_that_it_was_made() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = synced(&[1; 512], seed);
        disk.forget_syncs_of(Some("/a"));
        let file = disk.open(Path::new(A), OpenOptions::WRITE).expect("open");
        file.write_all_at(&[2; 512], 0).expect("written");
        file.sync_all().expect("it says so");
        disk.cut_power();
        lost += u32::from(disk.read(Path::new(A)).expect("there")[0] == 1);
    }
    assert!(lost > 5, "{lost} lost");
}
