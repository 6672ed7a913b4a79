//! The log and the checkpoints of a namenode on disks that forget: a recorded run is cut off at every disk operation, by the
//! end of the process and by a power cut. The start after it succeeds, and has everything that was acknowledged and no half
//! of a batch; what is written then survives too, also when that start is cut off itself.

use std::ops::Range;

use ringfs_disk::SimulatedDisk;
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, CallId, InodeId, SessionId, Stamp, Term};
use ringfs_proto::meta::namespace::BlockRefV1;

use super::*;
use crate::checkpoint::format::Header;
use crate::checkpoint::{Beside, Kind, Run};
use crate::state::{Applied, Snapshot};
use crate::wal::record::{
    AddBlockV1, ChangeV1, CompleteV1, CreateV1, DeleteV1, FenceWriterV1, MkdirsV1, RenameV1,
};
use crate::wal::segment;

const WAL_DIRS: [&str; 2] = ["/one", "/two"];
/// The most operations of the recorded run.
const OPERATIONS_MAX: u64 = 300;
/// A name so long that a segment holds few batches.
const USER_BYTES: usize = 3500;
const INODES_PER_TURN: usize = 8;
/// Power cuts per operation: each forgets something else.
const POWER_CUTS: u64 = 2;
/// The start after a cut is cut off too, after at most so many operations.
const OPERATIONS_OF_START: u64 = 60;

/// What the recorded process does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Appends a batch of so many records, and answers when that is done.
    Append(u64),
    /// Nothing comes for a while: the mark is written, the next segment is made.
    Idle,
    /// A checkpoint begins.
    Begin,
    /// A turn of it.
    Turn,
    /// It is put in place.
    Finish,
}

use Step::{Append, Begin, Finish, Idle, Turn};

const SCRIPT: &[Step] = &[
    Append(1),
    Append(3),
    Idle,
    Append(5),
    Begin,
    Turn,
    Append(4),
    Turn,
    Append(5),
    Finish,
    Append(5),
    Idle,
    Append(1),
    Append(6),
    Append(4),
    Begin,
    Turn,
    Append(2),
    Finish,
    Append(5),
    Idle,
    Append(6),
    Append(4),
    Begin,
    Append(1),
    Turn,
    Turn,
    Append(1),
    Finish,
    Idle,
    Append(2),
];

/// Every record that may be written, and the namespace after each.
struct Model {
    records: Vec<RecordV1>,
    digests: Vec<u32>,
}

impl Model {
    fn new(count: u64) -> Self {
        let mut state = State::new(&identity().superuser, &identity().group);
        let mut model = Self { records: Vec::new(), digests: vec![state.digest()] };
        let mut inode = InodeId(0);
        for index in 1..=count {
            let record = record(index, inode);
            if let Ok(Applied::Created(created)) = state.apply(&record, &mut Vec::new()) {
                inode = created;
            }
            model.records.push(record);
            model.digests.push(state.digest());
        }
        model
    }
}

/// Files with a block that are closed, renamed, deleted, or lose their writer.
fn record(index: u64, inode: InodeId) -> RecordV1 {
    let round = index / 8 + 1;
    let block = BlockRefV1 { block: BlockId(round), stamp: Stamp(2 * round), length: 9 };
    let (file, target) = (format!("/d/f{round}"), format!("/d/g{round}"));
    let change = match index % 8 {
        1 => ChangeV1::Create(CreateV1 {
            path: file,
            mode: 0o644,
            unmasked_mode: 0o644,
            overwrite: false,
            create_parents: true,
            replication: 2,
            block_size: 1 << 20,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: 4096,
        }),
        2 => {
            let BlockRefV1 { block, stamp, .. } = block;
            ChangeV1::AddBlock(AddBlockV1 {
                inode,
                previous: None,
                previous_crc: None,
                block,
                stamp,
                pipeline: Vec::new(),
            })
        }
        3 if round % 3 == 2 => ChangeV1::FenceWriter(FenceWriterV1 {
            inode,
            block: block.block,
            stamp: Stamp(block.stamp.0 + 1),
        }),
        3 => ChangeV1::Complete(CompleteV1 { inode, last: Some(block), crc: None, tail: None }),
        4 => ChangeV1::Rename(RenameV1 { source: file, target, overwrite: false }),
        5 if round % 2 == 1 => {
            ChangeV1::Delete(DeleteV1 { path: target, recursive: false, is_subtree_permitted: true })
        }
        _ => ChangeV1::Mkdirs(MkdirsV1 {
            path: format!("/d{index}"),
            mode: 0o755,
            unmasked_mode: 0o755,
            create_parents: true,
        }),
    };
    RecordV1 {
        index: LogIndex(index),
        term: Term(1),
        time_ms: index,
        session: SessionId([1; 16]),
        call: CallId(index),
        lowest_unanswered: CallId(index.saturating_sub(3)),
        user: "u".repeat(USER_BYTES),
        groups: Vec::new(),
        is_privileged: true,
        change,
    }
}

fn config() -> Config {
    let wal_dirs = WAL_DIRS.iter().map(PathBuf::from).collect();
    Config { wal_dirs, wal_segment_bytes: crate::wal::SEGMENT_BYTES_MIN, ..Config::default() }
}

fn identity() -> Identity {
    Directories::open(&formatted(0), &config().wal_dirs).expect("formatted").identity.clone()
}

fn formatted(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    crate::directory::format(&disk, &config().wal_dirs, "ann", "staff").expect("formatted");
    disk
}

/// What a process has written and told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    /// Answered.
    acknowledged: u64,
    /// The first record of the batch that was not finished, and the last.
    sent: u64,
}

/// A namenode that writes what the model says.
struct Process<'a> {
    model: &'a Model,
    disk: Arc<dyn Disk>,
    booted: Booted,
    run: Option<(Run, Snapshot)>,
    told: Told,
}

impl<'a> Process<'a> {
    /// Starts, and checks what was found: `told` is what the process before has told.
    fn start(model: &'a Model, disk: &SimulatedDisk, told: Told, seed: u64) -> Result<Self, StartError> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let booted = boot_by(replay, &disk, &config(), seed)?;
        let found = booted.state.applied().0;
        assert!(
            found == told.acknowledged || found == told.sent,
            "record {found} is the last, {told:?}: lost, or half a batch"
        );
        assert_eq!(booted.log.last().0, found);
        assert_eq!(
            booted.state.digest(),
            model.digests[found as usize],
            "the namespace after record {found}"
        );
        let told = Told { acknowledged: found, sent: found };
        Ok(Self { model, disk, booted, run: None, told })
    }

    /// False when the disk has stopped.
    fn step(&mut self, step: Step) -> bool {
        match step {
            Append(count) => self.append(count),
            Idle => {
                self.booted.log.idle();
                true
            }
            Begin => self.begin(),
            Turn => self.copy(),
            Finish => self.finish(),
        }
    }

    fn append(&mut self, count: u64) -> bool {
        let range: Range<usize> = self.told.sent as usize..(self.told.sent + count) as usize;
        let mut batch = crate::wal::BatchBuilder::default();
        self.model.records[range.clone()].iter().for_each(|record| batch.push(record));
        self.told.sent += count;
        if self.booted.log.append(&mut batch).is_err() {
            return false;
        }
        for record in &self.model.records[range] {
            let _refused = self.booted.state.apply(record, &mut Vec::new());
        }
        self.told.acknowledged = self.told.sent;
        self.booted.log.acknowledged(LogIndex(self.told.acknowledged));
        true
    }

    fn begin(&mut self) -> bool {
        let (snapshot, rest) = self.booted.state.begin_snapshot();
        let header =
            Header { cluster: self.booted.directories.identity.cluster.cluster, index: snapshot.index() };
        let beside = Beside { directories: self.booted.log.status().live(), ..Beside::default() };
        let Ok(mut run) = Run::begin(self.disk.clone(), Kind::Ordinary, beside, header) else { return false };
        let is_written = rest.into_sections().all(|section| run.section(&section).is_ok());
        self.run = Some((run, snapshot));
        is_written
    }

    fn copy(&mut self) -> bool {
        let Some((run, snapshot)) = &mut self.run else { return true };
        let section = self.booted.state.copy(snapshot, INODES_PER_TURN).1;
        section.is_none_or(|section| run.section(&section).is_ok())
    }

    fn finish(&mut self) -> bool {
        while self.run.as_ref().is_some_and(|(_, snapshot)| !snapshot.is_done()) {
            if !self.copy() {
                return false;
            }
        }
        self.booted.state.end_snapshot();
        let Some((run, _)) = self.run.take() else { return true };
        let done = run.finish();
        done.result.is_ok() && done.failed.is_empty()
    }
}

/// How a process ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Kill,
    PowerCut,
}

impl End {
    fn strike(self, disk: &SimulatedDisk) {
        match self {
            Self::Kill => disk.kill(),
            Self::PowerCut => disk.cut_power(),
        }
    }
}

/// A process that does what the script says until its disk stops. Told by the process before, and by itself.
fn live(model: &Model, disk: &SimulatedDisk, told: Told, seed: u64) -> Told {
    match Process::start(model, disk, told, seed) {
        Ok(mut process) => {
            let _is_done = SCRIPT.iter().all(|step| process.step(*step));
            process.told
        }
        Err(error) => {
            assert!(disk.is_stopped(), "the start fails: {error}");
            told
        }
    }
}

/// Nothing stops this one: it starts, goes on, and the next finds what it wrote.
fn prove(model: &Model, disk: &SimulatedDisk, told: Told, end: End) {
    let mut process = Process::start(model, disk, told, 3).unwrap_or_else(|error| panic!("start: {error}"));
    for step in [Append(1), Idle, Begin, Append(4), Finish, Append(1)] {
        assert!(process.step(step), "{step:?} after a start");
    }
    let told = process.told;
    assert_eq!(told.acknowledged, told.sent);
    drop(process);
    end.strike(disk);
    let last = Process::start(model, disk, told, 4).unwrap_or_else(|error| panic!("start again: {error}"));
    assert_eq!(last.told, told);
    assert_alike(disk);
}

fn assert_alike(disk: &SimulatedDisk) {
    let [one, two] = WAL_DIRS.map(|directory| {
        let path = Path::new(directory);
        let logs = segment::list(disk, path).expect("listed");
        let logs = logs.into_iter().map(|first| segment::path(path, first));
        let checkpoints = checkpoint::list(disk, path).expect("listed");
        let checkpoints = checkpoints.into_iter().map(|index| checkpoint::path(path, index));
        let read = |path: PathBuf| disk.read(&path).expect("read");
        logs.chain(checkpoints).map(read).collect::<Vec<_>>()
    });
    assert!(one == two, "the directories are mirrors");
}

fn records_of_script() -> u64 {
    SCRIPT.iter().map(|step| if let Append(count) = step { *count } else { 0 }).sum()
}

/// Two lives of the script, and what `prove` appends.
fn model() -> Model {
    Model::new(2 * records_of_script() + 16)
}

#[test]
fn the_recorded_run_has_all_that_can_be_cut_off() {
    let (model, disk) = (model(), formatted(1));
    let before = disk.operations();
    let told = live(&model, &disk, Told::default(), 1);
    let operations = disk.operations() - before;
    assert!((OPERATIONS_MAX / 2..=OPERATIONS_MAX).contains(&operations), "{operations} operations");
    assert_eq!(told.acknowledged, records_of_script());
    disk.kill();
    for directory in WAL_DIRS.map(Path::new) {
        assert_eq!(checkpoint::list(&disk, directory).expect("listed").len(), checkpoint::KEPT);
        let segments = segment::list(&disk, directory).expect("listed");
        assert!(segments.len() > 1 && segments[0] > LogIndex(1), "segments come and go: {segments:?}");
    }
    assert_alike(&disk);
}

#[test]
fn a_namenode_that_is_killed_again_and_again_takes_its_checkpoint() {
    let (model, disk) = (model(), formatted(1));
    let batch_bytes = 8 << 10;
    let config = Config { checkpoint_log_bytes: 4 * batch_bytes, ..config() };
    let mut told = Told::default();
    for start in 0..5 {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let now = Now { mono_ms: 1000, wall_ms: 1000 };
        let (mut core, _log, _directories) = start_core(&shared, &config, now, start).expect("started");
        core.tick(now);
        assert_eq!(
            core.take_checkpoint().is_some(),
            start == 4,
            "after {start} batches of {batch_bytes} bytes"
        );
        drop((core, _log, _directories));
        disk.kill();
        let mut process = Process::start(&model, &disk, told, start).expect("started");
        assert!(process.step(Append(2)));
        told = process.told;
        drop(process);
        disk.kill();
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_run_is_cut_off() {
    let model = model();
    let mut cuts = 0;
    for operation in 0.. {
        let mut is_over = true;
        let power_cuts = (0..POWER_CUTS).map(|seed| (End::PowerCut, seed));
        for (end, seed) in power_cuts.chain([(End::Kill, POWER_CUTS)]) {
            let disk = formatted(seed * OPERATIONS_MAX + operation);
            disk.stop_after(operation);
            let told = live(&model, &disk, Told::default(), 1);
            is_over &= !disk.is_stopped();
            end.strike(&disk);
            // The start, or what it does next, is cut off as well.
            disk.stop_after((operation * 7 + seed) % OPERATIONS_OF_START);
            let told = live(&model, &disk, told, 2);
            end.strike(&disk);
            prove(&model, &disk, told, end);
            cuts += 1;
        }
        if is_over {
            break;
        }
    }
    assert!(cuts > 3 * OPERATIONS_MAX / 2, "{cuts}");
}
