//! `ringfs fs`: file system commands, spelt and answering as `hdfs dfs` (Hadoop's `FsShell`), messages and exit codes
//! included: 0 = done, 1 = a path failed, 255 = the command line is wrong.

mod acl;
mod args;
mod cat;
mod change;
mod checksum;
mod chmod;
mod copy;
mod count;
mod cp;
mod decode;
pub mod described;
mod df;
mod du;
mod find;
mod get;
mod getmerge;
mod help;
mod json;
mod ls;
mod mkdir;
mod mode;
mod mv;
mod path;
mod put;
mod rm;
mod setrep;
mod stat;
mod tail;
mod test;
mod text;
mod touch;
mod trash;
mod xattr;

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
    change::APPEND,
    cat::COMMAND,
    checksum::COMMAND,
    chmod::CHGRP,
    chmod::CHMOD,
    chmod::CHOWN,
    change::CONCAT,
    put::COPY_FROM_LOCAL,
    get::COPY_TO_LOCAL,
    count::COMMAND,
    cp::COMMAND,
    touch::CREATE_FILE,
    df::COMMAND,
    du::COMMAND,
    trash::EXPUNGE,
    find::COMMAND,
    get::GET,
    acl::GETFACL,
    xattr::GETFATTR,
    getmerge::COMMAND,
    tail::HEAD,
    ls::COMMAND,
    mkdir::COMMAND,
    put::MOVE_FROM_LOCAL,
    get::MOVE_TO_LOCAL,
    mv::COMMAND,
    put::PUT,
    rm::RM,
    rm::RMDIR,
    acl::SETFACL,
    xattr::SETFATTR,
    setrep::COMMAND,
    stat::COMMAND,
    tail::TAIL,
    test::COMMAND,
    decode::COMMAND,
    touch::TOUCH,
    touch::TOUCHZ,
    change::TRUNCATE,
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

impl Failure {
    /// Says what failed, where others go on.
    ///
    /// # Errors
    /// Itself, where nothing can go on.
    fn say(self, name: &str) -> Result<(), Self> {
        match self {
            Self::Path(reason) => {
                eprintln!("{name}: {reason}");
                Ok(())
            }
            Self::Told => Ok(()),
            other => Err(other),
        }
    }
}

impl Shell {
    /// Does something for each path, or what each pattern matches, saying which fail, and goes on with the rest.
    fn for_each(
        &self,
        name: &str,
        paths: &[String],
        act: impl FnMut(&Place) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.each(name, paths, |text| self.expand(text), act)
    }

    /// As [`Self::for_each`], where a pattern without a match stands for nothing.
    fn for_each_found(
        &self,
        name: &str,
        paths: &[String],
        act: impl FnMut(&Place) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.each(name, paths, |text| self.resolver.matches(text), act)
    }

    /// As [`Self::for_each`], where a pattern without a match stands for a path of that name.
    fn for_each_or_new(
        &self,
        name: &str,
        paths: &[String],
        act: impl FnMut(&Place) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let expand = |text: &str| match self.resolver.matches(text)? {
            found if found.is_empty() => Ok(vec![self.resolver.place(text)?]),
            found => Ok(found),
        };
        self.each(name, paths, expand, act)
    }

    fn each(
        &self,
        name: &str,
        paths: &[String],
        expand: impl Fn(&str) -> Result<Vec<Place>, Failure>,
        mut act: impl FnMut(&Place) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut has_failed = false;
        for path in paths {
            let places = match expand(path) {
                Ok(places) => places,
                Err(failure) => {
                    failure.say(name)?;
                    has_failed = true;
                    continue;
                }
            };
            for place in &places {
                if let Err(failure) = act(place) {
                    failure.say(name)?;
                    has_failed = true;
                }
            }
        }
        if has_failed { Err(Failure::Told) } else { Ok(()) }
    }

    /// What a path or a pattern stands for.
    ///
    /// # Errors
    /// When a pattern matches nothing.
    fn expand(&self, text: &str) -> Result<Vec<Place>, Failure> {
        let places = self.resolver.matches(text)?;
        if places.is_empty() {
            return Err(self.resolver.place(text)?.failed("No such file or directory"));
        }
        Ok(places)
    }

    /// What several stand for; those that match nothing are said.
    fn expand_all(&self, name: &str, paths: &[String]) -> Result<Vec<Place>, Failure> {
        let mut places = Vec::new();
        let expanded = self.for_each(name, paths, |place| {
            places.push(place.clone());
            Ok(())
        });
        match places.is_empty() {
            true => expanded.and(Ok(places)),
            false => Ok(places),
        }
    }

    /// The one path that is meant.
    fn expand_one(&self, text: &str) -> Result<Place, Failure> {
        let mut places = self.expand(text)?;
        match places.len() {
            1 => Ok(places.remove(0)),
            _ => Err(Failure::Path(format!("`{text}': Too many matches"))),
        }
    }
}
