//! Hosts of a test: network namespaces on one bridge, whose cables can be pulled.
//!
//! The calling thread, and all that it starts, moves to a namespace of its own: nothing here touches the machine's network.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sched::{CloneFlags, unshare};

static MADE: AtomicUsize = AtomicUsize::new(0);

/// Hosts with one address each; gone when dropped.
#[derive(Debug)]
pub struct Hosts {
    tag: String,
    count: usize,
}

impl Hosts {
    /// Makes `count` hosts and moves the calling thread to one of its own beside them.
    ///
    /// # Errors
    /// What is missing: root, or `ip` of iproute2. A test then says so loudly and ends.
    pub fn new(count: usize) -> Result<Self, String> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("a network namespace of its own needs root: {error}"))?;
        let tag = format!("{}{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let hosts = Self { tag, count };
        ip("link set lo up")?;
        ip("link add hub type bridge")?;
        ip(&format!("addr add {}/24 dev hub", address(254)))?;
        ip("link set hub up")?;
        for host in 0..count {
            hosts.add(host)?;
        }
        Ok(hosts)
    }

    fn add(&self, host: usize) -> Result<(), String> {
        let (name, address) = (self.name(host), self.address(host));
        for step in [
            format!("netns add {name}"),
            format!("link add cable{host} type veth peer name port netns {name}"),
            format!("link set cable{host} master hub"),
            format!("-n {name} addr add {address}/24 dev port"),
            format!("-n {name} link set port up"),
            format!("-n {name} link set lo up"),
            format!("link set cable{host} up"),
        ] {
            ip(&step)?;
        }
        Ok(())
    }

    /// The address of a host.
    pub fn address(&self, host: usize) -> Ipv4Addr {
        debug_assert!(host < self.count);
        address(host as u8 + 1)
    }

    /// A command that runs on a host.
    pub fn command(&self, host: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).arg(program);
        command
    }

    /// Pulls the cable of a host: its packets are lost, nobody is told.
    ///
    /// # Panics
    /// If `ip` refuses.
    pub fn cut(&self, host: usize) {
        ip(&format!("link set cable{host} down")).expect("the cable is ours");
    }

    /// Puts the cable back.
    ///
    /// # Panics
    /// If `ip` refuses.
    pub fn join(&self, host: usize) {
        ip(&format!("link set cable{host} up")).expect("the cable is ours");
    }

    fn name(&self, host: usize) -> String {
        format!("ringfs-{}-{host}", self.tag)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in 0..self.count {
            // What was not made cannot be removed.
            let _gone = ip(&format!("netns del {}", self.name(host)));
        }
    }
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 71, last)
}

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("run ip (package iproute2): {error}"))?;
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {words}: {error}")) }
}
