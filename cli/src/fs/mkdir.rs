//! `-mkdir`.

use ringfs_sdk::FileKind;

use super::args::Args;
use super::{Command, Failure, Shell};

pub const COMMAND: Command = Command {
    name: "mkdir",
    flags: &["p"],
    values: &[],
    operands_min: 1,
    usage: "mkdir [-p] <path> ...",
    help: "Make directories.\n-p  make missing parents too; a directory that is there is no error",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let with_parents = args.has("p");
    shell.for_each_or_new(COMMAND.name, &args.operands, |place| {
        match place.find()?.map(|status| status.kind) {
            Some(FileKind::Directory) if with_parents => return Ok(()),
            Some(FileKind::Directory) => return Err(place.failed("File exists")),
            Some(FileKind::File) => return Err(place.failed("Is not a directory")),
            None => {}
        }
        place.client.mkdirs_with(&place.path, 0o777, with_parents).map_err(|error| place.failure(&error))
    })
}
