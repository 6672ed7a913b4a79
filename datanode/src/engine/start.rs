//! Choosing an engine and starting its shards.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::threads::{Pool, run_shard};
use super::{Service, Stop};
use crate::config::EngineChoice;

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

/// Starts `shards` threads that run `service`.
///
/// # Errors
/// `Unsupported` when the chosen engine is not to be had; what the operating system says.
pub fn start<S: Service>(
    choice: EngineChoice,
    shards: usize,
    io_threads: usize,
    service: &S,
) -> io::Result<Engines> {
    if choice == EngineChoice::Glommio {
        let reason = "engine \"glommio\" is not part of this build; set engine = \"threads\"";
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    let stop = Stop::default();
    let (pool, threads) = Pool::start(io_threads)?;
    let start = |shard: usize| {
        let (pool, service, stop) = (pool.clone(), service.clone(), stop.clone());
        std::thread::Builder::new().name(format!("shard-{shard}")).spawn(move || {
            if let Err(error) = run_shard(shard, pool, service, stop) {
                tracing::error!(%error, shard, "shard could not start");
            }
        })
    };
    let shards = (0..shards).map(start).collect::<io::Result<_>>()?;
    tracing::info!(engine = "threads", io_threads, "engine started");
    Ok(Engines { name: "threads", stop, shards, pool: Some(PoolHandle { pool, threads }) })
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
