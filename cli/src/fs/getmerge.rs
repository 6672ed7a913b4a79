//! `-getmerge`.

use std::fs::File;
use std::io::Write;

use ringfs_sdk::FileKind;

use super::args::Args;
use super::cat::cat;
use super::{Command, Failure, Shell};

pub const COMMAND: Command = Command {
    name: "getmerge",
    flags: &["nl", "skip-empty-file"],
    values: &[],
    operands_min: 2,
    usage: "getmerge [-nl] [-skip-empty-file] <src> ... <localdst>",
    help: "Write files, and those in directories by their names, into one local file.\n\
           -nl  a newline behind each\n-skip-empty-file  none behind those of no bytes",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let Some((target, sources)) = args.operands.split_last() else { return Err(Failure::Silent) };
    let mut files = Vec::new();
    for place in shell.expand_all(COMMAND.name, sources)? {
        let status = place.stat()?;
        match status.kind {
            FileKind::File => files.push((place, status.length)),
            FileKind::Directory => {
                for entry in place.client.list(&place.path).map_err(|error| place.failure(&error))? {
                    let entry = entry.map_err(|error| place.failure(&error))?;
                    if entry.kind == FileKind::File {
                        files.push((place.child(&entry.name), entry.length));
                    }
                }
            }
        }
    }
    let failed = |error: std::io::Error| super::put::local_failure(target.as_ref(), &error);
    let mut output = File::create(target).map_err(failed)?;
    for (place, length) in files {
        if length == 0 && args.has("skip-empty-file") {
            continue;
        }
        cat(shell, &place, &mut output)?;
        if args.has("nl") {
            output.write_all(b"\n").map_err(failed)?;
        }
    }
    Ok(())
}
