//! Disks without room: the writer gets ENOSPC, nothing that was acknowledged is harmed.

use std::io::Write;

use ringfs_sdk::Kind;
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;

#[test]
fn below_the_reserve_a_block_is_refused() {
    let mut cluster = Cluster::start(&Options::default());
    let client = cluster.client();
    let mut writer = client.create_with("/kept", &file_options(1, 1 << 20)).expect("created");
    writer.write_all(&Pattern { seed: 1 }.bytes(0, 3 << 20)).expect("written");
    writer.close().expect("closed");
    // More than any disk has.
    let config = cluster.datanodes[0].dir().join("config.toml");
    let text = std::fs::read_to_string(&config).expect("read") + "reserved_bytes = 4611686018427387904\n";
    std::fs::write(&config, text).expect("written");
    cluster.datanodes[0].kill_9();
    cluster.datanodes[0].start();
    cluster.wait_serving();
    let mut writer = client.create_with("/refused", &file_options(1, 1 << 20)).expect("created");
    let error = writer.write_all(&[1; 100]).and_then(|()| writer.close().map(|_| ()).map_err(Into::into));
    let error = error.expect_err("refused");
    assert_eq!(error.raw_os_error().or(Some(error_number(&error))), Some(libc::ENOSPC), "{error}");
    let mut bytes = vec![0; 3 << 20];
    client.open("/kept").expect("opened").read_at(0, &mut bytes).expect("read");
    Pattern { seed: 1 }.check(0, &bytes);
    let put = cluster.command(&["fs", "-put", "/proc/self/exe", "/refused2"]).output().expect("run");
    assert_eq!(put.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&put.stderr).contains("no datanode has room"), "{put:?}");
    let listed: Vec<String> =
        client.list("/").expect("listed").map(|entry| entry.expect("an entry").name).collect();
    assert!(!listed.iter().any(|name| name.contains("_COPYING_")), "{listed:?}");
}

fn error_number(error: &std::io::Error) -> i32 {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ringfs_sdk::Error>());
    inner.map_or(0, |inner| if inner.kind() == Kind::NoRoom { inner.errno() } else { 0 })
}
