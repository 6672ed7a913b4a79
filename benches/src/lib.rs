//! Benchmarks of RingFS against the limits of the machine, measured in the same run: see `src/bin`.

pub mod memory;
pub mod mix;
pub mod report;
pub mod state;
