//! `-rm`, `-rmdir`.

use ringfs_sdk::FileKind;

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell, trash};
use crate::output::outln;

pub const RM: Command = Command {
    name: "rm",
    flags: &["f", "r", "R", "skipTrash", "safely"],
    values: &[],
    operands_min: 1,
    usage: "rm [-f] [-r|-R] [-skipTrash] [-safely] <path> ...",
    help: "Delete files: into the trash, where the namenode keeps one (trash_interval_minutes).\n\
           -f  a path that is not there is no error\n-r  directories too, with all below\n\
           -skipTrash  at once, without the trash\n-safely  taken and without effect",
    run: rm,
};

pub const RMDIR: Command = Command {
    name: "rmdir",
    flags: &["-ignore-fail-on-non-empty"],
    values: &[],
    operands_min: 1,
    usage: "rmdir [--ignore-fail-on-non-empty] <dir> ...",
    help: "Delete empty directories.\n--ignore-fail-on-non-empty  one that is not empty is no error",
    run: rmdir,
};

fn rm(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let is_recursive = args.has("r") || args.has("R");
    let act = |place: &Place| {
        match place.find()? {
            None if args.has("f") => return Ok(()),
            None => return Err(place.failed("No such file or directory")),
            Some(status) if status.kind == FileKind::Directory && !is_recursive => {
                return Err(place.failed("Is a directory"));
            }
            Some(_) => {}
        }
        if place.path == "/" {
            return Err(place.failed("Input/output error"));
        }
        if !args.has("skipTrash") && trash::take(place)? {
            return Ok(());
        }
        if place.client.delete(&place.path, is_recursive).map_err(|error| place.failure(&error))? {
            outln!("Deleted {}", place.shown);
            Ok(())
        } else {
            Err(place.failed("Input/output error"))
        }
    };
    match args.has("f") {
        // A pattern without a match is no error either.
        true => shell.for_each_found(RM.name, &args.operands, act),
        false => shell.for_each(RM.name, &args.operands, act),
    }
}

fn rmdir(shell: &Shell, args: &Args) -> Result<(), Failure> {
    shell.for_each(RMDIR.name, &args.operands, |place| {
        let status = place.stat()?;
        if status.kind != FileKind::Directory {
            return Err(place.failed("Is not a directory"));
        }
        if status.children > 0 {
            return match args.has("-ignore-fail-on-non-empty") {
                true => Ok(()),
                false => Err(place.failed("Directory is not empty")),
            };
        }
        place.client.delete(&place.path, false).map(|_deleted| ()).map_err(|error| place.failure(&error))
    })
}
