//! `-chmod`, `-chown`, `-chgrp`.

use ringfs_sdk::FileStatus;

use super::args::Args;
use super::mode::Mode;
use super::path::Place;
use super::{Command, Failure, Shell};

pub const CHMOD: Command = Command {
    name: "chmod",
    flags: &["R"],
    values: &[],
    operands_min: 2,
    usage: "chmod [-R] <MODE[,MODE]... | OCTALMODE> <path> ...",
    help: "Change the permissions of files.\n\
           -R  with everything below\n\
           A mode is octal, 3 or 4 digits, or as for the shell's command: u+x,g-w,o=r,a+X,+t.",
    run: chmod,
};

pub const CHOWN: Command = Command {
    name: "chown",
    flags: &["R"],
    values: &[],
    operands_min: 2,
    usage: "chown [-R] [OWNER][:[GROUP]] <path> ...",
    help: "Change the owner and the group of files; only a superuser may change the owner.\n-R  with everything below",
    run: chown,
};

pub const CHGRP: Command = Command {
    name: "chgrp",
    flags: &["R"],
    values: &[],
    operands_min: 2,
    usage: "chgrp [-R] GROUP <path> ...",
    help: "Change the group of files to one that their owner belongs to.\n-R  with everything below",
    run: chgrp,
};

fn chmod(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let (text, paths) = split(args)?;
    let mode = Mode::parse(text)
        .ok_or_else(|| Failure::Path(format!("mode '{text}' does not match the expected pattern.")))?;
    each(shell, args, CHMOD.name, paths, &|place, status| {
        let wanted = mode.apply(status.mode, status.kind == ringfs_sdk::FileKind::Directory);
        if wanted == status.mode {
            return Ok(());
        }
        let changed = place.client.set_permission(&place.path, wanted);
        changed.map_err(|error| place.changing("changing permissions of", &error))
    })
}

fn chown(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let (text, paths) = split(args)?;
    let (owner, group) = text.split_once(':').unwrap_or((text, ""));
    if (owner.is_empty() && group.is_empty()) || !is_name(owner) || !is_name(group) {
        return Err(Failure::Path(format!("'{text}' does not match expected pattern for [owner][:group].")));
    }
    set_owner(shell, args, CHOWN.name, paths, (owner, group))
}

fn chgrp(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let (group, paths) = split(args)?;
    if group.is_empty() || !is_name(group) {
        return Err(Failure::Path(format!("'{group}' does not match expected pattern for group")));
    }
    set_owner(shell, args, CHGRP.name, paths, ("", group))
}

fn set_owner(
    shell: &Shell,
    args: &Args,
    name: &'static str,
    paths: &[String],
    (owner, group): (&str, &str),
) -> Result<(), Failure> {
    each(shell, args, name, paths, &|place, status| {
        let owner = (!owner.is_empty() && owner != status.owner).then_some(owner);
        let group = (!group.is_empty() && group != status.group).then_some(group);
        if owner.is_none() && group.is_none() {
            return Ok(());
        }
        let changed = place.client.set_owner(&place.path, owner, group);
        changed.map_err(|error| place.changing("changing ownership of", &error))
    })
}

/// The first operand, and the paths behind it.
fn split(args: &Args) -> Result<(&str, &[String]), Failure> {
    args.operands.split_first().map(|(first, rest)| (first.as_str(), rest)).ok_or(Failure::Silent)
}

/// HDFS: `FsShellPermissions.allowedChars`.
fn is_name(name: &str) -> bool {
    name.chars().all(|letter| letter.is_alphanumeric() || "-_./@\\ ".contains(letter))
}

/// Does something for each path, and with `-R` for everything below, the directory first.
fn each(
    shell: &Shell,
    args: &Args,
    name: &'static str,
    paths: &[String],
    act: &dyn Fn(&Place, &FileStatus) -> Result<(), Failure>,
) -> Result<(), Failure> {
    shell.for_each(name, paths, |place| {
        let mut all = vec![(place.clone(), place.stat()?)];
        if args.has("R") {
            all.extend(place.below(0)?);
        }
        let mut has_failed = false;
        for (place, status) in all {
            if let Err(failure) = act(&place, &status) {
                failure.say(name)?;
                has_failed = true;
            }
        }
        if has_failed { Err(Failure::Told) } else { Ok(()) }
    })
}
