//! The examples of the documentation do what they say, on a real cluster.

use std::process::Command;

use ringfs_tests::cluster::{Cluster, Options, binary};

/// Runs a program of `sdk/examples` against a cluster of its own; returns what it says.
fn run(name: &str) -> String {
    let namenode_toml = "small_files.inline_bytes_max = 65536\n".to_owned();
    let cluster = Cluster::start(&Options { datanodes: 3, namenode_toml, ..Options::default() });
    let program = binary().with_file_name("examples").join(name);
    assert!(program.exists(), "{} is missing: cargo build --workspace --all-targets", program.display());
    let output = Command::new(program)
        .env("RINGFS_URI", cluster.uri())
        .current_dir(cluster.dir())
        .output()
        .expect("it is a program");
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {out}{errors}");
    out.into_owned()
}

#[test]
fn first() {
    assert_eq!(run("first"), "      36 run-1.log\n");
}

#[test]
fn small_files() {
    assert_eq!(run("small_files"), "300 of 3000 labels are of class 7\n");
}

#[test]
fn publish() {
    let said = run("publish");
    assert!(said.starts_with("version 2 is published\nversion 3 is not: "), "{said}");
}

#[test]
fn logs() {
    assert_eq!(run("logs"), "43500 bytes, 640, user.source\n");
}

#[test]
fn futures() {
    assert_eq!(run("futures"), "9 files, 8388616 bytes\n");
}

#[test]
fn object_store() {
    let said = run("object_store");
    assert!(said.contains("trips/_delta_log/00000.json") && said.contains("trips/part-0.parquet"), "{said}");
}
