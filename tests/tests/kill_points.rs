//! A namenode process that is killed at each write, sync, rename and removal in its log directories, one life after the
//! other, while a client goes on: the client sees pauses and no error, and everything that it was told is there.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringfs_tests::cluster::{Cluster, Options, binary};
use ringfs_tests::process::{Process, Sandbox};
use ringfs_tests::shim::Faults;
use ringfs_tests::wait;

/// A life ends before its n-th operation: a start takes some thirty, a change two, a checkpoint forty, a new segment fourteen.
const LIVES: u64 = 120;
/// Directories between two checkpoints that the client asks for: however fast it is, each life comes to one soon.
const CHECKPOINT_EVERY: u64 = 6;
/// Small segments, so that each life has all kinds of operations.
const NAMENODE_TOML: &str = "wal_dirs = [\"NAMENODE_DIR/wal\", \"NAMENODE_DIR/wal-two\"]\nio_uring = \"off\"\nwal_segment_bytes = 65536\n";

#[test]
fn a_namenode_killed_at_each_operation_has_all_that_it_has_answered() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let faults = Faults::new(temp.path());
    let options = Options {
        datanodes: 0,
        namenode_toml: NAMENODE_TOML.to_owned(),
        environment: faults.environment(),
        ..Options::default()
    };
    let mut cluster = Cluster::start(&options);
    let client = cluster.client();
    let (made, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (counter, end) = (made.clone(), is_over.clone());
    let writer = std::thread::spawn(move || {
        while !end.load(Ordering::Relaxed) {
            let number = counter.load(Ordering::Relaxed);
            client.mkdirs(&format!("/d{number}")).expect("a pause, not an error");
            if number % CHECKPOINT_EVERY == 0 {
                client.checkpoint("").expect("a pause, not an error");
            }
            counter.store(number + 1, Ordering::Relaxed);
        }
    });
    cluster.namenode.kill_9();
    for operation in 0..LIVES {
        faults.set(&format!("change kill /wal {operation} 1\n"));
        let mut process = start(&cluster, &faults);
        wait::until_true("it is killed", || process.ended().is_some());
        let log = process.log();
        assert!(!log.contains("panicked"), "{log}");
    }
    faults.set("");
    cluster.namenode.start();
    let before = made.load(Ordering::Relaxed);
    wait::until_true("the client goes on", || made.load(Ordering::Relaxed) > before + 1);
    is_over.store(true, Ordering::Relaxed);
    writer.join().expect("no error");
    assert_eq!(faults.hits().len(), LIVES as usize, "each life was ended by its operation");
    let client = cluster.client();
    for number in 0..made.load(Ordering::Relaxed) {
        assert!(client.stat(&format!("/d{number}")).is_ok(), "/d{number} was made");
    }
    let kinds = ["write ", "fsync ", "rename ", "unlink "];
    let hits = faults.hits();
    for kind in kinds {
        assert!(hits.iter().any(|hit| hit.starts_with(kind)), "no life ended at a {kind}");
    }
    // Marks are written when nothing comes for a while, which is not for this test to say: see `boot/crash_tests.rs`.
    for file in ["wal-0", "checkpoint.part", "next.prepared", "members"] {
        assert!(hits.iter().any(|hit| hit.contains(file)), "no life ended at {file}");
    }
}

fn start(cluster: &Cluster, faults: &Faults) -> Process {
    let dir = cluster.namenode.dir();
    let mut command = Command::new(binary());
    command.envs(faults.environment()).arg("namenode").arg("--config").arg(dir.join("config.toml"));
    command.arg("--with-parent").arg(std::process::id().to_string());
    let log = dir.join("log");
    // The log of one life is enough.
    drop(fs::remove_file(&log));
    Process::start("namenode", command, &log, Sandbox::None)
}
