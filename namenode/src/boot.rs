//! From directories to a namespace: what a start reads, on any [`Disk`].

use std::path::PathBuf;
use std::sync::Arc;

use ringfs_disk::Disk;

use crate::config::Config;
use crate::core::{Core, Now};
use crate::directory::{Directories, Identity};
use crate::server::StartError;
use crate::state::State;
use crate::wal::members::{self, Choice, Found};
use crate::wal::{Log, Options};

/// What was read.
#[derive(Debug)]
pub struct Booted {
    /// The directories, owned by this process as long as this lives.
    pub directories: Directories,
    /// The namespace.
    pub state: State,
    /// The log, to be appended to.
    pub log: Log,
}

/// Opens the directories of a namenode and replays what is in them. `seed` is another at each start.
///
/// # Errors
/// [`StartError`]: the message says what to do.
pub fn boot(disk: &Arc<dyn Disk>, config: &Config, seed: u64) -> Result<Booted, StartError> {
    if config.wal_dirs.is_empty() {
        return Err(StartError::Config("wal_dirs is empty: name the directories of the log".to_owned()));
    }
    let mut directories = Directories::open(&**disk, &config.wal_dirs)?;
    let choice = choose(&**disk, &mut directories)?;
    let Identity { cluster, superuser, group } = &directories.identity;
    let mut state = State::new(superuser, group);
    let options = Options { segment_bytes: config.wal_segment_bytes, seed };
    let mut effects = Vec::new();
    let from = state.applied();
    let mut on_record = |record| {
        // A refusal was the answer when the record was written, and is the answer again.
        let _refused_again = state.apply(&record, &mut effects);
        effects.clear();
    };
    let log = Log::open(disk.clone(), &choice, cluster.cluster, &options, from, &mut on_record)?;
    Ok(Booted { directories, state, log })
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
    let Booted { directories, state, log } = boot(disk, config, seed)?;
    let cluster = &directories.identity.cluster;
    let core = Core::new(state, cluster.cluster, cluster.key.clone(), config.clone(), now, seed);
    Ok((core, log, directories))
}

/// Decides which directories are trusted, and formats those that are empty.
fn choose(disk: &dyn Disk, directories: &mut Directories) -> Result<Choice, StartError> {
    let choice = members::choose(disk, &directories.found)?;
    let is_empty = |(path, found): &(PathBuf, Found)| matches!(found, Found::Empty).then(|| path.clone());
    let empty: Vec<PathBuf> = directories.found.iter().filter_map(is_empty).collect();
    empty.iter().try_for_each(|path| directories.fill(disk, path))?;
    Ok(choice)
}
