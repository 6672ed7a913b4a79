//! Disks without room: the writer gets ENOSPC, nothing that was acknowledged is harmed, and room comes back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use ringfs_sdk::{Client, Kind};
use ringfs_tests::cluster::{Cluster, Options, Server, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::disks::Disk;
use ringfs_tests::wait;

const DISK_BYTES: u64 = 64 << 20;
const RESERVED_BYTES: u64 = 8 << 20;
const FILE_BYTES: u64 = 8 << 20;
const WRITERS: u64 = 12;
/// Looks at the free room, of which the one that found most counts.
const LOOKS: usize = 200;
/// Directories, the journal, and what it takes ahead.
const OVERHEAD_BYTES: u64 = 1 << 20;
const NAMENODE: &str = "invalidation_delay_ms = 0\nheartbeat_interval_ms = 200\n";

#[test]
fn below_the_reserve_a_block_is_refused() {
    let mut cluster = Cluster::start(&Options::default());
    let client = cluster.client();
    let mut writer = client.create_with("/kept", &file_options(1, 1 << 20)).expect("created");
    writer.write_all(&Pattern { seed: 1 }.bytes(0, 3 << 20)).expect("written");
    writer.close().expect("closed");
    // More than any disk has.
    let config = cluster.datanodes[0].dir().join("config.toml");
    let text = std::fs::read_to_string(&config).expect("read") + "reserved_bytes = 4611686018427387904\n";
    std::fs::write(&config, text).expect("written");
    cluster.datanodes[0].kill_9();
    cluster.datanodes[0].start();
    cluster.wait_serving();
    let mut writer = client.create_with("/refused", &file_options(1, 1 << 20)).expect("created");
    let error = writer.write_all(&[1; 100]).and_then(|()| writer.close().map(|_| ()).map_err(Into::into));
    let error = error.expect_err("refused");
    assert_eq!(error.raw_os_error().or(Some(error_number(&error))), Some(libc::ENOSPC), "{error}");
    let mut bytes = vec![0; 3 << 20];
    client.open("/kept").expect("opened").read_at(0, &mut bytes).expect("read");
    Pattern { seed: 1 }.check(0, &bytes);
    let put = cluster.command(&["fs", "-put", "/proc/self/exe", "/refused2"]).output().expect("run");
    assert_eq!(put.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&put.stderr).contains("no datanode has room"), "{put:?}");
    let listed: Vec<String> =
        client.list("/").expect("listed").map(|entry| entry.expect("an entry").name).collect();
    assert!(!listed.iter().any(|name| name.contains("_COPYING_")), "{listed:?}");
}

fn error_number(error: &std::io::Error) -> i32 {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ringfs_sdk::Error>());
    inner.map_or(0, |inner| if inner.kind() == Kind::NoRoom { inner.errno() } else { 0 })
}

/// A cluster with one datanode on a small disk. `None`, said loudly, where none can be mounted.
fn cluster_on_small_disk(engine: &'static str, datanode_toml: String) -> Option<Cluster> {
    let probe = tempfile::tempdir().expect("temporary directory");
    if let Err(missing) = Disk::new(&probe.path().join("disk"), DISK_BYTES) {
        println!("SKIPPED: {missing}");
        return None;
    }
    let options = Options {
        engine,
        namenode_toml: NAMENODE.to_owned(),
        datanode_toml,
        disk_bytes: Some(DISK_BYTES),
        ..Options::default()
    };
    Some(Cluster::start(&options))
}

fn put(cluster: &Cluster, path: &str, seed: u64) -> io::Result<()> {
    let client = cluster.client();
    let mut writer = client.create_with(path, &file_options(1, FILE_BYTES)).map_err(io::Error::other)?;
    let result = writer.write_all(&Pattern { seed }.bytes(0, FILE_BYTES as usize));
    result.and_then(|()| writer.close().map(|_| ()).map_err(Into::into))
}

fn check(cluster: &Cluster, path: &str, seed: u64) {
    let mut bytes = vec![0; FILE_BYTES as usize];
    cluster.client().open(path).expect("opened").read_at(0, &mut bytes).expect("read");
    Pattern { seed }.check(0, &bytes);
}

fn free_bytes(path: &Path) -> u64 {
    let space = nix::sys::statvfs::statvfs(path).expect("looked at");
    space.blocks_available() * space.fragment_size()
}

/// Room that there is and that the namenode, which gives blocks by it, knows of.
fn remaining_bytes(client: &Client, server: &Server) -> u64 {
    let there_is = server.metric("ringfs_datanode_volume_remaining_bytes") as u64;
    let datanodes = client.datanode_report().expect("a report");
    let known = datanodes.iter().flat_map(|node| &node.volumes).map(|volume| volume.remaining_bytes);
    there_is.min(known.sum())
}

/// Many writers at once, for whom together there is no room. Returns which of them were done; the others were told.
fn crowd(cluster: &Cluster) -> Vec<u64> {
    let (begin, is_done) = (Barrier::new(WRITERS as usize), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let volume = cluster.datanodes[0].dir().join("data");
        let is_done = &is_done;
        let least = scope.spawn(move || {
            let mut least = u64::MAX;
            while !is_done.load(Ordering::Relaxed) {
                // ext4 counts a delayed allocation twice for a moment, while it is made; what is taken stays taken.
                let look = |_| {
                    std::thread::yield_now();
                    free_bytes(&volume)
                };
                least = least.min((0..LOOKS).map(look).max().unwrap_or(u64::MAX));
            }
            least
        });
        let write = |number: u64| {
            let begin = &begin;
            scope.spawn(move || {
                begin.wait();
                (number, put(cluster, &format!("/file-{number}"), number))
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let mut done = Vec::new();
        for writer in writers {
            match writer.join().expect("joined") {
                (number, Ok(())) => done.push(number),
                (_, Err(error)) => assert_eq!(error_number(&error), libc::ENOSPC, "{error}"),
            }
        }
        is_done.store(true, Ordering::Relaxed);
        let least = least.join().expect("joined");
        assert!(least + OVERHEAD_BYTES >= RESERVED_BYTES, "{least} bytes were left at some moment");
        done
    })
}

fn writers_share_what_room_there_is(engine: &'static str) {
    // The volume's own reservation counts, not the one for all.
    let toml = format!(
        "volumes = [{{ path = \"DATANODE_DIR/data\", reserved_bytes = {RESERVED_BYTES} }}]\n\
         reserved_bytes = {}\n",
        1_u64 << 62
    );
    let Some(cluster) = cluster_on_small_disk(engine, toml) else { return };
    let client = cluster.client();
    let before = remaining_bytes(&client, &cluster.datanodes[0]);
    for round in 0..2 {
        let done = crowd(&cluster);
        // Six would fit, if none of them came while another was half-way.
        assert!((3..=6).contains(&done.len()), "{done:?} in round {round}");
        done.iter().for_each(|number| check(&cluster, &format!("/file-{number}"), *number));
        for number in 0..WRITERS {
            client.delete(&format!("/file-{number}"), false).expect("removed");
        }
        wait::until_true("the room comes back", || {
            remaining_bytes(&client, &cluster.datanodes[0]) + OVERHEAD_BYTES >= before
        });
    }
}

#[test]
fn writers_share_what_room_there_is_glommio() {
    writers_share_what_room_there_is("glommio");
}

#[test]
fn writers_share_what_room_there_is_threads() {
    writers_share_what_room_there_is("threads");
}

/// Takes the very last byte.
fn fill(server: &Server) {
    server.disk.as_ref().expect("a disk of its own").fill().expect("filled");
    let mut rest = File::create(server.dir().join("data/rest")).expect("made");
    while rest.write_all(&[1; 512]).and_then(|()| rest.sync_all()).is_ok() {}
}

#[test]
fn a_datanode_starts_serves_and_deletes_on_a_disk_that_is_full_to_the_last_byte() {
    let Some(mut cluster) = cluster_on_small_disk("auto", "reserved_bytes = 0\n".to_owned()) else { return };
    let client = cluster.client();
    for number in 0..3 {
        put(&cluster, &format!("/file-{number}"), number).expect("room");
    }
    fill(&cluster.datanodes[0]);
    let error = put(&cluster, "/refused", 9).expect_err("no room");
    assert_eq!(error_number(&error), libc::ENOSPC, "{error}");
    cluster.datanodes[0].kill_9();
    cluster.datanodes[0].start();
    cluster.wait_serving();
    wait::until_true("the replicas are reported", || {
        client.fs_stats().is_ok_and(|stats| stats.missing_blocks == 0)
    });
    (0..3).for_each(|number| check(&cluster, &format!("/file-{number}"), number));
    for number in 0..3 {
        client.delete(&format!("/file-{number}"), false).expect("removed");
    }
    wait::until_true("the block files are gone", || cluster.datanodes[0].block_files().is_empty());
    wait::until_true("the namenode has heard of the room", || {
        let datanodes = client.datanode_report().expect("a report");
        datanodes.iter().flat_map(|node| &node.volumes).any(|volume| volume.remaining_bytes > FILE_BYTES)
    });
    put(&cluster, "/again", 10).expect("room again");
    check(&cluster, "/again", 10);
    fs::remove_file(cluster.datanodes[0].dir().join("data/rest")).expect("removed");
}
