//! Connections: made with a hello, kept idle at a frame boundary, used by one call at a time.

pub(crate) mod connection;
pub(crate) mod inbox;
pub(crate) mod pool;
pub(crate) mod session;
