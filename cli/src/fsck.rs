//! `ringfs fsck`: whether all blocks of a tree can be read, in the form and with the exit codes of `hdfs fsck` (HDFS: `DFSck`,
//! `NamenodeFsck`).

mod check;
mod report;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

use chrono::Utc;
use ringfs_sdk::{Client, FileKind, FileStatus, Kind, WalkEntry, WalkOptions};
use serde_json::{Value, json};

use crate::output::{outln, print};
use crate::place;
use check::{CheckedFile, Totals, look_at_file};
use report::{Cluster, Detail, Replicas, Reporter};
use values::bad_values;

/// Something cannot be read.
const EXIT_CORRUPT: u8 = 1;
/// The check could not be done, or the command line is wrong; with `-list-corruptfileblocks`, there are such blocks.
pub const EXIT_FAILED: u8 = 255;
/// Inodes whose blocks are asked for together.
const BATCH_INODES: usize = 1000;

/// Options of `ringfs fsck`. Each may be written with one dash, as in Hadoop.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where to start: a file or directory, or a URI of one.
    #[arg(value_name = "PATH")]
    path: String,
    /// Print every file that is checked.
    #[arg(long)]
    files: bool,
    /// With --files: print the blocks too.
    #[arg(long, requires = "files")]
    blocks: bool,
    /// With --files --blocks: print where the replicas are.
    #[arg(long, requires = "blocks")]
    locations: bool,
    /// With --files --blocks: print on which racks the replicas are.
    #[arg(long, requires = "blocks")]
    racks: bool,
    /// With --files --blocks: print where the replicas are and what each is worth.
    #[arg(long = "replicaDetails", requires = "blocks")]
    replica_details: bool,
    /// Look into files that are open for writing too, and print them.
    #[arg(long)]
    openforwrite: bool,
    /// Delete the files of which blocks cannot be read. There is no way back.
    #[arg(long)]
    delete: bool,
    /// Print only the blocks without a good replica, and their files.
    #[arg(long = "list-corruptfileblocks", conflicts_with_all = ["files", "delete", "openforwrite"])]
    list_corrupt_file_blocks: bool,
    /// Does nothing, as in Hadoop.
    #[arg(long, hide = true)]
    showprogress: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The file system [default: RINGFS_URI or the client's configuration]
    #[arg(long, value_name = "URI")]
    fs: Option<String>,
}

impl Options {
    fn detail(&self) -> Detail {
        let replicas = match self {
            Self { replica_details: true, .. } => Replicas::Health,
            Self { locations: true, .. } => Replicas::Locations,
            Self { racks: true, .. } => Replicas::Racks,
            _ => Replicas::Count,
        };
        Detail { files: self.files, blocks: self.blocks, replicas, open_files: self.openforwrite }
    }
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    match check(options) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("ringfs: {reason}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn check(options: &Options) -> Result<ExitCode, String> {
    let (client, path) = place::find(options.fs.as_deref(), &options.path)?;
    let root = match client.stat(&path) {
        Ok(root) => root,
        Err(error) if error.kind() == Kind::NotFound => {
            // HDFS, too, takes this for no failure.
            eprintln!("FileSystem is inaccessible due to:\nFile does not exist: {path}\nDFSck exiting.");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.to_string()),
    };
    if !options.json {
        eprintln!("Connecting to namenode via {}", client.uri());
    }
    if options.list_corrupt_file_blocks {
        return list_corrupt_blocks(&client, &path, options.json);
    }
    let begin = Instant::now();
    if !options.json {
        outln!("FSCK started by {} for path {path} at {}\n", client.user(), java_date());
    }
    let (cluster, racks) = look_at_cluster(&client)?;
    let mut run = Run {
        client: &client,
        options,
        reporter: Reporter { detail: options.detail(), racks },
        totals: Totals::default(),
        found: Vec::new(),
        has_failed: false,
    };
    run.tree(&path, &root)?;
    let totals = run.totals;
    let has_failed = run.has_failed;
    if options.json {
        outln!("{:#}", run.json(&path, &cluster));
    } else {
        print(format_args!("{}", report::summary(&totals, &cluster)));
        outln!("FSCK ended at {} in {} milliseconds\n\n", java_date(), begin.elapsed().as_millis());
        let status = if totals.is_healthy() { "HEALTHY" } else { "CORRUPT" };
        outln!("The filesystem under path '{path}' is {status}");
    }
    Ok(match (has_failed, totals.is_healthy()) {
        (true, _) => ExitCode::from(EXIT_FAILED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(EXIT_CORRUPT),
    })
}

/// `Wed Nov 25 08:54:21 UTC 2026`, as Java prints dates.
fn java_date() -> String {
    Utc::now().format("%a %b %d %H:%M:%S UTC %Y").to_string()
}

/// The datanodes, and the racks of each by its address. Only superusers may ask for the latter.
fn look_at_cluster(client: &Client) -> Result<(Cluster, BTreeMap<String, String>), String> {
    let stats = client.fs_stats().map_err(|error| error.to_string())?;
    let defaults = client.server_defaults().map_err(|error| error.to_string())?;
    let nodes = match client.datanode_report() {
        Ok(nodes) => Some(nodes),
        Err(error) if error.code() == Some(ringfs_sdk::Code::PermissionDenied) => None,
        Err(error) => return Err(error.to_string()),
    };
    let racks: BTreeMap<String, String> = nodes
        .iter()
        .flatten()
        .map(|node| (format!("{}:{}", node.host, node.port), node.rack.clone()))
        .collect();
    let cluster = Cluster {
        datanodes: u64::from(stats.datanodes_live) + u64::from(stats.datanodes_stale),
        racks: nodes.map(|_nodes| racks.values().collect::<BTreeSet<_>>().len() as u64),
        replication: defaults.replication.into(),
    };
    Ok((cluster, racks))
}

/// A check that goes on.
struct Run<'a> {
    client: &'a Client,
    options: &'a Options,
    reporter: Reporter,
    totals: Totals,
    /// What is told in JSON.
    found: Vec<Value>,
    /// Whether a file could not be deleted.
    has_failed: bool,
}

impl Run<'_> {
    fn tree(&mut self, path: &str, root: &FileStatus) -> Result<(), String> {
        if root.kind == FileKind::Directory {
            self.directory(path);
        }
        let options = WalkOptions::default();
        let entries = self.client.walk(path, &options).map_err(|error| error.to_string())?;
        let mut batch = Vec::with_capacity(BATCH_INODES);
        for entry in entries {
            batch.push(entry.map_err(|error| error.to_string())?);
            if batch.len() == BATCH_INODES {
                self.batch(path, &core::mem::take(&mut batch))?;
            }
        }
        self.batch(path, &batch)
    }

    fn batch(&mut self, path: &str, entries: &[WalkEntry]) -> Result<(), String> {
        let is_file = |entry: &&WalkEntry| entry.status.kind == FileKind::File;
        let inodes: Vec<_> = entries.iter().filter(is_file).map(|entry| entry.status.inode).collect();
        let checked = self.client.check_files(&inodes).map_err(|error| error.to_string())?;
        let mut checked = checked.into_iter();
        let mut files = Vec::with_capacity(inodes.len());
        for entry in entries {
            let is_file = entry.status.kind == FileKind::File;
            // A file that has gone since it was listed is no file.
            files.push(is_file.then(|| checked.next().flatten()).flatten().map(|blocks| CheckedFile {
                path: place::below(path, &entry.path),
                status: entry.status.clone(),
                blocks,
                bad_values: Vec::new(),
            }));
        }
        bad_values(self.client, files.iter_mut().flatten())?;
        for (entry, file) in entries.iter().zip(files) {
            match file {
                Some(file) => self.file(&file),
                None if entry.status.kind == FileKind::Directory => {
                    self.directory(&place::below(path, &entry.path));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &str) {
        self.totals.directories += 1;
        if !self.options.json {
            print(format_args!("{}", self.reporter.directory(path)));
        }
    }

    fn file(&mut self, file: &CheckedFile) {
        if file.status.is_open && !self.options.openforwrite {
            return self.totals.add_open(file);
        }
        self.totals.add(file);
        if self.options.json {
            self.found.extend(file_json(file, self.options));
        } else {
            print(format_args!("{}", self.reporter.file(file)));
        }
        // HDFS, too, leaves files alone that somebody writes.
        if self.options.delete && look_at_file(file).is_corrupt() && !file.status.is_open {
            self.delete(&file.path);
        }
    }

    fn delete(&mut self, path: &str) {
        match self.client.delete(path, false) {
            Ok(_is_gone) if self.options.json => {}
            Ok(_is_gone) => outln!("{path}: deleted"),
            Err(error) => {
                eprintln!("ringfs: {error}");
                self.has_failed = true;
            }
        }
    }

    fn json(self, path: &str, cluster: &Cluster) -> Value {
        json!({
            "path": path,
            "status": if self.totals.is_healthy() { "HEALTHY" } else { "CORRUPT" },
            "datanodes": cluster.datanodes,
            "racks": cluster.racks,
            "default_replication": cluster.replication,
            "totals": self.totals,
            "files": self.found,
        })
    }
}

/// A file that is asked for, or that has something wrong.
fn file_json(file: &CheckedFile, options: &Options) -> Option<Value> {
    let found = look_at_file(file);
    if found.is_ok() && !options.files {
        return None;
    }
    let block = |block: &ringfs_sdk::CheckedBlock| {
        json!({
            "block": report::name(block), "length": block.block.length, "offset": block.offset,
            "is_open": block.is_open, "is_misplaced": block.is_misplaced, "is_copied": block.is_copied,
            "value_copies": block.value_copies,
            "replicas": block.replicas.iter().map(|replica| json!({
                "datanode": replica.node.datanode.to_string(), "storage": replica.node.storage.to_string(),
                "address": format!("{}:{}", replica.node.host, replica.node.port),
                "is_stale": replica.node.is_stale, "health": format!("{:?}", replica.health),
            })).collect::<Vec<_>>(),
        })
    };
    Some(json!({
        "path": file.path, "length": file.status.length, "replication": file.status.replication,
        "is_open": file.status.is_open, "is_corrupt": found.is_corrupt(), "missing_blocks": found.missing.0,
        "corrupt_blocks": found.corrupt.0, "under_replicated_blocks": found.under,
        "mis_replicated_blocks": found.misplaced, "blocks": file.blocks.iter().map(block).collect::<Vec<_>>(),
    }))
}

/// HDFS: `NamenodeFsck.listCorruptFileBlocks`.
fn list_corrupt_blocks(client: &Client, path: &str, is_json: bool) -> Result<ExitCode, String> {
    let mut found = Vec::new();
    for corrupt in client.corrupt_files(path).map_err(|error| error.to_string())? {
        let corrupt = corrupt.map_err(|error| error.to_string())?;
        found.push((format!("blk_{}", corrupt.block), corrupt.path));
    }
    if is_json {
        let rows: Vec<Value> =
            found.iter().map(|(block, path)| json!({ "block": block, "path": path })).collect();
        outln!("{:#}", json!({ "path": path, "corrupt_blocks": rows }));
    } else {
        if !found.is_empty() {
            outln!("The list of corrupt blocks under path '{path}' are:");
        }
        found.iter().for_each(|(block, path)| outln!("{block}\t{path}"));
        outln!("The filesystem under path '{path}' has {} CORRUPT blocks", found.len());
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}
