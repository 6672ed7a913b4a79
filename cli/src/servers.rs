//! `ringfs namenode` and `ringfs datanode`: one server as one process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringfs_http::HttpServer;
use ringfs_proto::metrics::Observed;

use crate::config_file;
use crate::ready::{self, Ready};
use crate::{ChildOptions, EXIT_CONFIG, EXIT_DAMAGED, EXIT_REFUSED};

/// How often a server is asked whether it has failed.
const LOOK: Duration = Duration::from_millis(100);

/// Makes a new cluster.
pub fn format_namenode(config: &Path) -> ExitCode {
    let config: ringfs_namenode::Config = match config_file::read(config) {
        Ok(config) => config,
        Err(error) => return refuse(EXIT_CONFIG, &error),
    };
    match ringfs_namenode::format(&config) {
        Ok(cluster) => {
            println!("formatted cluster {cluster}");
            ExitCode::SUCCESS
        }
        Err(error) => refuse(EXIT_REFUSED, &error),
    }
}

/// A server of either role, once it runs.
trait Running {
    fn address(&self) -> SocketAddr;
    fn observed(&self) -> Arc<dyn Observed>;
    fn memory_limit_bytes(&self) -> u64;
    fn failed(&self) -> Option<String>;
    fn stop(self);
}

macro_rules! running {
    ($($server:ty),*) => {$(
        impl Running for $server {
            fn address(&self) -> SocketAddr {
                self.address()
            }

            fn observed(&self) -> Arc<dyn Observed> {
                self.observed()
            }

            fn memory_limit_bytes(&self) -> u64 {
                self.memory_limit_bytes()
            }

            fn failed(&self) -> Option<String> {
                self.failed()
            }

            fn stop(self) {
                self.stop();
            }
        }
    )*};
}

running!(ringfs_namenode::Server, ringfs_datanode::Server);

/// Runs a namenode until a signal.
pub fn run_namenode(config: &Path, child: &ChildOptions) -> ExitCode {
    let config: ringfs_namenode::Config = match config_file::read(config) {
        Ok(config) => config,
        Err(error) => return refuse(EXIT_CONFIG, &error),
    };
    let http = SocketAddr::new(config.bind, config.http_port);
    run("namenode", http, child, || Ok(ringfs_namenode::start(&config)?))
}

/// Runs a datanode until a signal.
pub fn run_datanode(config: &Path, child: &ChildOptions) -> ExitCode {
    let mut config: ringfs_datanode::Config = match config_file::read(config) {
        Ok(config) => config,
        Err(error) => return refuse(EXIT_CONFIG, &error),
    };
    // The namenode is told the HTTP port at registration: a free one is chosen before.
    if config.http_port == 0 {
        config.http_port = free_port(config.bind).unwrap_or(0);
    }
    let http = SocketAddr::new(config.bind, config.http_port);
    run("datanode", http, child, || Ok(ringfs_datanode::start(&config)?))
}

fn run<S: Running>(
    role: &'static str,
    http: SocketAddr,
    child: &ChildOptions,
    start: impl FnOnce() -> Result<S, Box<dyn std::error::Error>>,
) -> ExitCode {
    let stop = catch_signals();
    let begin = || -> Result<(S, HttpServer), Box<dyn std::error::Error>> {
        bind_to_parent(child)?;
        raise_descriptor_limit();
        let server = start()?;
        let http = ringfs_http::serve(http, role, server.observed())?;
        tracing::info!(address = %http.address(), "HTTP listens");
        say_ready(child.ready_file.as_deref(), server.address(), &http, server.memory_limit_bytes())?;
        Ok((server, http))
    };
    let (server, http) = match begin() {
        Ok(begun) => begun,
        Err(error) => return refuse_start(&*error),
    };
    let failure = wait(&stop, || server.failed());
    server.stop();
    http.stop();
    match failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            eprintln!("ringfs: {failure}");
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

/// Damage has an exit code of its own, so that nobody starts again and again what needs a person.
fn refuse_start(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let damage = error.downcast_ref::<ringfs_namenode::StartError>().and_then(|error| error.remedy());
    let code = if damage.is_some() { EXIT_DAMAGED } else { EXIT_REFUSED };
    let code = refuse(code, error);
    if let Some(remedy) = damage {
        eprintln!("ringfs: {remedy}");
    }
    code
}

/// The reason is the last line on standard error.
fn refuse(code: u8, error: &dyn std::error::Error) -> ExitCode {
    let mut text = format!("ringfs: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        source = cause.source();
    }
    eprintln!("{text}");
    ExitCode::from(code)
}

fn say_ready(
    path: Option<&Path>,
    address: SocketAddr,
    http: &HttpServer,
    memory_limit_bytes: u64,
) -> std::io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    ready::write(path, &Ready { pid: std::process::id(), address, http: http.address(), memory_limit_bytes })
}

fn wait(stop: &AtomicBool, failed: impl Fn() -> Option<String>) -> Option<String> {
    while !stop.load(Ordering::Relaxed) {
        if let Some(failure) = failed() {
            return Some(failure);
        }
        // A signal interrupts the sleep at once.
        std::thread::park_timeout(LOOK);
    }
    tracing::info!("stopping");
    None
}

/// SIGTERM and SIGINT set the flag.
pub fn catch_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        if let Err(error) = signal_hook::flag::register(signal, stop.clone()) {
            tracing::warn!(%error, signal, "cannot catch a signal: it will end the process at once");
        }
    }
    stop
}

/// A server whose parent was killed is killed too: nobody would start or stop it any more.
fn bind_to_parent(child: &ChildOptions) -> std::io::Result<()> {
    let Some(parent) = child.with_parent else { return Ok(()) };
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    // The parent may have ended before the line above.
    if nix::unistd::getppid().as_raw().cast_unsigned() == parent {
        return Ok(());
    }
    Err(std::io::Error::other(format!("the parent process {parent} has ended")))
}

/// Connections and open blocks need descriptors: as many as the system allows this process.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok((soft, hard))
    });
    match raised {
        Ok((soft, hard)) => tracing::info!(soft, hard, "limit of descriptors raised"),
        Err(error) => tracing::warn!(%error, "limit of descriptors stays as it is"),
    }
}

fn free_port(bind: std::net::IpAddr) -> Option<u16> {
    let listener = std::net::TcpListener::bind(SocketAddr::new(bind, 0)).ok()?;
    Some(listener.local_addr().ok()?.port())
}
