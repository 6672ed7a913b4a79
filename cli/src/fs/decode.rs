//! `-text`: files as text, decompressed. HDFS: `Display.Text`.

use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use ringfs_sdk::FileKind;

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell};

pub const COMMAND: Command = Command {
    name: "text",
    flags: &["ignoreCrc"],
    values: &[],
    operands_min: 1,
    usage: "text <path> ...",
    help: "Write files to standard output: those in gzip form, or named .deflate, decompressed. SequenceFiles and Avro files are\n\
           written as they are.\n-ignoreCrc  taken and without effect: every byte is verified",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    shell.for_each(COMMAND.name, &args.operands, |place| {
        if place.stat()?.kind == FileKind::Directory {
            return Err(place.failed("Is a directory"));
        }
        text(shell, place)
    })
}

fn text(shell: &Shell, place: &Place) -> Result<(), Failure> {
    let mut reader = place.client.open(&place.path).map_err(|error| place.failure(&error))?;
    let mut magic = [0; 2];
    let len = reader.read_at(0, &mut magic).map_err(|error| place.failure(&error))?;
    reader.seek_to(0);
    let mut input: Box<dyn Read> = match magic {
        [0x1f, 0x8b] if len == 2 => Box::new(MultiGzDecoder::new(reader)),
        _ if place.name().ends_with(".deflate") => Box::new(ZlibDecoder::new(reader)),
        _ => Box::new(reader),
    };
    let (mut output, mut buffer) = (io::stdout().lock(), vec![0; 1 << 16]);
    while !shell.stop.load(Ordering::Relaxed) {
        let len = input.read(&mut buffer).map_err(|error| place.failed(&error.to_string()))?;
        if len == 0 {
            break;
        }
        match output.write_all(&buffer[..len]) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Failure::Silent),
            written => written?,
        }
    }
    Ok(output.flush()?)
}
