//! Append, truncate and concat on real processes: at chunk and block boundaries and inside, with readers, with faults.

use std::io::Write;

use ringfs_sdk::{AppendOptions, Client, Code, Kind};
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::wait;

const BLOCK: u64 = 1 << 20;
const CHUNK: u64 = 4096;
const ENGINES: [&str; 2] = ["threads", "glommio"];
const PATTERN: Pattern = Pattern { seed: 7 };

fn create(client: &Client, path: &str, length: u64, replication: u16) {
    let mut writer = client.create_with(path, &file_options(replication, BLOCK)).expect("created");
    writer.write_all(&PATTERN.bytes(0, length as usize)).expect("written");
    writer.close().expect("closed");
}

/// Appends bytes of the pattern, so that the whole file is the pattern again.
fn append(client: &Client, path: &str, from: u64, until: u64) {
    let mut writer = client.append(path).expect("opened again");
    assert_eq!(writer.position(), from);
    writer.write_all(&PATTERN.bytes(from, (until - from) as usize)).expect("written");
    assert_eq!(writer.close().expect("closed").length, until);
}

fn check(client: &Client, path: &str, length: u64) {
    let reader = client.open(path).expect("opened");
    assert_eq!(reader.len(), length);
    let mut bytes = vec![0; length as usize + 1];
    let mut filled = 0;
    while let len @ 1.. = reader.read_at(filled as u64, &mut bytes[filled..]).expect("read") {
        filled += len;
    }
    assert_eq!(filled as u64, length);
    PATTERN.check(0, &bytes[..filled]);
    if let Some(content) = client.stat(path).expect("there").content_crc {
        assert_eq!(content.crc, content.kind.of(&bytes[..filled]), "what is known is right");
    }
}

/// Checks a file whose checksum is to be known.
fn check_crc(client: &Client, path: &str, length: u64) {
    assert!(client.stat(path).expect("there").content_crc.is_some(), "the checksum of {path} is known");
    check(client, path, length);
}

#[test]
fn the_checksum_of_a_file_is_known_without_reading_it() {
    for engine in ENGINES {
        let mut cluster = Cluster::start(&Options { datanodes: 3, engine, ..Options::default() });
        let client = cluster.client();
        for length in [0, 1, CHUNK, 3 * CHUNK + 7, BLOCK, 3 * BLOCK + 12_345] {
            create(&client, "/f", length, 3);
            check_crc(&client, "/f", length);
            client.delete("/f", false).expect("deleted");
        }
        create(&client, "/f", 2 * BLOCK + 5000, 3);
        let mut writer = client.append("/f").expect("opened again");
        assert_eq!(client.stat("/f").expect("there").content_crc, None, "it is being written");
        writer.write_all(&PATTERN.bytes(2 * BLOCK + 5000, 1000)).expect("written");
        writer.close().expect("closed");
        check_crc(&client, "/f", 2 * BLOCK + 6000);
        truncate(&client, "/f", BLOCK + 4097);
        check_crc(&client, "/f", BLOCK + 4097);
        let options = file_options(3, BLOCK);
        let mut writer = client.create_with("/g", &options).expect("created");
        writer.write_all(&PATTERN.bytes(BLOCK + 4097, 70_000)).expect("written");
        writer.close().expect("closed");
        client.concat("/f", &["/g"]).expect("moved");
        check_crc(&client, "/f", BLOCK + 4097 + 70_000);
        let before = client.stat("/f").expect("there");
        client.checkpoint("").expect("taken");
        cluster.namenode.kill_9();
        cluster.namenode.start();
        assert_eq!(client.stat("/f").expect("there"), before);
    }
}

/// Cuts a file and waits until it is cut.
fn truncate(client: &Client, path: &str, length: u64) {
    let is_done = client.truncate(path, length).expect("begun");
    if !is_done {
        wait::until_true("the file is cut", || !client.stat(path).expect("there").is_open);
    }
    assert_eq!(client.stat(path).expect("there").length, length);
}

#[test]
fn bytes_are_appended_at_every_kind_of_place() {
    for engine in ENGINES {
        let cluster = Cluster::start(&Options { datanodes: 3, engine, ..Options::default() });
        let client = cluster.client();
        // What there is, and by how much it grows: inside a chunk, at its end, at and over the end of a block.
        let ends = [
            0,
            1,
            511,
            CHUNK,
            CHUNK + 1,
            3 * CHUNK - 1,
            BLOCK - 1,
            BLOCK,
            BLOCK + 100,
            3 * BLOCK,
            3 * BLOCK + 1,
        ];
        create(&client, "/f", 0, 3);
        for pair in ends.windows(2) {
            append(&client, "/f", pair[0], pair[1]);
            check(&client, "/f", pair[1]);
        }
        create(&client, "/g", 10, 2);
        for from in 10..60 {
            append(&client, "/g", from, from + 1);
        }
        check(&client, "/g", 60);
        let blocks = client.block_locations("/g", 0, u64::MAX).expect("located");
        assert_eq!(blocks.len(), 1, "they went on in one block");
        client.append("/g").expect("opened").close().expect("closed without a byte");
        check(&client, "/g", 60);
        let options = AppendOptions { new_block: true, ..AppendOptions::default() };
        let mut writer = client.append_with("/g", &options).expect("opened");
        writer.write_all(&PATTERN.bytes(60, 5)).expect("written");
        writer.close().expect("closed");
        check(&client, "/g", 65);
        assert_eq!(client.block_locations("/g", 0, u64::MAX).expect("located").len(), 2);
    }
}

#[test]
fn readers_see_old_bytes_throughout_and_new_ones_when_they_are_flushed() {
    let cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    let client = cluster.client();
    create(&client, "/f", 10_000, 2);
    let before = client.open("/f").expect("opened");
    let mut writer = client.append("/f").expect("opened again");
    let read = |reader: &ringfs_sdk::Reader, length: usize| {
        let mut bytes = vec![0; length];
        assert_eq!(reader.read_at(0, &mut bytes).expect("read"), length);
        PATTERN.check(0, &bytes);
    };
    read(&before, 10_000);
    read(&client.open("/f").expect("opened"), 10_000);
    writer.write_all(&PATTERN.bytes(10_000, 5000)).expect("written");
    writer.hflush().expect("flushed");
    read(&before, 10_000);
    let during = client.open("/f").expect("opened");
    assert_eq!(during.len(), 15_000);
    read(&during, 15_000);
    writer.close().expect("closed");
    read(&before, 10_000);
    check(&client, "/f", 15_000);
}

#[test]
fn a_file_that_is_open_is_not_opened_again() {
    let cluster = Cluster::start(&Options { datanodes: 1, ..Options::default() });
    let client = cluster.client();
    create(&client, "/f", 100, 1);
    let mut writer = client.append("/f").expect("opened again");
    assert_eq!(client.append("/f").expect_err("refused").kind(), Kind::Busy);
    assert_eq!(client.truncate("/f", 10).expect_err("refused").kind(), Kind::Busy);
    assert_eq!(client.append("/none").expect_err("refused").kind(), Kind::NotFound);
    client.mkdirs("/d").expect("made");
    assert_eq!(client.append("/d").expect_err("refused").code(), Some(Code::IsADirectory));
    writer.close().expect("closed");
    append(&client, "/f", 100, 200);
    check(&client, "/f", 200);
}

#[test]
fn a_datanode_dies_while_bytes_are_appended() {
    let mut cluster = Cluster::start(&Options { datanodes: 3, ..Options::default() });
    let client = cluster.client();
    create(&client, "/f", 100_001, 3);
    let mut writer = client.append("/f").expect("opened again");
    writer.write_all(&PATTERN.bytes(100_001, 50_000)).expect("written");
    writer.hflush().expect("flushed");
    cluster.datanodes[1].kill_9();
    writer.write_all(&PATTERN.bytes(150_001, 200_000)).expect("the pipeline goes on");
    writer.hflush().expect("flushed");
    check(&client, "/f", 350_001);
    writer.close().expect("closed");
    // One that is dead when the file is opened again is left out.
    append(&client, "/f", 350_001, 400_000);
    check(&client, "/f", 400_000);
    // What it has is old: when it is back, nobody reads it.
    cluster.start_all();
    check(&client, "/f", 400_000);
}

#[test]
fn an_appender_that_died_leaves_what_was_flushed() {
    let mut cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    let client = cluster.client();
    create(&client, "/f", 5000, 2);
    create(&client, "/g", 5000, 2);
    let mut writer = client.append("/f").expect("opened again");
    writer.write_all(&PATTERN.bytes(5000, 700)).expect("written");
    writer.hflush().expect("flushed");
    let idle = client.append("/g").expect("opened again");
    cluster.kill_9_all();
    cluster.start_all();
    drop((writer, idle));
    let client = cluster.client();
    for (path, length) in [("/f", 5700), ("/g", 5000)] {
        wait::until_true("the lease is recovered", || client.recover_lease(path).expect("asked"));
        check(&client, path, length);
    }
}

#[test]
fn files_are_cut_at_every_kind_of_place() {
    for engine in ENGINES {
        let cluster = Cluster::start(&Options { datanodes: 3, engine, ..Options::default() });
        let client = cluster.client();
        create(&client, "/f", 3 * BLOCK + 100, 2);
        let refused = client.truncate("/f", 3 * BLOCK + 101).expect_err("longer");
        assert_eq!(refused.code(), Some(Code::InvalidArgument));
        assert!(client.truncate("/f", 3 * BLOCK + 100).expect("the same"));
        for length in [3 * BLOCK + 99, 3 * BLOCK, 2 * BLOCK + CHUNK, 2 * BLOCK - 1, BLOCK + 5000, 4097, 1] {
            truncate(&client, "/f", length);
            check(&client, "/f", length);
        }
        append(&client, "/f", 1, 2 * BLOCK + 7);
        check(&client, "/f", 2 * BLOCK + 7);
        assert!(client.truncate("/f", 0).expect("cut"));
        check(&client, "/f", 0);
    }
}

/// The bytes that stay are copied from one replica to all: if that one is bad, no copy of it counts.
#[test]
fn a_file_is_cut_from_a_good_replica() {
    let cluster = Cluster::start(&Options { datanodes: 3, ..Options::default() });
    let client = cluster.client();
    for number in 0..6usize {
        let path = format!("/f{number}");
        create(&client, &path, 5000, 3);
        let located = client.block_locations(&path, 0, 1).expect("located");
        let name = format!("blk_{}", located[0].block.block);
        let mut damaged = 0;
        for datanode in [number % 3, (number + 1) % 3] {
            for file in cluster.datanodes[datanode].block_files().iter().filter(|file| file.ends_with(&name))
            {
                let mut bytes = std::fs::read(file).expect("read");
                let at = bytes.len() - 4000;
                bytes[at] ^= 1;
                std::fs::write(file, bytes).expect("written");
                damaged += 1;
            }
        }
        assert_eq!(damaged, 2);
        truncate(&client, &path, 4000);
        check(&client, &path, 4000);
    }
    let is_whole = || {
        let gauge = |name: &str| cluster.namenode.metric(name);
        gauge("ringfs_namenode_blocks_corrupt") == 0.0 && gauge("ringfs_namenode_blocks_missing") == 0.0
    };
    wait::until_true("the bad replicas are gone", is_whole);
    (0..6).for_each(|number| check(&client, &format!("/f{number}"), 4000));
}

#[test]
fn a_cut_survives_the_restart_of_everything() {
    let mut cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    let client = cluster.client();
    create(&client, "/f", BLOCK + 5000, 2);
    // Nobody is there to copy: the cut waits.
    for datanode in &mut cluster.datanodes {
        datanode.kill_9();
    }
    let begun = client.truncate("/f", 5001);
    assert!(matches!(begun, Ok(false)), "{begun:?}");
    cluster.namenode.kill_9();
    cluster.start_all();
    let client = cluster.client();
    wait::until_true("the file is cut", || !client.stat("/f").expect("there").is_open);
    check(&client, "/f", 5001);
    append(&client, "/f", 5001, 6000);
    check(&client, "/f", 6000);
}

#[test]
fn files_become_one_without_a_copy() {
    let cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    let client = cluster.client();
    let cuts = [0, BLOCK + 10, BLOCK + 20, 3 * BLOCK];
    for (number, part) in cuts.windows(2).enumerate() {
        let path = format!("/d/{number}");
        let mut writer = client.create_with(&path, &file_options(2, BLOCK)).expect("created");
        writer.write_all(&PATTERN.bytes(part[0], (part[1] - part[0]) as usize)).expect("written");
        writer.close().expect("closed");
    }
    client.concat("/d/0", &["/d/1", "/d/2"]).expect("moved");
    check(&client, "/d/0", 3 * BLOCK);
    assert_eq!(client.stat("/d/1").expect_err("gone").kind(), Kind::NotFound);
    append(&client, "/d/0", 3 * BLOCK, 3 * BLOCK + 9);
    check(&client, "/d/0", 3 * BLOCK + 9);
}
