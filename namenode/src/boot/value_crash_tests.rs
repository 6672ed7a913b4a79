//! Small files on disks that forget: puts, checkpoints and the collection of dead values are cut off at every disk operation,
//! by the end of the process and by a power cut. Every content that was acknowledged is read back, the one that was being
//! put is the old or the new one, and the start after the cut goes on with all of that.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicBool;

use ringfs_disk::SimulatedDisk;
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::frame::Header;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{CallId, SessionId};
use ringfs_proto::meta::namespace::CreateRequestV1;
use ringfs_proto::meta::values::PutRequestV1;

use super::*;
use crate::calls::{Call, Caller, Credentials, Request};
use crate::checkpoint::format::Header as CheckpointHeader;
use crate::checkpoint::{Beside, Kind, Run};
use crate::core::Copied;
use crate::wal::Values;

const WAL_DIRS: [&str; 2] = ["/a", "/b"];
/// Files that are put again and again: of each, one content is alive.
const FILES: u64 = 5;
const PUTS: u64 = 60;
/// A file that is put once, first of all: collection has to move it.
const FIRST: &str = "/first";

fn config() -> Config {
    Config {
        wal_dirs: WAL_DIRS.iter().map(PathBuf::from).collect(),
        wal_segment_bytes: crate::wal::SEGMENT_BYTES_MIN,
        checkpoint_records: 12,
        ..Config::default()
    }
}

fn content(number: u64) -> Vec<u8> {
    let len = 2000 + number * 977 % 9000;
    (0..len).map(|at| (number * 31 + at * 7 + at / 251) as u8).collect()
}

/// The contents that each path may have, `None` for no file: one, or two while a put is not answered.
type Told = BTreeMap<String, Vec<Option<u64>>>;

struct Process {
    disk: Arc<dyn Disk>,
    core: Core,
    log: Log,
    values: Values,
    cluster: ClusterId,
    caller: Arc<Caller>,
    calls: u64,
    now: Now,
    _directories: Directories,
}

impl Process {
    fn start(disk: &SimulatedDisk, seed: u64) -> Result<Self, StartError> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let now = Now { mono_ms: 1000, wall_ms: 1000 };
        let (core, log, directories) = start_core(&disk, &config(), now, seed)?;
        let caller = Arc::new(Caller {
            connection: 1,
            session: SessionId([seed as u8 + 1; 16]),
            user: "ann".to_owned(),
            credentials: Credentials::privileged(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            role: Role::Client,
            nonce: [0; 16],
            renews_leases: false,
            is_datanode: AtomicBool::new(false),
        });
        let cluster = directories.identity.cluster.cluster;
        let values = Values::new(disk.clone(), log.status());
        Ok(Self { disk, core, log, values, cluster, caller, calls: 0, now, _directories: directories })
    }

    /// Puts a file. False when the disk has stopped.
    fn put(&mut self, path: &str, number: u64, told: &mut Told) -> bool {
        let file = CreateRequestV1 {
            path: path.to_owned(),
            mode: 0o644,
            unmasked_mode: 0o644,
            overwrite: true,
            create_parents: true,
            replication: 1,
            block_size: 1 << 20,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: 4096,
        };
        let request = Request::Put(PutRequestV1 { file, bytes: content(number) });
        self.calls += 1;
        let id = CallId(self.calls);
        let header = Header::request(request.op(), id);
        let call = Call {
            caller: self.caller.clone(),
            call: id,
            lowest_unanswered: id,
            header,
            request,
            context: None,
        };
        told.entry(path.to_owned()).or_insert_with(|| vec![None]).push(Some(number));
        self.core.call(call, self.now);
        if !self.go_on() {
            return false;
        }
        let answers = self.core.take_answers();
        assert!(answers.len() == 1 && answers[0].result.is_ok(), "{answers:?}");
        told.insert(path.to_owned(), vec![Some(number)]);
        true
    }

    /// Does what there is to do until nothing is left. False when the disk has stopped.
    fn go_on(&mut self) -> bool {
        loop {
            if let Some(mut batch) = self.core.take_batch() {
                let last = batch.last();
                if self.log.append(&mut batch).is_err() {
                    return false;
                }
                self.core.durable(last, batch, self.now);
                self.log.acknowledged(last);
            } else if let Some(wanted) = self.core.take_collection() {
                let collected = self.values.collect(&wanted);
                self.core.collected(collected, self.now);
            } else if let Some(order) = self.core.take_checkpoint() {
                let header = CheckpointHeader { cluster: self.cluster, index: order.index };
                let beside = Beside { directories: self.log.status().live(), kept: order.kept };
                let Ok(mut run) = Run::begin(self.disk.clone(), Kind::Ordinary, beside, header) else {
                    return false;
                };
                if !order.rest.into_sections().all(|section| run.section(&section).is_ok()) {
                    return false;
                }
                while let Copied::Some(section) = self.core.copy_checkpoint() {
                    if section.is_some_and(|section| run.section(&section).is_err()) {
                        return false;
                    }
                }
                let done = run.finish();
                let is_done = done.result.is_ok() && done.failed.is_empty();
                self.core.checkpoint_done(done.result, self.now);
                if !is_done {
                    return false;
                }
            } else {
                return true;
            }
        }
    }

    fn tick(&mut self) -> bool {
        self.now.mono_ms += 100;
        self.core.tick(self.now);
        self.go_on()
    }

    /// Every file has a content that it may have.
    fn check(&self, told: &mut Told) {
        for (path, numbers) in told {
            let components = ringfs_proto::path::Components::parse(path).expect("valid");
            let found = match self.core.state().stat(&components) {
                Err(_) => None,
                Ok(status) => {
                    let file = self.core.state().file(status.inode).expect("a file");
                    let place = self.core.state().last_block_of(&file).and_then(|view| view.value);
                    let mut bytes = Vec::new();
                    self.values.read(place.expect("a value"), &mut bytes).expect("it verifies");
                    Some(bytes)
                }
            };
            let before = format!("{numbers:?}");
            numbers.retain(|number| number.map(content) == found);
            assert!(!numbers.is_empty(), "{path}: none of {before}");
        }
    }
}

/// Works until the disk stops.
fn live(disk: &SimulatedDisk, told: &mut Told, seed: u64) {
    let mut process = match Process::start(disk, seed) {
        Ok(process) => process,
        Err(error) => return assert!(disk.is_stopped(), "the start fails: {error}"),
    };
    process.check(told);
    let puts = (0..PUTS).map(|number| (format!("/f{}", number % FILES), 1000 * (seed + 1) + number));
    let first = (told.get(FIRST).is_none_or(|known| *known == [None])).then(|| (FIRST.to_owned(), 999));
    for (path, number) in first.into_iter().chain(puts) {
        if !process.put(&path, number, told) || (number % 3 == 0 && !process.tick()) {
            return;
        }
        if number % 10 == 0 {
            process.log.idle();
        }
    }
}

fn formatted(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    crate::directory::format(&disk, &config().wal_dirs, "ann", "staff").expect("formatted");
    disk
}

#[test]
fn the_run_collects_what_it_has_left_behind() {
    let disk = formatted(1);
    let mut told = Told::new();
    live(&disk, &mut told, 1);
    disk.kill();
    let segments = crate::wal::segment::list(&disk, Path::new(WAL_DIRS[0])).expect("listed");
    let written: u64 = (1000..1000 + PUTS).map(|number| content(number).len() as u64).sum();
    assert!(written > 5 * crate::wal::SEGMENT_BYTES_MIN, "{written} bytes");
    assert!(segments[0] > LogIndex(1) && segments.len() < 6, "dead segments are gone: {segments:?}");
    let process = Process::start(&disk, 2).expect("started");
    process.check(&mut told);
    assert!(told.values().all(|numbers| numbers.len() == 1), "{told:?}");
}

#[test]
fn no_content_is_lost_wherever_the_run_is_cut_off() {
    let mut cuts = 0;
    for operation in 0.. {
        let mut is_over = true;
        for is_power_cut in [false, true] {
            let disk = formatted(2 * operation + u64::from(is_power_cut));
            let end = |disk: &SimulatedDisk| if is_power_cut { disk.cut_power() } else { disk.kill() };
            disk.stop_after(operation);
            let mut told = Told::new();
            live(&disk, &mut told, 1);
            is_over &= !disk.is_stopped();
            end(&disk);
            // The life after that is cut off as well.
            disk.stop_after(operation * 7 % 400);
            live(&disk, &mut told, 2);
            end(&disk);
            let mut process = Process::start(&disk, 3).unwrap_or_else(|error| panic!("start: {error}"));
            process.check(&mut told);
            assert!(process.put("/last", 5000, &mut told));
            drop(process);
            end(&disk);
            let last = Process::start(&disk, 4).unwrap_or_else(|error| panic!("start again: {error}"));
            last.check(&mut told);
            cuts += 1;
        }
        if is_over {
            break;
        }
    }
    assert!(cuts > 600, "{cuts}");
}
