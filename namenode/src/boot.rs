//! From directories to a namespace: what a start reads, on any [`Disk`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use ringfs_disk::Disk;
use ringfs_proto::ids::{ClusterId, LogIndex};

use crate::checkpoint::{self, CheckpointError};
use crate::config::Config;
use crate::core::{Core, Now};
use crate::directory::{Directories, Identity};
use crate::server::StartError;
use crate::state::{Effect, State};
use crate::wal::members::{self, Choice, Found};
use crate::wal::record::RecordV1;
use crate::wal::{Log, Options, ValuesAt, WalError, mirror};

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod value_crash_tests;

/// Records that are decoded before they are applied together.
const RECORDS_TOGETHER: usize = 2048;
/// How many times as many may wait.
const QUEUED_MAX: usize = 8;

/// What was read.
#[derive(Debug)]
pub struct Booted {
    /// The directories, owned by this process as long as this lives.
    pub directories: Directories,
    /// The namespace.
    pub state: State,
    /// The log, to be appended to.
    pub log: Log,
    /// The last record of the checkpoint that was read; 0 when there was none.
    pub checkpoint: LogIndex,
}

/// Opens the directories of a namenode, reads the newest good checkpoint and replays the log after it, on two threads.
/// `seed` is another at each start.
///
/// # Errors
/// [`StartError`]: the message says what to do.
pub fn boot(disk: &Arc<dyn Disk>, config: &Config, seed: u64) -> Result<Booted, StartError> {
    boot_by(replay_on_two_threads, disk, config, seed)
}

/// A namenode's deciding part and its log, for who drives both without threads.
///
/// # Errors
/// As [`boot`].
pub fn start_core(
    disk: &Arc<dyn Disk>,
    config: &Config,
    now: Now,
    seed: u64,
) -> Result<(Core, Log, Directories), StartError> {
    let Booted { directories, state, log, checkpoint } = boot_by(replay, disk, config, seed)?;
    let cluster = &directories.identity.cluster;
    let mut core = Core::new(state, cluster.cluster, cluster.key.clone(), config.clone(), now, seed);
    core.set_checkpoint(checkpoint, log.replayed_bytes(), now);
    Ok((core, log, directories))
}

fn boot_by(
    replay: fn(Opening, &mut State) -> Result<Log, WalError>,
    disk: &Arc<dyn Disk>,
    config: &Config,
    seed: u64,
) -> Result<Booted, StartError> {
    if config.wal_dirs.is_empty() {
        return Err(StartError::Config("wal_dirs is empty: name the directories of the log".to_owned()));
    }
    let mut directories = Directories::open(&**disk, &config.wal_dirs)?;
    let choice = choose(&**disk, &mut directories)?;
    let mut checkpoints = Checkpoints::find(&**disk, &choice);
    let mut state = checkpoints.load(&**disk, &directories.identity);
    let from = state.applied();
    let open = Opening {
        disk: disk.clone(),
        choice,
        cluster: directories.identity.cluster.cluster,
        options: Options { segment_bytes: config.wal_segment_bytes, seed },
        from,
    };
    let log = replay(open, &mut state).map_err(|error| checkpoints.explain(error))?;
    checkpoints.make_alike(&**disk, &log.status().live());
    Ok(Booted { directories, state, log, checkpoint: from })
}

/// Decides which directories are trusted, and formats those that are empty.
fn choose(disk: &dyn Disk, directories: &mut Directories) -> Result<Choice, StartError> {
    let choice = members::choose(disk, &directories.found)?;
    let is_empty = |(path, found): &(PathBuf, Found)| matches!(found, Found::Empty).then(|| path.clone());
    let empty: Vec<PathBuf> = directories.found.iter().filter_map(is_empty).collect();
    empty.iter().try_for_each(|path| directories.fill(disk, path))?;
    Ok(choice)
}

/// A log to be opened.
struct Opening {
    disk: Arc<dyn Disk>,
    choice: Choice,
    cluster: ClusterId,
    options: Options,
    from: LogIndex,
}

impl Opening {
    fn open(self, on_record: &mut dyn FnMut(RecordV1, ValuesAt)) -> Result<Log, WalError> {
        Log::open(self.disk, &self.choice, self.cluster, &self.options, self.from, on_record)
    }
}

fn replay(open: Opening, state: &mut State) -> Result<Log, WalError> {
    let mut effects = Vec::new();
    open.open(&mut |record, values_at| apply(state, &record, values_at, &mut effects))
}

/// One thread reads, verifies and decodes, the other applies: a start takes as long as the slower of them.
fn replay_on_two_threads(open: Opening, state: &mut State) -> Result<Log, WalError> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Vec<(RecordV1, ValuesAt)>>(QUEUED_MAX);
        let read = scope.spawn(move || {
            let mut together = Vec::with_capacity(RECORDS_TOGETHER);
            let log = open.open(&mut |record, values_at| {
                together.push((record, values_at));
                if together.len() == RECORDS_TOGETHER {
                    let full = core::mem::replace(&mut together, Vec::with_capacity(RECORDS_TOGETHER));
                    // Nobody receives only when applying has panicked, which ends the start.
                    let _ends_anyway = sender.send(full);
                }
            });
            let _ends_anyway = sender.send(together);
            log
        });
        let mut effects = Vec::new();
        for records in receiver {
            records.iter().for_each(|(record, values_at)| apply(state, record, *values_at, &mut effects));
        }
        read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn apply(state: &mut State, record: &RecordV1, values_at: ValuesAt, effects: &mut Vec<Effect>) {
    state.set_values_at(values_at);
    // A refusal was the answer when the record was written, and is the answer again.
    let _refused_again = state.apply(record, effects);
    effects.clear();
}

/// The checkpoints that a start may read.
struct Checkpoints {
    /// Directories that have the checkpoint at an index, trusted ones first.
    found: BTreeMap<LogIndex, Vec<PathBuf>>,
    /// Those that do not verify.
    damaged: Vec<(LogIndex, PathBuf)>,
    first_failure: Option<CheckpointError>,
}

impl Checkpoints {
    fn find(disk: &dyn Disk, choice: &Choice) -> Self {
        let mut found: BTreeMap<LogIndex, Vec<PathBuf>> = BTreeMap::new();
        for directory in choice.trusted.iter().chain(&choice.behind) {
            for index in checkpoint::list(disk, directory).unwrap_or_default() {
                found.entry(index).or_default().push(directory.clone());
            }
        }
        Self { found, damaged: Vec::new(), first_failure: None }
    }

    /// The namespace of the newest one that is good; an empty namespace when there is none.
    fn load(&mut self, disk: &dyn Disk, identity: &Identity) -> State {
        for (index, directories) in self.found.iter().rev() {
            for directory in directories {
                let path = checkpoint::path(directory, *index);
                match checkpoint::load(disk, &path, identity.cluster.cluster) {
                    Ok(state) => return state,
                    Err(error) => {
                        tracing::error!(
                            error = error.chain(),
                            "a checkpoint cannot be used: its copy in another directory is, or the one before it with more of the log"
                        );
                        self.damaged.push((*index, directory.clone()));
                        self.first_failure.get_or_insert(error);
                    }
                }
            }
        }
        State::new(&identity.superuser, &identity.group)
    }

    /// A gap of the log that a damaged checkpoint would have covered names both.
    fn explain(&mut self, error: WalError) -> StartError {
        match (error, self.first_failure.take()) {
            (gap @ WalError::Gap { .. }, Some(checkpoint)) => {
                StartError::Uncovered { gap, checkpoint: Box::new(checkpoint) }
            }
            (error, _) => StartError::Wal(error),
        }
    }

    /// Puts damaged ones out of the way, and good ones where they are missing. What fails here is found out, and told,
    /// when the next checkpoint is written there.
    fn make_alike(&self, disk: &dyn Disk, live: &[PathBuf]) {
        for (index, directory) in self.damaged.iter().filter(|(_, directory)| live.contains(directory)) {
            note(checkpoint::set_aside(disk, directory, *index), "set a damaged checkpoint aside", directory);
        }
        for (index, directories) in self.found.iter().rev().take(checkpoint::KEPT) {
            let is_good = |path: &PathBuf| {
                directories.contains(path)
                    && !self.damaged.iter().any(|(other, at)| other == index && at == path)
            };
            let Some(source) = directories.iter().find(|path| is_good(path)) else { continue };
            for target in live.iter().filter(|path| !is_good(path)) {
                let (from, to) = (checkpoint::path(source, *index), checkpoint::path(target, *index));
                note(mirror::copy(disk, &from, &to), "copy a checkpoint", target);
            }
        }
    }
}

fn note(result: std::io::Result<()>, what: &str, directory: &Path) {
    if let Err(error) = result {
        tracing::warn!(%error, path = %directory.display(), "could not {what}");
    }
}
