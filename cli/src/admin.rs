//! `ringfs admin`: reports, metrics, joining hosts.

mod lease;
mod operate;
mod replicas;
mod users;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use ringfs_proto::meta::admin::DatanodeState;
use ringfs_proto::meta::membership::VolumeStatusV1;
use ringfs_sdk::Client;

use crate::output::outln;
use crate::{config_file, scrape, up};

const HTTP_DEADLINE: Duration = Duration::from_secs(10);

/// Options of `ringfs admin`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the cluster: room, files, blocks, datanodes.
    Report {
        /// The file system [default: RINGFS_URI or the client's configuration]
        #[arg(long, value_name = "URI")]
        fs: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show on which racks the datanodes are.
    Topology {
        /// The file system [default: RINGFS_URI or the client's configuration]
        #[arg(long, value_name = "URI")]
        fs: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show who asks the namenode, how much, and how long it makes them wait.
    Users(users::Options),
    /// Copy what datanodes had that vanished together, without waiting for them any longer.
    CopyNow {
        /// The file system [default: RINGFS_URI or the client's configuration]
        #[arg(long, value_name = "URI")]
        fs: Option<String>,
    },
    /// Take the lease of a file from its writer, and close the file with all that was acknowledged.
    RecoverLease(lease::Options),
    /// Print the metrics of a server.
    Metrics {
        /// Its HTTP address.
        #[arg(value_name = "HOST:PORT", default_value = "127.0.0.1:9870")]
        address: String,
    },
    /// Write a checkpoint of the namespace, so that a start replays less; or a backup.
    Checkpoint(operate::CheckpointOptions),
    /// Ask about safe mode, in which changes are refused; begin or end it.
    Safemode(operate::SafeModeOptions),
    /// Make the file that a datanode on another host needs. Run it on the namenode's host.
    JoinFile {
        /// The namenode's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where datanodes reach the namenode.
        #[arg(long, value_name = "HOST:PORT")]
        namenode: String,
        /// Where to write the file. It holds the cluster's key: move it by a safe way.
        #[arg(long, value_name = "FILE", default_value = "join.toml")]
        output: PathBuf,
    },
}

/// Runs a command.
pub fn run(options: &Options) -> ExitCode {
    let result = match &options.command {
        Command::Report { fs, json } => report(fs.as_deref(), *json).map(|()| ExitCode::SUCCESS),
        Command::Topology { fs, json } => {
            replicas::topology(fs.as_deref(), *json).map(|()| ExitCode::SUCCESS)
        }
        Command::Users(options) => users::users(options).map(|()| ExitCode::SUCCESS),
        Command::CopyNow { fs } => replicas::copy_now(fs.as_deref()).map(|()| ExitCode::SUCCESS),
        Command::RecoverLease(options) => lease::recover(options).map(|()| ExitCode::SUCCESS),
        Command::Metrics { address } => metrics(address).map(|()| ExitCode::SUCCESS),
        Command::Checkpoint(options) => operate::checkpoint(options),
        Command::Safemode(options) => operate::safe_mode(options),
        Command::JoinFile { config, namenode, output } => {
            join_file(config, namenode, output).map(|()| ExitCode::SUCCESS)
        }
    };
    match result {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("ringfs: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn report(fs: Option<&str>, json: bool) -> Result<(), String> {
    let client = connect(fs).map_err(|error| error.to_string())?;
    let stats = client.fs_stats().map_err(|error| error.to_string())?;
    let datanodes = client.datanode_report().map_err(|error| error.to_string())?;
    if json {
        let node = |node: &ringfs_proto::meta::admin::DatanodeInfoV1| {
            serde_json::json!({
                "datanode": node.datanode.to_string(), "address": format!("{}:{}", node.host, node.port),
                "state": state_name(node.state), "last_heartbeat_ms": node.last_heartbeat_ms, "blocks": node.blocks,
                "software": node.software, "rack": node.rack,
                "volumes": node.volumes.iter().map(|volume| serde_json::json!({
                    "storage": volume.storage.to_string(), "path": volume.path, "capacity_bytes": volume.capacity_bytes,
                    "used_bytes": volume.used_bytes, "remaining_bytes": volume.remaining_bytes, "is_failed": volume.is_failed,
                    "reserved_bytes": volume.reserved_bytes, "replicas": volume.replicas,
                    "scrubbed_s": volume.scrubbed_s, "bad_replicas": volume.bad_replicas,
                })).collect::<Vec<_>>(),
            })
        };
        let value = serde_json::json!({
            "cluster": stats.cluster.to_string(), "safe_mode": stats.safe_mode, "capacity_bytes": stats.capacity_bytes,
            "used_bytes": stats.used_bytes, "remaining_bytes": stats.remaining_bytes, "files": stats.files,
            "directories": stats.directories, "blocks": stats.blocks, "open_files": stats.open_files,
            "under_replicated_blocks": stats.under_replicated_blocks, "missing_blocks": stats.missing_blocks,
            "corrupt_blocks": stats.corrupt_blocks, "pending_deletion_blocks": stats.pending_deletion_blocks,
            "pending_replication_blocks": stats.pending_replication_blocks, "excess_replicas": stats.excess_replicas,
            "applied_index": stats.applied.0, "checkpoint_index": stats.checkpoint.0,
            "wal_dirs_failed": stats.wal_dirs_failed, "namespace_bytes": stats.namespace_bytes,
            "datanodes": datanodes.iter().map(node).collect::<Vec<_>>(),
        });
        outln!("{value:#}");
        return Ok(());
    }
    outln!("Cluster {}", stats.cluster);
    match stats.safe_mode.as_str() {
        "" => outln!("  changes are accepted"),
        reason => outln!("  SAFE MODE, changes are refused: {reason}"),
    }
    let share = if stats.capacity_bytes == 0 {
        0.0
    } else {
        stats.used_bytes as f64 * 100.0 / stats.capacity_bytes as f64
    };
    outln!(
        "  room         {} of {} used ({share:.1} %), {} can be written",
        HumanBytes(stats.used_bytes),
        HumanBytes(stats.capacity_bytes),
        HumanBytes(stats.remaining_bytes)
    );
    outln!(
        "  namespace    {} files, {} directories, {} open; {} of memory",
        stats.files,
        stats.directories,
        stats.open_files,
        HumanBytes(stats.namespace_bytes)
    );
    match stats.checkpoint.0 {
        0 => outln!("  log          {} records, no checkpoint yet", stats.applied),
        index => outln!("  log          {} records, checkpoint at {index}", stats.applied),
    }
    if stats.wal_dirs_failed > 0 {
        outln!(
            "  LOG DIRECTORIES OUT OF USE: {}; the namenode's log says which and why",
            stats.wal_dirs_failed
        );
    }
    outln!(
        "  blocks       {}: {} under-replicated, {} missing, {} corrupt; {} replicas to delete",
        stats.blocks,
        stats.under_replicated_blocks,
        stats.missing_blocks,
        stats.corrupt_blocks,
        stats.pending_deletion_blocks
    );
    replicas::report(&client, &stats)?;
    outln!(
        "\nDatanodes: {} live, {} silent, {} lost",
        stats.datanodes_live,
        stats.datanodes_stale,
        stats.datanodes_dead
    );
    for node in &datanodes {
        outln!(
            "  {:<22} {:<6} heard {:>5.1} s ago, {} blocks, release {}",
            format!("{}:{}", node.host, node.port),
            state_name(node.state),
            node.last_heartbeat_ms as f64 / 1000.0,
            node.blocks,
            node.software
        );
        for volume in &node.volumes {
            let failed = if volume.is_failed { "  FAILED" } else { "" };
            outln!(
                "    {}: {} used, {} can be written, {}{failed}",
                volume.path,
                HumanBytes(volume.used_bytes),
                HumanBytes(volume.remaining_bytes),
                scrub_line(volume, unix_s())
            );
        }
    }
    Ok(())
}

/// When a volume was scrubbed, and what came of it.
fn scrub_line(volume: &VolumeStatusV1, now_s: u64) -> String {
    let scrubbed = match volume.scrubbed_s {
        0 => "not scrubbed yet".to_owned(),
        at => format!("scrubbed {} ago", HumanDuration(Duration::from_secs(now_s.saturating_sub(at)))),
    };
    match volume.bad_replicas {
        0 => scrubbed,
        bad => format!("{scrubbed}, {bad} BAD replicas found"),
    }
}

fn unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn state_name(state: DatanodeState) -> &'static str {
    match state {
        DatanodeState::Live => "live",
        DatanodeState::Stale => "silent",
        DatanodeState::Dead => "lost",
    }
}

/// The client of a URI, or of the environment and configuration.
pub fn connect(fs: Option<&str>) -> ringfs_sdk::Result<Client> {
    match fs {
        Some(uri) => Client::connect(uri),
        None => Client::from_config(),
    }
}

fn metrics(address: &str) -> Result<(), String> {
    crate::output::print(format_args!("{}", scrape::fetch(address, HTTP_DEADLINE)?));
    Ok(())
}

fn join_file(config: &std::path::Path, namenode: &str, output: &std::path::Path) -> Result<(), String> {
    let config: ringfs_namenode::Config = config_file::read(config).map_err(|error| error.to_string())?;
    let directory = config.wal_dirs.first().ok_or("wal_dirs is empty in the configuration")?;
    if !namenode.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    {
        return Err(format!("--namenode {namenode}: expected HOST:PORT"));
    }
    let mut cluster =
        ringfs_namenode::directory::read_cluster_file(directory).map_err(|error| error.to_string())?;
    cluster.namenode = Some(namenode.to_owned());
    up::write_secret(output, &cluster.render()).map_err(|error| error.to_string())?;
    outln!(
        "wrote {}: it holds the cluster's key, so move it to the datanode's host by a safe way",
        output.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_when_a_volume_was_scrubbed_and_what_was_bad() {
        let volume = VolumeStatusV1 {
            storage: ringfs_proto::ids::StorageId([1; 16]),
            path: "/disk1".to_owned(),
            capacity_bytes: 3,
            used_bytes: 1,
            remaining_bytes: 1,
            reserved_bytes: 1,
            replicas: 1,
            is_failed: false,
            scrubbed_s: 0,
            bad_replicas: 0,
        };
        assert_eq!(scrub_line(&volume, 1000), "not scrubbed yet");
        let volume = VolumeStatusV1 { scrubbed_s: 1000, ..volume };
        assert_eq!(scrub_line(&volume, 1000 + 3 * 86400), "scrubbed 3 days ago");
        assert_eq!(scrub_line(&volume, 900), "scrubbed 0 seconds ago", "another clock");
        let volume = VolumeStatusV1 { bad_replicas: 2, ..volume };
        assert_eq!(scrub_line(&volume, 1060), "scrubbed 60 seconds ago, 2 BAD replicas found");
    }
}
