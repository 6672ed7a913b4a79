//! The life of a replica on a disk that forgets: cut off at every operation, by the end of the process and by a power cut.
//! What was acknowledged before is there after the start, with the right bytes, and goes on.

use std::io;
use std::path::Path;

use ringfs_disk::simulated::SimulatedDisk;
use ringfs_disk::{Disk, OpenOptions};
use ringfs_proto::checksum::{ChecksumType, compute_chunks};
use ringfs_proto::meta::data::{WritePacketV1, packet_flags};

use super::replica::Tail;
use super::*;
use crate::machine::Machine;
use crate::serve::pipeline::{Pipeline, Start, Written};

const CHUNK: u32 = 512;
const BLOCK: BlockId = BlockId(7);
const SEEDS: u64 = 6;

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
        bytes.fill(3);
        Ok(())
    }

    fn process(&self) -> u32 {
        1
    }
}

fn open(disk: &SimulatedDisk) -> Result<Store, StartError> {
    let machine = Arc::new(TestMachine(disk.clone()));
    Store::open(machine, &[VolumeSettings::new("/volume")], ClusterId([1; 16]))
}

fn content(from: u64, until: u64) -> Vec<u8> {
    (from..until).map(|at| (at * 31 % 253) as u8).collect()
}

/// Content of an older block file, which no reader of the newer may see.
fn older_content(until: u64) -> Vec<u8> {
    (0..until).map(|at| (at * 17 % 251) as u8).collect()
}

fn new_replica(store: &Store, stamp: u64) -> NewReplica {
    let layout = Layout { checksum: ChecksumType::Crc32c, chunk_bytes: CHUNK, limit: 1 << 20 };
    let storage = store.volumes()[0].storage;
    NewReplica { block: BLOCK, stamp: Stamp(stamp), storage, layout, is_direct: false, expected: 1 << 20 }
}

/// What was acknowledged.
#[derive(Debug, Default, Clone, Copy)]
struct Facts {
    flushed: u64,
    synced: u64,
    stamp: u64,
    is_finalized: bool,
}

/// Writes as the futures of a pipeline do, one after the other.
struct Writer<'a> {
    store: &'a Store,
    disk: &'a SimulatedDisk,
    created: Created,
    pipeline: Pipeline<Vec<u8>>,
    sequence: u64,
    slot_sequence: u64,
    synced: Tail,
    at: u64,
}

impl<'a> Writer<'a> {
    fn new(store: &'a Store, disk: &'a SimulatedDisk, created: Created, start: Start, synced: Tail) -> Self {
        let layout = created.layout;
        let mut buffers = [vec![0; 64 << 10], vec![0; 64 << 10]];
        let page = content(start.page_begin(), start.tail.length);
        buffers[0][..page.len()].copy_from_slice(&page);
        let pipeline = Pipeline::new(layout, (layout.checksum, layout.chunk_bytes), start, buffers, false);
        let (slot_sequence, at) = (created.slot_sequence, start.tail.length);
        Self { store, disk, created, pipeline, sequence: 0, slot_sequence, synced, at }
    }

    fn write(&mut self, until: u64, flags: u8) -> Result<(), WireError> {
        self.write_bytes(&content(self.at, until), flags)
    }

    fn write_bytes(&mut self, data: &[u8], flags: u8) -> Result<(), WireError> {
        let sums = checksums(self.at, data);
        let (checksums_len, data_len) = (sums.len() as u32, data.len() as u32);
        let packet =
            WritePacketV1 { sequence: self.sequence, offset: self.at, checksums_len, data_len, flags };
        self.pipeline.check(&packet, checksums_len + data_len)?;
        let (mut buffer, place) = self.pipeline.take_room(data.len()).expect("room");
        buffer[place..place + data.len()].copy_from_slice(data);
        self.pipeline.put_back(buffer, &packet, &sums);
        self.sequence += 1;
        self.at += data.len() as u64;
        self.store_group(flags)
    }

    fn store_group(&mut self, flags: u8) -> Result<(), WireError> {
        let mut sums = Vec::new();
        let group = self.pipeline.take_group(&mut sums).expect("a group");
        let failed = |error: io::Error| self.store.write_failed(&self.created.replica, &error);
        let layout = self.created.layout;
        let file = self.disk.open(&self.created.path, OpenOptions::WRITE).map_err(failed)?;
        let data = &group.buffer[..(group.until - group.base) as usize];
        file.write_all_at(data, layout.data_offset() + group.base).map_err(failed)?;
        file.write_all_at(&sums, layout.checksum_offset(group.first_chunk)).map_err(failed)?;
        self.slot_sequence += 1;
        let is_last = flags & packet_flags::LAST != 0;
        let slot = TailSlot {
            sequence: self.slot_sequence,
            stamp: self.created.replica.stamp(),
            length: group.recorded.length,
            synced_length: self.synced.length,
            tail_crc: group.recorded.crc,
            synced_crc: self.synced.crc,
            is_finalized: is_last && self.created.is_finalized_by_last(),
        };
        let synced = TailSlot { synced_length: group.tail.length, synced_crc: group.tail.crc, ..slot };
        match flags {
            0 => {
                let bytes = slot.encode(BLOCK, self.store.storage_of(&self.created.replica));
                file.write_all_at(&bytes, slot.offset()).map_err(failed)?;
            }
            packet_flags::SYNC => self.store.sync(&self.created, &synced)?,
            _ if self.created.is_copy() => {
                let older = self.store.find(BLOCK).map(|older| seize(&older, slot.stamp));
                self.store.finish_copy(&self.created, &slot, older.as_ref())?;
            }
            _ => self.store.finalize(&self.created, &slot)?,
        }
        if flags != 0 {
            self.synced = group.tail;
        }
        let arrived = group.arrived.sequence.expect("a packet");
        let written =
            Written { sequence: arrived, tail: group.tail, synced_length: 0, is_finalized: is_last };
        self.pipeline.written(group.buffer, written);
        if !is_last && !self.created.is_copy() {
            self.store.grow(&self.created.replica, group.tail);
        }
        Ok(())
    }
}

fn checksums(offset: u64, data: &[u8]) -> Vec<u8> {
    let skip = ((u64::from(CHUNK) - offset % u64::from(CHUNK)) % u64::from(CHUNK)) as usize;
    let (first, rest) = data.split_at(skip.min(data.len()));
    let mut sums = vec![0; rest.len().div_ceil(CHUNK as usize) * 4];
    compute_chunks(ChecksumType::Crc32c, rest, CHUNK, &mut sums);
    if !first.is_empty() {
        sums.splice(0..0, ChecksumType::Crc32c.of(first).to_be_bytes());
    }
    sums
}

fn seize(replica: &Arc<Replica>, stamp: Stamp) -> Seat {
    futures_lite::future::block_on(Seat::seize(replica, stamp)).expect("not fenced for more")
}

fn tail_at(length: u64) -> Tail {
    let chunk = length / u64::from(CHUNK) * u64::from(CHUNK);
    let crc = if chunk == length { 0 } else { ChecksumType::Crc32c.of(&content(chunk, length)) };
    Tail { length, crc }
}

/// Opens the replica again at `length`.
fn resumed<'a>(
    store: &'a Store,
    disk: &'a SimulatedDisk,
    stamp: u64,
    length: u64,
) -> Result<(Writer<'a>, Seat), WireError> {
    let replica = store.find(BLOCK).expect("a replica");
    let seat = seize(&replica, Stamp(stamp));
    let examined = store.examine(&replica)?;
    assert!(examined.written.length >= length, "{examined:?}");
    let created = store.open_again(&examined, Stamp(stamp), 1 << 20)?;
    let start = Start { tail: tail_at(length), existing: examined.written };
    Ok((Writer::new(store, disk, created, start, examined.synced), seat))
}

/// A replica is written, synced, opened again twice, once after it was finalized, and given an end by a block recovery.
fn live(store: &Store, disk: &SimulatedDisk, facts: &mut Facts) -> Result<(), WireError> {
    let (created, seat) = store.create(&new_replica(store, 1))?;
    facts.stamp = 1;
    let mut writer = Writer::new(store, disk, created, Start::default(), Tail::default());
    writer.write(900, 0)?;
    facts.flushed = 900;
    writer.write(1700, packet_flags::SYNC)?;
    (facts.flushed, facts.synced) = (1700, 1700);
    for until in [2000, 2600, 3000] {
        writer.write(until, 0)?;
        facts.flushed = until;
    }
    drop(seat);
    let (mut writer, seat) = resumed(store, disk, 2, 2500)?;
    facts.stamp = 2;
    for until in [2800, 4000] {
        writer.write(until, 0)?;
    }
    facts.flushed = 4000;
    writer.write(4100, packet_flags::SYNC)?;
    (facts.flushed, facts.synced) = (4100, 4100);
    writer.write(4200, packet_flags::LAST)?;
    *facts = Facts { flushed: 4200, synced: 4200, stamp: 2, is_finalized: true };
    drop(seat);
    facts.is_finalized = false;
    let (mut writer, seat) = resumed(store, disk, 3, 4199)?;
    facts.stamp = 3;
    writer.write(9000, 0)?;
    facts.flushed = 9000;
    drop(seat);
    let replica = store.find(BLOCK).expect("a replica");
    let _seat = seize(&replica, Stamp(4));
    // Another replica had only so much of what was never acknowledged by all.
    facts.flushed = 8500;
    let examined = store.examine(&replica)?;
    store.finish_recovery(&examined, Stamp(4), tail_at(8500))?;
    *facts = Facts { flushed: 8500, synced: 8500, stamp: 4, is_finalized: true };
    Ok(())
}

/// The replica after a start: its bytes, all of which match their checksums.
fn read(store: &Store, disk: &SimulatedDisk, replica: &Replica) -> Vec<u8> {
    let tail = replica.tail();
    let file = disk.open(&store.path_of(replica), OpenOptions::READ).expect("a file");
    let layout = new_replica(store, 1).layout;
    let mut data = vec![0; tail.length as usize];
    file.read_exact_at(&mut data, layout.data_offset()).expect("all of it");
    let count = data.len().div_ceil(CHUNK as usize);
    let mut stored = vec![0; count * 4];
    file.read_exact_at(&mut stored, layout.checksum_offset(0)).expect("checksums");
    let mut expected = vec![0; count * 4];
    compute_chunks(ChecksumType::Crc32c, &data, CHUNK, &mut expected);
    if replica.state() != ReplicaState::Finalized && !data.len().is_multiple_of(CHUNK as usize) {
        let at = stored.len() - 4;
        stored[at..].copy_from_slice(&tail.crc.to_be_bytes());
    }
    assert_eq!(stored, expected, "checksums of {} bytes", data.len());
    data
}

/// `more` bytes are written to what is found, before it is closed.
fn check(disk: &SimulatedDisk, facts: &Facts, is_power_cut: bool, more: u64) -> Result<(), String> {
    let store = open(disk).map_err(|error| error.to_string())?;
    let least = if is_power_cut { facts.synced } else { facts.flushed };
    let Some(replica) = store.find(BLOCK) else {
        return if least == 0 { Ok(()) } else { Err("the replica is gone".to_owned()) };
    };
    if replica.is_corrupt() {
        return Err("the replica is corrupt".to_owned());
    }
    let length = replica.tail().length;
    if length < least || (facts.is_finalized && length != facts.flushed) {
        return Err(format!("{length} bytes of {least}"));
    }
    // A stamp is durable when its recovery was answered; the first one is with the first sync.
    if facts.stamp > 1 && replica.stamp() < Stamp(facts.stamp) {
        return Err(format!("stamp {}", replica.stamp()));
    }
    if facts.is_finalized && replica.state() != ReplicaState::Finalized {
        return Err(format!("{:?}", replica.state()));
    }
    if read(&store, disk, &replica) != content(0, length) {
        return Err("other bytes".to_owned());
    }
    let (mut writer, _seat) = resumed(&store, disk, 10, length).map_err(|error| error.message)?;
    writer.write(length + more, packet_flags::LAST).map_err(|error| error.message)?;
    let bytes = read(&store, disk, &replica);
    if bytes == content(0, length + more) { Ok(()) } else { Err("other bytes after it went on".to_owned()) }
}

fn operations_of(run: impl Fn(&Store, &SimulatedDisk)) -> u64 {
    let disk = SimulatedDisk::new(0);
    let store = open(&disk).expect("a volume");
    let before = disk.operations();
    run(&store, &disk);
    disk.operations() - before
}

#[test]
fn nothing_acknowledged_is_lost_at_any_operation_of_a_replicas_life() {
    let total = operations_of(|store, disk| {
        live(store, disk, &mut Facts::default()).expect("no fault");
    });
    assert!(total > 60, "{total} operations");
    for (operations, seed, is_power_cut) in cases(total) {
        let disk = SimulatedDisk::new(seed);
        let store = open(&disk).expect("a volume");
        let mut facts = Facts::default();
        disk.stop_after(operations);
        let lived = live(&store, &disk, &mut facts);
        assert!(lived.is_ok() || disk.is_stopped(), "stopped after {operations} of {total}: {lived:?}");
        drop(store);
        end(&disk, is_power_cut);
        if let Err(reason) = check(&disk, &facts, is_power_cut, seed % 2 * 700) {
            panic!("{reason}: stopped after {operations}, seed {seed}, power cut {is_power_cut}, {facts:?}");
        }
    }
}

/// The process, or the power, is gone.
fn end(disk: &SimulatedDisk, is_power_cut: bool) {
    match is_power_cut {
        true => disk.cut_power(),
        false => disk.kill(),
    }
}

fn cases(total: u64) -> impl Iterator<Item = (u64, u64, bool)> {
    let of_seed = move |seed| (0..=total).map(move |operations| (operations, seed));
    (1..=SEEDS)
        .flat_map(of_seed)
        .flat_map(|(operations, seed)| [(operations, seed, false), (operations, seed, true)])
}

/// An older finalized replica, then a copy that takes its place.
fn copy(store: &Store, disk: &SimulatedDisk, purpose: Purpose, copied: &mut bool) -> Result<(), WireError> {
    let (created, seat) = store.begin_copy(&new_replica(store, 2), purpose)?;
    let mut writer = Writer::new(store, disk, created, Start::default(), Tail::default());
    writer.write(1500, 0)?;
    writer.write(3333, packet_flags::LAST)?;
    drop(seat);
    *copied = true;
    Ok(())
}

fn older(store: &Store, disk: &SimulatedDisk) {
    let (created, _seat) = store.create(&new_replica(store, 1)).expect("created");
    let mut writer = Writer::new(store, disk, created, Start::default(), Tail::default());
    writer.write_bytes(&older_content(2000), packet_flags::LAST).expect("finalized");
}

fn check_copy(disk: &SimulatedDisk, purpose: Purpose, copied: bool) -> Result<(), String> {
    let store = open(disk).map_err(|error| error.to_string())?;
    if disk.files().iter().any(|path| path.starts_with(Path::new("/volume/copies"))) {
        return Err("an unfinished copy is left".to_owned());
    }
    let Some(replica) = store.find(BLOCK) else {
        // The older one goes before the newer comes.
        return if copied { Err("the copy is gone".to_owned()) } else { Ok(()) };
    };
    let bytes = read(&store, disk, &replica);
    let is_copy = replica.stamp() == Stamp(2);
    if is_copy != (bytes == content(0, 3333)) || (!is_copy && bytes != older_content(2000)) {
        return Err(format!("stamp {} with {} bytes of another", replica.stamp(), bytes.len()));
    }
    let expected = match purpose {
        Purpose::CopyOpen if is_copy => ReplicaState::WaitingForRecovery,
        _ => ReplicaState::Finalized,
    };
    if replica.state() != expected || (copied && !is_copy) {
        return Err(format!("{:?} with stamp {}", replica.state(), replica.stamp()));
    }
    Ok(())
}

#[test]
fn a_copy_takes_the_place_of_an_older_replica_as_a_whole_or_not() {
    for purpose in [Purpose::Copy, Purpose::CopyOpen] {
        let total = operations_of(|store, disk| {
            older(store, disk);
            copy(store, disk, purpose, &mut false).expect("no fault");
        });
        for (operations, seed, is_power_cut) in cases(total) {
            let disk = SimulatedDisk::new(seed);
            let store = open(&disk).expect("a volume");
            older(&store, &disk);
            disk.stop_after(operations);
            let mut copied = false;
            let result = copy(&store, &disk, purpose, &mut copied);
            assert!(result.is_ok() || disk.is_stopped(), "{result:?}");
            drop(store);
            end(&disk, is_power_cut);
            if let Err(reason) = check_copy(&disk, purpose, copied) {
                panic!(
                    "{reason}: {purpose:?}, stopped after {operations}, seed {seed}, power cut {is_power_cut}, copied {copied}"
                );
            }
        }
    }
}
