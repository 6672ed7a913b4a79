//! `-cp`. HDFS: `CopyCommands.Cp`.

use ringfs_sdk::{CreateOptions, FileKind, FileStatus};

use super::args::Args;
use super::copy::{self, BUFFER_BYTES, Progress};
use super::path::Place;
use super::put::COPYING;
use super::{Command, Failure, Shell};

pub const COMMAND: Command = Command {
    name: "cp",
    flags: &["f", "d", "p", "pt", "po", "pp", "pto", "ptp", "pop", "ptop", "ptopa", "ptopax", "ptopx"],
    values: &["t"],
    operands_min: 2,
    usage: "cp [-f] [-p | -p[topax]] [-d] [-t <threads>] <src> ... <dst>",
    help: "Copy files and directories to another place, or several into a directory.\n\
           -f  replace files that are there\n-p  keep times, owner and permissions; with letters: t times, o owner and group, p permissions, a ACLs, x attributes\n\
           -d  no ._COPYING_ file on the way\n-t  files at a time, 4 if not given",
    run,
};

/// A file to copy.
struct Job {
    source: Place,
    status: FileStatus,
    target: Place,
}

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let Some((target, sources)) = args.operands.split_last() else { return Err(Failure::Silent) };
    let target = shell.resolver.place(target)?;
    let found = target.find()?;
    let is_directory = found.as_ref().is_some_and(|status| status.kind == FileKind::Directory);
    let sources = shell.expand_all(COMMAND.name, sources)?;
    if sources.len() > 1 && !is_directory {
        return Err(target.failed(if found.is_some() {
            "Is not a directory"
        } else {
            "No such file or directory"
        }));
    }
    let produce = |progress: &Progress<'_>, give: &mut dyn FnMut(Job)| {
        for source in &sources {
            let target = if is_directory { target.child(source.name()) } else { target.clone() };
            let found =
                source.stat().and_then(|status| find_jobs(progress, source, status, &target, args, give));
            if let Err(failure) = found {
                progress.say(failure);
            }
        }
        Ok(())
    };
    copy::run(shell, COMMAND.name, args, produce, |progress, job| copy_file(progress, &job, args))
}

fn find_jobs(
    progress: &Progress<'_>,
    source: &Place,
    status: FileStatus,
    target: &Place,
    args: &Args,
    give: &mut dyn FnMut(Job),
) -> Result<(), Failure> {
    let is_same = source.client.uri() == target.client.uri();
    if is_same && source.path == target.path {
        return Err(Failure::Path(format!("`{}' to `{}': Are identical", source.shown, target.shown)));
    }
    if status.kind == FileKind::File {
        progress.expect(status.length);
        give(Job { source: source.clone(), status, target: target.clone() });
        return Ok(());
    }
    if is_same && target.path.starts_with(&format!("{}/", source.path.trim_end_matches('/'))) {
        let text = format!("`{}' to `{}': Is a subdirectory of itself", source.shown, target.shown);
        return Err(Failure::Path(text));
    }
    if !target.is_directory()? {
        target.client.mkdirs_with(&target.path, 0o777, false).map_err(|error| target.failure(&error))?;
    }
    for entry in source.client.list(&source.path).map_err(|error| source.failure(&error))? {
        if progress.is_stopped() {
            return Ok(());
        }
        let entry = entry.map_err(|error| source.failure(&error))?;
        let (source, target) = (source.child(&entry.name), target.child(&entry.name));
        if let Err(failure) = find_jobs(progress, &source, entry, &target, args, give) {
            progress.say(failure);
        }
    }
    preserve(source, &status, target, args)
}

fn copy_file(progress: &Progress<'_>, job: &Job, args: &Args) -> Result<(), Failure> {
    let Job { source, status, target } = job;
    match target.find()? {
        Some(found) if found.kind == FileKind::Directory => return Err(target.failed("Is a directory")),
        Some(_) if !args.has("f") => return Err(target.failed("File exists")),
        _ => {}
    }
    let is_direct = args.has("d");
    let written = match is_direct {
        true => target.clone(),
        false => Place { path: format!("{}{COPYING}", target.path), ..target.clone() },
    };
    let options = CreateOptions {
        overwrite: true,
        create_parents: false,
        mode: 0o666,
        announced_length: Some(status.length),
        ..CreateOptions::default()
    };
    let mut reader = source.client.open(&source.path).map_err(|error| source.failure(&error))?;
    let mut writer =
        target.client.create_with(&written.path, &options).map_err(|error| target.failure(&error))?;
    let mut buffer = vec![0; BUFFER_BYTES.min(status.length as usize + 1)];
    let mut copy_all = || -> Result<(), Failure> {
        loop {
            if progress.is_stopped() {
                return Err(Failure::Silent);
            }
            let len = reader.read(&mut buffer).map_err(|error| source.failure(&error))?;
            if len == 0 {
                break;
            }
            writer.append(&buffer[..len]).map_err(|error| target.failure(&error))?;
            progress.moved(len);
        }
        writer.close().map_err(|error| target.failure(&error))?;
        if !is_direct {
            let renamed = target.client.rename(&written.path, &target.path, args.has("f"));
            renamed.map_err(|error| target.failure(&error))?;
        }
        Ok(())
    };
    if let Err(failure) = copy_all() {
        // What failed is told; a file that cannot be removed is replaced by the next attempt.
        let _removed = target.client.delete(&written.path, false);
        return Err(failure);
    }
    preserve(source, status, target, args)
}

/// Gives the copy what `-p` says.
fn preserve(source: &Place, status: &FileStatus, target: &Place, args: &Args) -> Result<(), Failure> {
    let Some(letters) =
        COMMAND.flags.iter().find_map(|flag| flag.strip_prefix('p').filter(|_| args.has(flag)))
    else {
        return Ok(());
    };
    let letters = if letters.is_empty() { "top" } else { letters };
    let (client, path) = (&target.client, target.path.as_str());
    let failed = |error: ringfs_sdk::Error| target.failure(&error);
    if letters.contains('o') {
        client.set_owner(path, Some(&status.owner), Some(&status.group)).map_err(failed)?;
    }
    if letters.contains('p') || letters.contains('a') {
        client.set_permission(path, status.mode).map_err(failed)?;
    }
    if letters.contains('a') && status.has_acl {
        let acl = source.client.acl(&source.path).map_err(|error| source.failure(&error))?;
        client.set_acl(path, &super::acl::whole(&acl)).map_err(failed)?;
    }
    if letters.contains('x') {
        for xattr in source.client.xattrs(&source.path, &[]).map_err(|error| source.failure(&error))? {
            client.set_xattr(path, &xattr.name, &xattr.value).map_err(failed)?;
        }
    }
    if letters.contains('t') {
        client.set_times(path, Some(status.mtime_ms), Some(status.atime_ms)).map_err(failed)?;
    }
    Ok(())
}
