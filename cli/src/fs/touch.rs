//! `-touch`, `-touchz`, `-createFile`. HDFS: `TouchCommands`.

use chrono::NaiveDateTime;
use ringfs_sdk::{CreateOptions, FileKind};

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell};

pub const TOUCH: Command = Command {
    name: "touch",
    flags: &["a", "m", "c"],
    values: &["t"],
    operands_min: 1,
    usage: "touch [-a] [-m] [-t TIMESTAMP (yyyyMMdd:HHmmss)] [-c] <path> ...",
    help: "Set the times of files to now; files that are not there are made, empty.\n\
           -a  the access time alone\n-m  the modification time alone\n-t  this time in place of now, in UTC\n\
           -c  make nothing",
    run: touch,
};

pub const TOUCHZ: Command = Command {
    name: "touchz",
    flags: &[],
    values: &[],
    operands_min: 1,
    usage: "touchz <path> ...",
    help: "Make files of no bytes. One that is there must have no bytes.",
    run: touchz,
};

pub const CREATE_FILE: Command = Command {
    name: "createFile",
    flags: &["p"],
    values: &[],
    operands_min: 1,
    usage: "createFile [-p] <path> ...",
    help: "Make files of no bytes, which must not be there.\n-p  make missing directories too",
    run: create_file,
};

fn touch(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let time_ms = match args.value("t") {
        None => u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or_default(),
        Some(text) => parse_time(text).ok_or_else(|| {
            Failure::Usage(format!(
                "Unable to parse the specified timestamp {text}. Expected format is yyyyMMdd:HHmmss"
            ))
        })?,
    };
    let both = args.has("a") == args.has("m");
    let (atime, mtime) = (both || args.has("a"), both || args.has("m"));
    shell.for_each_or_new(TOUCH.name, &args.operands, |place| {
        if place.find()?.is_none() {
            if args.has("c") {
                return Ok(());
            }
            make(place, false, false)?;
        }
        let changed = place.client.set_times(&place.path, mtime.then_some(time_ms), atime.then_some(time_ms));
        changed.map_err(|error| place.failure(&error))
    })
}

fn touchz(shell: &Shell, args: &Args) -> Result<(), Failure> {
    shell.for_each_or_new(TOUCHZ.name, &args.operands, |place| {
        match place.find()? {
            Some(status) if status.kind == FileKind::Directory => return Err(place.failed("Is a directory")),
            Some(status) if status.length != 0 => return Err(place.failed("Not a zero-length file")),
            _ => {}
        }
        make(place, true, false)
    })
}

fn create_file(shell: &Shell, args: &Args) -> Result<(), Failure> {
    shell.for_each_or_new(CREATE_FILE.name, &args.operands, |place| make(place, false, args.has("p")))
}

fn make(place: &Place, overwrite: bool, create_parents: bool) -> Result<(), Failure> {
    let options = CreateOptions { overwrite, create_parents, mode: 0o666, ..CreateOptions::default() };
    place.client.put(&place.path, b"", &options).map(|_status| ()).map_err(|error| place.failure(&error))
}

/// `20231114:221320`, UTC, in ms since 1970.
fn parse_time(text: &str) -> Option<u64> {
    let time = NaiveDateTime::parse_from_str(text, "%Y%m%d:%H%M%S").ok()?;
    u64::try_from(time.and_utc().timestamp_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_hadoop_writes_them() {
        assert_eq!(parse_time("20231114:221320"), Some(1_700_000_000_000));
        assert_eq!((parse_time("2023-11-14"), parse_time("20231399:000000")), (None, None));
    }
}
