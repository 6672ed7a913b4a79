//! What a large namespace costs the namenode: memory per file, a checkpoint and a start from it, pages of a directory with a
//! million entries, the deletion of a tree of a million files.
//!
//! Namespaces are made by feeding records to `State::apply`, as a replay does; calls go to the deciding part of a namenode
//! ([`Core`]), whose log is durable at once. So the times are those of the namespace thread alone.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ringfs_disk::{Disk, SystemDisk};
use ringfs_namenode::calls::{Call, Caller, Credentials, Reply, Request};
use ringfs_namenode::checkpoint::{self, Beside, Kind, Run, format::Header};
use ringfs_namenode::config::Config;
use ringfs_namenode::core::{Core, Now};
use ringfs_namenode::state::{Applied, State};
use ringfs_namenode::wal::BatchBuilder;
use ringfs_namenode::wal::record::{AddBlockV1, ChangeV1, CompleteV1, CreateV1, MkdirsV1, RecordV1};
use ringfs_proto::capability::ClusterKey;
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::frame::Header as FrameHeader;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{BlockId, CallId, ClusterId, InodeId, LogIndex, SessionId, Stamp, Term};
use ringfs_proto::meta::admin::{SafeModeAction, SafeModeRequestV1};
use ringfs_proto::meta::namespace::{BlockRefV1, DeleteRequestV1, ListRequestV1};
use ringfs_proto::meta::tree::WalkRequestV1;

use crate::report::Report;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const FILES_PER_DIRECTORY: u64 = 1000;
const BLOCK_BYTES: u64 = 1000;
/// Between two ticks of the namenode.
const TICK_MS: u64 = 100;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// Files of the namespaces of which memory, checkpoint and start are measured; one block each.
    pub files: Vec<u64>,
    /// Entries of the directory that is listed.
    pub entries: u64,
    /// Files of the tree that is deleted, one block each.
    pub deleted: u64,
}

impl Sizes {
    /// As the goals are set.
    pub fn whole() -> Self {
        Self { files: vec![1_000_000, 10_000_000], entries: 1_000_000, deleted: 1_000_000 }
    }

    /// As little as shows that all of it works.
    pub fn tiny() -> Self {
        Self { files: vec![2500], entries: 2500, deleted: 2500 }
    }
}

/// How a start from a checkpoint is measured: in a process of its own, whose memory nothing else has used.
pub type Start<'a> = &'a dyn Fn(&Path) -> Result<Started>;

/// A namespace that was loaded.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Started {
    /// Until the namespace and the map of its blocks stand, s.
    pub seconds: f64,
    /// Until the namespace stands, s.
    pub loaded_seconds: f64,
    /// Memory of the process then, bytes.
    pub resident_bytes: u64,
    /// The most that it had until then, bytes.
    pub resident_bytes_max: u64,
    /// Files that were loaded.
    pub files: u64,
}

/// Measures everything. Checkpoints are written below `directory`.
///
/// # Errors
/// What goes wrong: a benchmark of a namespace that is not as it should be says nothing.
pub fn run(sizes: &Sizes, directory: &Path, start: Start<'_>, report: &mut Report) -> Result<()> {
    for files in &sizes.files {
        namespace(*files, directory, start, report)?;
    }
    listing(sizes.entries, report)?;
    deletion(sizes.deleted, report)
}

/// Loads a checkpoint as a start does.
///
/// # Errors
/// What the checkpoint's reader says.
pub fn load(path: &Path) -> Result<Started> {
    let begin = Instant::now();
    let state = checkpoint::load(&SystemDisk, path, CLUSTER).map_err(|error| error.chain())?;
    let loaded_seconds = begin.elapsed().as_secs_f64();
    let namenode = Namenode::new(state);
    let seconds = begin.elapsed().as_secs_f64();
    let pid = std::process::id().cast_signed();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    Ok(Started {
        seconds,
        loaded_seconds,
        resident_bytes: ringfs_tests::process::resident_bytes_of(pid),
        resident_bytes_max: peak_kib << 10,
        files: namenode.core.state().counts().files,
    })
}

fn namespace(files: u64, directory: &Path, start: Start<'_>, report: &mut Report) -> Result<()> {
    let title = |what: &str| format!("{files} files: {what}");
    let begin = Instant::now();
    let mut feeder = Feeder::new();
    feeder.tree("/train", files)?;
    let records = feeder.state.applied().0;
    report.add(title("records applied"), records as f64 / begin.elapsed().as_secs_f64(), "records/s");
    let bytes = feeder.state.memory_bytes() as f64;
    report.add(title("memory of the namespace, by its own count"), bytes / files as f64, "bytes/file");
    let (path, seconds, pause) = write_checkpoint(&mut feeder.state, directory)?;
    report.add(title("a checkpoint is written"), seconds, "s");
    report.add(title("longest turn of it on the namespace thread"), pause.as_secs_f64() * 1000.0, "ms");
    let size = std::fs::metadata(&path)?.len();
    report.add(title("size of the checkpoint"), size as f64 / files as f64, "bytes/file");
    drop(feeder);
    let started = start(&path)?;
    if started.files != files {
        return Err(format!("{} files of {files} were loaded", started.files).into());
    }
    report.add(title("the namespace is read from it"), started.loaded_seconds, "s");
    report.add(title("the map of blocks stands, too"), started.seconds, "s");
    let resident = |bytes: u64| bytes as f64 / files as f64;
    report.add(title("memory of the process after it"), resident(started.resident_bytes), "bytes/file");
    report.add(title("the most it had until then"), resident(started.resident_bytes_max), "bytes/file");
    std::fs::remove_file(path)?;
    Ok(())
}

/// The file, how long it took, and the longest turn of the namespace thread.
fn write_checkpoint(state: &mut State, directory: &Path) -> Result<(PathBuf, f64, Duration)> {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let turn = Config::default().checkpoint_inodes_per_turn;
    let begin = Instant::now();
    let mut pause = Duration::ZERO;
    let mut timed = Instant::now();
    let (mut snapshot, rest) = state.begin_snapshot();
    pause = pause.max(timed.elapsed());
    let header = Header { cluster: CLUSTER, index: snapshot.index() };
    let index = snapshot.index();
    let beside = Beside { directories: vec![directory.to_owned()], ..Beside::default() };
    let mut run = Run::begin(disk, Kind::Ordinary, beside, header).map_err(|error| error.chain())?;
    rest.into_sections().try_for_each(|section| run.section(&section)).map_err(|error| error.chain())?;
    while !snapshot.is_done() {
        timed = Instant::now();
        let (_copied, section) = state.copy(&mut snapshot, turn);
        pause = pause.max(timed.elapsed());
        if let Some(section) = section {
            run.section(&section).map_err(|error| error.chain())?;
        }
    }
    state.end_snapshot();
    run.finish().result.map_err(|error| error.chain())?;
    Ok((checkpoint::path(directory, index), begin.elapsed().as_secs_f64(), pause))
}

/// A directory is listed page by page, with and without a walk's machinery.
fn listing(entries: u64, report: &mut Report) -> Result<()> {
    let mut feeder = Feeder::new();
    feeder.directory("/wide")?;
    (0..entries).try_for_each(|entry| feeder.empty_file(&format!("/wide/part-{entry:08}")))?;
    let mut namenode = Namenode::new(feeder.state);
    let (mut after, mut seen, mut pages) = (String::new(), 0, 0);
    let begin = Instant::now();
    loop {
        let request = ListRequestV1 { path: "/wide".to_owned(), start_after: after, entries_max: 0 };
        let Reply::List(page) = namenode.ask(Request::List(request))? else { return Err("no page".into()) };
        (seen, pages) = (seen + page.entries.len() as u64, pages + 1);
        match page.entries.last() {
            Some(last) if page.remaining > 0 => after = last.name.clone(),
            _ => break,
        }
    }
    if seen != entries {
        return Err(format!("{seen} of {entries} entries were listed").into());
    }
    report.add(format!("listing of {entries} entries"), begin.elapsed().as_secs_f64() * 1000.0, "ms");
    report.add("pages of it", f64::from(pages), "");
    report.add("longest turn of it", ms(namenode.take_longest().of_all()), "ms");
    let (mut after, mut seen) = (Some(String::new()), 0);
    let begin = Instant::now();
    while let Some(start_after) = after {
        let request = WalkRequestV1 {
            path: "/".to_owned(),
            start_after,
            depth_max: 0,
            files_only: true,
            with_locations: false,
            entries_max: 0,
        };
        let Reply::Walk(page) = namenode.ask(Request::Walk(request))? else { return Err("no page".into()) };
        seen += page.entries.len() as u64;
        after = page.next;
    }
    if seen != entries {
        return Err(format!("{seen} of {entries} entries were walked over").into());
    }
    report.add(format!("walk over the same {entries} entries"), begin.elapsed().as_secs_f64() * 1000.0, "ms");
    report.add("longest turn of it, too", ms(namenode.take_longest().of_all()), "ms");
    Ok(())
}

/// A tree is deleted, and freed in as many turns as it takes.
fn deletion(files: u64, report: &mut Report) -> Result<()> {
    let mut feeder = Feeder::new();
    feeder.tree("/old", files)?;
    let mut namenode = Namenode::new(feeder.state);
    // The blocks of this namespace are on no datanode.
    namenode.ask(Request::SafeMode(SafeModeRequestV1 { action: SafeModeAction::Leave }))?;
    namenode.take_longest();
    let begin = Instant::now();
    namenode.ask(Request::Delete(DeleteRequestV1 { path: "/old".to_owned(), recursive: true }))?;
    report.add(format!("deletion of a tree of {files} files: answered after"), ms(begin.elapsed()), "ms");
    let mut turns = 0;
    while namenode.core.state().has_detached() {
        namenode.turn();
        turns += 1;
    }
    report.add("all of it freed after", ms(begin.elapsed()), "ms");
    report.add("turns of it", f64::from(turns), "");
    let longest = namenode.take_longest();
    report.add("longest stall of others", ms(longest.of_all()), "ms");
    let counts = namenode.core.state().counts();
    if (counts.files, counts.blocks) != (0, 0) {
        return Err(format!("{} files and {} blocks are left", counts.files, counts.blocks).into());
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Makes namespaces, record by record.
struct Feeder {
    state: State,
}

impl Feeder {
    fn new() -> Self {
        Self { state: State::new("super", "supergroup") }
    }

    /// Directories of [`FILES_PER_DIRECTORY`] files with one block each.
    fn tree(&mut self, root: &str, files: u64) -> Result<()> {
        for file in 0..files {
            let directory = format!("{root}/{:06}", file / FILES_PER_DIRECTORY);
            if file.is_multiple_of(FILES_PER_DIRECTORY) {
                self.directory(&directory)?;
            }
            self.file(&format!("{directory}/train-{file:09}.tar"))?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &str) -> Result<()> {
        let path = path.to_owned();
        let change = MkdirsV1 { path, mode: 0o755, unmasked_mode: 0o755, create_parents: true };
        self.apply(ChangeV1::Mkdirs(change)).map(drop)
    }

    fn file(&mut self, path: &str) -> Result<()> {
        let inode = self.create(path)?;
        let (block, stamp) = (BlockId(self.state.last_block().0 + 1), Stamp(self.state.last_stamp().0 + 1));
        let (previous, previous_crc, pipeline) = (None, None, Vec::new());
        self.apply(ChangeV1::AddBlock(AddBlockV1 { inode, previous, previous_crc, block, stamp, pipeline }))?;
        let last = Some(BlockRefV1 { block, stamp, length: BLOCK_BYTES });
        self.apply(ChangeV1::Complete(CompleteV1 { inode, last, crc: Some(block.0 as u32), tail: None }))
            .map(drop)
    }

    fn empty_file(&mut self, path: &str) -> Result<()> {
        let inode = self.create(path)?;
        self.apply(ChangeV1::Complete(CompleteV1 { inode, last: None, crc: None, tail: None })).map(drop)
    }

    fn create(&mut self, path: &str) -> Result<InodeId> {
        let change = CreateV1 {
            path: path.to_owned(),
            mode: 0o644,
            unmasked_mode: 0o644,
            overwrite: false,
            create_parents: false,
            replication: 3,
            block_size: 128 << 20,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: 4096,
        };
        match self.apply(ChangeV1::Create(change))? {
            Applied::Created(inode) => Ok(inode),
            other => Err(format!("create {path}: {other:?}").into()),
        }
    }

    fn apply(&mut self, change: ChangeV1) -> Result<Applied> {
        let index = self.state.applied().0 + 1;
        let record = RecordV1 {
            index: LogIndex(index),
            term: Term(1),
            time_ms: index,
            session: SessionId([1; 16]),
            call: CallId(index),
            lowest_unanswered: CallId(index),
            user: "someone".to_owned(),
            groups: Vec::new(),
            is_privileged: true,
            change,
        };
        Ok(self.state.apply(&record, &mut Vec::new())?)
    }
}

/// The deciding part of a namenode, with a log that is durable at once. Times each turn.
struct Namenode {
    core: Core,
    caller: Arc<Caller>,
    now: Now,
    call: u64,
    longest: Longest,
}

/// The longest turns, by what the namespace thread did.
#[derive(Debug, Clone, Copy, Default)]
struct Longest {
    call: Duration,
    tick: Duration,
    work: Duration,
    apply: Duration,
}

impl Longest {
    fn of_all(self) -> Duration {
        self.call.max(self.tick).max(self.work).max(self.apply)
    }
}

impl Namenode {
    fn new(state: State) -> Self {
        let now = Now { mono_ms: 1000, wall_ms: 1_700_000_000_000 };
        let core = Core::new(state, CLUSTER, ClusterKey::new(1, [9; 32]), Config::default(), now, 42);
        let caller = Caller {
            connection: 1,
            session: SessionId([2; 16]),
            user: "super".to_owned(),
            credentials: Credentials::privileged(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            role: Role::Client,
            nonce: [0; 16],
            renews_leases: false,
            is_datanode: AtomicBool::new(false),
        };
        Self { core, caller: Arc::new(caller), now, call: 0, longest: Longest::default() }
    }

    /// Asks, and does what is to be done until there is an answer.
    fn ask(&mut self, request: Request) -> Result<Reply> {
        self.call += 1;
        let header = FrameHeader::request(request.op(), CallId(self.call));
        let (caller, call) = (self.caller.clone(), CallId(self.call));
        let call = Call { caller, call, lowest_unanswered: call, header, request, context: None };
        let now = self.now;
        self.longest.call = self.longest.call.max(timed(|| self.core.call(call, now)));
        loop {
            if let Some(answer) = self.core.take_answers().pop() {
                return answer.result.map_err(Into::into);
            }
            self.turn();
        }
    }

    /// What is logged is applied, one batch; without one time passes: a tick, and a piece of work that waits.
    fn turn(&mut self) {
        if let Some(batch) = self.core.take_batch() {
            let (last, now) = (batch.last(), self.now);
            let apply = timed(|| self.core.durable(last, BatchBuilder::default(), now));
            self.longest.apply = self.longest.apply.max(apply);
            return;
        }
        self.now = Now { mono_ms: self.now.mono_ms + TICK_MS, wall_ms: self.now.wall_ms + TICK_MS };
        let now = self.now;
        self.longest.tick = self.longest.tick.max(timed(|| self.core.tick(now)));
        self.longest.work = self.longest.work.max(timed(|| self.core.work(now)));
    }

    /// The longest turns since this was called last.
    fn take_longest(&mut self) -> Longest {
        core::mem::take(&mut self.longest)
    }
}

fn timed(act: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    act();
    begin.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiny_run_measures_everything() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let mut report = Report::new("memory");
        run(&Sizes::tiny(), temp.path(), &load, &mut report).expect("measured");
        assert_eq!(report.value("pages of it"), Some(3.0));
        for what in [
            "2500 files: memory of the namespace, by its own count",
            "2500 files: the namespace is read from it",
            "longest stall of others",
        ] {
            assert!(report.value(what).is_some_and(|value| value > 0.0), "{what} in {}", report.table());
        }
    }
}
