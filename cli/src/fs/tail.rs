//! `-head`, `-tail`. HDFS: `Head`, `Tail`: a kilobyte.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringfs_sdk::FileKind;
use ringfs_sdk::environment::{Clock, SystemClock};

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell};

pub const HEAD: Command = Command {
    name: "head",
    flags: &[],
    values: &[],
    operands_min: 1,
    usage: "head <file>",
    help: "Print the first kilobyte of a file.",
    run: head,
};

pub const TAIL: Command = Command {
    name: "tail",
    flags: &["f"],
    values: &["s"],
    operands_min: 1,
    usage: "tail [-f] [-s <sleep interval>] <file>",
    help: "Print the last kilobyte of a file.\n-f  and what is written behind it, until Ctrl-C\n\
           -s  milliseconds between two looks, 5000 if not given",
    run: tail,
};

const BYTES: u64 = 1024;
/// Between two looks at a file that is followed, ms.
const INTERVAL_MS: u64 = 5000;

fn head(shell: &Shell, args: &Args) -> Result<(), Failure> {
    shell.for_each(HEAD.name, &args.operands, |place| {
        check_file(place)?;
        copy(shell, place, 0, BYTES).map(|_end| ())
    })
}

fn tail(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let interval = match args.value("s") {
        None => INTERVAL_MS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|interval| *interval > 0)
            .ok_or_else(|| Failure::Usage(format!("-s {text}: expected a number of milliseconds")))?,
    };
    let [path] = &args.operands[..] else {
        return Err(Failure::Usage("Too many arguments: expected 1".to_owned()));
    };
    let place = shell.expand_one(path)?;
    check_file(&place)?;
    let length = place.client.open(&place.path).map_err(|error| place.failure(&error))?.len();
    let mut end = copy(shell, &place, length.saturating_sub(BYTES), u64::MAX)?;
    while args.has("f") && !shell.stop.load(Ordering::Relaxed) {
        SystemClock.pause(Duration::from_millis(interval.min(INTERVAL_MS)));
        let length = place.client.open(&place.path).map_err(|error| place.failure(&error))?.len();
        // A file that was cut is followed from its new end.
        end = if length < end { length } else { copy(shell, &place, end, u64::MAX)? };
    }
    Ok(())
}

fn check_file(place: &Place) -> Result<(), Failure> {
    match place.stat()?.kind {
        FileKind::Directory => Err(place.failed("Is a directory")),
        FileKind::File => Ok(()),
    }
}

/// Writes a part of a file to standard output; returns where it ended.
fn copy(shell: &Shell, place: &Place, begin: u64, length: u64) -> Result<u64, Failure> {
    let reader = place.client.open(&place.path).map_err(|error| place.failure(&error))?;
    let until = begin.saturating_add(length).min(reader.len());
    let (mut at, mut buffer) = (begin, vec![0; 1 << 20]);
    let mut output = io::stdout().lock();
    while at < until && !shell.stop.load(Ordering::Relaxed) {
        let wanted = (until - at).min(buffer.len() as u64) as usize;
        let len = reader.read_at(at, &mut buffer[..wanted]).map_err(|error| place.failure(&error))?;
        if len == 0 {
            break;
        }
        match output.write_all(&buffer[..len]).and_then(|()| output.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Failure::Silent),
            written => written?,
        }
        at += len as u64;
    }
    Ok(at)
}
