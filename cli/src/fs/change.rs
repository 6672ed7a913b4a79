//! Commands that change the bytes of files: `-appendToFile`, `-truncate`, `-concat`.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use ringfs_sdk::environment::{Clock, SystemClock};
use ringfs_sdk::{CreateOptions, FileKind, Writer};

use super::args::Args;
use super::copy::BUFFER_BYTES;
use super::path::Place;
use super::{Command, Failure, Shell};
use crate::output::outln;

pub const APPEND: Command = Command {
    name: "appendToFile",
    flags: &["n"],
    values: &[],
    operands_min: 2,
    usage: "appendToFile [-n] <localsrc> ... <dst>",
    help: "Write local files behind the end of a file, which is made if it is not there; - is standard input.\n\
           -n  begin a new block",
    run: append,
};

pub const TRUNCATE: Command = Command {
    name: "truncate",
    flags: &["w"],
    values: &[],
    operands_min: 2,
    usage: "truncate [-w] <length> <path> ...",
    help: "Cut files to a length.\n-w  wait until the last block is cut, too",
    run: truncate,
};

pub const CONCAT: Command = Command {
    name: "concat",
    flags: &[],
    values: &[],
    operands_min: 2,
    usage: "concat <target path> <src path> <src path> ...",
    help: "Move what is in files behind the end of another; the files go. All are in one directory.",
    run: concat,
};

fn append(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let Some((target, sources)) = args.operands.split_last() else { return Err(Failure::Silent) };
    let target = shell.resolver.place(target)?;
    if sources.iter().any(|source| source == "-") && sources.len() > 1 {
        return Err(Failure::Usage("Cannot mix standard input with files".to_owned()));
    }
    // Before anything is changed: a source that cannot be read changes nothing.
    let mut inputs: Vec<(&str, Box<dyn Read>)> = Vec::new();
    for source in sources {
        let input: Box<dyn Read> = match source.as_str() {
            "-" => Box::new(io::stdin()),
            path => {
                Box::new(File::open(path).map_err(|error| super::put::local_failure(path.as_ref(), &error))?)
            }
        };
        inputs.push((source, input));
    }
    let mut writer = open(shell, &target, args)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    for (source, input) in &mut inputs {
        loop {
            let read = input.read(&mut buffer);
            let len = read.map_err(|error| super::put::local_failure(source.as_ref(), &error))?;
            if len == 0 {
                break;
            }
            writer.append(&buffer[..len]).map_err(|error| target.failure(&error))?;
        }
    }
    writer.close().map(|_status| ()).map_err(|error| target.failure(&error))
}

fn open(shell: &Shell, target: &Place, args: &Args) -> Result<Writer, Failure> {
    let failed = |error: ringfs_sdk::Error| target.failure(&error);
    match target.find()? {
        Some(status) if status.kind == FileKind::Directory => Err(target.failed("Is a directory")),
        Some(_) => {
            let options = ringfs_sdk::AppendOptions { new_block: args.has("n"), ..Default::default() };
            target.client.append_with(&target.path, &options).map_err(failed)
        }
        None => {
            let options = CreateOptions {
                replication: shell.generic.replication.unwrap_or(0),
                block_size: shell.generic.block_size.unwrap_or(0),
                mode: 0o666,
                ..CreateOptions::default()
            };
            target.client.create_with(&target.path, &options).map_err(failed)
        }
    }
}

fn truncate(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let Some((text, paths)) = args.operands.split_first() else { return Err(Failure::Silent) };
    let length: u64 = text
        .parse()
        .map_err(|_| Failure::Usage(format!("Illegal length, a non-negative integer expected: {text}")))?;
    shell.for_each(TRUNCATE.name, paths, |place| {
        let status = place.stat()?;
        if status.kind == FileKind::Directory {
            return Err(place.failed("Is a directory"));
        }
        if length > status.length {
            let text = format!("`{}': Cannot truncate to a larger file size. Current size: {}, truncate size: {length}.", place.shown, status.length);
            return Err(Failure::Path(text));
        }
        let is_done = place.client.truncate(&place.path, length).map_err(|error| place.failure(&error))?;
        match (is_done, args.has("w")) {
            (true, _) => outln!("Truncated {} to length: {length}", place.shown),
            (false, false) => {
                outln!("Truncating {} to length: {length}. Wait for block recovery to complete before further updating this file.", place.shown);
            }
            (false, true) => {
                while place.stat()?.is_open {
                    SystemClock.pause(Duration::from_millis(100));
                }
                outln!("Truncated {} to length: {length}", place.shown);
            }
        }
        Ok(())
    })
}

fn concat(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let Some((target, sources)) = args.operands.split_first() else { return Err(Failure::Silent) };
    let target = shell.resolver.place(target)?;
    let sources = shell.expand_all(CONCAT.name, sources)?;
    let paths: Vec<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    target.client.concat(&target.path, &paths).map_err(|error| Failure::Path(error.message()))
}
