//! Many inodes at once, on real processes: walks, patterns, batches, totals, open files.

use std::io::Write;

use ringfs_sdk::{Client, Code, Commit, Kind, WalkOptions};
use ringfs_tests::cluster::{Cluster, Options, file_options};

const BLOCK: u64 = 1 << 20;

fn write(client: &Client, path: &str, len: usize) {
    let mut writer = client.create_with(path, &file_options(2, BLOCK)).expect("created");
    writer.write_all(&vec![7; len]).expect("written");
    writer.close().expect("closed");
}

#[test]
fn a_tree_is_walked_matched_and_summed() {
    let cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    let client = cluster.client();
    for (path, len) in [("/t/a/1", 10), ("/t/a/2", 3 << 20), ("/t/b/1", 0), ("/t/c", 5)] {
        write(&client, path, len);
    }
    let options = WalkOptions { with_locations: true, ..WalkOptions::default() };
    let entries: Vec<_> =
        client.walk("/t", &options).expect("walked").map(|entry| entry.expect("an entry")).collect();
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["a", "a/1", "a/2", "b", "b/1", "c"]);
    let blocks: Vec<_> = entries.iter().map(|entry| entry.blocks.len()).collect();
    assert_eq!(blocks, [0, 1, 3, 0, 0, 1]);
    assert_eq!(client.walk("/none", &options).expect_err("missing").kind(), Kind::NotFound);

    let matches = client.glob("/t/{b,a}/[1-2]").expect("matched");
    let paths: Vec<_> = matches.iter().map(|found| found.path.as_str()).collect();
    assert_eq!(paths, ["/t/a/1", "/t/a/2", "/t/b/1"]);

    let names: Vec<String> = (0..2500).map(|number| format!("/t/a/{number}")).collect();
    let statuses = client.stat_all(&names).expect("asked");
    assert_eq!(statuses.len(), names.len());
    let lengths: Vec<_> = statuses.iter().filter_map(|status| Some(status.as_ref().ok()?.length)).collect();
    assert_eq!(lengths, [10, 3 << 20]);
    assert_eq!(statuses[0].as_ref().expect_err("missing").kind(), Kind::NotFound);

    let summary = client.content_summary("/t").expect("summed");
    let expected = (4, 3, 10 + (3 << 20) + 5);
    assert_eq!((summary.files, summary.directories, summary.length), expected);
    assert_eq!(summary.space_consumed, 2 * summary.length);
    assert_eq!(client.corrupt_files("/").expect("listed").count(), 0);
}

#[test]
fn a_listing_of_open_files_names_the_writer() {
    let cluster = Cluster::start(&Options { datanodes: 1, ..Options::default() });
    let client = cluster.client();
    write(&client, "/closed", 1);
    let mut writer = client.create_with("/open", &file_options(1, BLOCK)).expect("created");
    let open: Vec<_> = client.open_files("/").expect("listed").map(|file| file.expect("a file")).collect();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].path.as_str(), open[0].user.as_str()), ("/open", client.user()));
    assert_eq!(open[0].host, "127.0.0.1");
    writer.close().expect("closed");
    assert_eq!(client.open_files("/").expect("listed").count(), 0);
}

#[test]
fn a_job_publishes_its_result_in_one_step() {
    let cluster = Cluster::start(&Options { datanodes: 1, ..Options::default() });
    let client = cluster.client();
    for name in ["/job/_tmp/0", "/job/_tmp/1", "/job/current"] {
        write(&client, name, 100);
    }
    let seen = client.stat("/job/current").expect("there");
    let publish = Commit::new()
        .rename("/job/_tmp/0", "/job/0", false)
        .rename("/job/_tmp/1", "/job/1", false)
        .delete("/job/_tmp", true)
        .if_unchanged("/job/current", &seen)
        .delete("/job/current", false)
        .if_missing("/job/_SUCCESS")
        .create_empty("/job/_SUCCESS");
    let reply = client.commit(&publish).expect("published");
    let names: Vec<_> =
        client.list("/job").expect("listed").map(|entry| entry.expect("an entry").name).collect();
    assert_eq!(names, ["0", "1", "_SUCCESS"]);
    let success = client.stat("/job/_SUCCESS").expect("there");
    assert_eq!(
        reply.versions[4].map(|left| (left.inode, left.version)),
        Some((success.inode, success.version))
    );
    let again = Commit::new().mkdirs("/job/more").if_missing("/job/_SUCCESS");
    let refused = client.commit(&again).expect_err("refused");
    assert_eq!(refused.code(), Some(Code::ConditionFailed));
    assert_eq!(client.stat("/job/more").expect_err("nothing is done").kind(), Kind::NotFound);
}
