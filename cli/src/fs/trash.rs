//! The trash: where `-rm` moves what it deletes, and `-expunge`. HDFS: `TrashPolicyDefault`.

use std::time::{SystemTime, UNIX_EPOCH};

use ringfs_sdk::FileKind;

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell};
use crate::output::outln;

pub const EXPUNGE: Command = Command {
    name: "expunge",
    flags: &["immediate"],
    values: &["fs"],
    operands_min: 0,
    usage: "expunge [-immediate] [-fs <path>]",
    help: "Make a checkpoint of the user's trash, and delete checkpoints that are older than the namenode keeps them.\n\
           -immediate  delete all of the trash now",
    run: expunge,
};

/// The trash of a user.
pub fn root(user: &str) -> String {
    format!("/user/{user}/.Trash")
}

/// Moves something to the user's trash; `false` when there is none, or it lies there already.
pub fn take(place: &Place) -> Result<bool, Failure> {
    let client = &place.client;
    let failed = |error: ringfs_sdk::Error| place.failure(&error);
    if client.server_defaults().map_err(failed)?.trash_interval_minutes == 0 {
        return Ok(false);
    }
    let trash = root(client.user());
    if place.path == trash || place.path.starts_with(&format!("{trash}/")) {
        return Ok(false);
    }
    if trash.starts_with(&format!("{}/", place.path.trim_end_matches('/'))) {
        return Err(place.failed("Cannot move to the trash, as it contains the trash"));
    }
    let (parent, name) = place.path.rsplit_once('/').unwrap_or(("", &place.path));
    let base = format!("{trash}/Current{parent}");
    client.mkdirs_with(&base, 0o700, true).map_err(failed)?;
    let mut target = format!("{base}/{name}");
    if client.stat(&target).is_ok() {
        target += &now_ms().to_string();
    }
    client.rename(&place.path, &target, false).map_err(failed)?;
    outln!("Moved: '{}' to trash at: {}{target}", qualified(place), client.uri());
    Ok(true)
}

fn qualified(place: &Place) -> String {
    format!("{}{}", place.client.uri(), place.path)
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

fn expunge(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let place = shell.resolver.place(args.value("fs").unwrap_or("/"))?;
    let client = &place.client;
    let failed = |error: ringfs_sdk::Error| place.failure(&error);
    let trash = root(client.user());
    let interval_ms = u64::from(client.server_defaults().map_err(failed)?.trash_interval_minutes) * 60_000;
    let entries = match client.list(&trash) {
        Err(error) if error.kind() == ringfs_sdk::Kind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?,
    };
    let now = chrono::Utc::now();
    for entry in entries.iter().filter(|entry| entry.kind == FileKind::Directory) {
        let path = format!("{trash}/{}", entry.name);
        let is_old = checkpoint_ms(&entry.name)
            .is_some_and(|made_ms| made_ms.saturating_add(interval_ms) < now.timestamp_millis() as u64);
        if args.has("immediate") || is_old {
            client.delete(&path, true).map_err(failed)?;
            outln!("Deleted trash checkpoint: {path}");
        } else if entry.name == "Current" {
            let checkpoint = format!("{trash}/{}", now.format("%y%m%d%H%M%S"));
            client.rename(&path, &checkpoint, false).map_err(failed)?;
            outln!("Created trash checkpoint: {checkpoint}");
        }
    }
    Ok(())
}

/// When a checkpoint was made, ms since 1970; `None` for a name that is none: the namenode names them by UTC.
fn checkpoint_ms(name: &str) -> Option<u64> {
    let time = chrono::NaiveDateTime::parse_from_str(name, "%y%m%d%H%M%S").ok()?;
    u64::try_from(time.and_utc().timestamp_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_named_by_their_time() {
        assert_eq!(checkpoint_ms("231114221320"), Some(1_700_000_000_000));
        assert_eq!(checkpoint_ms("Current"), None);
        assert_eq!(root("ann"), "/user/ann/.Trash");
    }
}
