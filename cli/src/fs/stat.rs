//! `-stat`.

use ringfs_sdk::{FileKind, FileStatus};

use super::args::Args;
use super::path::Place;
use super::text::{permissions, utc_second};
use super::{Command, Failure, Shell, json};
use crate::output::outln;

pub const COMMAND: Command = Command {
    name: "stat",
    flags: &[json::FLAG],
    values: &[],
    operands_min: 1,
    usage: "stat [--json] [format] <path> ...",
    help: "Print the status of paths in a format, %y if none is given.\n\
           %a mode, octal   %A mode, symbolic   %b bytes   %F kind   %g group   %n name   %o block size\n\
           %r replication   %u owner   %x %X access time   %y %Y modification time (UTC; ms since 1970)\n\
           --json  an object for each path in place of a format",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let (format, paths) = match args.operands.split_first() {
        Some((format, paths)) if format.contains('%') && !paths.is_empty() => (format.as_str(), paths),
        _ => ("%y", &args.operands[..]),
    };
    shell.for_each(COMMAND.name, paths, |place| {
        let status = place.stat()?;
        if args.has(json::FLAG) {
            json::print(&json::status(place, &status));
        } else {
            outln!("{}", render(format, place, &status));
        }
        Ok(())
    })
}

fn render(format: &str, place: &Place, status: &FileStatus) -> String {
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('a') => text.push_str(&format!("{:o}", status.mode)),
            Some('A') => text.push_str(&permissions(status)),
            Some('b') => text.push_str(&status.length.to_string()),
            Some('F') => {
                text.push_str(if status.kind == FileKind::File { "regular file" } else { "directory" });
            }
            Some('g') => text.push_str(&status.group),
            Some('n') => text.push_str(place.name()),
            Some('o') => text.push_str(&status.block_size.to_string()),
            Some('r') => text.push_str(&status.replication.to_string()),
            Some('u') => text.push_str(&status.owner),
            Some('x') => text.push_str(&utc_second(status.atime_ms)),
            Some('X') => text.push_str(&status.atime_ms.to_string()),
            Some('y') => text.push_str(&utc_second(status.mtime_ms)),
            Some('Y') => text.push_str(&status.mtime_ms.to_string()),
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}
