//! What the fuzz targets of RingFS do with bytes, as plain functions, and the seeds that they begin with.
//!
//! A target takes any bytes and must return: a panic, a failed assertion or memory without bound is a defect. `fuzz/`
//! runs each under libFuzzer; the tests of this crate replay the kept corpus, and flip and cut every seed, without it.
//!
//! Checksums would keep random bytes from all that lies behind them. Where a format has one, a target therefore looks at
//! its input twice: as it is, and *sealed*, with the checksums made right.

pub mod calls;
pub mod checkpoint;
pub mod disk;
pub mod hadoop;
pub mod input;
pub mod log;
pub mod messages;
pub mod packets;
pub mod texts;
pub mod wire;

/// One fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of its binary and of the folder of its corpus.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made from the formats themselves.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: wire::frames, seeds: wire::frame_seeds },
    Target { name: "hello", run: wire::hello, seeds: wire::hello_seeds },
    Target { name: "capability", run: wire::capability, seeds: wire::capability_seeds },
    Target { name: "messages", run: messages::messages, seeds: messages::seeds },
    Target { name: "requests", run: messages::requests, seeds: messages::request_seeds },
    Target { name: "log_batches", run: log::batches, seeds: log::batch_seeds },
    Target { name: "log_segments", run: log::segments, seeds: log::segment_seeds },
    Target { name: "checkpoints", run: checkpoint::checkpoints, seeds: checkpoint::checkpoint_seeds },
    Target { name: "volume_journal", run: disk::journal, seeds: disk::journal_seeds },
    Target { name: "block_file", run: disk::block_file, seeds: disk::block_file_seeds },
    Target { name: "texts", run: texts::texts, seeds: texts::seeds },
    Target { name: "pipeline_packets", run: packets::packets, seeds: packets::seeds },
    Target { name: "namenode_calls", run: calls::calls, seeds: calls::seeds },
    Target { name: "hadoop_rpc", run: hadoop::rpc, seeds: hadoop::rpc_seeds },
    Target { name: "hadoop_data", run: hadoop::data, seeds: hadoop::data_seeds },
];

/// Gives an input to the target of a name.
///
/// # Panics
/// If there is no such target, or when the input shows a defect.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("binaries have the names of targets").run)(data);
}
