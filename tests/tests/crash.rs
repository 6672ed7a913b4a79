//! kill -9 of everything, under load: what was acknowledged is there after the start.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringfs_sdk::Client;
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::wait;

const BLOCK: u64 = 1 << 20;

/// What the file system has acknowledged: bytes per path, and whether the file was closed.
type Acked = Mutex<BTreeMap<String, (u64, u64, bool)>>;

/// Writes files until the cluster dies: some closed, some flushed and left open.
fn write_until_it_dies(client: &Client, worker: u64, acked: &Acked, stop: &AtomicBool, count: &AtomicU64) {
    for turn in 0.. {
        let seed = worker << 32 | turn;
        let path = format!("/load/{worker}/f{turn}");
        let size = [0, 100, 5000, 70_000, BLOCK + 33, 3 * BLOCK][turn as usize % 6];
        let result = (|| -> Result<(), Box<dyn std::error::Error>> {
            let mut writer = client.create_with(&path, &file_options(2, BLOCK))?;
            acked.lock().expect("held").insert(path.clone(), (seed, 0, false));
            let bytes = Pattern { seed }.bytes(0, size as usize);
            let half = bytes.len() / 2;
            writer.write_all(&bytes[..half])?;
            if turn % 3 == 0 {
                writer.hsync()?;
            } else {
                writer.hflush()?;
            }
            acked.lock().expect("held").insert(path.clone(), (seed, half as u64, false));
            writer.write_all(&bytes[half..])?;
            if turn % 5 == 4 {
                writer.hflush()?;
                acked.lock().expect("held").insert(path.clone(), (seed, size, false));
                return Ok(());
            }
            writer.close()?;
            acked.lock().expect("held").insert(path.clone(), (seed, size, true));
            Ok(())
        })();
        count.fetch_add(1, Ordering::Relaxed);
        if result.is_err() || stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn check(client: &Client, path: &str, seed: u64, length: u64, is_closed: bool) {
    let status = client.stat(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(status.is_open, !is_closed, "{path}");
    let reader = client.open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(reader.len() >= length, "{path}: {} bytes, {length} were acknowledged", reader.len());
    if is_closed {
        assert_eq!(reader.len(), length, "{path}");
    }
    let mut bytes = vec![0; length as usize];
    let len = reader.read_at(0, &mut bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(len as u64, length, "{path}");
    Pattern { seed }.check(0, &bytes);
}

fn kill_under_load(engine: &'static str) {
    let mut cluster = Cluster::start(&Options { datanodes: 3, engine, ..Options::default() });
    let (acked, stop) = (Acked::default(), AtomicBool::new(false));
    for round in 0..3 {
        let clients: Vec<Client> = (0..4)
            .map(|_| {
                ringfs_sdk::Client::builder()
                    .deadline(std::time::Duration::from_secs(1))
                    .connect(&cluster.uri())
                    .expect("a client")
            })
            .collect();
        let count = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for (index, client) in clients.iter().enumerate() {
                let (acked, stop, count) = (&acked, &stop, &count);
                scope.spawn(move || {
                    write_until_it_dies(client, round * 10 + index as u64, acked, stop, count);
                });
            }
            wait::until_true("files are written", || count.load(Ordering::Relaxed) >= 40);
            cluster.kill_9_all();
            stop.store(true, Ordering::Relaxed);
        });
        stop.store(false, Ordering::Relaxed);
        cluster.start_all();
        let client = cluster.client();
        // A file whose close was cut off may be closed or open; what was acknowledged before is in it either way.
        let expected = acked.lock().expect("held").clone();
        for (path, (seed, length, is_closed)) in &expected {
            let was_closed = *is_closed || client.stat(path).is_ok_and(|status| !status.is_open);
            let exact = if *is_closed {
                *length
            } else {
                client.open(path).map_or(0, |reader| (*length).min(reader.len()))
            };
            assert_eq!(exact, *length, "{path}");
            if *is_closed {
                check(&client, path, *seed, *length, true);
            } else {
                check_prefix(&client, path, *seed, *length, was_closed);
            }
        }
    }
    let client = cluster.client();
    let open = acked
        .lock()
        .expect("held")
        .iter()
        .find(|(_, (_, _, is_closed))| !is_closed)
        .map(|(path, _)| path.clone());
    let open = open.expect("some file was left open");
    assert!(client.delete(&open, false).expect("an open file can be deleted"));
}

fn check_prefix(client: &Client, path: &str, seed: u64, length: u64, is_closed: bool) {
    if is_closed {
        let reader = client.open(path).expect("opened");
        let mut bytes = vec![0; length as usize];
        assert_eq!(reader.read_at(0, &mut bytes).expect("read") as u64, length);
        Pattern { seed }.check(0, &bytes);
    } else {
        check(client, path, seed, length, false);
    }
}

#[test]
fn nothing_acknowledged_is_lost_on_threads() {
    kill_under_load("threads");
}

#[test]
fn nothing_acknowledged_is_lost_on_glommio() {
    kill_under_load("glommio");
}

#[test]
fn a_namenode_restart_is_a_pause_for_clients() {
    let mut cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    let client = cluster.client();
    let mut writer = client.create_with("/open", &file_options(2, BLOCK)).expect("created");
    writer.write_all(&Pattern { seed: 3 }.bytes(0, 100)).expect("written");
    writer.hflush().expect("flushed");
    cluster.namenode.kill_9();
    let waiting = std::thread::spawn({
        let client = client.clone();
        move || client.mkdirs("/made/while/away")
    });
    cluster.namenode.start();
    waiting.join().expect("no panic").expect("the call waited for the namenode");
    cluster.wait_serving();
    // The lease is in the log: the writer goes on and closes.
    writer.write_all(&Pattern { seed: 3 }.bytes(100, BLOCK as usize)).expect("written");
    assert_eq!(writer.close().expect("closed").length, BLOCK + 100);
    let mut bytes = vec![0; BLOCK as usize + 100];
    client.open("/open").expect("opened").read_at(0, &mut bytes).expect("read");
    Pattern { seed: 3 }.check(0, &bytes);
}

#[test]
fn space_of_deleted_files_comes_back() {
    let mut cluster = Cluster::start(&Options {
        datanodes: 2,
        namenode_toml: "invalidation_delay_ms = 0\n".to_owned(),
        ..Options::default()
    });
    let client = cluster.client();
    for file in 0..20 {
        let mut writer =
            client.create_with(&format!("/d/f{file}"), &file_options(2, BLOCK)).expect("created");
        writer.write_all(&Pattern { seed: file }.bytes(0, BLOCK as usize)).expect("written");
        writer.close().expect("closed");
    }
    // Open files too: their readers keep what they have open, the rest goes.
    cluster.datanodes[1].kill_9();
    client.delete("/d", true).expect("deleted");
    cluster.datanodes[1].start();
    let is_empty = |cluster: &Cluster| {
        cluster.datanodes.iter().all(|node| node.metric("ringfs_datanode_volume_replicas") == 0.0)
    };
    wait::until_true("replicas of deleted files are gone", || is_empty(&cluster));
    for datanode in &cluster.datanodes {
        let files =
            walkdir::WalkDir::new(datanode.dir().join("data/blocks")).into_iter().filter_map(Result::ok);
        assert_eq!(files.filter(|entry| entry.file_type().is_file()).count(), 0);
    }
}
