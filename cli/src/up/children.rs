//! A server as a child process: started, watched, started again, stopped.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::{Layout, io_error};
use super::{LOOK, UpError};
use crate::ready::{self, Ready};

/// The first pause before a child is started again; each further one doubles.
const RESTART_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const RESTART_MAX: Duration = Duration::from_secs(5);
/// A child that lives as long has started well.
const STEADY: Duration = Duration::from_secs(10);
/// How long a child may take to stop before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A server.
#[derive(Debug)]
pub struct Child {
    name: String,
    dir: PathBuf,
    process: Option<std::process::Child>,
    started: Instant,
    pause: Duration,
    restart_at: Option<Instant>,
}

impl Child {
    /// A server whose configuration is in `dir`.
    pub fn new(name: &str, dir: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            dir,
            process: None,
            started: Instant::now(),
            pause: RESTART_MIN,
            restart_at: None,
        }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts it.
    ///
    /// # Errors
    /// `Io`.
    pub fn start(&mut self) -> Result<(), UpError> {
        // A file that is there says that the child of now is ready, never one of before.
        let ready = self.ready_path();
        match fs::remove_file(&ready) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("remove", &ready)(error));
            }
            _ => {}
        }
        let role = if self.name == "namenode" { "namenode" } else { "datanode" };
        let mut command = server_command(role, &self.dir)?;
        command.arg("--ready-file").arg(&ready).arg("--with-parent").arg(std::process::id().to_string());
        self.process = Some(command.spawn().map_err(io_error("start a server in", &self.dir))?);
        self.started = Instant::now();
        Ok(())
    }

    /// Waits until it listens; `None` when a signal came first.
    ///
    /// # Errors
    /// `Child` when it ended, `Deadline`.
    pub fn wait_ready(&mut self, stop: &AtomicBool, deadline: Duration) -> Result<Option<Ready>, UpError> {
        let until = Instant::now() + deadline;
        while !stop.load(Ordering::Relaxed) {
            if let Some(ready) = self.ready() {
                return Ok(Some(ready));
            }
            if self.ended().is_some() {
                return Err(UpError::Child {
                    name: self.name.clone(),
                    reason: last_line(&self.dir.join("log")),
                });
            }
            if Instant::now() > until {
                return Err(UpError::Deadline(format!("{} does not listen", self.name)));
            }
            std::thread::park_timeout(LOOK);
        }
        Ok(None)
    }

    /// What it says of itself, once it listens.
    pub fn ready(&self) -> Option<Ready> {
        let pid = self.process.as_ref()?.id();
        ready::read(&self.ready_path()).filter(|ready| ready.pid == pid)
    }

    /// Whether it listens.
    pub fn is_ready(&mut self) -> bool {
        self.ready().is_some()
    }

    /// Starts it again if it has ended, after a pause that grows; says whether it had ended.
    pub fn revive(&mut self) -> bool {
        if let Some(at) = self.restart_at {
            if Instant::now() >= at {
                self.restart_at = None;
                if let Err(error) = self.start() {
                    eprintln!("ringfs: {error}");
                    self.plan_restart();
                }
            }
            return true;
        }
        let Some(status) = self.ended() else { return false };
        eprintln!(
            "ringfs: {} ended ({status}): starting it again; its log is {}",
            self.name,
            self.dir.join("log").display()
        );
        self.process = None;
        if self.started.elapsed() > STEADY {
            self.pause = RESTART_MIN;
        }
        self.plan_restart();
        true
    }

    fn plan_restart(&mut self) {
        self.restart_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(RESTART_MAX);
    }

    /// Asks it to stop.
    pub fn terminate(&mut self) {
        if let Some(process) = &self.process {
            // A child that has ended needs no telling.
            let _ended = kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM);
        }
    }

    /// Waits until it has stopped, and kills it if it takes too long.
    pub fn wait_ended(&mut self) {
        let until = Instant::now() + STOP_DEADLINE;
        while self.process.is_some() && self.ended().is_none() {
            if Instant::now() > until {
                if let Some(process) = &mut self.process {
                    eprintln!("ringfs: {} does not stop: killed", self.name);
                    let _ended = process.kill();
                    let _reaped = process.wait();
                }
                return;
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.try_wait().ok().flatten()
    }

    fn ready_path(&self) -> PathBuf {
        self.dir.join("ready.json")
    }
}

/// Formats the namenode's directory.
///
/// # Errors
/// `Child` with what it said.
pub fn format(layout: &Layout) -> Result<(), UpError> {
    let dir = layout.server_dir("namenode");
    let status =
        server_command("namenode", &dir)?.arg("--format").status().map_err(io_error("format in", &dir))?;
    if status.success() {
        return Ok(());
    }
    Err(UpError::Child { name: "namenode --format".to_owned(), reason: last_line(&dir.join("log")) })
}

/// A server of this very executable, whose output goes to its log.
fn server_command(role: &str, dir: &Path) -> Result<Command, UpError> {
    let executable =
        std::env::current_exe().map_err(io_error("find the executable of", Path::new("ringfs")))?;
    let log = dir.join("log");
    let output = OpenOptions::new().create(true).append(true).open(&log).map_err(io_error("open", &log))?;
    let errors = output.try_clone().map_err(io_error("open", &log))?;
    let mut command = Command::new(executable);
    command.arg(role).arg("--config").arg(dir.join("config.toml"));
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    Ok(command)
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("it left no log").to_owned()
}
