//! Small files on real processes: contents that the namenode keeps, in its log.

use std::fs;

use ringfs_sdk::{Client, Code, CreateOptions, Kind};
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::wait;

const INLINE: usize = 64 << 10;
const BLOCK: u64 = 1 << 20;

fn start(more: &str) -> Cluster {
    let namenode_toml = format!("small_files.inline_bytes_max = {INLINE}\n{more}");
    Cluster::start(&Options { namenode_toml, ..Options::default() })
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    Pattern { seed }.bytes(0, len)
}

fn read(client: &Client, path: &str) -> Vec<u8> {
    let reader = client.open(path).expect("opened");
    let mut bytes = vec![0; reader.len() as usize];
    assert_eq!(reader.read_at(0, &mut bytes).expect("read"), bytes.len());
    bytes
}

/// Whether the namenode keeps all of a file.
fn is_inline(client: &Client, path: &str) -> bool {
    let blocks = client.block_locations(path, 0, u64::MAX).expect("located");
    blocks.iter().all(|block| block.inline.is_some() && block.nodes.is_empty())
}

fn check(client: &Client, path: &str, content: &[u8]) {
    assert!(read(client, path) == content, "{path} has its bytes");
    let status = client.stat(path).expect("there");
    assert_eq!((status.length, status.is_open), (content.len() as u64, false));
    if let Some(crc) = status.content_crc {
        assert_eq!(crc.crc, crc.kind.of(content));
    }
}

fn calls(cluster: &Cluster) -> f64 {
    cluster.namenode.metric("ringfs_namenode_calls_total")
}

#[test]
fn a_small_file_is_one_call_to_put_two_to_write_and_one_to_read() {
    let cluster = start("");
    let client = cluster.client();
    client.stat("/").expect("connected");
    let counted = |what: &dyn Fn()| {
        let before = calls(&cluster);
        what();
        // Datanodes call, too: what matters is what this client does, so the smallest of some tries counts.
        calls(&cluster) - before
    };
    let least = |what: &dyn Fn()| (0..8).map(|_| counted(what) as u32).min().expect("eight rounds");
    let content = bytes(1, 4096);
    let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
    assert_eq!(least(&|| drop(client.put("/put", &content, &options).expect("put"))), 1);
    let write = || {
        let mut writer = client.create_with("/written", &options).expect("created");
        writer.append(&content).expect("written");
        writer.close().expect("closed");
    };
    assert_eq!(least(&write), 2);
    assert_eq!(least(&|| drop(read(&client, "/put"))), 1);
    for path in ["/put", "/written"] {
        check(&client, path, &content);
        assert!(is_inline(&client, path) && client.stat(path).expect("there").content_crc.is_some());
    }
    assert_eq!(client.fs_stats().expect("answered").blocks, 0, "no datanode has heard of them");
}

#[test]
fn sizes_up_to_the_limit_are_kept_and_larger_ones_go_to_datanodes() {
    let cluster = start("");
    let client = cluster.client();
    for len in [0, 1, 4095, 4096, INLINE - 1, INLINE, INLINE + 1, 3 * INLINE] {
        let content = bytes(len as u64, len);
        let (put, written) = (format!("/put-{len}"), format!("/written-{len}"));
        client.put(&put, &content, &file_options(1, BLOCK)).expect("put");
        let mut writer = client.create_with(&written, &file_options(1, BLOCK)).expect("created");
        content.chunks(1000).for_each(|piece| writer.append(piece).expect("written"));
        writer.close().expect("closed");
        for path in [put, written] {
            check(&client, &path, &content);
            assert_eq!(is_inline(&client, &path), len <= INLINE, "{path}");
        }
    }
    let refused = client.put("/put-1", b"again", &CreateOptions::default()).expect_err("it is there");
    assert_eq!(refused.kind(), Kind::AlreadyExists);
    let mut writer = client.create("/flushed").expect("created");
    writer.append(b"little").expect("written");
    writer.hflush().expect("flushed");
    writer.close().expect("closed");
    check(&client, "/flushed", b"little");
    assert!(!is_inline(&client, "/flushed"), "what is flushed is on datanodes");
}

#[test]
fn small_files_grow_are_cut_and_joined() {
    let cluster = start("");
    let client = cluster.client();
    let mut content = Vec::new();
    client.put("/f", &content, &file_options(1, BLOCK)).expect("put");
    // Grows in the namenode up to the limit, then behind it on datanodes.
    for (step, len) in [1, 500, 20_000, 40_000, 4000, 30_000, 100_000].into_iter().enumerate() {
        let more = bytes(step as u64, len);
        let mut writer = client.append("/f").expect("opened again");
        assert_eq!(writer.position(), content.len() as u64);
        writer.append(&more).expect("written");
        writer.close().expect("closed");
        content.extend(&more);
        check(&client, "/f", &content);
        let blocks = client.block_locations("/f", 0, u64::MAX).expect("located");
        assert!(
            blocks.len() <= 2 && blocks[0].inline.is_some(),
            "one value, at most one block: {}",
            blocks.len()
        );
    }
    let mut writer = client.append("/f").expect("opened again");
    writer.append(b"flushed").expect("written");
    writer.hflush().expect("flushed");
    writer.close().expect("closed");
    content.extend(b"flushed");
    check(&client, "/f", &content);
    client.put("/little", b"0123456789", &CreateOptions::default()).expect("put");
    let mut writer = client.append("/little").expect("opened again");
    writer.append(b"ab").expect("written");
    writer.hflush().expect("flushed: behind the value, in a block");
    check_open(&client, "/little", b"0123456789ab");
    writer.close().expect("closed");
    check(&client, "/little", b"0123456789ab");
    for length in [content.len() as u64 - 1, INLINE as u64, 64_501, 30_000, 7, 0] {
        if !client.truncate("/f", length).expect("begun") {
            wait::until_true("it is cut", || !client.stat("/f").expect("there").is_open);
        }
        content.truncate(length as usize);
        check(&client, "/f", &content);
    }
    for (index, part) in [b"one ".as_slice(), b"two ", b"three"].iter().enumerate() {
        client.put(&format!("/part-{index}"), part, &CreateOptions::default()).expect("put");
    }
    client.concat("/part-0", &["/part-1", "/part-2"]).expect("joined");
    check(&client, "/part-0", b"one two three");
    let mut middle = [0; 5];
    client.open("/part-0").expect("opened").read_at(2, &mut middle).expect("read");
    assert_eq!(&middle, b"e two");
}

fn check_open(client: &Client, path: &str, content: &[u8]) {
    assert!(read(client, path) == content, "{path} has its bytes");
}

#[test]
fn what_was_put_survives_kills_checkpoints_and_backups() {
    let mut cluster = start("wal_segment_bytes = 262144\n");
    let client = cluster.client();
    let put = |range: std::ops::Range<u64>| {
        for number in range {
            let content = bytes(number, 100 + number as usize * 37 % 9000);
            client.put(&format!("/d/{number}"), &content, &CreateOptions::default()).expect("put");
        }
    };
    let check_all = |client: &Client, range: std::ops::Range<u64>| {
        for number in range {
            check(client, &format!("/d/{number}"), &bytes(number, 100 + number as usize * 37 % 9000));
        }
    };
    for round in 0..4 {
        put(round * 50..round * 50 + 50);
        if round % 2 == 1 {
            client.checkpoint("").expect("taken");
        }
        cluster.namenode.kill_9();
        cluster.namenode.start();
        check_all(&client, 0..round * 50 + 50);
    }
    let temp = tempfile::tempdir().expect("a directory");
    let backup = temp.path().join("backup");
    client.checkpoint(&backup.to_string_lossy()).expect("backed up");
    put(200..210);
    cluster.namenode.kill_9();
    let wal = cluster.namenode.dir().join("wal");
    fs::remove_dir_all(&wal).expect("lost");
    fs::rename(&backup, &wal).expect("brought back");
    cluster.namenode.start();
    check_all(&cluster.client(), 0..200);
}

#[test]
fn a_damaged_value_is_the_error_of_its_file_alone() {
    let mut cluster = start("");
    let client = cluster.client();
    let mark = b"a content that is found in the log by its bytes";
    client.put("/before", b"before", &CreateOptions::default()).expect("put");
    client.put("/damaged", mark, &CreateOptions::default()).expect("put");
    client.put("/behind", b"behind", &CreateOptions::default()).expect("put");
    cluster.namenode.kill_9();
    let wal = cluster.namenode.dir().join("wal");
    let mut files = fs::read_dir(&wal).expect("listed").map(|entry| entry.expect("an entry").path());
    let segment = files.find(|path| path.extension().is_some_and(|end| end == "log"));
    let segment = segment.expect("a segment");
    let mut log = fs::read(&segment).expect("read");
    let at = log.windows(mark.len()).position(|window| window == mark).expect("it is in the log");
    log[at + 5] ^= 1;
    fs::write(&segment, log).expect("written");
    cluster.namenode.start();
    check(&client, "/before", b"before");
    check(&client, "/behind", b"behind");
    let error = client.open("/damaged").expect_err("it is damaged");
    assert_eq!(error.code(), Some(Code::BlockCorrupt), "{error}");
    client.delete("/damaged", false).expect("deleted");
    client.put("/damaged", mark, &CreateOptions::default()).expect("put again");
    check(&client, "/damaged", mark);
}

#[test]
fn beyond_the_total_small_files_go_to_datanodes() {
    let cluster = start("small_files.total_bytes_max = 100000\n");
    let client = cluster.client();
    let content = bytes(3, 40_000);
    for number in 0..4 {
        client.put(&format!("/{number}"), &content, &file_options(1, BLOCK)).expect("put");
        check(&client, &format!("/{number}"), &content);
        assert_eq!(is_inline(&client, &format!("/{number}")), number < 2);
    }
    client.delete("/0", false).expect("deleted");
    client.put("/again", &content, &file_options(1, BLOCK)).expect("put");
    assert!(is_inline(&client, "/again"), "there is room again");
}

#[test]
fn dead_contents_are_collected_while_others_are_read() {
    let mut cluster = start("wal_segment_bytes = 262144\ncheckpoint_records = 200\n");
    let client = cluster.client();
    let (kept, changing) = (bytes(1, 3000), |round: u64| bytes(round, 20_000));
    for number in 0..20 {
        client.put(&format!("/kept/{number}"), &kept, &CreateOptions::default()).expect("put");
    }
    let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let wal = cluster.namenode.dir().join("wal");
    let first = || {
        let names = fs::read_dir(&wal).expect("listed").map(|entry| entry.expect("an entry").file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        names.filter(|name| name.starts_with("wal-")).min().expect("a segment")
    };
    let begin = first();
    let mut rounds = 0;
    wait::until_true("the first segment is collected", || {
        for _ in 0..20 {
            client.put(&format!("/changing/{}", rounds % 7), &changing(rounds), &options).expect("put");
            check(&client, &format!("/kept/{}", rounds % 20), &kept);
            rounds += 1;
        }
        first() > begin
    });
    assert!(cluster.namenode.metric("ringfs_namenode_values_moved_total") >= 20.0);
    for restart in [false, true] {
        if restart {
            cluster.namenode.kill_9();
            cluster.namenode.start();
        }
        (0..20).for_each(|number| check(&client, &format!("/kept/{number}"), &kept));
        for round in rounds - 7..rounds {
            check(&client, &format!("/changing/{}", round % 7), &changing(round));
        }
    }
}

#[test]
fn thousands_of_files_are_read_in_few_calls() {
    let cluster = start("");
    let client = cluster.client();
    let content = |number: usize| bytes(number as u64, 3000 + number % 2000);
    let paths: Vec<String> = (0..2000).map(|number| format!("/d/{}/{number}", number % 10)).collect();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (client, paths) = (&client, &paths);
            scope.spawn(move || {
                for number in (part..2000).step_by(4) {
                    client.put(&paths[number], &content(number), &CreateOptions::default()).expect("put");
                }
            });
        }
    });
    client.put("/large", &bytes(9, 200_000), &file_options(1, BLOCK)).expect("put");
    client.put("/empty", b"", &CreateOptions::default()).expect("put");
    let before = cluster.namenode.metric("ringfs_namenode_calls_total{op=\"BatchOpen\"}");
    let mut asked: Vec<&str> = paths.iter().map(String::as_str).collect();
    asked.extend(["/large", "/none", "/empty", "/d"]);
    let read = client.read_many(&asked).expect("read");
    let opens = cluster.namenode.metric("ringfs_namenode_calls_total{op=\"BatchOpen\"}") - before;
    assert!((1.0..=24.0).contains(&opens), "{opens} calls for {} files", asked.len());
    assert_eq!(read.len(), asked.len());
    // What is bounded is the size of an answer and the number of its files.
    for number in 0..1000 {
        client.put(&format!("/tiny/{number}"), b"{}", &CreateOptions::default()).expect("put");
    }
    let before = cluster.namenode.metric("ringfs_namenode_calls_total{op=\"BatchOpen\"}");
    let tiny: Vec<String> = (0..1000).map(|number| format!("/tiny/{number}")).collect();
    let all = client.read_many(&tiny).expect("read");
    assert!(all.iter().all(|bytes| bytes.as_deref().is_ok_and(|bytes| bytes == b"{}")));
    assert_eq!(cluster.namenode.metric("ringfs_namenode_calls_total{op=\"BatchOpen\"}") - before, 1.0);
    for (number, read) in read[..2000].iter().enumerate() {
        assert!(read.as_ref().expect("read") == &content(number), "{}", paths[number]);
    }
    assert!(read[2000].as_ref().expect("read") == &bytes(9, 200_000));
    assert_eq!(read[2001].as_ref().expect_err("missing").kind(), Kind::NotFound);
    assert_eq!(read[2002].as_ref().expect("read"), b"");
    assert_eq!(read[2003].as_ref().expect_err("a directory").code(), Some(Code::IsADirectory));
}
