//! Golden transcripts of the command line: `tests/golden/cli`, see `ringfs_tests::golden`.

use ringfs_tests::cluster::{Cluster, Options};
use ringfs_tests::golden::check;

fn cluster() -> Cluster {
    Cluster::start(&Options { datanodes: 2, ..Options::default() })
}

#[test]
fn fsck() {
    check(&cluster(), "cli/fsck.txt");
}

#[test]
fn du() {
    check(&cluster(), "cli/du.txt");
}

#[test]
fn admin() {
    check(&cluster(), "cli/admin.txt");
}

#[test]
fn completions_man_and_top() {
    check(&cluster(), "cli/tools.txt");
}
