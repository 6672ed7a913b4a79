//! What a server says of itself once it listens: a small JSON file, for `ringfs up` and for tests.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A server that listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// Its process.
    pub pid: u32,
    /// Its data or RPC port.
    pub address: SocketAddr,
    /// Its HTTP port.
    pub http: SocketAddr,
    /// Memory that it takes at most by its configuration, besides the namespace, in bytes.
    pub memory_limit_bytes: u64,
}

/// Writes a file as a whole: who sees it sees all of it.
///
/// # Errors
/// What the operating system says.
pub fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    let new = path.with_extension("new");
    std::fs::write(&new, text + "\n")?;
    std::fs::rename(new, path)
}

/// Reads a file that may not be there yet.
pub fn read(path: &Path) -> Option<Ready> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}
