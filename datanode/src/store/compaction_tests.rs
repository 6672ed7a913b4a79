//! Journals that are compacted while replicas come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use proptest::collection::vec;
use proptest::prelude::*;
use ringfs_disk::SimulatedDisk;
use ringfs_disk::simulated::Kind;
use ringfs_proto::checksum::ChecksumType;

use super::compaction::{Compaction, CompactionError, TURN_RECORDS_MAX, Turn};
use super::journal::Loaded;
use super::*;

const STORAGE: StorageId = StorageId([4; 16]);
const DIRECTORY: &str = "/volume";

#[derive(Debug)]
struct TestMachine(SimulatedDisk);

impl Machine for TestMachine {
    fn files(&self) -> &dyn ringfs_disk::Disk {
        &self.0
    }

    fn unix_s(&self) -> i64 {
        0
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(3);
        Ok(())
    }

    fn process(&self) -> u32 {
        1
    }
}

/// A directory for a journal on a disk of its own.
fn directory() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    ringfs_disk::Disk::create_directories(&disk, Path::new(DIRECTORY)).expect("made");
    disk
}

fn journal(disk: &SimulatedDisk, compact_records: u64) -> Journal {
    Journal::rewrite(disk, Path::new(DIRECTORY), STORAGE, [].into_iter(), compact_records).expect("made")
}

fn records(disk: &SimulatedDisk) -> Vec<Record> {
    records_in(disk, Path::new(DIRECTORY))
}

fn records_in(files: &dyn ringfs_disk::Disk, directory: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    match journal::load(files, directory, STORAGE, |record| records.push(record)).expect("read") {
        Loaded::Records(count) => assert_eq!(count, records.len() as u64),
        Loaded::Unusable(offset) => panic!("unusable at {offset:?}"),
    }
    records
}

/// What a start makes of records: the replicas, and the blocks whose files it looks for.
fn replay(records: &[Record]) -> (Vec<Record>, BTreeSet<BlockId>) {
    let mut replay = recovery::Replay::default();
    records.iter().for_each(|record| replay.take(*record));
    let deleted = replay.deleted.iter().copied().filter(|block| !replay.live.contains_key(block)).collect();
    (replay.live.into_values().collect(), deleted)
}

fn run(disk: &SimulatedDisk, journal: &Journal, mut compaction: Compaction) -> Result<Turn, CompactionError> {
    loop {
        match journal.compact(disk, &mut compaction)? {
            Turn::More => {}
            done @ Turn::Done { .. } => return Ok(done),
        }
    }
}

fn record() -> impl Strategy<Value = Record> {
    let event = prop_oneof![
        3 => Just(Event::BeingWritten),
        3 => Just(Event::Finalized),
        2 => Just(Event::Deleted),
        1 => Just(Event::Corrupt),
    ];
    (event, 0..40_u64, 1..5_u64, 0..1000_u64).prop_map(|(event, block, stamp, length)| Record {
        event,
        block: BlockId(block),
        stamp: Stamp(stamp),
        length,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_start_makes_the_same_of_a_compacted_journal(
        before in vec(record(), 1..400),
        during in vec(vec(record(), 0..30), 0..6),
    ) {
        let disk = directory();
        let journal = journal(&disk, 1);
        let mut all = before;
        all.iter().for_each(|record| { journal.append(record).expect("appended"); });
        let mut compaction = journal.begin_compaction(&disk).expect("begun").expect("it is long");
        let mut during = during.into_iter();
        loop {
            for record in during.next().into_iter().flatten() {
                journal.append(&record).expect("appended");
                all.push(record);
            }
            if journal.compact(&disk, &mut compaction).expect("a turn") != Turn::More {
                break;
            }
        }
        let compacted = records(&disk);
        prop_assert_eq!(replay(&compacted), replay(&all));
        // It goes on in the new file.
        for record in during.flatten() {
            let number = journal.append(&record).expect("appended");
            journal.sync(number).expect("synced");
            all.push(record);
        }
        disk.cut_power();
        prop_assert_eq!(replay(&records(&disk)), replay(&all));
    }
}

fn finalized(block: u64, length: u64) -> Record {
    Record { event: Event::Finalized, block: BlockId(block), stamp: Stamp(1), length }
}

fn append(journal: &Journal, block: u64, length: u64) {
    journal.append(&finalized(block, length)).expect("appended");
}

#[test]
fn a_turn_is_bounded_and_nothing_but_the_last_of_each_block_is_left() {
    let disk = directory();
    let journal = journal(&disk, 1);
    let blocks = 3 * TURN_RECORDS_MAX / 2;
    for length in 0..4 {
        (0..blocks).for_each(|block| append(&journal, block, length));
    }
    let mut compaction = journal.begin_compaction(&disk).expect("begun").expect("it is long");
    let total = 4 * blocks;
    let mut turns = 1;
    let done = loop {
        match journal.compact(&disk, &mut compaction).expect("a turn") {
            Turn::More => turns += 1,
            done @ Turn::Done { .. } => break done,
        }
    };
    assert_eq!(done, Turn::Done { before: total, after: blocks });
    assert!(turns >= 2 * total / TURN_RECORDS_MAX, "{turns} turns");
    assert_eq!(records(&disk), (0..blocks).map(|block| finalized(block, 3)).collect::<Vec<_>>());
    assert!(!disk.files().contains(&journal::new_path_in(Path::new(DIRECTORY))));
    assert!(journal.was_compacted());
}

#[test]
fn the_next_compaction_waits_until_as_much_has_come_again() {
    let disk = directory();
    let journal = journal(&disk, 10);
    let mut long = Vec::new();
    for number in 1..=200 {
        journal.append(&finalized(number, 0)).expect("appended");
        if let Some(compaction) = journal.begin_compaction(&disk).expect("begun") {
            run(&disk, &journal, compaction).expect("compacted");
            long.push(number);
        }
    }
    assert_eq!(long, [10, 20, 40, 80, 160]);
    let never = Journal::rewrite(&disk, Path::new(DIRECTORY), STORAGE, [].into_iter(), 0).expect("made");
    (0..1000).for_each(|block| append(&never, block, 0));
    assert!(never.begin_compaction(&disk).expect("begun").is_none());
}

#[test]
fn a_full_disk_only_puts_it_off() {
    let disk = directory();
    let journal = journal(&disk, 4000);
    (0..4000).for_each(|_| append(&journal, 1, 0));
    disk.set_capacity(disk.used_bytes());
    match journal.begin_compaction(&disk) {
        Err(CompactionError::Io(error)) => assert!(is_full(&error), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(!disk.files().contains(&journal::new_path_in(Path::new(DIRECTORY))), "room comes back");
    disk.set_capacity(1 << 30);
    (0..3999).for_each(|_| append(&journal, 2, 0));
    assert!(journal.begin_compaction(&disk).expect("no attempt").is_none());
    journal.append(&finalized(2, 0)).expect("appended");
    let compaction = journal.begin_compaction(&disk).expect("begun").expect("it is long");
    run(&disk, &journal, compaction).expect("compacted");
    assert_eq!(records(&disk), [finalized(1, 0), finalized(2, 0)]);
}

#[test]
fn damage_is_not_written_down_anew() {
    let disk = directory();
    let journal = journal(&disk, 10);
    (1..=10).for_each(|block| append(&journal, block, 0));
    assert!(disk.flip_bit(&journal::path_in(Path::new(DIRECTORY)), 5 * 48 + 8, 1));
    let compaction = journal.begin_compaction(&disk).expect("begun").expect("it is long");
    let damaged = run(&disk, &journal, compaction).expect_err("damaged");
    assert!(matches!(damaged, CompactionError::Damaged(5)), "{damaged}");
    (0..1000).for_each(|block| append(&journal, block, 0));
    assert!(journal.begin_compaction(&disk).expect("begun").is_none(), "it would be in vain");
}

#[test]
fn a_failed_change_of_names_ends_both_journals() {
    let disk = directory();
    let journal = journal(&disk, 10);
    (1..=10).for_each(|block| append(&journal, block, 0));
    let mut compaction = journal.begin_compaction(&disk).expect("begun").expect("it is long");
    let failed = loop {
        if compaction.is_catching_up() {
            // There is nothing left to copy: the next operations take room ahead, which need not succeed, and rename.
            disk.fail(Kind::Write, 2);
        }
        match journal.compact(&disk, &mut compaction) {
            Ok(Turn::More) => {}
            other => break other,
        }
    };
    assert!(matches!(failed, Err(CompactionError::Names(_))), "{failed:?}");
    journal.append(&finalized(11, 0)).expect_err("nobody knows where it would be");
    journal.sync_all().expect_err("failed for ever");
}

/// Replicas that come and go while the journal is compacted, on a disk that stops somewhere.
struct Life<'a> {
    store: &'a Store,
    /// What is acknowledged as finalized: there after any end.
    finalized: BTreeMap<BlockId, u64>,
    /// What is acknowledged as deleted: gone after any end.
    deleted: BTreeSet<BlockId>,
    /// What was begun: there after the end of the process.
    open: BTreeSet<BlockId>,
}

impl Life<'_> {
    fn create(&mut self, block: u64) -> Result<Created, WireError> {
        let layout = Layout { checksum: ChecksumType::Crc32c, chunk_bytes: 512, limit: 1 << 20 };
        let storage = self.store.volumes()[0].storage;
        let (block, stamp) = (BlockId(block), Stamp(1));
        let new = NewReplica { block, stamp, storage, layout, is_direct: false, expected: 0 };
        let (created, _seat) = self.store.create(&new)?;
        Ok(created)
    }

    /// A replica that stays open.
    fn open(&mut self, block: u64) -> Result<(), WireError> {
        let created = self.create(block)?;
        let failed = |error| self.store.write_failed(&created.replica, &error);
        let file = self.store.machine.files().open(&created.path, OpenOptions::WRITE).map_err(failed)?;
        let bytes = slot(false).encode(BlockId(block), self.store.volumes()[0].storage);
        file.write_all_at(&bytes, slot(false).offset()).map_err(failed)?;
        file.set_len(created.layout.data_offset()).map_err(failed)?;
        self.open.insert(BlockId(block));
        Ok(())
    }

    fn put(&mut self, block: u64) -> Result<(), WireError> {
        let created = self.create(block)?;
        self.store.finalize(&created, &slot(true))?;
        self.finalized.insert(BlockId(block), 0);
        Ok(())
    }

    fn delete(&mut self, block: u64) -> Result<(), WireError> {
        let block = BlockId(block);
        // From the attempt on it may be there or not.
        self.open.remove(&block);
        self.finalized.remove(&block);
        self.store.delete(block, Stamp(1))?;
        self.deleted.insert(block);
        Ok(())
    }

    fn live(&mut self) -> Result<(), WireError> {
        for block in 1..=6 {
            self.put(block)?;
        }
        self.delete(2)?;
        self.open(7)?;
        let mut compaction = self.store.begin_compaction(0);
        for block in 8..16 {
            let turned = compaction.as_mut().and_then(|compaction| self.store.compact(0, compaction));
            if turned != Some(Turn::More) {
                compaction = self.store.begin_compaction(0);
            }
            self.put(block)?;
            if block % 3 == 0 {
                self.delete(block - 5)?;
            }
        }
        Ok(())
    }
}

fn slot(is_finalized: bool) -> TailSlot {
    let (sequence, stamp) = (1, Stamp(1));
    TailSlot { sequence, stamp, length: 0, synced_length: 0, tail_crc: 0, synced_crc: 0, is_finalized }
}

fn open(disk: &SimulatedDisk) -> Result<Store, StartError> {
    let machine = Arc::new(TestMachine(disk.clone()));
    let settings = VolumeSettings { journal_compact_records: 6, ..VolumeSettings::new(DIRECTORY) };
    Store::open(machine, &[settings], ClusterId([1; 16]))
}

fn check(disk: &SimulatedDisk, life: (&BTreeMap<BlockId, u64>, &BTreeSet<BlockId>, &BTreeSet<BlockId>)) {
    let (finalized, deleted, open_ones) = life;
    let store = open(disk).expect("it starts");
    for (block, length) in finalized {
        let replica = store.find(*block).unwrap_or_else(|| panic!("block {block} is gone"));
        assert_eq!((replica.state(), replica.tail().length), (ReplicaState::Finalized, *length));
        assert!(disk.files().contains(&store.path_of(&replica)), "block {block} has no file");
    }
    for block in deleted {
        assert!(store.find(*block).is_none(), "block {block} has come back");
    }
    for block in open_ones {
        assert!(store.find(*block).is_some(), "block {block} is gone");
    }
}

#[test]
fn nothing_is_lost_and_nothing_comes_back_wherever_a_compaction_is_cut_off() {
    const SEEDS: u64 = 4;
    let total = {
        let disk = SimulatedDisk::new(0);
        let store = open(&disk).expect("a volume");
        let before = disk.operations();
        let mut life = life_of(&store);
        life.live().expect("no fault");
        disk.operations() - before
    };
    assert!(total > 150, "{total} operations");
    let mut compacted = 0;
    for seed in 1..=SEEDS {
        for (operations, is_power_cut) in (0..=total).flat_map(|count| [(count, false), (count, true)]) {
            let disk = SimulatedDisk::new(seed);
            let store = open(&disk).expect("a volume");
            let mut life = life_of(&store);
            disk.stop_after(operations);
            let lived = life.live();
            assert!(lived.is_ok() || disk.is_stopped(), "stopped after {operations}: {lived:?}");
            let Life { finalized, deleted, open, .. } = life;
            compacted += u64::from(store.disks[0].journal.was_compacted());
            drop(store);
            let open = if is_power_cut { BTreeSet::new() } else { open };
            if is_power_cut {
                disk.cut_power();
            } else {
                disk.kill();
            }
            check(&disk, (&finalized, &deleted, &open));
        }
    }
    assert!(compacted > SEEDS * total / 2, "{compacted} of the lives saw a compaction to its end");
}

fn life_of(store: &Store) -> Life<'_> {
    Life { store, finalized: BTreeMap::new(), deleted: BTreeSet::new(), open: BTreeSet::new() }
}

#[test]
fn threads_that_append_and_sync_do_not_mind_a_compaction() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let files = ringfs_disk::SystemDisk;
    let journal = Journal::rewrite(&files, temp.path(), STORAGE, [].into_iter(), 50).expect("made");
    let compactions = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let journal = &journal;
                scope.spawn(move || {
                    for length in 0..200 {
                        let number = journal.append(&finalized(thread, length)).expect("appended");
                        journal.sync(number).expect("synced");
                    }
                })
            })
            .collect();
        let mut compactions = 0;
        while writers.iter().any(|writer| !writer.is_finished()) {
            let Some(mut compaction) = journal.begin_compaction(&files).expect("begun") else {
                std::thread::yield_now();
                continue;
            };
            while journal.compact(&files, &mut compaction).expect("a turn") == Turn::More {}
            compactions += 1;
        }
        compactions
    });
    assert!(compactions > 0);
    let (live, _) = replay(&records_in(&files, temp.path()));
    assert_eq!(live, (0..4).map(|block| finalized(block, 199)).collect::<Vec<_>>());
}
