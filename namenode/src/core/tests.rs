//! The namenode's decisions, driven without I/O: time, calls and durable batches go in by hand.

mod cluster;
mod datanodes;
mod invalidation;
mod reports;
mod retries;
mod safe_mode;
