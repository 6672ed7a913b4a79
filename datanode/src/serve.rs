//! Serving block data: the same code on every engine, one instance per shard.

mod commands;
mod compact;
pub(crate) mod connection;
pub(crate) mod copy;
pub(crate) mod frames;
pub(crate) mod next;
pub(crate) mod open_files;
pub(crate) mod packets;
#[doc(hidden)]
pub mod pipeline;
pub(crate) mod read;
mod recovery;
mod reopen;
mod scrub;
pub(crate) mod signal;
mod watch;
pub(crate) mod write;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Engine, Listener, Service, Stop, Weight};
use crate::hadoop::Asking;
use crate::metrics::ShardMetrics;
use crate::node::Node;
use open_files::OpenFiles;
use watch::Watches;

/// Bytes of a buffer that collects packets for one write: two of the default size, or one of the largest.
pub(crate) const GROUP_BYTES: usize = (1 << 20) + 2 * crate::engine::DIRECT_ALIGN;
/// Memory of a replica being written: one buffer that fills, one that is being written, checksums.
pub(crate) const WRITER_BYTES: u64 = 2 * GROUP_BYTES as u64 + (64 << 10);
/// Memory of a connection: what it reads ahead, and the part of a range that it sends.
pub(crate) const CONNECTION_BYTES: u64 = (frames::READ_AHEAD_BYTES as u64) + (64 << 10);
/// Pause after accept has failed, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a shard runs.
#[derive(Debug, Clone)]
pub struct BlockService {
    node: Arc<Node>,
}

impl BlockService {
    /// Serves the replicas of `node`; each shard accepts from its own socket.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

/// What the tasks of one shard share.
pub(crate) struct Shard<E: Engine> {
    pub engine: E,
    pub node: Arc<Node>,
    pub metrics: Arc<ShardMetrics>,
    pub files: OpenFiles<E>,
    pub watches: Watches,
    pub work: commands::Work,
    /// A connection to the namenode, for blocks that are kept there.
    pub asking: RefCell<Option<Asking<E>>>,
}

impl Service for BlockService {
    async fn run<E: Engine>(self, engine: E, stop: Stop) {
        let metrics = self.node.metrics[engine.shard()].clone();
        let shard = Rc::new(Shard {
            engine: engine.clone(),
            files: OpenFiles::default(),
            watches: Watches::new(self.node.config.peer_stall_ms),
            work: commands::Work::default(),
            asking: RefCell::default(),
            metrics,
            node: self.node,
        });
        let listener = match engine.listen() {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "shard cannot listen"),
        };
        engine.spawn(Weight::Background, shard.clone().watch());
        engine.spawn(Weight::Foreground, shard.clone().carry_out_commands());
        shard.start_scrubbing();
        futures_lite::future::or(shard.accept(&listener), stop.stopped()).await;
    }
}

impl<E: Engine> Shard<E> {
    async fn accept(self: &Rc<Self>, listener: &E::Listener) {
        loop {
            match listener.accept().await {
                Ok((reader, writer, address)) => {
                    let Some(permit) = self.node.take_connection() else {
                        tracing::warn!(%address, "connection refused: too many");
                        continue;
                    };
                    let shard = self.clone();
                    self.engine.spawn(Weight::Foreground, async move {
                        shard.serve(reader, writer, address).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    self.engine.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn watch(self: Rc<Self>) {
        loop {
            self.engine.sleep(watch::INTERVAL).await;
            self.metrics.stalled.add(self.watches.tick());
            // One shard looks after the volumes for all.
            if self.engine.shard() == 0 && self.node.store.needs_care() {
                let node = self.node.clone();
                self.engine.blocking(move || node.store.take_care()).await;
            }
            self.compact_journals();
            self.files.drop_gone();
        }
    }
}
