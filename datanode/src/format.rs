//! Bytes on a volume: block files and the journal. Nothing here does I/O.

pub mod block;
pub mod journal;
