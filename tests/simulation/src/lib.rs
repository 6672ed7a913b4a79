//! The whole of RingFS in one thread, from one seed: the real namenode, datanodes and clients over simulated disks,
//! networks and clocks.

mod attributes;
pub mod client;
pub mod clock;
pub mod coroutine;
pub mod datanode;
pub mod engine;
pub mod executor;
pub mod faults;
mod file;
mod harm;
mod holders;
mod model;
pub mod namenode;
pub mod network;
pub mod one_thread;
pub mod quiet;
pub mod transport;
mod tree;
pub mod wire;
mod workload;
pub mod world;

pub use world::{Mistake, Outcome, Plan, run};
