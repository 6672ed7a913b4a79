//! `-get`: each file is written as `NAME._COPYING_` and renamed when it is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ringfs_sdk::{FileKind, FileStatus};

use super::args::Args;
use super::cat::cat;
use super::copy::{self, BUFFER_BYTES, Progress};
use super::path::Place;
use super::put::COPYING;
use super::{Command, Failure, Shell};

pub const GET: Command = Command {
    name: "get",
    flags: &["f", "p", "crc", "ignoreCrc"],
    values: &["t"],
    operands_min: 1,
    usage: "get [-f] [-p] [-crc] [-ignoreCrc] [-t <threads>] <src> ... <localdst>",
    help: "Copy files and directories to the local file system; - is standard output. Every byte is verified.\n\
           -f  replace files that are there\n-p  keep times and modes\n-t  files at a time, 4 if not given\n-crc, -ignoreCrc  taken and without effect",
    run: |shell, args| run(shell, args, GET.name),
};

pub const COPY_TO_LOCAL: Command = Command {
    name: "copyToLocal",
    usage: "copyToLocal [-f] [-p] [-crc] [-ignoreCrc] [-t <threads>] <src> ... <localdst>",
    run: |shell, args| run(shell, args, COPY_TO_LOCAL.name),
    ..GET
};

pub const MOVE_TO_LOCAL: Command = Command {
    name: "moveToLocal",
    flags: &["f", "p", "crc"],
    values: &["t"],
    operands_min: 2,
    usage: "moveToLocal [-f] [-p] <src> ... <localdst>",
    help: "As -get; each file or directory is deleted when all of it was copied.",
    run: move_to_local,
};

/// A file to copy.
struct Job {
    source: Place,
    status: FileStatus,
    target: PathBuf,
}

/// Hadoop has the command, and answers that it is not implemented.
fn move_to_local(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let name = MOVE_TO_LOCAL.name;
    let Some((_, sources)) = args.operands.split_last() else { return Err(Failure::Silent) };
    let sources = shell.expand_all(name, sources)?;
    run(shell, args, name)?;
    for source in sources {
        source.client.delete(&source.path, true).map_err(|error| source.failure(&error))?;
    }
    Ok(())
}

fn run(shell: &Shell, args: &Args, name: &'static str) -> Result<(), Failure> {
    let (target, sources) = match args.operands.split_last() {
        Some((only, [])) => (".", std::slice::from_ref(only)),
        Some((target, sources)) => (target.as_str(), sources),
        None => return Err(Failure::Silent),
    };
    if target == "-" {
        return shell.for_each(name, sources, |source| cat(shell, source, &mut io::stdout().lock()));
    }
    let target = Path::new(target);
    let sources = shell.expand_all(name, sources)?;
    if sources.len() > 1 && !target.is_dir() {
        let reason = if target.exists() { "Is not a directory" } else { "No such file or directory" };
        return Err(Failure::Path(format!("`{}': {reason}", target.display())));
    }
    let is_directory = target.is_dir();
    let produce = |progress: &Progress<'_>, give: &mut dyn FnMut(Job)| {
        for source in &sources {
            let target = if is_directory { target.join(source.name()) } else { target.to_owned() };
            let found = source.stat().and_then(|status| find_jobs(progress, source, status, target, give));
            if let Err(failure) = found {
                progress.say(failure);
            }
        }
        Ok(())
    };
    copy::run(shell, name, args, produce, |progress, job| get_file(progress, &job, args))
}

/// Walks a source: directories are made at once, files are handed out.
fn find_jobs(
    progress: &Progress<'_>,
    source: &Place,
    status: FileStatus,
    target: PathBuf,
    give: &mut dyn FnMut(Job),
) -> Result<(), Failure> {
    if status.kind == FileKind::File {
        progress.expect(status.length);
        give(Job { source: source.clone(), status, target });
        return Ok(());
    }
    fs::create_dir_all(&target).map_err(|error| local_failure(&target, &error))?;
    for entry in source.client.list(&source.path).map_err(|error| source.failure(&error))? {
        if progress.is_stopped() {
            return Ok(());
        }
        let entry = entry.map_err(|error| source.failure(&error))?;
        let (source, target) = (source.child(&entry.name), target.join(&entry.name));
        if let Err(failure) = find_jobs(progress, &source, entry, target, give) {
            progress.say(failure);
        }
    }
    Ok(())
}

fn get_file(progress: &Progress<'_>, job: &Job, args: &Args) -> Result<(), Failure> {
    if job.target.exists() && !args.has("f") {
        return Err(Failure::Path(format!("`{}': File exists", job.target.display())));
    }
    let mut name = job.target.clone().into_os_string();
    name.push(COPYING);
    let temporary = PathBuf::from(name);
    let copied = copy_all(progress, job, &temporary, args).and_then(|()| {
        fs::rename(&temporary, &job.target).map_err(|error| local_failure(&job.target, &error))
    });
    if copied.is_err() {
        // What failed is told; a temporary file that cannot be removed is replaced by the next attempt.
        let _removed = fs::remove_file(&temporary);
    }
    copied
}

fn copy_all(progress: &Progress<'_>, job: &Job, temporary: &Path, args: &Args) -> Result<(), Failure> {
    let failed = |error: io::Error| local_failure(temporary, &error);
    let mode = if args.has("p") { u32::from(job.status.mode) & 0o777 } else { 0o666 };
    let mut options = OpenOptions::new();
    let mut target: File =
        options.create(true).truncate(true).write(true).mode(mode).open(temporary).map_err(failed)?;
    let mut reader = job.source.client.open(&job.source.path).map_err(|error| job.source.failure(&error))?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if progress.is_stopped() {
            return Err(Failure::Silent);
        }
        let len = reader.read(&mut buffer).map_err(|error| job.source.failure(&error))?;
        if len == 0 {
            break;
        }
        target.write_all(&buffer[..len]).map_err(failed)?;
        progress.moved(len);
    }
    if args.has("p") {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(job.status.mtime_ms);
        target.set_modified(time).map_err(failed)?;
    }
    Ok(())
}

fn local_failure(path: &Path, error: &io::Error) -> Failure {
    let path = path.display().to_string();
    let path = path.strip_suffix(COPYING).unwrap_or(&path);
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
        _ => error.to_string(),
    };
    Failure::Path(format!("`{path}': {reason}"))
}
