//! What `fsck` prints, line by line as `hdfs fsck` has it (HDFS: `NamenodeFsck`), without what RingFS does not have: block
//! pools, erasure coding, decommissioning.

use std::collections::BTreeMap;
use std::fmt::Write;

use ringfs_sdk::{CheckedBlock, CheckedReplica, ReplicaHealth};

use super::check::{CheckedFile, Finding, Totals, is_value, look_at, look_at_file};

/// What is told of each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detail {
    /// Every file, not only those with something wrong.
    pub files: bool,
    /// Its blocks.
    pub blocks: bool,
    /// What is told of their replicas.
    pub replicas: Replicas,
    /// Files that are open for writing too.
    pub open_files: bool,
}

/// What is told of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replicas {
    /// How many are live.
    #[default]
    Count,
    /// Where they are.
    Locations,
    /// On which racks they are.
    Racks,
    /// Where they are and what they are worth.
    Health,
}

/// What a report is made with.
#[derive(Debug, Default)]
pub struct Reporter {
    /// What is told.
    pub detail: Detail,
    /// The racks of datanodes by `host:port`; one that is not here is on an unknown one.
    pub racks: BTreeMap<String, String>,
}

/// What is known of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cluster {
    /// Datanodes that are heard.
    pub datanodes: u64,
    /// Racks of all datanodes; `None` when the user may not ask for them.
    pub racks: Option<u64>,
    /// Replicas of new files.
    pub replication: u64,
}

impl Reporter {
    /// A directory's line.
    pub fn directory(&self, path: &str) -> String {
        if self.detail.files { format!("{path} <dir>\n") } else { String::new() }
    }

    /// A file's lines; nothing for one that is in order, unless files are shown.
    pub fn file(&self, file: &CheckedFile) -> String {
        let mut text = self.head(file);
        let found = look_at_file(file);
        for block in &file.blocks {
            text.push_str(&self.complaint(file, block));
        }
        if !self.detail.files {
            for (word, (blocks, bytes)) in [("MISSING", found.missing), ("CORRUPT", found.corrupt)] {
                if blocks > 0 {
                    line(
                        &mut text,
                        format_args!("\n{}: {word} {blocks} blocks of total size {bytes} B.", file.path),
                    );
                }
            }
            return text;
        }
        if found.missing.0 > 0 {
            let (blocks, bytes) = found.missing;
            line(&mut text, format_args!(" MISSING {blocks} blocks of total size {bytes} B"));
        }
        if found.is_ok() {
            text.push_str(" OK\n");
        }
        if self.detail.blocks {
            for (number, block) in file.blocks.iter().enumerate() {
                text.push_str(&self.block(number, file, block));
            }
            text.push('\n');
        }
        text
    }

    fn head(&self, file: &CheckedFile) -> String {
        let (path, length, wanted) = (&file.path, file.status.length, file.status.replication);
        let shape = format!(
            "{path} {length} bytes, replicated: replication={wanted}, {} block(s)",
            file.blocks.len()
        );
        if file.status.is_open && self.detail.open_files {
            let end = if self.detail.files { " " } else { "\n" };
            format!("{shape}, OPENFORWRITE:{end}")
        } else if self.detail.files {
            format!("{shape}: ")
        } else {
            String::new()
        }
    }

    /// What is wrong with a block, if anything.
    fn complaint(&self, file: &CheckedFile, block: &CheckedBlock) -> String {
        let wanted = file.status.replication;
        let found = look_at(file, block);
        let (path, name) = (&file.path, name(block));
        let mut text = String::new();
        if found.is_corrupt {
            line(&mut text, format_args!("\n{path}: CORRUPT block {name}"));
        }
        let subject = if self.detail.files { String::new() } else { format!("\n{path}: ") };
        if found.is_under {
            let live = found.live;
            line(
                &mut text,
                format_args!(
                    "{subject} Under replicated {name}. Target Replicas is {wanted} but found {live} live replica(s), {}.",
                    other_replicas(block)
                ),
            );
        }
        if found.is_misplaced {
            line(
                &mut text,
                format_args!(
                    "{subject} Replica placement policy is violated for {name}. Block should be additionally replicated on 1 more rack(s)."
                ),
            );
        }
        text
    }

    fn block(&self, number: usize, file: &CheckedFile, block: &CheckedBlock) -> String {
        let Finding { live, is_missing, .. } = look_at(file, block);
        let (name, length) = (name(block), block.block.length);
        if is_value(block) {
            let copies = block.value_copies;
            return format!("{number}. {name} len={length} in the namenode's log, copies={copies}\n");
        }
        let state = match (is_missing, block.is_open) {
            (true, _) => " MISSING!".to_owned(),
            (false, true) => format!(" Under construction, Expected_repl={live}"),
            (false, false) => format!(" Live_repl={live}"),
        };
        let shown: Vec<String> = block.replicas.iter().filter_map(|replica| self.replica(replica)).collect();
        let replicas = match self.detail.replicas {
            Replicas::Count => String::new(),
            _ if is_missing => String::new(),
            _ => format!("  [{}]", shown.join(", ")),
        };
        format!("{number}. {name} len={length}{state}{replicas}\n")
    }

    /// A replica as it is listed. Those that do not count are listed only where their worth is told, or where nothing else is.
    fn replica(&self, replica: &CheckedReplica) -> Option<String> {
        let CheckedReplica { node, health } = replica;
        let address = format!("{}:{}", node.host, node.port);
        match self.detail.replicas {
            Replicas::Count => None,
            Replicas::Locations | Replicas::Racks if *health == ReplicaHealth::Excess => None,
            Replicas::Racks => {
                let rack = self.racks.get(&address).map_or("/unknown-rack", String::as_str);
                Some(format!("{rack}/{address}"))
            }
            Replicas::Locations => {
                Some(format!("DatanodeInfoWithStorage[{address},DS-{},DISK]", node.storage))
            }
            Replicas::Health => Some(format!(
                "DatanodeInfoWithStorage[{address},DS-{},DISK]({})",
                node.storage,
                health_name(node.is_stale, *health)
            )),
        }
    }
}

/// As it is called in Hadoop, so that what looks for `blk_` finds it.
pub fn name(block: &CheckedBlock) -> String {
    format!("blk_{}_{}", block.block.block, block.block.stamp)
}

fn other_replicas(block: &CheckedBlock) -> String {
    let count = |health| block.replicas.iter().filter(|replica| replica.health == health).count();
    let [corrupt, outdated] = [ReplicaHealth::Corrupt, ReplicaHealth::Outdated].map(count);
    format!("{corrupt} corrupt replica(s), {outdated} outdated replica(s)")
}

fn health_name(is_stale: bool, health: ReplicaHealth) -> &'static str {
    match health {
        ReplicaHealth::Live if is_stale => "STALE_NODE",
        ReplicaHealth::Live => "LIVE",
        ReplicaHealth::Corrupt => "CORRUPT",
        ReplicaHealth::Outdated => "OUTDATED",
        ReplicaHealth::Excess => "EXCESS",
        ReplicaHealth::BeingWritten => "BEING_WRITTEN",
    }
}

/// The totals (HDFS: `NamenodeFsck.ReplicationResult.toString`).
pub fn summary(totals: &Totals, cluster: &Cluster) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("\nStatus: {}", if totals.is_healthy() { "HEALTHY" } else { "CORRUPT" }));
    line(&mut text, format_args!(" Number of data-nodes:\t{}", cluster.datanodes));
    let racks =
        cluster.racks.map_or("unknown: only superusers may ask".to_owned(), |racks| racks.to_string());
    line(&mut text, format_args!(" Number of racks:\t\t{racks}"));
    line(&mut text, format_args!(" Total dirs:\t\t\t{}", totals.directories));
    line(&mut text, format_args!(" Total symlinks:\t\t0\n\nReplicated Blocks:"));
    sizes(&mut text, totals);
    if !totals.is_healthy() {
        damage(&mut text, totals);
    }
    let share = |count| percent(count, totals.blocks);
    let rows = [
        ("Minimally replicated blocks:\t", totals.minimally_replicated_blocks),
        ("Over-replicated blocks:\t", totals.over_replicated_blocks),
        ("Under-replicated blocks:\t", totals.under_replicated_blocks),
        ("Mis-replicated blocks:\t\t", totals.mis_replicated_blocks),
    ];
    for (title, count) in rows {
        line(&mut text, format_args!(" {title}{count}{}", share(count)));
    }
    let average = if totals.blocks == 0 { 0.0 } else { totals.replicas as f32 / totals.blocks as f32 };
    line(&mut text, format_args!(" Default replication factor:\t{}", cluster.replication));
    line(&mut text, format_args!(" Average block replication:\t{average:?}"));
    line(&mut text, format_args!(" Missing blocks:\t\t{}", totals.missing_blocks));
    line(&mut text, format_args!(" Corrupt blocks:\t\t{}", totals.corrupt_blocks));
    let missing = totals.missing_replicas;
    line(
        &mut text,
        format_args!(" Missing replicas:\t\t{missing}{}", percent(missing, totals.wanted_replicas)),
    );
    line(&mut text, format_args!(" Blocks queued for replication:\t{}", totals.copied_blocks));
    if totals.values > 0 {
        line(&mut text, format_args!("\nBlocks in the namenode's log:"));
        line(&mut text, format_args!(" Total size:\t{} B", totals.value_bytes));
        line(&mut text, format_args!(" Total blocks (validated):\t{}", totals.values));
    }
    text
}

fn sizes(text: &mut String, totals: &Totals) {
    let open = |count: u64, what: &str, unit: &str| match count {
        0 => String::new(),
        _ => format!(" ({what}: {count}{unit})"),
    };
    let bytes = open(totals.open_files_bytes, "Total open files size", " B");
    line(text, format_args!(" Total size:\t{} B{bytes}", totals.bytes));
    let files = open(totals.open_files, "Files currently being written", "");
    line(text, format_args!(" Total files:\t{}{files}", totals.files));
    let average = match totals.block_bytes.checked_div(totals.blocks) {
        Some(average) => format!(" (avg. block size {average} B)"),
        None => String::new(),
    };
    let blocks = open(totals.open_files_blocks, "Total open file blocks (not validated)", "");
    line(text, format_args!(" Total blocks (validated):\t{}{average}{blocks}", totals.blocks));
}

fn damage(text: &mut String, totals: &Totals) {
    let unread = totals.blocks - totals.minimally_replicated_blocks;
    line(text, format_args!("  ********************************"));
    line(text, format_args!("  UNDER MIN REPL'D BLOCKS:\t{unread}{}", percent(unread, totals.blocks)));
    line(text, format_args!("  MINIMAL BLOCK REPLICATION:\t1"));
    line(text, format_args!("  CORRUPT FILES:\t{}", totals.corrupt_files));
    if totals.missing_blocks > 0 {
        line(text, format_args!("  MISSING BLOCKS:\t{}", totals.missing_blocks));
        line(text, format_args!("  MISSING SIZE:\t\t{} B", totals.missing_bytes));
    }
    if totals.corrupt_blocks > 0 {
        line(text, format_args!("  CORRUPT BLOCKS: \t{}", totals.corrupt_blocks));
        line(text, format_args!("  CORRUPT SIZE:\t\t{} B", totals.corrupt_bytes));
    }
    line(text, format_args!("  ********************************"));
}

/// ` (62.5 %)`, as Java prints a float; nothing of nothing.
fn percent(count: u64, of: u64) -> String {
    if of == 0 { String::new() } else { format!(" ({:?} %)", (count * 100) as f32 / of as f32) }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{arguments}");
}

#[cfg(test)]
mod tests {
    use ReplicaHealth::{Corrupt, Live};

    use super::super::check::tests::{block, file};
    use super::*;

    fn reporter(replicas: Replicas) -> Reporter {
        let detail = Detail { files: true, blocks: true, replicas, open_files: false };
        let racks = BTreeMap::from([("10.0.0.1:9866".to_owned(), "/rack-a".to_owned())]);
        Reporter { detail, racks }
    }

    #[test]
    fn a_file_in_order_is_told_only_when_files_are_shown() {
        let good = file("/d/good", vec![block(1, &[Live, Live])]);
        assert_eq!(Reporter::default().file(&good), "");
        assert_eq!(
            reporter(Replicas::Racks).file(&good),
            "/d/good 100 bytes, replicated: replication=2, 1 block(s):  OK\n\
             0. blk_1_7 len=100 Live_repl=2  [/rack-a/10.0.0.1:9866, /unknown-rack/10.0.0.2:9866]\n\n"
        );
    }

    #[test]
    fn what_is_wrong_is_always_told() {
        let bad = file("/bad", vec![block(1, &[Live]), block(2, &[Corrupt, Corrupt]), block(3, &[])]);
        assert_eq!(
            Reporter::default().file(&bad),
            "\n/bad:  Under replicated blk_1_7. Target Replicas is 2 but found 1 live replica(s), 0 corrupt replica(s), 0 outdated replica(s).\n\
             \n/bad: CORRUPT block blk_2_7\n\
             \n/bad: MISSING 1 blocks of total size 100 B.\n\
             \n/bad: CORRUPT 1 blocks of total size 100 B.\n"
        );
        let shown = reporter(Replicas::Health).file(&bad);
        assert!(shown.contains(" MISSING 1 blocks of total size 100 B\n"), "{shown}");
        assert!(shown.contains("\n2. blk_3_7 len=100 MISSING!\n"), "{shown}");
        assert!(
            shown.contains("1. blk_2_7 len=100 Live_repl=0  [DatanodeInfoWithStorage[10.0.0.1:9866,DS-"),
            "{shown}"
        );
        assert!(shown.contains(",DISK](CORRUPT)"), "{shown}");
        assert!(!shown.contains(" OK"), "{shown}");
    }

    #[test]
    fn the_summary_is_that_of_hdfs() {
        let mut totals = Totals { directories: 4, ..Totals::default() };
        totals.add(&file("/a", vec![block(1, &[Live])]));
        totals.add(&file("/b", vec![block(2, &[Live]), block(3, &[Live, Live])]));
        let cluster = Cluster { datanodes: 1, racks: Some(1), replication: 3 };
        assert_eq!(
            summary(&totals, &cluster),
            "\nStatus: HEALTHY\n Number of data-nodes:\t1\n Number of racks:\t\t1\n Total dirs:\t\t\t4\n Total symlinks:\t\t0\n\n\
             Replicated Blocks:\n Total size:\t300 B\n Total files:\t2\n Total blocks (validated):\t3 (avg. block size 100 B)\n \
             Minimally replicated blocks:\t3 (100.0 %)\n Over-replicated blocks:\t0 (0.0 %)\n \
             Under-replicated blocks:\t2 (66.666664 %)\n Mis-replicated blocks:\t\t0 (0.0 %)\n \
             Default replication factor:\t3\n Average block replication:\t1.3333334\n Missing blocks:\t\t0\n \
             Corrupt blocks:\t\t0\n Missing replicas:\t\t2 (33.333332 %)\n Blocks queued for replication:\t0\n"
        );
        totals.add(&file("/c", vec![block(4, &[Corrupt]), block(5, &[])]));
        let text = summary(&totals, &Cluster::default());
        assert!(!text.contains("log"), "{text}");
        totals.add(&file("/small", vec![CheckedBlock { value_copies: 1, ..block(7, &[]) }]));
        let text = summary(&totals, &Cluster::default());
        let values = "\nBlocks in the namenode's log:\n Total size:\t100 B\n Total blocks (validated):\t1\n";
        assert!(text.ends_with(values), "{text}");
        assert!(text.contains("\nStatus: CORRUPT\n"), "{text}");
        assert!(
            text.contains(
                "  UNDER MIN REPL'D BLOCKS:\t2 (40.0 %)\n  MINIMAL BLOCK REPLICATION:\t1\n  CORRUPT FILES:\t1\n  MISSING BLOCKS:\t1\n  MISSING SIZE:\t\t100 B\n  CORRUPT BLOCKS: \t1\n  CORRUPT SIZE:\t\t100 B\n"
            ),
            "{text}"
        );
    }
}
