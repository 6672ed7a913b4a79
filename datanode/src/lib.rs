//! The RingFS datanode: keeps replicas of blocks on its volumes and serves them.

pub mod config;
pub mod engine;
