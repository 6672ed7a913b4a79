//! `ringfs fs`: file system commands, spelt and answering as `hdfs dfs` (Hadoop's `FsShell`), messages and exit codes
//! included: 0 = done, 1 = a path failed, 255 = the command line is wrong.

mod args;
mod cat;
mod copy;
pub mod described;
mod du;
mod get;
mod help;
mod ls;
mod mkdir;
mod mv;
mod path;
mod put;
mod rm;
mod setrep;
mod stat;
mod test;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use args::{Args, Generic};
use path::{Place, Resolver};

/// The command line is wrong.
const EXIT_USAGE: u8 = 255;

/// What a command works with.
pub struct Shell {
    resolver: Resolver,
    generic: Generic,
    /// Set by Ctrl-C.
    stop: Arc<AtomicBool>,
}

/// Why a command failed.
pub enum Failure {
    /// The command line is wrong: the usage is shown.
    Usage(String),
    /// A path: "`/x': No such file or directory".
    Path(String),
    /// Already said, path by path.
    Told,
    /// The exit code says it all.
    Silent,
}

impl From<ringfs_sdk::Error> for Failure {
    fn from(error: ringfs_sdk::Error) -> Self {
        Self::Path(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Path(error.to_string())
    }
}

type Run = fn(&Shell, &Args) -> Result<(), Failure>;

/// A command: name, options, what it takes, what it does.
pub struct Command {
    name: &'static str,
    flags: &'static [&'static str],
    values: &'static [&'static str],
    operands_min: usize,
    usage: &'static str,
    help: &'static str,
    run: Run,
}

const COMMANDS: &[Command] = &[
    cat::COMMAND,
    du::COMMAND,
    get::COMMAND,
    ls::COMMAND,
    mkdir::COMMAND,
    mv::COMMAND,
    put::COMMAND,
    rm::COMMAND,
    setrep::COMMAND,
    stat::COMMAND,
    test::COMMAND,
];

/// Runs a command line.
pub fn run(words: &[OsString]) -> ExitCode {
    let mut texts = Vec::new();
    for word in words {
        let Some(text) = word.to_str() else {
            eprintln!("ringfs: {}: not UTF-8", word.display());
            return ExitCode::from(EXIT_USAGE);
        };
        texts.push(text.to_owned());
    }
    let (generic, rest) = match args::split_generic(texts) {
        Ok(split) => split,
        Err(reason) => {
            eprintln!("ringfs fs: {reason}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let Some((name, operands)) = rest.split_first() else {
        eprint!("{}", help::overview());
        return ExitCode::from(EXIT_USAGE);
    };
    match name.as_str() {
        "-help" | "--help" | "-h" => return help::show(operands, true),
        "-usage" => return help::show(operands, false),
        _ => {}
    }
    let Some(command) = find(name) else {
        eprintln!("{name}: Unknown command");
        eprint!("{}", help::overview());
        return ExitCode::from(EXIT_USAGE);
    };
    execute(command, generic, operands)
}

fn find(name: &str) -> Option<&'static Command> {
    let name = name.strip_prefix('-')?;
    // HDFS has these as other names of the same commands.
    let name = match name {
        "copyFromLocal" => "put",
        "copyToLocal" => "get",
        name => name,
    };
    COMMANDS.iter().find(|command| command.name == name)
}

fn execute(command: &Command, generic: Generic, operands: &[String]) -> ExitCode {
    let usage = |reason: &str| {
        eprintln!("-{}: {reason}", command.name);
        eprintln!("Usage: ringfs fs [generic options] -{}", command.usage);
        ExitCode::from(EXIT_USAGE)
    };
    let args = match Args::parse(command, operands) {
        Ok(args) => args,
        Err(reason) => return usage(&reason),
    };
    let shell =
        Shell { resolver: Resolver::new(generic.fs.clone()), generic, stop: crate::servers::catch_signals() };
    match (command.run)(&shell, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(reason)) => usage(&reason),
        Err(Failure::Path(reason)) => {
            eprintln!("{}: {reason}", command.name);
            ExitCode::FAILURE
        }
        Err(Failure::Told | Failure::Silent) => ExitCode::FAILURE,
    }
}

impl Shell {
    /// Does something for each path, saying which fail, and goes on with the rest.
    fn for_each(
        &self,
        name: &str,
        paths: &[String],
        mut act: impl FnMut(&Place) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut has_failed = false;
        for path in paths {
            match self.resolver.place(path).and_then(|place| act(&place)) {
                Ok(()) => {}
                Err(Failure::Path(reason)) => {
                    eprintln!("{name}: {reason}");
                    has_failed = true;
                }
                Err(Failure::Told) => has_failed = true,
                Err(other) => return Err(other),
            }
        }
        if has_failed { Err(Failure::Told) } else { Ok(()) }
    }
}
