//! `-df`.

use super::args::Args;
use super::text::size;
use super::{Command, Failure, Shell};
use crate::output::{align, outln};

pub const COMMAND: Command = Command {
    name: "df",
    flags: &["h"],
    values: &[],
    operands_min: 0,
    usage: "df [-h] [<path> ...]",
    help: "Print the room of the file system: all of it, used, and left, over all datanodes.\n-h  sizes for people: 1.5 K",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let paths = if args.operands.is_empty() { vec!["/".to_owned()] } else { args.operands.clone() };
    let mut rows = vec![["Filesystem", "Size", "Used", "Available", "Use%"].map(str::to_owned)];
    let result = shell.for_each(COMMAND.name, &paths, |place| {
        place.stat()?;
        let stats = place.client.fs_stats().map_err(|error| place.failure(&error))?;
        let percent = (stats.used_bytes * 100).checked_div(stats.capacity_bytes).unwrap_or(0);
        let sizes = [stats.capacity_bytes, stats.used_bytes, stats.remaining_bytes];
        let [all, used, left] = sizes.map(|bytes| size(bytes, args.has("h")));
        rows.push([place.client.uri(), all, used, left, format!("{percent}%")]);
        Ok(())
    });
    if rows.len() == 1 {
        return result;
    }
    align(&rows, [false, true, true, true, true]).iter().for_each(|line| outln!("{line}"));
    result
}
