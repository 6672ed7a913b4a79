//! `-rm`.

use ringfs_sdk::FileKind;

use super::args::Args;
use super::{Command, Failure, Shell};
use crate::output::outln;

pub const COMMAND: Command = Command {
    name: "rm",
    flags: &["f", "r", "R", "skipTrash"],
    values: &[],
    operands_min: 1,
    usage: "rm [-f] [-r|-R] [-skipTrash] <path> ...",
    help: "Delete files, at once: there is no trash yet.\n\
           -f  a path that is not there is no error\n-r  directories too, with all below\n-skipTrash  taken and without effect",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let is_recursive = args.has("r") || args.has("R");
    shell.for_each(COMMAND.name, &args.operands, |place| {
        match place.find()? {
            None if args.has("f") => return Ok(()),
            None => return Err(place.failed("No such file or directory")),
            Some(status) if status.kind == FileKind::Directory && !is_recursive => {
                return Err(place.failed("Is a directory"));
            }
            Some(_) => {}
        }
        if place.client.delete(&place.path, is_recursive).map_err(|error| place.failure(&error))? {
            outln!("Deleted {}", place.shown);
            Ok(())
        } else {
            Err(place.failed("Input/output error"))
        }
    })
}
