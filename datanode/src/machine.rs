//! What a datanode asks of its machine, besides sockets and the files of its shards: an engine gives those.
//!
//! Nothing else in the crate looks at the time of day or takes random bytes, so that a simulated machine decides both.

use std::fmt::Debug;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use ringfs_disk::{Disk, SystemDisk};

/// The machine.
pub trait Machine: Debug + Send + Sync {
    /// Its file systems, for everything that is not the data of a packet.
    fn files(&self) -> &dyn Disk;

    /// Time of day, seconds since 1970. It may jump.
    fn unix_s(&self) -> i64;

    /// Fills `bytes` with what nobody can guess.
    ///
    /// # Errors
    /// What the source of randomness says.
    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// Number of this process.
    fn process(&self) -> u32;
}

/// The machine that this process runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemMachine;

impl Machine for SystemMachine {
    fn files(&self) -> &dyn Disk {
        &SystemDisk
    }

    fn unix_s(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))
    }

    fn process(&self) -> u32 {
        std::process::id()
    }
}
