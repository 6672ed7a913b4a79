//! `ringfs admin checkpoint` and `ringfs admin safemode`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::HumanBytes;
use ringfs_proto::meta::admin::SafeModeAction;

use super::connect;
use crate::output::outln;

/// Safe mode is on, says `safemode get`.
const EXIT_SAFE_MODE: u8 = 3;

/// Options of `ringfs admin checkpoint`.
#[derive(Debug, clap::Args)]
pub struct CheckpointOptions {
    /// Back up into this directory of the namenode's host: missing or empty, an absolute path
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// The file system [default: RINGFS_URI or the client's configuration]
    #[arg(long, value_name = "URI")]
    fs: Option<String>,
}

/// Options of `ringfs admin safemode`.
#[derive(Debug, clap::Args)]
pub struct SafeModeOptions {
    /// What to do
    #[arg(value_enum)]
    action: Action,
    /// With `leave`: go on although datanodes have newer blocks, and give up what the lost part of the log named
    #[arg(long)]
    accept_older_state: bool,
    /// The file system [default: RINGFS_URI or the client's configuration]
    #[arg(long, value_name = "URI")]
    fs: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    /// Say whether changes are refused, and why; exit code 3 if they are
    Get,
    /// Refuse changes until someone leaves it
    Enter,
    /// Accept changes, although not all blocks are reported
    Leave,
}

/// Writes a checkpoint, or a backup.
pub fn checkpoint(options: &CheckpointOptions) -> Result<ExitCode, String> {
    let target = options.to.as_deref().map_or(Ok(String::new()), target_text)?;
    let client = connect(options.fs.as_deref()).map_err(|error| error.to_string())?;
    let written = client.checkpoint(&target).map_err(|error| error.to_string())?;
    let (directory, index, bytes) = (&written.directory, written.index, HumanBytes(written.bytes));
    match target.as_str() {
        "" => outln!("checkpoint at record {index} in {directory}: {bytes}"),
        _ => outln!(
            "backup at record {index} in {directory}: {bytes}; a namenode whose wal_dirs name a copy of it starts from it"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// The namenode does not know the directory that a relative path is meant from.
fn target_text(path: &Path) -> Result<String, String> {
    if !path.is_absolute() {
        return Err(format!("--to {}: not an absolute path of the namenode's host", path.display()));
    }
    path.to_str().map(str::to_owned).ok_or_else(|| format!("--to {}: not UTF-8", path.display()))
}

/// Asks about safe mode, or changes it.
pub fn safe_mode(options: &SafeModeOptions) -> Result<ExitCode, String> {
    let action = match (options.action, options.accept_older_state) {
        (Action::Get, false) => SafeModeAction::Get,
        (Action::Enter, false) => SafeModeAction::Enter,
        (Action::Leave, false) => SafeModeAction::Leave,
        (Action::Leave, true) => SafeModeAction::LeaveDespiteOlderState,
        (_, true) => return Err("--accept-older-state: only with leave".to_owned()),
    };
    let client = connect(options.fs.as_deref()).map_err(|error| error.to_string())?;
    let reason = client.safe_mode(action).map_err(|error| error.to_string())?;
    match reason.as_str() {
        "" => outln!("safe mode is off: changes are accepted"),
        reason => outln!("safe mode is on: {reason}"),
    }
    let is_asked = options.action == Action::Get;
    Ok(if is_asked && !reason.is_empty() { ExitCode::from(EXIT_SAFE_MODE) } else { ExitCode::SUCCESS })
}
