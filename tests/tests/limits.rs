//! Names, paths and depths at their limits and beyond, on real processes.

use ringfs_sdk::{Client, Code, CreateOptions, Error};
use ringfs_tests::cluster::{Cluster, Options};

fn put(client: &Client, path: &str) -> Result<(), Error> {
    client.put(path, path.as_bytes(), &CreateOptions::default()).map(|_status| ())
}

/// Makes a file, finds it in every way, renames it and deletes it.
fn lives(client: &Client, path: &str) {
    let shown: String = path.chars().take(60).collect();
    put(client, path).unwrap_or_else(|error| panic!("{shown}: {error}"));
    let (directory, name) = path.rsplit_once('/').expect("absolute");
    let listed: Vec<String> = client
        .list(if directory.is_empty() { "/" } else { directory })
        .expect("listed")
        .map(|entry| entry.expect("an entry").name)
        .collect();
    assert!(listed.iter().any(|listed| listed == name), "{shown}");
    let read = client.read_many(&[path]).expect("read");
    assert!(read[0].as_ref().expect("read") == path.as_bytes(), "{shown}");
    assert!(client.delete(path, false).expect("deleted"), "{shown}");
}

fn refused(client: &Client, path: &str, code: Code) {
    let error = put(client, path).expect_err("refused");
    assert_eq!(error.code(), Some(code), "{error}");
}

#[test]
fn names_and_paths_have_their_limits() {
    let namenode_toml = "small_files.inline_bytes_max = 65536\n".to_owned();
    let cluster = Cluster::start(&Options { namenode_toml, ..Options::default() });
    let client = cluster.client();
    let long = "n".repeat(255);
    let umlauts = "ä".repeat(127) + "x";
    for name in [&*long, &*umlauts, "with space", " ", "*", "a\\b", "tab\there", "日本語", "\u{1F980}", "..."]
    {
        lives(&client, &format!("/{name}"));
        lives(&client, &format!("/d/{name}"));
    }
    refused(&client, &format!("/{long}n"), Code::NameTooLong);
    refused(&client, &format!("/{}", "ä".repeat(128)), Code::NameTooLong);
    for path in ["/a/../b", "/..", "/a/.", "/./a", "relative", "", "/nul\0"] {
        refused(&client, path, Code::InvalidArgument);
    }
    // Slashes beside each other, and one at the end, are one and none.
    put(&client, "//e///f//").expect("put");
    assert_eq!(client.stat("/e/f").expect("there").length, "//e///f//".len() as u64);

    // 8,000 bytes, and one more.
    let names = "/".to_owned() + &"p".repeat(199);
    let exact = names.repeat(40);
    assert_eq!(exact.len(), 8000);
    lives(&client, &exact);
    refused(&client, &format!("{exact}x"), Code::NameTooLong);
    // 1,000 levels, and one more.
    let deep = "/d".repeat(1000);
    lives(&client, &deep);
    refused(&client, &format!("{deep}/d"), Code::NameTooLong);
    let summary = client.content_summary("/d").expect("summed");
    assert_eq!((summary.files, summary.directories), (0, 999));
    assert!(client.delete("/d", true).expect("deleted"));
}

#[test]
fn one_directory_has_a_hundred_thousand_entries() {
    let namenode_toml = "small_files.inline_bytes_max = 65536\n".to_owned();
    let cluster = Cluster::start(&Options { namenode_toml, ..Options::default() });
    let client = cluster.client();
    // A million are listed by `benches/src/bin/memory.rs`, which makes them faster.
    let (writers, each) = (8, 12_500);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let client = &client;
            scope.spawn(move || {
                for number in 0..each {
                    let path = format!("/many/{writer}-{number:06}");
                    client.put(&path, b"", &CreateOptions::default()).expect("put");
                }
            });
        }
    });
    let names: Vec<String> =
        client.list("/many").expect("listed").map(|entry| entry.expect("an entry").name).collect();
    assert_eq!(names.len(), writers * each);
    assert!(names.is_sorted(), "by the bytes of their names");
    assert_eq!(client.stat("/many").expect("there").children as usize, writers * each);
    assert!(client.delete("/many", true).expect("deleted"));
}
