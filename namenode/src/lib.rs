//! The RingFS namenode: keeps the namespace, knows where blocks are, and says who may read and write them.
//!
//! Read [`core`] first: it decides everything, without I/O. [`state`] is the namespace, [`wal`] makes changes durable,
//! [`rpc`] moves frames, [`server`] ties them together.

pub mod activity;
pub mod answers;
pub mod blocks;
pub mod boot;
pub mod calls;
pub mod checkpoint;
pub mod config;
pub mod core;
pub mod datanodes;
pub mod directory;
pub mod fair;
mod groups;
pub mod hadoop;
pub mod inbox;
pub mod metrics;
pub mod rpc;
pub mod server;
pub mod state;
pub mod topology;
pub mod wal;

pub use config::Config;
pub use server::{Server, StartError, format, start};
