//! Faults take effect.

use ringfs_disk::simulated::Kind;
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_sdk::BlockRef;

use crate::executor::{HostId, Micros};
use crate::faults::Fault;
use crate::world::{Event, World};

/// Bytes that a full disk still has room for.
const LAST_BYTES: u64 = 8 << 10;

impl World {
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.executor.note(|| format!("fault: {fault:?}"));
        self.faults[fault.kind()] += 1;
        match fault {
            Fault::Kill(host, down) => match self.worker_of(host) {
                Some(worker) => self.kill_client(host, worker, down),
                None => {
                    self.end(host, false);
                    self.after(down, Event::Start(host));
                }
            },
            Fault::CutPower(host, down) => {
                self.end(host, true);
                self.after(down, Event::Start(host));
            }
            Fault::StopAt(host, operations, cuts_power) => {
                if let Some(server) = self.servers.get_mut(&host) {
                    server.cuts_power = cuts_power;
                    server.disk.stop_after(operations);
                }
            }
            Fault::CutAllPower(down) => {
                let hosts: Vec<HostId> = self.servers.keys().copied().collect();
                for host in hosts {
                    self.end(host, true);
                    let down = down / 2 + self.random.below(down);
                    self.after(down, Event::Start(host));
                }
            }
            Fault::Pause(host, duration) => self.executor.pause(host, self.executor.now() + duration),
            Fault::Cut(from, to, duration) => {
                self.network.cut(from, to);
                if self.random.chance(700) {
                    self.network.cut(to, from);
                }
                self.after(duration, Event::Heal);
            }
            Fault::Reset(count) => {
                for _ in 0..count {
                    self.network.reset_one();
                }
            }
            Fault::Slow(factor, duration) => {
                self.network.set_slow(factor);
                self.after(duration, Event::NotSlow);
            }
            Fault::Jump(host, by_ms) => self.servers[&host].clock.jump(by_ms),
            Fault::FlipBit(host) => self.flip_bit(host),
            Fault::FailDisk(host, writes) => {
                let kind = if writes { Kind::Write } else { Kind::Sync };
                self.servers[&host].disk.fail(kind, 1);
            }
            Fault::FillDisk(host, duration) => {
                let disk = &self.servers[&host].disk;
                disk.set_capacity(disk.used_bytes() + LAST_BYTES);
                self.after(duration, Event::Room(host));
            }
        }
    }

    fn kill_client(&mut self, host: HostId, worker: usize, down: Micros) {
        self.network.mute(host);
        self.executor.kill(host);
        self.network.host_dark(host);
        self.network.host_lit(host);
        let change = self.shared.in_flight.borrow_mut()[worker].take();
        let mut model = self.shared.model.borrow_mut();
        if let Some(change) = change {
            model.unanswered(worker, &change);
        }
        drop(model);
        self.after(down, Event::Start(host));
    }

    /// Turns a bit of a finalized replica around, where another replica is good.
    fn flip_bit(&mut self, host: HostId) {
        let Some(namenode) = self.namenode.clone() else { return };
        let closed = namenode.look(|core| -> Vec<BlockRef> {
            core.state().all_blocks().filter(|view| !view.is_open).map(|view| view.block).collect()
        });
        let flippable: Vec<BlockRef> = closed
            .into_iter()
            .filter(|block| self.is_good(host, *block) && self.is_good_elsewhere(host, *block))
            .collect();
        if flippable.is_empty() {
            return;
        }
        let block = *self.random.pick(&flippable);
        let disk = &self.servers[&host].disk;
        let name = format!("blk_{}", block.block);
        let Some(path) = disk.files().into_iter().find(|path| path.ends_with(&name)) else { return };
        let pages = disk.stored_pages(&path);
        if pages.is_empty() {
            return;
        }
        let offset = self.random.pick(&pages) + self.random.below(4096);
        if disk.flip_bit(&path, offset, self.random.below(8) as u8) {
            self.executor.note(|| format!("{host} {}: a bit at {offset} has turned around", path.display()));
            self.damaged.insert((host, block.block));
        }
    }

    /// Whether a datanode has a whole replica of a closed block.
    fn is_good(&self, host: HostId, block: BlockRef) -> bool {
        self.has_whole(host, block) && !self.damaged.contains(&(host, block.block))
    }

    fn has_whole(&self, host: HostId, block: BlockRef) -> bool {
        let replica = self.datanodes.get(&host).and_then(|datanode| datanode.node.store.find(block.block));
        replica.is_some_and(|replica| {
            replica.state() == ReplicaState::Finalized
                && !replica.is_corrupt()
                && replica.block_ref() == block
        })
    }

    fn is_good_elsewhere(&self, host: HostId, block: BlockRef) -> bool {
        self.datanodes.keys().any(|other| *other != host && self.is_good(*other, block))
    }

    /// Where replicas are, for who looks for what went wrong.
    pub(crate) fn describe_blocks(&self) {
        let Some(namenode) = &self.namenode else {
            return self.executor.note(|| "the namenode is down".to_owned());
        };
        let blocks: Vec<_> = namenode.look(|core| core.state().all_blocks().collect());
        for view in blocks {
            self.executor.note(|| {
                let replica = |host: &HostId| {
                    let replica = self.datanodes[host].node.store.find(view.block.block)?;
                    Some(format!("{host} {:?} corrupt {}", replica.report(), replica.is_corrupt()))
                };
                let replicas: Vec<String> = self.datanodes.keys().filter_map(replica).collect();
                format!("{:?} open {}: {replicas:#?}", view.block, view.is_open)
            });
        }
        self.executor.note(|| format!("up: {:?}", self.datanodes.keys().collect::<Vec<_>>()));
        namenode.look(|core| self.executor.note(|| format!("{:?}", core.metrics().gauges)));
    }

    /// Every closed block has its replicas, on the disks and not only in the namenode's mind.
    pub(crate) fn check_replicas(&self) {
        let Some(namenode) = &self.namenode else { return };
        let closed = namenode.look(|core| -> Vec<(BlockRef, usize)> {
            let state = core.state();
            let closed = state.all_blocks().filter(|view| !view.is_open);
            let wanted =
                |block: BlockRef| state.block(block.block).map_or(1, |(_, file)| file.replication.into());
            closed.map(|view| (view.block, wanted(view.block))).collect()
        });
        for (block, wanted) in closed {
            let whole = self.datanodes.keys().filter(|host| self.has_whole(**host, block)).count();
            if whole < wanted.min(self.datanodes.len()) {
                self.violated(format!("{block:?} has {whole} replicas in quiet, {wanted} are wanted"));
            }
        }
    }
}
