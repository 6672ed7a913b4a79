//! `-setrep` (Hadoop's `SetReplication`).

use std::time::Duration;

use ringfs_sdk::FileKind;
use ringfs_sdk::environment::{Clock, SystemClock};

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell};
use crate::output::{outln, print_now};

pub const COMMAND: Command = Command {
    name: "setrep",
    flags: &["R", "w"],
    values: &[],
    operands_min: 2,
    usage: "setrep [-R] [-w] <rep> <path> ...",
    help: "Set how many replicas files shall have; of a directory, all files below it.\n\
           -w  wait until each file has them\n-R  taken and without effect, as in Hadoop",
    run,
};

/// Between two looks at a file that is waited for: doubled each time, up to the longest.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(2);

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let Some((number, paths)) = args.operands.split_first() else { return Err(Failure::Silent) };
    let illegal = |reason: &str| Failure::Usage(reason.to_owned());
    let replication: u16 =
        number.parse().map_err(|_| illegal("Illegal replication, a positive integer expected"))?;
    if replication == 0 {
        return Err(illegal("replication must be >= 1"));
    }
    let waiting = std::cell::RefCell::new(Vec::new());
    let set = shell.for_each(COMMAND.name, paths, |place| set(place, replication, &mut waiting.borrow_mut()));
    if args.has("w") {
        for place in waiting.into_inner() {
            wait(&place, usize::from(replication))?;
        }
    }
    set
}

/// Sets a file, or every file below a directory, and notes them.
fn set(place: &Place, replication: u16, done: &mut Vec<Place>) -> Result<(), Failure> {
    if place.stat()?.kind == FileKind::Directory {
        for (place, status) in place.below(0)? {
            if status.kind == FileKind::File {
                set(&place, replication, done)?;
            }
        }
        return Ok(());
    }
    let is_file =
        place.client.set_replication(&place.path, replication).map_err(|error| place.failure(&error))?;
    if !is_file {
        return Err(Failure::Path(format!("Could not set replication for: {}", place.shown)));
    }
    outln!("Replication {replication} set: {}", place.shown);
    done.push(place.clone());
    Ok(())
}

/// Waits until every block of a file has its replicas.
fn wait(place: &Place, replication: usize) -> Result<(), Failure> {
    print_now(format_args!("Waiting for {} ...", place.shown));
    let mut has_warned = false;
    let mut pause = LOOK_INTERVAL_MIN;
    loop {
        let (is_done, has_more) = look(place, replication)?;
        if is_done {
            outln!(" done");
            return Ok(());
        }
        if has_more && !has_warned {
            outln!("\nWARNING: the waiting time may be long for DECREASING the number of replications.");
            has_warned = true;
        }
        print_now(format_args!("."));
        SystemClock.pause(pause);
        pause = (pause * 2).min(LOOK_INTERVAL_MAX);
    }
}

/// Whether every block has as many replicas, and whether some block has more.
fn look(place: &Place, replication: usize) -> Result<(bool, bool), Failure> {
    let blocks = place.client.block_locations(&place.path, 0, u64::MAX);
    let blocks = blocks.map_err(|error| place.failure(&error))?;
    let is_done = blocks.iter().all(|block| block.nodes.len() == replication);
    Ok((is_done, blocks.iter().any(|block| block.nodes.len() > replication)))
}
