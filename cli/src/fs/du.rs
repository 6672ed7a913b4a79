//! `-du`.

use ringfs_sdk::{FileKind, FileStatus};

use super::args::Args;
use super::path::Place;
use super::text::size;
use super::{Command, Failure, Shell, json};
use crate::output::outln;

pub const COMMAND: Command = Command {
    name: "du",
    flags: &["h", "s", "v", "x", json::FLAG],
    values: &[],
    operands_min: 0,
    usage: "du [-s] [-h] [-v] [-x] [--json] [<path> ...]",
    help: "Print the bytes below each entry: once, and over all replicas.\n\
           -s  one line per path\n-h  sizes for people: 1.5 K\n-v  with a header\n--json  an object for each entry\n-x  taken and without effect: there are no snapshots",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let paths = if args.operands.is_empty() { vec![String::new()] } else { args.operands.clone() };
    let mut rows = Vec::new();
    let result = shell.for_each(COMMAND.name, &paths, |place| {
        let status = place.stat()?;
        if status.kind == FileKind::File || args.has("s") {
            rows.push(row(place, &status, args)?);
            return Ok(());
        }
        for entry in place.client.list(&place.path).map_err(|error| place.failure(&error))? {
            let entry = entry.map_err(|error| place.failure(&error))?;
            rows.push(row(&place.child(&entry.name), &entry, args)?);
        }
        Ok(())
    });
    if args.has(json::FLAG) {
        return result;
    }
    if args.has("v") {
        rows.insert(
            0,
            ["SIZE", "DISK_SPACE_CONSUMED_WITH_ALL_REPLICAS", "FULL_PATH_NAME"].map(str::to_owned),
        );
    }
    let widths = [0, 1].map(|column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for [bytes, with_replicas, path] in &rows {
        outln!("{bytes:<0$}  {with_replicas:<1$}  {path}", widths[0], widths[1]);
    }
    result
}

fn row(place: &Place, status: &FileStatus, args: &Args) -> Result<[String; 3], Failure> {
    let (bytes, with_replicas) = sum(place, status)?;
    if args.has(json::FLAG) {
        json::print(&serde_json::json!({
            "path": place.path, "length": bytes, "space_consumed": with_replicas,
        }));
    }
    let is_human = args.has("h");
    Ok([size(bytes, is_human), size(with_replicas, is_human), place.shown.clone()])
}

/// Bytes of everything below, once and over all replicas.
fn sum(place: &Place, status: &FileStatus) -> Result<(u64, u64), Failure> {
    if status.kind == FileKind::File {
        return Ok((status.length, status.length * u64::from(status.replication)));
    }
    let summary = place.client.content_summary(&place.path).map_err(|error| place.failure(&error))?;
    Ok((summary.length, summary.space_consumed))
}
