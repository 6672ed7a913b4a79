//! `-cat`.

use std::io::{self, Write};
use std::sync::atomic::Ordering;

use ringfs_sdk::FileKind;

use super::args::Args;
use super::copy::BUFFER_BYTES;
use super::path::Place;
use super::{Command, Failure, Shell};

pub const COMMAND: Command = Command {
    name: "cat",
    flags: &["ignoreCrc"],
    values: &[],
    operands_min: 1,
    usage: "cat <path> ...",
    help: "Write files to standard output, one after the other. Every byte is verified before it is written.",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    shell.for_each(COMMAND.name, &args.operands, |place| {
        if place.stat()?.kind == FileKind::Directory {
            return Err(place.failed("Is a directory"));
        }
        cat(shell, place, &mut io::stdout().lock())
    })
}

/// Copies a file to `target`.
pub fn cat(shell: &Shell, place: &Place, target: &mut dyn Write) -> Result<(), Failure> {
    let mut reader = place.client.open(&place.path).map_err(|error| place.failure(&error))?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = reader.read(&mut buffer).map_err(|error| place.failure(&error))?;
        if len == 0 || shell.stop.load(Ordering::Relaxed) {
            return Ok(target.flush()?);
        }
        match target.write_all(&buffer[..len]) {
            // Whoever reads our output has enough: `ringfs fs -cat /f | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Failure::Silent),
            written => written?,
        }
    }
}
