//! All of RingFS that crosses a wire or lands on disk: ids, limits, frames, checksums, messages.
//!
//! The three roles (namenode, datanode, client) meet only here. This crate does no I/O, takes no clock and
//! spawns nothing. Whatever it decodes may come from a hostile peer or a damaged disk: every decoder returns a
//! typed error and never panics, indexes out of bounds or allocates more than its input justifies.

#![deny(unsafe_code)]

pub mod buffer;
pub mod capability;
pub mod checksum;
pub mod cluster_file;
pub mod code;
pub mod frame;
pub mod hello;
pub mod ids;
pub mod limits;
pub mod meta;
pub mod metrics;
pub mod ops;
pub mod path;
pub mod wire;

pub use code::{Code, Retry, WireError};
