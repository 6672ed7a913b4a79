//! `ringfs du`: what a tree holds, and how much of it is whose.

use std::collections::BTreeMap;
use std::process::ExitCode;

use indicatif::HumanBytes;
use ringfs_sdk::{FileKind, FileStatus, WalkOptions};
use serde_json::json;

use crate::output::outln;
use crate::place;

/// Options of `ringfs du`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A file or directory, or a URI of one.
    #[arg(value_name = "PATH", default_value = "/")]
    path: String,
    /// Count for each owner, whoever has most first.
    #[arg(long)]
    by_user: bool,
    /// Print bytes as numbers, not as sizes for people.
    #[arg(long)]
    bytes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The file system [default: RINGFS_URI or the client's configuration]
    #[arg(long, value_name = "URI")]
    fs: Option<String>,
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
struct Usage {
    files: u64,
    directories: u64,
    bytes: u64,
    /// Bytes of all wanted replicas.
    bytes_with_replicas: u64,
}

impl Usage {
    fn add(&mut self, status: &FileStatus) {
        match status.kind {
            FileKind::Directory => self.directories += 1,
            FileKind::File => {
                self.files += 1;
                self.bytes += status.length;
                self.bytes_with_replicas += status.length * u64::from(status.replication);
            }
        }
    }
}

/// What there is, by owner.
#[derive(Debug, Default)]
struct ByUser(BTreeMap<String, Usage>);

impl ByUser {
    fn add(&mut self, status: &FileStatus) {
        match self.0.get_mut(&status.owner) {
            Some(usage) => usage.add(status),
            None => {
                let mut usage = Usage::default();
                usage.add(status);
                self.0.insert(status.owner.clone(), usage);
            }
        }
    }

    fn total(&self) -> Usage {
        self.0.values().fold(Usage::default(), |sum, usage| Usage {
            files: sum.files + usage.files,
            directories: sum.directories + usage.directories,
            bytes: sum.bytes + usage.bytes,
            bytes_with_replicas: sum.bytes_with_replicas + usage.bytes_with_replicas,
        })
    }

    /// Whoever has most bytes with replicas first; equals by name.
    fn sorted(&self) -> Vec<(&str, Usage)> {
        let mut all: Vec<(&str, Usage)> =
            self.0.iter().map(|(user, usage)| (user.as_str(), *usage)).collect();
        all.sort_by_key(|(_, usage)| core::cmp::Reverse(usage.bytes_with_replicas));
        all
    }
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    match count(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("ringfs: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn count(options: &Options) -> Result<(), String> {
    let (client, path) = place::find(options.fs.as_deref(), &options.path)?;
    let root = client.stat(&path).map_err(|error| error.to_string())?;
    let mut all = ByUser::default();
    if root.kind == FileKind::Directory {
        all.add(&root);
    }
    for entry in client.walk(&path, &WalkOptions::default()).map_err(|error| error.to_string())? {
        all.add(&entry.map_err(|error| error.to_string())?.status);
    }
    if options.json {
        let row = |(user, usage): (&str, Usage)| json!({ "user": user, "usage": usage });
        let mut value = json!({ "path": path, "total": all.total() });
        if options.by_user {
            value["users"] = all.sorted().into_iter().map(row).collect();
        }
        outln!("{value:#}");
        return Ok(());
    }
    table(&all, options).iter().for_each(|line| outln!("{line}"));
    Ok(())
}

fn table(all: &ByUser, options: &Options) -> Vec<String> {
    let size = |bytes: u64| if options.bytes { bytes.to_string() } else { HumanBytes(bytes).to_string() };
    let row = |name: &str, usage: Usage| {
        let Usage { files, directories, bytes, bytes_with_replicas } = usage;
        [size(bytes), size(bytes_with_replicas), files.to_string(), directories.to_string(), name.to_owned()]
    };
    let names = ["SIZE", "WITH REPLICAS", "FILES", "DIRECTORIES", if options.by_user { "USER" } else { "" }];
    let mut rows = vec![names.map(str::to_owned)];
    if options.by_user {
        rows.extend(all.sorted().into_iter().map(|(user, usage)| row(user, usage)));
    }
    rows.push(row("total", all.total()));
    crate::output::align(&rows, [true, true, true, true, false])
}

#[cfg(test)]
mod tests {
    use ringfs_proto::ids::{InodeId, LogIndex};

    use super::*;

    fn entry(kind: FileKind, owner: &str, length: u64, replication: u16) -> FileStatus {
        FileStatus {
            inode: InodeId(2),
            kind,
            name: String::new(),
            length,
            told_bytes: 0,
            mode: 0o644,
            owner: owner.to_owned(),
            group: String::new(),
            mtime_ms: 0,
            atime_ms: 0,
            replication,
            block_size: 1,
            children: 0,
            is_open: false,
            version: LogIndex(1),
            has_acl: false,
            storage_policy: 0,
            content_crc: None,
        }
    }

    fn options(by_user: bool, bytes: bool) -> Options {
        Options { path: "/".to_owned(), by_user, bytes, json: false, fs: None }
    }

    #[test]
    fn whoever_has_most_comes_first_and_the_total_last() {
        let mut all = ByUser::default();
        all.add(&entry(FileKind::Directory, "root", 0, 0));
        all.add(&entry(FileKind::File, "ann", 1000, 1));
        all.add(&entry(FileKind::File, "bob", 700, 3));
        all.add(&entry(FileKind::File, "ann", 24, 1));
        assert_eq!(
            table(&all, &options(true, true)),
            [
                "SIZE  WITH REPLICAS  FILES  DIRECTORIES  USER",
                " 700           2100      1            0  bob",
                "1024           1024      2            0  ann",
                "   0              0      0            1  root",
                "1724           3124      3            1  total",
            ]
        );
        assert_eq!(table(&all, &options(false, false)).len(), 2);
        assert!(table(&all, &options(false, false))[1].contains("1.68 KiB"));
    }
}
