//! What tests on real processes share: clusters, processes, data, waiting.
//!
//! A [`cluster::Cluster`] starts the real `ringfs` binary with a directory of its own and free ports; a test kills,
//! pauses and restarts its processes and reads back what was acknowledged. Nothing here sleeps for a fixed time:
//! [`wait::until`] waits for a condition with a deadline.

pub mod cluster;
pub mod data;
pub mod disks;
pub mod faults;
pub mod golden;
pub mod hadoop;
pub mod hosts;
pub mod java;
pub mod pipeline;
pub mod process;
pub mod random;
pub mod raw;
pub mod remote;
pub mod shim;
pub mod wait;
