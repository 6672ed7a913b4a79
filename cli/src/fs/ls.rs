//! `-ls`.

use ringfs_sdk::{FileKind, FileStatus, WalkOptions};

use super::args::Args;
use super::path::Place;
use super::text::{local_minute, permissions, size};
use super::{Command, Failure, Shell, json};
use crate::output::outln;

pub const COMMAND: Command = Command {
    name: "ls",
    flags: &["C", "d", "h", "q", "R", "r", "S", "t", "u", json::FLAG],
    values: &[],
    operands_min: 0,
    usage: "ls [-C] [-d] [-h] [-q] [-R] [-t] [-S] [-r] [-u] [--json] [<path> ...]",
    help: "List the entries of directories, or the named files.\n\
           -C  paths only\n-d  directories as plain entries\n-h  sizes for people: 1.5 K\n-q  ? for what cannot be printed\n-R  with everything below\n\
           -t  newest first\n-S  largest first\n-r  the other way round\n-u  access times in place of modification times\n--json  an object for each entry",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let paths = if args.operands.is_empty() { vec![String::new()] } else { args.operands.clone() };
    shell.for_each(COMMAND.name, &paths, |place| list(place, args))
}

fn list(place: &Place, args: &Args) -> Result<(), Failure> {
    let status = place.stat()?;
    if status.kind == FileKind::File || args.has("d") {
        print(&[(place.clone(), status)], args);
        return Ok(());
    }
    list_directory(place, args)
}

fn list_directory(place: &Place, args: &Args) -> Result<(), Failure> {
    if args.has("R") && !is_sorted(args) {
        // One call for a thousand entries, wherever they are.
        let options = WalkOptions::default();
        for entry in place.client.walk(&place.path, &options).map_err(|error| place.failure(&error))? {
            let entry = entry.map_err(|error| place.failure(&error))?;
            print(&[(place.child(&entry.path), entry.status)], args);
        }
        return Ok(());
    }
    let listing = place.client.list(&place.path).map_err(|error| place.failure(&error))?;
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|error| place.failure(&error))?;
        entries.push((place.child(&entry.name), entry));
    }
    sort(&mut entries, args);
    if !args.has("R") && !args.has("C") && !args.has(json::FLAG) && !entries.is_empty() {
        outln!("Found {} items", entries.len());
    }
    if !args.has("R") {
        print(&entries, args);
        return Ok(());
    }
    // Depth first, as Hadoop: a directory, then what is below it.
    for entry in entries {
        print(std::slice::from_ref(&entry), args);
        if entry.1.kind == FileKind::Directory {
            list_directory(&entry.0, args)?;
        }
    }
    Ok(())
}

/// Whether entries come in another order than that of their names.
fn is_sorted(args: &Args) -> bool {
    ["t", "S", "r"].iter().any(|flag| args.has(flag))
}

/// The time that is shown and sorted by.
fn time_ms(status: &FileStatus, args: &Args) -> u64 {
    if args.has("u") { status.atime_ms } else { status.mtime_ms }
}

/// HDFS: `-q`.
fn shown(place: &Place, args: &Args) -> String {
    let printable = |letter: char| if letter.is_control() { '?' } else { letter };
    if args.has("q") { place.shown.chars().map(printable).collect() } else { place.shown.clone() }
}

fn sort(entries: &mut [(Place, FileStatus)], args: &Args) {
    if args.has("t") {
        entries.sort_by_key(|(_, status)| std::cmp::Reverse(time_ms(status, args)));
    } else if args.has("S") {
        entries.sort_by_key(|(_, status)| std::cmp::Reverse(status.length));
    }
    if args.has("r") {
        entries.reverse();
    }
}

/// With a plus where there are ACLs.
fn permissions_of(status: &FileStatus) -> String {
    format!("{}{}", permissions(status), if status.has_acl { "+" } else { " " })
}

/// Columns as wide as their widest entry (HDFS: `Ls.adjustColumnWidths`).
fn print(entries: &[(Place, FileStatus)], args: &Args) {
    if args.has(json::FLAG) {
        entries.iter().for_each(|(place, status)| json::print(&json::status(place, status)));
        return;
    }
    if args.has("C") {
        entries.iter().for_each(|(place, _)| outln!("{}", shown(place, args)));
        return;
    }
    let is_human = args.has("h");
    let width = |least: usize, text: &dyn Fn(&FileStatus) -> String| {
        entries.iter().map(|(_, status)| text(status).chars().count()).max().unwrap_or(0).max(least)
    };
    let replication = |status: &FileStatus| match status.kind {
        FileKind::File => status.replication.to_string(),
        FileKind::Directory => "-".to_owned(),
    };
    let length = |status: &FileStatus| size(status.length, is_human);
    let (replication_width, length_width) = (width(3, &replication), width(10, &length));
    let owner_width = width(0, &|status| status.owner.clone());
    let group_width = width(0, &|status| status.group.clone());
    for (place, status) in entries {
        outln!(
            "{}{:>replication_width$} {:<owner_width$} {:<group_width$} {:>length_width$} {} {}",
            permissions_of(status),
            replication(status),
            status.owner,
            status.group,
            length(status),
            local_minute(time_ms(status, args)),
            shown(place, args)
        );
    }
}
