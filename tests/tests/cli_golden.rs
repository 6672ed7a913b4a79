//! Golden transcripts of the command line: `tests/golden/cli`, see `ringfs_tests::golden`.

use ringfs_tests::cluster::{Cluster, Options};
use ringfs_tests::golden::{check, check_as};

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

/// File system commands of ann, a superuser, and of bob; small files are kept in the namenode, and there is a trash.
fn file_system(name: &str) {
    let namenode_toml = "groups = { mapping = \"static\", members = { ann = [\"supergroup\"], bob = [\"staff\"] } }\n\
                         trash_interval_minutes = 60\nsmall_files.inline_bytes_max = 65536\n";
    let cluster = Cluster::start(&Options { namenode_toml: namenode_toml.to_owned(), ..Options::default() });
    check_as(&cluster, name, Some("ann"));
}

#[test]
fn file_system_attributes() {
    file_system("cli/fs-attributes.txt");
}

#[test]
fn file_system_reading() {
    file_system("cli/fs-reading.txt");
}

#[test]
fn file_system_writing() {
    file_system("cli/fs-writing.txt");
}

#[test]
fn file_system_trash() {
    file_system("cli/fs-trash.txt");
}

#[test]
fn file_system_usage() {
    file_system("cli/fs-usage.txt");
}

#[test]
fn file_system_json() {
    file_system("cli/fs-json.txt");
}
