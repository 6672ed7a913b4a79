//! Texts that people or other programs wrote, or that lie on a disk beside data: cluster files, configurations, paths,
//! where a scrubber was, which directories hold the log.

use ringfs_datanode::scrub::{Cursor, Planner, Step};
use ringfs_namenode::wal::members::Members;
use ringfs_proto::cluster_file::ClusterFile;
use ringfs_proto::ids::BlockId;
use ringfs_proto::path::Components;

use crate::input::Input;

/// Any text, as what the first byte names.
pub fn texts(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte() % 6;
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    match kind {
        0 => cluster_file(text),
        1 => config::<ringfs_namenode::Config>(text),
        2 => config::<ringfs_datanode::Config>(text),
        3 => path(text),
        4 => cursor(text),
        _ => members(text),
    }
}

fn cluster_file(text: &str) {
    let Ok(file) = ClusterFile::parse(text) else { return };
    let again = ClusterFile::parse(&file.render()).expect("its own text");
    assert_eq!((again.cluster, again.key.secret()), (file.cluster, file.key.secret()));
    assert_eq!(again.namenode, file.namenode);
}

fn config<C: serde::de::DeserializeOwned>(text: &str) {
    let _refused = toml::from_str::<C>(text);
}

fn path(text: &str) {
    let Ok(components) = Components::parse(text) else { return };
    let canonical = components.canonical();
    let again = Components::parse(&canonical).expect("a canonical path is a path");
    assert_eq!(again.names(), components.names());
    assert_eq!(again.canonical(), canonical, "a canonical path is its own");
}

/// A round goes on from wherever a file says that it was, and ends.
fn cursor(text: &str) {
    let Ok(cursor) = toml::from_str::<Cursor>(text) else { return };
    let (mut planner, mut is_listed) = (Planner::new(cursor, 100), false);
    for now_s in [0, 50, 1000, u64::MAX].into_iter().flat_map(|now_s| [now_s; 4]) {
        if let Step::List(behind) = planner.next(now_s) {
            let page = if is_listed { Vec::new() } else { vec![BlockId(behind.0.saturating_add(1))] };
            is_listed = true;
            planner.listed(page);
        }
    }
    assert!(is_listed || cursor.is_done, "a round that has not ended goes on");
}

fn members(text: &str) {
    let Ok(members) = toml::from_str::<Members>(text) else { return };
    let again = toml::to_string(&members).expect("it was text");
    assert_eq!(toml::from_str::<Members>(&again).expect("its own text"), members);
}

/// One text of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let cluster = format!(
        "cluster = \"03030303-0303-0303-0303-030303030303\"\nkey_number = 1\nkey = \"{}\"\nnamenode = \"h:8020\"\n",
        "a5".repeat(32)
    );
    let texts = [
        (0, cluster.as_str()),
        (1, "wal_dirs = ['/a', '/b']\nport = 8020\nio_uring = 'off'\nreplication = 3\n"),
        (2, "join_file = 'j'\nvolumes = ['/d1', '/d2']\nengine = 'threads'\nbind = '::1'\n"),
        (3, "//a///b c/\u{e9}"),
        (4, "began_s = 7\nlast = 70\nis_done = false\n"),
        (5, "version = 1\nopening = 4\ndirectories = ['/a', '/b']\n"),
    ];
    texts.into_iter().map(|(kind, text)| [&[kind][..], text.as_bytes()].concat()).collect()
}
