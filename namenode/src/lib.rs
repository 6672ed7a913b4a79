//! The RingFS namenode: namespace, block map, leases, write-ahead log, RPC server.

pub mod config;
pub mod directory;
pub mod state;
pub mod wal;
