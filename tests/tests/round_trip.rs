//! What goes in comes out: sizes around every boundary, engines, replicas, blocks, threads, kernels without io_uring.

use std::io::Write;
use std::sync::Barrier;

use ringfs_sdk::{Client, Kind};
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::process::Sandbox;

const BLOCK: u64 = 1 << 20;
const PACKET: u64 = 512 << 10;

/// Sizes at and around every boundary: chunk of HDFS, chunk of ours, packet, block, several blocks.
fn sizes() -> Vec<u64> {
    let around = |edge: u64| [edge - 1, edge, edge + 1];
    let edges = [512, 4096, PACKET, BLOCK, 3 * BLOCK];
    std::iter::once(0).chain([1]).chain(edges.into_iter().flat_map(around)).collect()
}

fn write(client: &Client, path: &str, size: u64, replication: u16) {
    let mut writer = client.create_with(path, &file_options(replication, BLOCK)).expect("created");
    writer.write_all(&Pattern { seed: size }.bytes(0, size as usize)).expect("written");
    let status = writer.close().expect("closed");
    assert_eq!((status.length, status.is_open, status.replication), (size, false, replication));
}

fn check(client: &Client, path: &str, size: u64) {
    let pattern = Pattern { seed: size };
    let mut reader = client.open(path).expect("opened");
    assert_eq!(reader.len(), size);
    let mut whole = vec![0; size as usize + 10];
    let mut filled = 0;
    loop {
        match reader.read(&mut whole[filled..]).expect("read") {
            0 => break,
            len => filled += len,
        }
    }
    assert_eq!(filled as u64, size);
    pattern.check(0, &whole[..filled]);
    let offsets = [0, 1, size / 2, size.saturating_sub(1), size.saturating_sub(5000), size];
    for offset in offsets.into_iter().filter(|offset| *offset <= size) {
        let mut part = vec![0; 5000];
        let len = reader.read_at(offset, &mut part).expect("read");
        assert_eq!(len as u64, 5000.min(size - offset), "short reads only at the end");
        pattern.check(offset, &part[..len]);
    }
}

fn matrix(engine: &'static str, sandbox: Sandbox) {
    let cluster = Cluster::start(&Options { datanodes: 3, engine, sandbox, ..Options::default() });
    let client = cluster.client();
    for replication in [1, 3] {
        for size in sizes() {
            let path = format!("/r{replication}/f{size}");
            write(&client, &path, size, replication);
            check(&client, &path, size);
        }
    }
    let names: Vec<String> =
        client.list("/r3").expect("listed").map(|entry| entry.expect("an entry").name).collect();
    assert_eq!(names.len(), sizes().len());
}

#[test]
fn every_size_on_the_threads_engine() {
    matrix("threads", Sandbox::None);
}

#[test]
fn every_size_on_the_glommio_engine() {
    matrix("glommio", Sandbox::None);
}

#[test]
fn every_size_where_servers_may_not_use_io_uring() {
    matrix("auto", Sandbox::NoIoUring);
}

#[test]
fn a_client_that_may_not_use_io_uring_works() {
    let cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    let source = cluster.dir().join("source");
    let bytes = Pattern { seed: 1 }.bytes(0, 3 << 20);
    std::fs::write(&source, &bytes).expect("written");
    let mut put = cluster.command(&["fs", "-D", "dfs.blocksize=1m", "-put"]);
    put.arg(&source).arg("/f");
    ringfs_tests::process::confine(&mut put, Sandbox::NoIoUring);
    assert!(put.status().expect("run").success());
    let mut cat = cluster.command(&["fs", "-cat", "/f"]);
    ringfs_tests::process::confine(&mut cat, Sandbox::NoIoUring);
    assert!(cat.output().expect("run").stdout == bytes);
}

#[test]
fn scattered_ranges_land_where_they_belong() {
    let cluster = Cluster::start(&Options { datanodes: 3, ..Options::default() });
    let client = cluster.client();
    write(&client, "/f", 5 * BLOCK, 1);
    let reader = client.open("/f").expect("opened");
    let mut memory: Vec<(u64, Vec<u8>)> =
        (0..200u64).map(|at| (at * 24_593 % (5 * BLOCK), vec![0; 1 + (at as usize * 97) % 9000])).collect();
    let mut ranges: Vec<(u64, &mut [u8])> =
        memory.iter_mut().map(|(at, bytes)| (*at, &mut bytes[..])).collect();
    let total = reader.read_vectored_at(&mut ranges).expect("read");
    let expected: usize = memory.iter().map(|(at, bytes)| bytes.len().min((5 * BLOCK - at) as usize)).sum();
    assert_eq!(total, expected);
    for (at, bytes) in &memory {
        let len = bytes.len().min((5 * BLOCK - at) as usize);
        Pattern { seed: 5 * BLOCK }.check(*at, &bytes[..len]);
    }
}

#[test]
fn many_threads_read_one_handle_at_once() {
    const THREADS: u64 = 32;
    let cluster = Cluster::start(&Options::default());
    let client = cluster.client();
    write(&client, "/f", 32 * BLOCK, 1);
    let reader = client.open("/f").expect("opened");
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (reader, barrier) = (&reader, &barrier);
            scope.spawn(move || {
                barrier.wait();
                // More than sockets buffer, so that a call stays in flight until its reader takes it.
                let mut bytes = vec![0; 8 * BLOCK as usize];
                for turn in 0..3 {
                    let offset = (thread + turn) % 24 * BLOCK;
                    assert_eq!(reader.read_at(offset, &mut bytes).expect("read"), bytes.len());
                    Pattern { seed: 32 * BLOCK }.check(offset, &bytes);
                }
            });
        }
    });
    let in_flight = cluster.datanodes[0].metric("ringfs_datanode_reads_active_max");
    assert!(in_flight >= 8.0, "{in_flight} calls were in flight at once");
}

#[test]
fn errors_say_what_is_wrong() {
    let cluster = Cluster::start(&Options::default());
    let client = cluster.client();
    write(&client, "/d/f", 10, 1);
    assert_eq!(client.open("/nothing").expect_err("refused").kind(), Kind::NotFound);
    assert_eq!(client.open("/d").expect_err("refused").errno(), libc::EISDIR);
    let exclusive = client.create_with("/d/f", &file_options(1, 0));
    assert_eq!(exclusive.expect_err("refused").kind(), Kind::AlreadyExists);
    assert_eq!(client.delete("/d", false).expect_err("refused").errno(), libc::ENOTEMPTY);
    assert_eq!(client.mkdirs("/d/f/below").expect_err("refused").errno(), libc::ENOTDIR);
    client.rename("/d/f", "/d/g", false).expect("renamed");
    check(&client, "/d/g", 10);
    assert!(client.delete("/d", true).expect("deleted"));
    assert_eq!(client.stat("/d/g").expect_err("refused").kind(), Kind::NotFound);
}
