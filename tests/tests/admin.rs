//! What operators ask: `ringfs fsck`, `du`, `admin users` and `topology`, on a real cluster.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::Output;

use ringfs_tests::cluster::{Cluster, Options, Server, file_options};
use ringfs_tests::wait;

const FILE_BYTES: usize = 100_000;
const BLOCK_BYTES: u64 = 1 << 20;
/// Where the data of a file of such a block begins.
const DATA_OFFSET: u64 = 64 << 10;

fn output(cluster: &Cluster, words: &[&str]) -> Output {
    let words: Vec<&str> = words.to_vec();
    cluster.command(&words).env("TZ", "UTC").output().expect("run")
}

/// Exit code and standard output.
fn run(cluster: &Cluster, words: &[&str]) -> (i32, String) {
    let output = output(cluster, words);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (output.status.code().unwrap_or(-1), text)
}

fn json(cluster: &Cluster, words: &[&str]) -> serde_json::Value {
    let (code, text) = run(cluster, words);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {code}: {error}: {text}"))
}

fn put(cluster: &Cluster, path: &str, replication: u16) {
    let mut writer =
        cluster.client().create_with(path, &file_options(replication, BLOCK_BYTES)).expect("created");
    writer.write_all(&vec![7; FILE_BYTES]).expect("written");
    writer.close().expect("closed");
}

/// Flips a bit in every replica that there is, and has a reader find it.
fn damage_all(cluster: &Cluster, path: &str) {
    for file in cluster.datanodes.iter().flat_map(Server::block_files) {
        let mut byte = [0];
        let file = File::options().read(true).write(true).open(&file).expect("opened");
        file.read_exact_at(&mut byte, DATA_OFFSET + 50_000).expect("read");
        file.write_all_at(&[byte[0] ^ 1], DATA_OFFSET + 50_000).expect("written");
    }
    let mut bytes = Vec::new();
    cluster.client().open(path).expect("opened").read_to_end(&mut bytes).expect_err("damaged");
}

#[test]
fn fsck_tells_what_is_wrong_and_deletes_what_cannot_be_read() {
    let cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    put(&cluster, "/d/two", 2);
    cluster.client().mkdirs("/d/empty").expect("made");
    let (code, text) = run(&cluster, &["fsck", "/", "-files", "-blocks", "-racks"]);
    assert_eq!(code, 0, "{text}");
    let blocks = text.lines().filter(|line| line.contains(" Live_repl=2  [/default-rack/127.0.0.1:")).count();
    assert_eq!(blocks, 1, "{text}");
    assert!(text.contains("/d/two 100000 bytes, replicated: replication=2, 1 block(s):  OK\n"), "{text}");
    assert!(text.contains("/d/empty <dir>\n"), "{text}");
    assert!(
        text.contains("\nStatus: HEALTHY\n Number of data-nodes:\t2\n Number of racks:\t\t1\n"),
        "{text}"
    );
    assert!(text.ends_with("\n\n\nThe filesystem under path '/' is HEALTHY\n"), "{text}");
    assert_eq!(run(&cluster, &["fsck", "/none"]).0, 0, "as in HDFS");
    assert_eq!(run(&cluster, &["fsck", "/", "-blocks"]).0, 255, "only with -files");
    assert_eq!(run(&cluster, &["fsck", "-list-corruptfileblocks", "/"]).0, 0);

    put(&cluster, "/d/three", 3);
    let found = json(&cluster, &["fsck", "/", "--json"]);
    assert_eq!(found["status"], "HEALTHY");
    assert_eq!(found["files"][0]["path"], "/d/three");
    assert_eq!(found["totals"]["under_replicated_blocks"], 1);
    cluster.client().delete("/d/three", false).expect("deleted");
    wait::until_true("its replicas are gone", || {
        cluster.datanodes.iter().map(|server| server.block_files().len()).sum::<usize>() == 2
    });

    damage_all(&cluster, "/d/two");
    wait::until_true("fsck knows", || run(&cluster, &["fsck", "/"]).0 == 1);
    let (_, text) = run(&cluster, &["fsck", "/d"]);
    assert!(text.contains("\n/d/two: CORRUPT block blk_"), "{text}");
    assert!(text.contains("\n/d/two: CORRUPT 1 blocks of total size 100000 B.\n"), "{text}");
    assert!(text.contains("  CORRUPT FILES:\t1\n"), "{text}");
    assert!(text.ends_with("The filesystem under path '/d' is CORRUPT\n"), "{text}");
    let (code, text) = run(&cluster, &["fsck", "/", "-list-corruptfileblocks"]);
    assert_eq!(
        (code, text.lines().nth(1).map(|line| line.ends_with("\t/d/two"))),
        (255, Some(true)),
        "{text}"
    );
    assert_eq!(run(&cluster, &["fsck", "/", "-delete"]).0, 1);
    assert_eq!(run(&cluster, &["fsck", "/"]).0, 0);
    cluster.client().stat("/d/two").expect_err("deleted");
}

#[test]
fn files_that_are_written_are_looked_into_when_asked() {
    let cluster = Cluster::start(&Options::default());
    let mut writer = cluster.client().create_with("/open", &file_options(1, 0)).expect("created");
    writer.write_all(&[1; 1000]).expect("written");
    writer.hflush().expect("flushed");
    let (code, text) = run(&cluster, &["fsck", "/"]);
    assert_eq!(code, 0);
    assert!(text.contains(" Total files:\t0 (Files currently being written: 1)\n"), "{text}");
    let (code, text) = run(&cluster, &["fsck", "/", "-openforwrite", "-files", "-blocks", "-locations"]);
    assert_eq!(code, 0);
    assert!(
        text.contains("/open 0 bytes, replicated: replication=1, 1 block(s), OPENFORWRITE:  OK\n"),
        "{text}"
    );
    assert!(
        text.contains("Under construction, Expected_repl=1  [DatanodeInfoWithStorage[127.0.0.1:"),
        "{text}"
    );
    writer.close().expect("closed");
}

#[test]
fn users_are_told_apart() {
    let cluster = Cluster::start(&Options::default());
    put(&cluster, "/a", 1);
    let bob = ringfs_sdk::Client::builder().user("bob").connect(&cluster.uri()).expect("a client");
    (0..50).for_each(|_| drop(bob.stat("/a").expect("found")));
    cluster.client().set_owner("/a", Some("bob"), None).expect("given");
    let users = json(&cluster, &["admin", "users", "--json"]);
    let users = users["users"].as_array().expect("users");
    let bob = users.iter().find(|user| user["user"] == "bob").expect("bob");
    assert!(bob["calls"].as_u64() >= Some(50) && bob["connections"] == 1 && bob["open_files"] == 0, "{bob}");
    assert!(run(&cluster, &["admin", "users"]).1.lines().any(|line| line.ends_with("  bob")));

    let usage = json(&cluster, &["du", "--by-user", "--json", "/"]);
    assert_eq!(
        (&usage["users"][0]["user"], &usage["users"][0]["usage"]["bytes"]),
        (&"bob".into(), &100_000.into())
    );
    assert_eq!((&usage["total"]["files"], &usage["total"]["directories"]), (&1.into(), &1.into()));
    let (code, text) = run(&cluster, &["du", "--by-user", "--bytes"]);
    assert_eq!(code, 0);
    assert!(
        text.lines().nth(1).is_some_and(|line| line.starts_with("100000") && line.ends_with("  bob")),
        "{text}"
    );

    let topology = json(&cluster, &["admin", "topology", "--json"]);
    assert_eq!(topology["racks"][0]["datanodes"].as_array().map(Vec::len), Some(1));
    let report = json(&cluster, &["admin", "report", "--json"]);
    assert_eq!(report["files"], 1);
    let plain = ringfs_sdk::Client::builder().user("bob").connect(&cluster.uri()).expect("a client");
    plain.activity(1).expect("open to all");
}

#[test]
fn top_tells_what_happened_between_two_looks() {
    let cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    let client = cluster.client();
    put(&cluster, "/a", 2);
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let mut bytes = Vec::new();
            client.open("/a").expect("opened").read_to_end(&mut bytes).expect("read");
        }
    });
    let view = json(&cluster, &["top", "--once", "--json", "--interval", "0.5"]);
    assert!(view["read_bytes_per_s"].as_f64() > Some(0.0), "{view}");
    let opens = view["operations"].as_array().expect("operations").iter();
    assert!(opens.clone().any(|one| one["operation"] == "GetBlockLocations"), "{view}");
    assert_eq!(view["datanodes"].as_array().map(Vec::len), Some(2));
    let (code, text) = run(&cluster, &["top", "--once", "--interval", "0.5"]);
    assert_eq!(code, 0);
    assert!(text.contains("Busiest users") && text.contains(" 2 datanodes "), "{text}");
    drop(done);
    reader.join().expect("no panic");
    assert_eq!(run(&cluster, &["top", "--interval", "0"]).0, 2, "not a sensible interval");
}

#[test]
fn completions_and_manual_pages_are_made() {
    let cluster = Cluster::start(&Options::default());
    let script = cluster.dir().join("completions");
    std::fs::write(&script, run(&cluster, &["completions", "bash"]).1).expect("written");
    // As bash does when Tab is pressed behind the last word.
    let complete = |words: &str| {
        let count = words.split(' ').count() - 1;
        let line = format!(
            "source {}; COMP_WORDS=({words}); [[ \"{words}\" == *' ' ]] && COMP_WORDS+=(''); COMP_CWORD={count}; \
             _ringfs_any ringfs \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[*]}}\"",
            script.display()
        );
        let output = std::process::Command::new("bash").args(["-c", &line]).output().expect("run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    assert_eq!(complete("ringfs fsc"), "fsck");
    assert_eq!(complete("ringfs fs -mkd"), "-mkdir");
    assert_eq!(complete("ringfs fs -mkdir -"), "-p");
    assert!(complete("ringfs admin ").contains("safemode"));
    let pages = cluster.dir().join("man");
    std::fs::create_dir(&pages).expect("made");
    let (code, text) = run(&cluster, &["man", pages.to_str().expect("UTF-8")]);
    assert!(code == 0 && text.starts_with("wrote "), "{text}");
    let page = std::fs::read_to_string(pages.join("ringfs-fs.1")).expect("read");
    assert!(page.contains("\\-mkdir"), "{page}");
    assert_eq!(run(&cluster, &["man", "/none/such"]).0, 1);
}

#[test]
fn fsck_names_the_small_file_whose_bytes_are_damaged() {
    let namenode_toml = "small_files.inline_bytes_max = 65536\n".to_owned();
    let mut cluster = Cluster::start(&Options { namenode_toml, ..Options::default() });
    let client = cluster.client();
    let mark = b"a content that is found in the log by its bytes";
    for (path, content) in [("/before", &b"before"[..]), ("/damaged", mark), ("/behind", b"behind")] {
        client.put(path, content, &ringfs_sdk::CreateOptions::default()).expect("put");
    }
    let (code, text) = run(&cluster, &["fsck", "/", "-files", "-blocks"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("/damaged 47 bytes, replicated: replication=3, 1 block(s):  OK\n0. blk_"),
        "{text}"
    );
    assert!(text.contains(" len=47 in the namenode's log, copies=1\n"), "{text}");
    assert!(text.contains("\nBlocks in the namenode's log:\n Total size:\t59 B\n"), "{text}");
    cluster.namenode.kill_9();
    let wal = cluster.namenode.dir().join("wal");
    let mut files = std::fs::read_dir(&wal).expect("listed").map(|entry| entry.expect("an entry").path());
    let segment = files.find(|path| path.extension().is_some_and(|end| end == "log")).expect("a segment");
    let mut log = std::fs::read(&segment).expect("read");
    let at = log.windows(mark.len()).position(|window| window == mark).expect("it is in the log");
    log[at + 5] ^= 1;
    std::fs::write(&segment, log).expect("written");
    cluster.namenode.start();
    let found = json(&cluster, &["fsck", "/", "--json"]);
    assert_eq!((&found["status"], &found["totals"]["corrupt_blocks"]), (&"CORRUPT".into(), &1.into()));
    assert_eq!(found["files"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found["files"][0]["path"], "/damaged");
    assert_eq!(run(&cluster, &["fsck", "/", "-delete"]).0, 1);
    assert_eq!(run(&cluster, &["fsck", "/"]).0, 0);
    client.stat("/damaged").expect_err("deleted");
    client.stat("/behind").expect("kept");
}
