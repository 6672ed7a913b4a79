//! A writer in a process of its own, that a test kills, stops and cuts off. It writes one file, and does what it is told by
//! lines on its standard input; each is answered by a line on its standard output:
//!
//! | line | what it does | answer |
//! |---|---|---|
//! | `append N` | appends N bytes of the pattern | `at POSITION` or `failed KIND ERRNO TEXT` |
//! | `hflush`, `hsync`, `close` | as it says | the same |
//!
//! It ends when its input does, with its file as it is then.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringfs_sdk::{Client, Error, Writer};

use crate::cluster::{binary, file_options};
use crate::data::Pattern;
use crate::hosts::Hosts;

/// How long its calls are tried. More than a test waits for anything that it wants to succeed.
const DEADLINE: Duration = Duration::from_secs(50);

/// What it writes, and how.
#[derive(Debug, Clone)]
pub struct Task {
    /// `ringfs://host:port`.
    pub uri: String,
    /// The file; it is created.
    pub path: String,
    /// Of its pattern.
    pub seed: u64,
    /// Replicas.
    pub replication: u16,
    /// Bytes of a block.
    pub block_size: u64,
    /// How long its pipelines may be silent.
    pub pipeline_timeout: Duration,
}

/// What it answered in place of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// [`ringfs_sdk::Kind`], as it is written.
    pub kind: String,
    /// errno of the error.
    pub errno: i32,
    /// Its text.
    pub text: String,
}

/// The process; killed when dropped.
#[derive(Debug)]
pub struct RemoteWriter {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl RemoteWriter {
    /// Starts it; returns when its file is open.
    ///
    /// # Panics
    /// If it does not start, or cannot create its file.
    pub fn start(task: &Task) -> Self {
        Self::start_by(Command::new(program()), task)
    }

    /// Starts it on a host of a test.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_on(hosts: &Hosts, host: usize, task: &Task) -> Self {
        Self::start_by(hosts.command(host, &program()), task)
    }

    fn start_by(mut command: Command, task: &Task) -> Self {
        let Task { uri, path, seed, replication, block_size, pipeline_timeout } = task;
        let numbers = [*seed, u64::from(*replication), *block_size, pipeline_timeout.as_millis() as u64];
        command.args([uri, path]).args(numbers.map(|number| number.to_string()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut writer = Self { child, input, output };
        assert_eq!(writer.answer(), Ok(0), "the file is created");
        writer
    }

    /// Tells it something and waits for the answer: its position.
    ///
    /// # Errors
    /// [`Failed`].
    ///
    /// # Panics
    /// If it has ended.
    pub fn ask(&mut self, line: &str) -> Result<u64, Failed> {
        self.tell(line);
        self.answer()
    }

    /// Tells it something; [`Self::answer`] waits for what it says.
    ///
    /// # Panics
    /// If it has ended.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("it reads");
    }

    /// Its next answer.
    ///
    /// # Errors
    /// [`Failed`].
    ///
    /// # Panics
    /// If it has ended.
    pub fn answer(&mut self) -> Result<u64, Failed> {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        let mut words = line.trim_end().splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        match word() {
            "at" => Ok(word().parse().expect("a position")),
            "failed" => {
                let (kind, errno) = (word().to_owned(), word().parse().expect("a number"));
                Err(Failed { kind, errno, text: word().to_owned() })
            }
            _ => panic!("the writer ended: {line:?}"),
        }
    }

    /// Appends so many bytes and flushes them: what it returns is acknowledged.
    ///
    /// # Panics
    /// If that fails.
    pub fn write(&mut self, bytes: u64) -> u64 {
        self.ask(&format!("append {bytes}")).expect("appended");
        self.ask("hflush").expect("flushed")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id is positive"));
        kill(pid, signal).expect("it is there");
    }

    /// Ends it as a power cut would.
    pub fn kill_9(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself, which the test finds out by what follows.
        let _already_gone = self.child.kill();
        self.child.wait().expect("wait for a killed child");
    }
}

impl Drop for RemoteWriter {
    fn drop(&mut self) {
        self.end();
    }
}

fn program() -> std::path::PathBuf {
    let program = binary().with_file_name("remote_writer");
    assert!(Path::new(&program).is_file(), "remote_writer is built with the tests");
    program
}

/// What the process does, with the words of its command line.
///
/// # Errors
/// When the words are wrong, the file cannot be created, or its output is closed.
pub fn run(words: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [uri, path, seed, replication, block_size, pipeline_timeout_ms] = words else {
        return Err("usage: remote_writer URI PATH SEED REPLICATION BLOCK_SIZE PIPELINE_TIMEOUT_MS".into());
    };
    let pipeline_timeout = Duration::from_millis(pipeline_timeout_ms.parse()?);
    let client = Client::builder().deadline(DEADLINE).pipeline_timeout(pipeline_timeout).connect(uri)?;
    let mut writer = client.create_with(path, &file_options(replication.parse()?, block_size.parse()?))?;
    let pattern = Pattern { seed: seed.parse()? };
    let mut stdout = std::io::stdout();
    writeln!(stdout, "at 0")?;
    for line in std::io::stdin().lines() {
        match obey(&mut writer, pattern, &line?) {
            Ok(position) => writeln!(stdout, "at {position}")?,
            Err(error) => {
                let text = error.to_string().replace('\n', " ");
                writeln!(stdout, "failed {:?} {} {text}", error.kind(), error.errno())?;
            }
        }
    }
    Ok(())
}

fn obey(writer: &mut Writer, pattern: Pattern, line: &str) -> Result<u64, Error> {
    match line.split_once(' ') {
        Some(("append", bytes)) => {
            let bytes = pattern.bytes(writer.position(), bytes.parse().expect("a number"));
            writer.append(&bytes)?;
        }
        _ if line == "hflush" => writer.hflush()?,
        _ if line == "hsync" => writer.hsync()?,
        _ if line == "close" => return writer.close().map(|status| status.length),
        _ => panic!("not known: {line}"),
    }
    Ok(writer.position())
}
