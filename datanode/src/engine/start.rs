//! Choosing an engine and starting its shards.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

pub use super::glommio::NOT_LOGGED;
use super::glommio::{probe, run_shard as run_on_glommio};
use super::threads::{Pool, run_shard as run_on_threads};
use super::{Service, Stop};
use crate::config::EngineChoice;

/// How shards are started.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which engine.
    pub choice: EngineChoice,
    /// Whether each has a CPU of its own.
    pub pin: bool,
    /// Threads for file I/O of the `threads` engine.
    pub io_threads: usize,
}

/// The running shards.
#[derive(Debug)]
pub struct Engines {
    name: &'static str,
    stop: Stop,
    shards: Vec<JoinHandle<()>>,
    pool: Option<PoolHandle>,
}

struct PoolHandle {
    pool: Arc<Pool>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for PoolHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} I/O threads", self.threads.len())
    }
}

/// Starts a shard for each listening socket (`SO_REUSEPORT` set by the caller) that runs `service`, on the chosen engine or on
/// the best that there is.
///
/// # Errors
/// `Unsupported` when the chosen engine is not to be had; what the operating system says.
pub fn start<S: Service>(options: &Options, sockets: Vec<TcpListener>, service: &S) -> io::Result<Engines> {
    let probed = match options.choice {
        EngineChoice::Threads => Err(io::Error::other("it is configured so")),
        EngineChoice::Glommio | EngineChoice::Auto => probe(),
    };
    match (probed, options.choice) {
        (Ok(()), _) => start_glommio(options, sockets, service),
        (Err(error), EngineChoice::Glommio) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, refusal(&error)))
        }
        (Err(reason), _) => {
            tracing::info!(%reason, "the threads engine serves");
            start_threads(options, sockets, service)
        }
    }
}

fn refusal(error: &io::Error) -> String {
    format!(
        "engine \"glommio\" cannot run: {error}; allow io_uring, raise the limit of locked memory (`ulimit -l unlimited`, \
         LimitMEMLOCK=infinity), or set engine = \"auto\""
    )
}

fn start_glommio<S: Service>(
    options: &Options,
    sockets: Vec<TcpListener>,
    service: &S,
) -> io::Result<Engines> {
    let stop = Stop::default();
    let start = |(shard, socket)| {
        let (service, stop, cpu) = (service.clone(), stop.clone(), options.pin.then_some(shard));
        spawn(shard, move || run_on_glommio(shard, cpu, socket, service, stop))
    };
    let shards = sockets.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
    tracing::info!("the glommio engine serves: io_uring is allowed");
    Ok(Engines { name: "glommio", stop, shards, pool: None })
}

fn start_threads<S: Service>(
    options: &Options,
    sockets: Vec<TcpListener>,
    service: &S,
) -> io::Result<Engines> {
    let stop = Stop::default();
    let (pool, threads) = Pool::start(options.io_threads)?;
    let start = |(shard, socket)| {
        let (pool, service, stop) = (pool.clone(), service.clone(), stop.clone());
        spawn(shard, move || run_on_threads(shard, pool, socket, service, stop))
    };
    let shards = sockets.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
    Ok(Engines { name: "threads", stop, shards, pool: Some(PoolHandle { pool, threads }) })
}

fn spawn(shard: usize, run: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("shard-{shard}")).spawn(move || {
        if let Err(error) = run() {
            tracing::error!(%error, shard, "shard could not start");
        }
    })
}

impl Engines {
    /// The engine: `glommio` or `threads`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tells the shards to stop and waits for them.
    pub fn stop(&mut self) {
        self.stop.stop();
        for shard in self.shards.drain(..) {
            let _panicked = shard.join();
        }
        if let Some(PoolHandle { pool, threads }) = self.pool.take() {
            pool.stop();
            for thread in threads {
                let _panicked = thread.join();
            }
        }
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.stop();
    }
}
