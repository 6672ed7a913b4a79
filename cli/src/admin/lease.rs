//! `ringfs admin recover-lease`, as `hdfs debug recoverLease` (Hadoop's `DebugAdmin`).

use std::time::Duration;

use ringfs_sdk::environment::{Clock, SystemClock};

use super::connect;
use crate::output::outln;

/// Between two tries.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The file.
    #[arg(value_name = "PATH")]
    path: String,
    /// How often to ask again, a second apart, while recovery goes on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// The file system [default: RINGFS_URI or the client's configuration]
    #[arg(long, value_name = "URI")]
    fs: Option<String>,
}

/// Takes the lease of a file from its writer, and waits until the file is closed.
///
/// # Errors
/// A sentence for the user: it is still open, or nobody can recover it.
pub fn recover(options: &Options) -> Result<(), String> {
    let Options { path, retries, fs } = options;
    let client = connect(fs.as_deref()).map_err(|error| error.to_string())?;
    for retry in 0..=*retries {
        if retry > 0 {
            SystemClock.pause(RETRY_INTERVAL);
            outln!("Retry #{retry}");
        }
        if client.recover_lease(path).map_err(|error| error.to_string())? {
            outln!("recoverLease SUCCEEDED on {path}");
            return Ok(());
        }
        eprintln!("recoverLease returned false.");
    }
    let tries = retries.saturating_add(1);
    Err(format!(
        "Giving up on recoverLease for {path} after {tries} {}.",
        if tries == 1 { "try" } else { "tries" }
    ))
}
