//! Texts that people or other programs wrote: cluster files, configurations, paths.

use ringfs_proto::cluster_file::ClusterFile;
use ringfs_proto::path::Components;

use crate::input::Input;

/// Any text, as what the first byte names.
pub fn texts(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte() % 4;
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    match kind {
        0 => cluster_file(text),
        1 => config::<ringfs_namenode::Config>(text),
        2 => config::<ringfs_datanode::Config>(text),
        _ => path(text),
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
    ];
    texts.into_iter().map(|(kind, text)| [&[kind][..], text.as_bytes()].concat()).collect()
}
