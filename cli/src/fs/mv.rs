//! `-mv`.

use super::args::Args;
use super::{Command, Failure, Shell};

pub const COMMAND: Command = Command {
    name: "mv",
    flags: &[],
    values: &[],
    operands_min: 2,
    usage: "mv <src> ... <dst>",
    help: "Rename a file or directory, or move several into a directory. Nothing is replaced.",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let Some((target, sources)) = args.operands.split_last() else { return Err(Failure::Silent) };
    let target = shell.resolver.place(target)?;
    let is_directory = target.is_directory()?;
    if sources.len() > 1 && !is_directory {
        let reason =
            if target.find()?.is_some() { "Is not a directory" } else { "No such file or directory" };
        return Err(target.failed(reason));
    }
    shell.for_each(COMMAND.name, sources, |source| {
        source.stat()?;
        if source.client.uri() != target.client.uri() {
            return Err(source.failed("Does not match target filesystem"));
        }
        let target = if is_directory { target.child(source.name()) } else { target.clone() };
        if target.find()?.is_some() {
            return Err(target.failed("File exists"));
        }
        source.client.rename(&source.path, &target.path, false).map_err(|error| target.failure(&error))
    })
}
