//! `-checksum`. HDFS: `Display.Checksum`, with `dfs.checksum.combine.mode=COMPOSITE_CRC`.

use ringfs_proto::checksum::ChecksumType;
use ringfs_sdk::FileKind;

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell};
use crate::output::outln;

pub const COMMAND: Command = Command {
    name: "checksum",
    flags: &["v"],
    values: &[],
    operands_min: 1,
    usage: "checksum [-v] <src> ...",
    help: "Print the checksum of the content of files: as HDFS with dfs.checksum.combine.mode=COMPOSITE_CRC, the same however\n\
           a file is cut into blocks. The namenode knows it; of a file of which it does not, all bytes are read.\n\
           -v  the block size too",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    shell.for_each(COMMAND.name, &args.operands, |place| {
        let status = place.stat()?;
        if status.kind == FileKind::Directory {
            return Err(place.failed("Is a directory"));
        }
        let (kind, crc) = match status.content_crc {
            Some(known) => (known.kind, known.crc),
            None => (ChecksumType::Crc32c, read(place)?),
        };
        let kind = match kind {
            ChecksumType::Crc32 => "COMPOSITE-CRC32",
            ChecksumType::Crc32c => "COMPOSITE-CRC32C",
        };
        match args.has("v") {
            true => outln!("{}\t{kind}\t{crc:08x}\tBlockSize={}", place.shown, status.block_size),
            false => outln!("{}\t{kind}\t{crc:08x}", place.shown),
        }
        Ok(())
    })
}

/// The checksum of all bytes.
fn read(place: &Place) -> Result<u32, Failure> {
    let mut reader = place.client.open(&place.path).map_err(|error| place.failure(&error))?;
    let (mut crc, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        match reader.read(&mut buffer).map_err(|error| place.failure(&error))? {
            0 => return Ok(crc),
            len => crc = ChecksumType::Crc32c.append(crc, &buffer[..len]),
        }
    }
}
