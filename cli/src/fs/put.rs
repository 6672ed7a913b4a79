//! `-put`: each file is written as `NAME._COPYING_` and renamed when it is complete.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ringfs_sdk::{CreateOptions, FileKind, Writer};

use super::args::{Args, Generic};
use super::copy::{self, BUFFER_BYTES, Progress};
use super::path::Place;
use super::{Command, Failure, Shell};

const FLAGS: &[&str] = &["f", "p", "d", "l", "q"];
const HELP: &str = "Copy local files and directories; - is standard input.\n\
    -f  replace files that are there\n-p  keep times and modes\n-d  no ._COPYING_ file on the way\n\
    -t  files at a time, 4 if not given\n-l  one replica, and -q  taken and without effect";

pub const PUT: Command = Command {
    name: "put",
    flags: FLAGS,
    values: &["t"],
    operands_min: 1,
    usage: "put [-f] [-p] [-l] [-d] [-t <threads>] <localsrc> ... <dst>",
    help: HELP,
    run: |shell, args| run(shell, args, PUT.name),
};

pub const COPY_FROM_LOCAL: Command = Command {
    name: "copyFromLocal",
    usage: "copyFromLocal [-f] [-p] [-l] [-d] [-t <threads>] <localsrc> ... <dst>",
    run: |shell, args| run(shell, args, COPY_FROM_LOCAL.name),
    ..PUT
};

pub const MOVE_FROM_LOCAL: Command = Command {
    name: "moveFromLocal",
    flags: FLAGS,
    values: &["t"],
    operands_min: 1,
    usage: "moveFromLocal [-f] [-p] [-l] [-d] <localsrc> ... <dst>",
    help: "As -put; each local file or directory is deleted when all of it was copied.",
    run: move_from_local,
};

/// Ends the name of a file that is not complete (HDFS: `CommandWithDestination`).
pub const COPYING: &str = "._COPYING_";

/// A file to copy.
struct Job {
    source: PathBuf,
    target: Place,
    length: u64,
    mode: u32,
    /// Modification and access, since 1970.
    times_ms: [u64; 2],
}

fn move_from_local(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let name = MOVE_FROM_LOCAL.name;
    let Some((_, sources)) = args.operands.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        return Err(Failure::Usage("Not enough arguments: expected 2 but got 1".to_owned()));
    };
    run(shell, args, name)?;
    for source in sources {
        let path = Path::new(source);
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.map_err(|error| local_failure(path, &error))?;
    }
    Ok(())
}

fn run(shell: &Shell, args: &Args, name: &'static str) -> Result<(), Failure> {
    let (target, sources) = match args.operands.split_last() {
        Some((only, [])) => (shell.resolver.place("")?, vec![only.clone()]),
        Some((target, sources)) => (shell.resolver.place(target)?, sources.to_vec()),
        None => return Err(Failure::Silent),
    };
    let found = target.find()?;
    let is_directory = found.as_ref().is_some_and(|status| status.kind == FileKind::Directory);
    if sources.len() > 1 && !is_directory {
        return Err(target.failed(if found.is_some() {
            "Is not a directory"
        } else {
            "No such file or directory"
        }));
    }
    if sources == ["-"] {
        let target = if is_directory { target.child("-") } else { target };
        return put_input(shell, &target, args);
    }
    let produce = |progress: &Progress<'_>, give: &mut dyn FnMut(Job)| {
        for source in &sources {
            let source = Path::new(source);
            let name = source.file_name().map(|name| name.to_string_lossy().into_owned());
            let target = match name {
                Some(name) if is_directory => target.child(&name),
                _ => target.clone(),
            };
            if let Err(failure) = find_jobs(progress, source, &target, args, give) {
                progress.say(failure);
            }
        }
        Ok(())
    };
    let generic = &shell.generic;
    copy::run(shell, name, args, produce, |progress, job: Job| put_file(generic, progress, &job, args))
}

/// Walks a source: directories are made at once, files are handed out.
fn find_jobs(
    progress: &Progress<'_>,
    source: &Path,
    target: &Place,
    args: &Args,
    give: &mut dyn FnMut(Job),
) -> Result<(), Failure> {
    let failed = |error: io::Error| local_failure(source, &error);
    let metadata = std::fs::metadata(source).map_err(failed)?;
    if !metadata.is_dir() {
        let (length, mode) = (metadata.len(), metadata.permissions().mode());
        let ms =
            |(seconds, nanos): (i64, i64)| u64::try_from(seconds * 1000 + nanos / 1_000_000).unwrap_or(0);
        let times_ms =
            [(metadata.mtime(), metadata.mtime_nsec()), (metadata.atime(), metadata.atime_nsec())].map(ms);
        progress.expect(length);
        give(Job { source: source.to_owned(), target: target.clone(), length, mode, times_ms });
        return Ok(());
    }
    let mode = if args.has("p") { metadata.permissions().mode() as u16 & 0o1777 } else { 0o777 };
    target.client.mkdirs_with(&target.path, mode, false).map_err(|error| target.failure(&error))?;
    let mut entries: Vec<_> = std::fs::read_dir(source).and_then(Iterator::collect).map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if progress.is_stopped() {
            return Ok(());
        }
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            progress.say(Failure::Path(format!("`{}': the name is not UTF-8", entry.path().display())));
            continue;
        };
        if let Err(failure) = find_jobs(progress, &entry.path(), &target.child(name), args, give) {
            progress.say(failure);
        }
    }
    Ok(())
}

fn put_file(generic: &Generic, progress: &Progress<'_>, job: &Job, args: &Args) -> Result<(), Failure> {
    let mut source = File::open(&job.source).map_err(|error| local_failure(&job.source, &error))?;
    let mode = if args.has("p") { job.mode as u16 & 0o777 } else { 0o666 };
    put(generic, &job.target, args, Some(job.length), mode, progress, &mut |buffer| {
        source.read(buffer).map_err(|error| local_failure(&job.source, &error))
    })?;
    if args.has("p") {
        let [mtime_ms, atime_ms] = job.times_ms;
        let kept = job.target.client.set_times(&job.target.path, Some(mtime_ms), Some(atime_ms));
        kept.map_err(|error| job.target.failure(&error))?;
    }
    Ok(())
}

fn put_input(shell: &Shell, target: &Place, args: &Args) -> Result<(), Failure> {
    let mut input = io::stdin().lock();
    let progress = Progress::silent(&shell.stop, PUT.name);
    put(&shell.generic, target, args, None, 0o666, &progress, &mut |buffer| Ok(input.read(buffer)?))
}

/// Writes a file under its temporary name, and renames it; the temporary file goes when that fails.
fn put(
    generic: &Generic,
    target: &Place,
    args: &Args,
    length: Option<u64>,
    mode: u16,
    progress: &Progress<'_>,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize, Failure>,
) -> Result<(), Failure> {
    let is_forced = args.has("f");
    match target.find()? {
        Some(status) if status.kind == FileKind::Directory => return Err(target.failed("Is a directory")),
        Some(_) if !is_forced => return Err(target.failed("File exists")),
        _ => {}
    }
    let is_direct = args.has("d");
    let temporary = match is_direct {
        true => target.clone(),
        false => Place { path: format!("{}{COPYING}", target.path), ..target.clone() },
    };
    let options = CreateOptions {
        replication: if args.has("l") { 1 } else { generic.replication.unwrap_or(0) },
        block_size: generic.block_size.unwrap_or(0),
        overwrite: true,
        create_parents: false,
        mode,
        announced_length: length,
        ..CreateOptions::default()
    };
    let writer =
        target.client.create_with(&temporary.path, &options).map_err(|error| target.failure(&error))?;
    let copied = copy_all(writer, target, progress, read).and_then(|()| {
        if is_direct {
            return Ok(());
        }
        let renamed = target.client.rename(&temporary.path, &target.path, is_forced);
        renamed.map_err(|error| target.failure(&error))
    });
    if copied.is_err() {
        // What failed is told; a temporary file that cannot be removed is replaced by the next attempt.
        let _removed = target.client.delete(&temporary.path, false);
    }
    copied
}

fn copy_all(
    mut writer: Writer,
    target: &Place,
    progress: &Progress<'_>,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize, Failure>,
) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if progress.is_stopped() {
            return Err(Failure::Silent);
        }
        let len = read(&mut buffer)?;
        if len == 0 {
            return writer.close().map(|_| ()).map_err(|error| target.failure(&error));
        }
        writer.write_all(&buffer[..len]).map_err(|error| target.failed(&error.to_string()))?;
        progress.moved(len);
    }
}

pub fn local_failure(path: &Path, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
        _ => error.to_string(),
    };
    Failure::Path(format!("`{}': {reason}", path.display()))
}
