//! The RingFS datanode: keeps replicas of blocks on its volumes and serves them.
//!
//! The read path: [`serve`]`/connection.rs` takes a call, `serve/read.rs` plans and sends it, `serve/open_files.rs` has
//! the files, [`format::block`] says where things are in them. The write path: `serve/write.rs` moves packets,
//! `serve/pipeline.rs` decides, [`store`] keeps files and journal. [`engine`] and [`machine`] are the seams to the machine,
//! [`link`] talks to the namenode, [`server`] ties them together.

pub mod commands;
pub mod config;
pub mod engine;
pub mod error;
pub mod format;
mod hadoop;
pub mod link;
pub mod machine;
pub mod metrics;
pub mod node;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod scrub;
pub mod serve;
pub mod server;
pub mod store;
pub mod written;

pub use config::Config;
pub use error::StartError;
pub use server::{Server, start};
