//! fork while other threads read: the child goes on with connections of its own, the parent is not disturbed.
//!
//! One test in a binary of its own: a forked child has only the thread that forked.

mod fake;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use fake::datanode::FakeDatanode;
use fake::namenode::FakeNamenode;
use fake::{DEADLINE, pattern};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use ringfs_sdk::{Client, CreateOptions, Reader, Writer};

/// Exit codes of the child, by what went wrong in it.
const RIGHT: i32 = 0;

#[test]
fn a_child_forked_under_reading_threads_reads_and_lists_and_may_not_write() {
    // Blocks on two datanodes: reads of several are waited for by a ring, one per thread.
    let datanodes = [1, 2].map(FakeDatanode::start);
    let namenode = FakeNamenode::start(datanodes.iter().map(FakeDatanode::node).collect());
    fake::lock(&namenode.state).spreads = true;
    let options = CreateOptions { block_size: 65_536, ..CreateOptions::default() };
    let client = Client::connect(&namenode.uri()).expect("client");
    let data = pattern(400_000);
    let mut writer = client.create_with("/f", &options).expect("create");
    writer.append(&data).expect("write");
    writer.close().expect("close");
    let mut open_writer = client.create_with("/g", &options).expect("create");
    open_writer.append(&data).expect("write");
    open_writer.hflush().expect("flush");
    let mut reader = client.open("/f").expect("open");
    let mut head = vec![0; 100_000];
    for _ in 0..3 {
        Reader::read(&mut reader, &mut head).expect("a stream is open");
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (client, data, is_over) = (&client, &data, &is_over);
            scope.spawn(move || {
                let reader = client.open("/f").expect("open");
                let mut found = vec![0; 50_000];
                while !is_over.load(SeqCst) {
                    let begin = thread * 40_000;
                    assert_eq!(reader.read_at(begin as u64, &mut found).expect("read"), 50_000);
                    assert!(found == data[begin..begin + 50_000]);
                }
            });
        }
        fake::wait_until("the threads have rings", || inherited() >= 8);
        let mut codes = Vec::new();
        for _ in 0..10 {
            // SAFETY: the child calls the library under test, whose promise this is, and exits without running what it
            // has inherited.
            match unsafe { fork() }.expect("fork") {
                ForkResult::Child => {
                    let code = child(&client, &mut reader, &mut open_writer, &data);
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(code) };
                }
                ForkResult::Parent { child } => codes.push(ended(child)),
            }
        }
        is_over.store(true, SeqCst);
        assert_eq!(codes, [Some(RIGHT); 10]);
    });
    let mut rest = vec![0; 100_000];
    assert_eq!(Reader::read(&mut reader, &mut rest).expect("the parent's stream goes on"), 100_000);
    assert!(rest == data[300_000..]);
    open_writer.append(&data).expect("the parent's pipeline goes on");
    assert_eq!(open_writer.close().expect("close").length, 800_000);
}

/// Rings and epoll instances that are open in this process.
fn inherited() -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
    let kinds = ["anon_inode:[io_uring]", "anon_inode:[eventpoll]"];
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| kinds.iter().any(|kind| target.as_os_str() == *kind)).count()
}

fn child(client: &Client, reader: &mut Reader, writer: &mut Writer, data: &[u8]) -> i32 {
    if inherited() != 0 {
        return 5;
    }
    let mut found = vec![0; 100_000];
    let sequential = Reader::read(reader, &mut found);
    if !matches!(sequential, Ok(100_000)) || found != data[300_000..] {
        return 1;
    }
    if !matches!(reader.read_at(5, &mut found), Ok(100_000)) || found != data[5..100_005] {
        return 2;
    }
    if client.stat("/f").is_err() {
        return 3;
    }
    match writer.append(b"x") {
        Err(error) if error.errno() == libc::EBADF => RIGHT,
        _ => 4,
    }
}

/// How a child exited; `None` when it had to be killed.
fn ended(child: nix::unistd::Pid) -> Option<i32> {
    let begin = std::time::Instant::now();
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).expect("wait") {
            WaitStatus::Exited(_, code) => return Some(code),
            WaitStatus::StillAlive if begin.elapsed() < DEADLINE => std::thread::yield_now(),
            _ => {
                nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).expect("kill");
                waitpid(child, None).expect("wait");
                return None;
            }
        }
    }
}
