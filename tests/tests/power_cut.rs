//! What was closed or synced survives a power cut: a disk that drops every write from one moment on, in a kernel of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ringfs_tests::cluster::binary;
use ringfs_tests::wait;

const DISK_BYTES: u64 = 4 << 30;
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mount -t tmpfs run /run
ip link set lo up
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/
exec PROGRAM DIRECTORY SEED
";

fn has(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|out| out.status.success())
}

fn survive(seed: u64) {
    for (program, package) in [("linux.uml", "user-mode-linux"), ("dmsetup", "dmsetup")] {
        if !has(program) {
            return println!("SKIPPED: {program} is missing: apt-get install {package}");
        }
    }
    let temp = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| temp.path().join(name).to_string_lossy().into_owned();
    fs::File::create(path("disk")).and_then(|disk| disk.set_len(DISK_BYTES)).expect("made");
    let program = binary().with_file_name("power_cut").to_string_lossy().into_owned();
    let init =
        INIT.replace("PROGRAM", &program).replace("DIRECTORY", &path("")).replace("SEED", &seed.to_string());
    fs::write(path("init"), init).expect("written");
    fs::set_permissions(path("init"), fs::Permissions::from_mode(0o755)).expect("executable");
    let console = fs::File::create(path("console")).expect("made");
    let mut command = Command::new("linux.uml");
    command.args(["mem=1536M", "root=/dev/root", "rootfstype=hostfs", "rw", "quiet", "panic=-1", "con=null"]);
    command.arg("con0=null,fd:1").arg(format!("init={}", path("init"))).arg(format!("ubd0={}", path("disk")));
    // The guest's memory is a file there; a small tmpfs would be too small for it.
    command.env("TMPDIR", temp.path());
    command.stdin(Stdio::null()).stdout(console.try_clone().expect("cloned")).stderr(console);
    let mut guest = command.spawn().expect("User-mode Linux starts");
    let ended = wait::attempt_within(4 * wait::DEADLINE, || guest.try_wait().expect("a child"));
    if ended.is_none() {
        guest.kill().expect("killed");
        guest.wait().expect("reaped");
    }
    let read = |name: &str| fs::read_to_string(Path::new(&path(name))).unwrap_or_default();
    let result = read("result");
    assert!(result.starts_with("kept "), "{result}\n{}\n{}", read("console"), read("log"));
    println!("{result} files that were closed or synced");
}

#[test]
fn what_was_closed_or_synced_survives_a_power_cut() {
    survive(1);
}
