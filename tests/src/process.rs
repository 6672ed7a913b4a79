//! A server process under test: started with its log kept, killed, paused, measured through `/proc`.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::wait;

/// What the kernel allows a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// Everything.
    #[default]
    None,
    /// io_uring answers EPERM, as in many containers.
    NoIoUring,
}

/// A running process and its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path, sandbox: Sandbox) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("open log");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("clone log")).stderr(file);
        confine(&mut command, sandbox);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {name}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id is positive")
    }

    /// Everything it has logged, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a power cut would: no handler runs.
    pub fn kill_9(&mut self) {
        // The process may have ended by itself, which the caller finds out by what follows.
        let _already_gone = self.child.kill();
        self.child.wait().expect("wait for a killed child");
    }

    /// Asks it to stop and returns how it ended.
    ///
    /// # Panics
    /// If it does not end before the deadline.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end before the deadline.
    pub fn wait(&mut self) -> ExitStatus {
        let (name, child) = (&self.name, &mut self.child);
        wait::until(&format!("{name} ends"), || child.try_wait().expect("wait for child"))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for child")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal)
            .unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes_of(self.pid())
    }

    /// Highest resident memory so far, bytes.
    pub fn resident_bytes_max(&self) -> u64 {
        status_kib(self.pid(), "VmHWM:") * 1024
    }

    /// Threads.
    pub fn threads(&self) -> u64 {
        status_kib(self.pid(), "Threads:")
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        descriptors_of(self.pid())
    }

    /// CPU time so far, of all its threads.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_9();
    }
}

/// Resident memory of a process, bytes; 0 when it is gone.
pub fn resident_bytes_of(pid: i32) -> u64 {
    status_kib(pid, "VmRSS:") * 1024
}

/// Open descriptors of a process; 0 when it is gone.
pub fn descriptors_of(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// CPU time so far of a process, user and system.
pub fn cpu_of(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces; the numbered fields start after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// CPU time so far of this process.
pub fn own_cpu() -> Duration {
    cpu_of(std::process::id().cast_signed())
}

/// Makes `command` start under `sandbox`.
pub fn confine(command: &mut Command, sandbox: Sandbox) {
    if sandbox == Sandbox::NoIoUring {
        let program = io_uring_filter();
        // SAFETY: between fork and exec the closure only makes the prctl and seccomp system calls.
        unsafe {
            command.pre_exec(move || seccompiler::apply_filter(&program).map_err(io::Error::other));
        }
    }
}

fn io_uring_filter() -> BpfProgram {
    let rules = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("an architecture that seccomp knows");
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let rules = rules.into_iter().map(|call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).expect("a valid filter");
    filter.try_into().expect("a filter that compiles")
}

fn status_kib(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
