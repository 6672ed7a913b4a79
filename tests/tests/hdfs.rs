//! Clients that are not of RingFS against it: `make test-hdfs`. Hadoop's own in one Java program, hdfs-native, PySpark, and the tests
//! of the Go client.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ringfs_sdk::CreateOptions;
use ringfs_tests::cluster::{Cluster, Options};
use ringfs_tests::{java, wait};

fn cluster() -> Cluster {
    cluster_of(3)
}

fn cluster_of(datanodes: usize) -> Cluster {
    let namenode_toml = "small_files.inline_bytes_max = 65536\ngroups = { mapping = \"static\", members = { eve = [\"users\"] } }\n";
    Cluster::start(&Options { datanodes, namenode_toml: namenode_toml.to_owned(), ..Options::default() })
}

fn start(cluster: &Cluster, scenario: &str, arguments: &[&str]) -> Child {
    let uri = cluster.uri().replace("ringfs://", "hdfs://");
    java::java(env!("CARGO_TARGET_TMPDIR"), "StockClient")
        .args([&uri, scenario])
        .arg(cluster.dir())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java is there")
}

/// Runs a scenario to its end; returns what it printed before it.
fn run(cluster: &Cluster, scenario: &str, arguments: &[&str]) -> String {
    let output = start(cluster, scenario, arguments).wait_with_output().expect("it ends");
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let is_done = output.status.success() && out.ends_with("DONE\n");
    assert!(is_done, "{scenario}: {out}{errors}\n{}", cluster.logs());
    out.trim_end_matches("DONE\n").to_owned()
}

#[test]
fn the_shell() {
    run(&cluster(), "shell", &[]);
}

#[test]
fn files_are_written_read_appended_cut_and_joined() {
    run(&cluster(), "files", &[]);
}

#[test]
fn names_are_those_of_hdfs() {
    let cluster = cluster();
    run(&cluster, "names", &[]);
    let log = cluster.namenode.log();
    let made = log.lines().find(|line| line.contains("op=\"Mkdirs\"") && line.contains("/n/d"));
    assert!(made.is_some_and(|line| line.contains("job of names")), "{made:?}");
}

#[test]
fn attributes_and_permissions_are_those_of_hdfs() {
    run(&cluster(), "attributes", &[]);
}

#[test]
fn files_are_read_while_they_are_written_and_taken_from_their_writers() {
    run(&cluster(), "written", &[]);
}

#[test]
fn each_face_reads_what_the_other_has_written() {
    let cluster = cluster();
    let client = cluster.client();
    for (path, length) in [("/small", 100), ("/large", 300_000)] {
        let text = "ringfs ".repeat(length / 7);
        client.put(path, text.as_bytes(), &CreateOptions::default()).expect("put");
        assert_eq!(run(&cluster, "cat", &[path]).trim_end(), text.trim_end(), "{path}");
        let mut writer = client.append(path).expect("opened");
        writer.write_all(b"more").expect("written");
        writer.close().expect("closed");
        assert!(run(&cluster, "cat", &[path]).trim_end().ends_with("more"), "{path}");
        let other = format!("{path}-of-hdfs");
        run(&cluster, "put", &[&other, "ringfs ", &(length / 7).to_string()]);
        let read = client.read_many(&[&other]).expect("read").remove(0).expect("there");
        assert!(read == text.as_bytes(), "{other}");
    }
}

/// Runs a Python program of `tests/hdfs`, in the environment with newer or `older` packages.
fn python(cluster: &Cluster, program: &str, environment: &[&str]) {
    let found = Command::new(java::root().join("scripts/hdfs-python")).args(environment).output();
    let found = found.expect("it is a program");
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let interpreter = String::from_utf8(found.stdout).expect("text");
    let output = Command::new(interpreter.trim())
        .arg(java::root().join("tests/hdfs").join(program))
        .arg(cluster.uri().replace("ringfs://", "hdfs://"))
        .args(environment)
        .current_dir(cluster.dir())
        .output()
        .expect("it is a program");
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && out.ends_with("DONE\n"),
        "{program}: {out}{errors}\n{}",
        cluster.logs()
    );
}

#[test]
fn hdfs_native_reads_writes_and_appends() {
    python(&cluster(), "native_client.py", &[]);
}

#[test]
fn an_older_hdfs_native_does_too() {
    python(&cluster(), "native_client.py", &["older"]);
}

#[test]
fn spark_runs_its_jobs() {
    let cluster = cluster();
    cluster.client().mkdirs("/spark-logs").expect("made");
    python(&cluster, "spark_jobs.py", &[]);
    assert!(cluster.client().content_summary("/spark-logs").expect("summed").length > 0, "the event log");
}

/// Where Debian has the sources of the Go client.
const GO_PATH: &str = "/usr/share/gocode";

#[test]
fn the_go_client_passes_its_own_tests() {
    let cluster = cluster();
    let client = cluster.client();
    let source = Path::new(GO_PATH).join("src/github.com/colinmarc/hdfs");
    client.mkdirs("/_test").and_then(|()| client.set_permission("/_test", 0o777)).expect("made");
    for name in ["foo.txt", "mobydick.txt"] {
        let content = std::fs::read(source.join("testdata").join(name)).expect("read");
        let options = CreateOptions { block_size: 1 << 20, ..CreateOptions::default() };
        client.put(&format!("/_test/{name}"), &content, &options).expect("put");
    }
    let uri = cluster.uri().replace("ringfs://", "hdfs://");
    let core_site = format!(
        "<configuration><property><name>fs.defaultFS</name><value>{uri}</value></property></configuration>"
    );
    for name in ["core-site.xml", "hdfs-site.xml"] {
        std::fs::write(cluster.dir().join(name), &core_site).expect("written");
    }
    // There are no snapshots.
    let output = Command::new("go")
        .args(["test", "-count=1", "-v", "-skip", "Snapshot$", "."])
        .current_dir(&source)
        .env("HADOOP_CONF_DIR", cluster.dir())
        .env("GO111MODULE", "off")
        .env("GOPATH", GO_PATH)
        .env("GOFLAGS", "")
        .output()
        .expect("go is there");
    let out = String::from_utf8_lossy(&output.stdout);
    let count = |what: &str| out.lines().filter(|line| line.starts_with(what)).count();
    assert!(output.status.success(), "{out}{}", cluster.logs());
    assert_eq!((count("--- PASS"), count("--- FAIL"), count("--- SKIP")), (119, 0, 2), "{out}");
}

/// Debian's `hdfs`, which is made of the Go client: all of its commands.
#[test]
fn debians_hdfs_cli() {
    let cluster = cluster();
    let dir = cluster.dir();
    run(&cluster, "put", &["/c/java", "ringfs ", "100000"]);
    std::fs::write(dir.join("local"), "ringfs ".repeat(100_000)).expect("written");
    let cli = |is_done: bool, line: &str| {
        let output = Command::new("hdfs")
            .args(line.split(' '))
            .current_dir(dir)
            .env("HADOOP_NAMENODE", cluster.namenode.address().to_string())
            .output()
            .expect("hdfs is there");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), is_done, "hdfs {line}: {out}{errors}\n{}", cluster.logs());
        if is_done { out } else { errors.into_owned() }
    };
    cli(true, "mkdir -p /c/d/e");
    cli(true, "put local /c/go");
    let checksums = cli(true, "checksum /c/go /c/java");
    let sums: Vec<&str> = checksums.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{checksums}");
    assert_eq!(cli(true, "head -c 7 /c/java"), "ringfs ");
    assert_eq!(cli(true, "tail -c 7 /c/go"), "ringfs ");
    assert_eq!(cli(true, "cat /c/java").len(), 700_000);
    assert!(cli(true, "ls -la /c").contains("700000"));
    assert!(cli(true, "du -s /c").contains("1400000"));
    cli(true, "get /c/java back");
    assert_eq!(std::fs::read(dir.join("back")).expect("read").len(), 700_000);
    cli(true, "mv /c/go /c/d");
    cli(true, "touch /c/d/empty");
    cli(true, "chmod 640 /c/d/go");
    cli(true, "chown bob:staff /c/d/go");
    let listed = cli(true, "ls -l /c/d/go");
    assert!(listed.contains("rw-r-----") && listed.contains("bob"), "{listed}");
    cli(true, "truncate 7 /c/d/go");
    wait::until_true("it is cut", || cli(true, "cat /c/d/go") == "ringfs ");
    cli(true, "getmerge /c/d merged");
    assert_eq!(std::fs::read_to_string(dir.join("merged")).expect("read"), "ringfs ");
    cli(true, "df");
    assert!(cli(false, "cat /c/none").contains("file does not exist"));
    assert!(cli(false, "rm /c/d").contains("directory"));
    cli(true, "rm -rf /c");
    assert!(cli(false, "ls /c").contains("file does not exist"));
}

/// Its configuration says three replicas.
#[test]
fn one_datanode_is_enough_to_append() {
    let cluster = cluster_of(1);
    run(&cluster, "put", &["/f", "ringfs ", "1000"]);
    run(&cluster, "append", &["/f", "more"]);
    assert!(run(&cluster, "cat", &["/f"]).trim_end().ends_with("ringfs more"));
}

#[test]
fn a_stock_client_goes_on_when_servers_are_killed() {
    // It insists on another datanode in the place of one that fails.
    let mut cluster = cluster_of(4);
    let mut child = start(&cluster, "faults", &[]);
    let mut errors = child.stderr.take().expect("piped");
    let errors = std::thread::spawn(move || std::io::read_to_string(&mut errors).unwrap_or_default());
    let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut input = child.stdin.take().expect("piped");
    let mut said = || out.next().and_then(Result::ok).unwrap_or_default();
    let mut go_on = || writeln!(input).expect("told");
    let kill = |cluster: &mut Cluster, said: &str| match said {
        "WRITING" => cluster.datanodes[0].kill_9(),
        "READING" => cluster.datanodes[1].kill_9(),
        _ => {
            cluster.datanodes[0].start();
            cluster.namenode.kill_9();
            cluster.namenode.start();
            wait::until_true("the datanodes are back", || {
                cluster.namenode.metric("ringfs_namenode_datanodes_live") >= 3.0
            });
        }
    };
    for expected in ["WRITING", "READING", "CLOSING", "DONE"] {
        let line = said();
        if line != expected {
            panic!("{expected}, {line}: {}\n{}", errors.join().expect("read"), cluster.logs());
        }
        if expected != "DONE" {
            kill(&mut cluster, expected);
            go_on();
        }
    }
    assert!(child.wait().expect("it ends").success());
}
