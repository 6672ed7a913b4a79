//! Faults take effect.

use std::path::PathBuf;

use ringfs_disk::simulated::Kind;
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_sdk::BlockRef;

use crate::executor::{HostId, Micros};
use crate::faults::Fault;
use crate::world::{Event, NAMENODE, World, wal_dirs};

/// What is wrong with one directory of the log. One at a time: then there is always a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFault {
    /// Nothing can be done with it.
    Failed(usize),
    /// It works, and lacks something that it gets at the next start.
    Behind,
}

/// Bytes that a full disk still has room for.
const LAST_BYTES: u64 = 8 << 10;

impl World {
    /// Makes a fault take effect. False when there is nothing that it could hit now.
    pub(crate) fn fail(&mut self, fault: Fault) -> bool {
        self.executor.note(|| format!("fault: {fault:?}"));
        let has_effect = self.try_fail(fault);
        self.faults[fault.kind()] += u64::from(has_effect);
        has_effect
    }

    fn try_fail(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::Kill(host, down) => match self.worker_of(host) {
                Some(worker) => return self.kill_client(host, worker, down),
                None => return self.end_for(host, false, down),
            },
            Fault::CutPower(host, down) => return self.end_for(host, true, down),
            Fault::StopAt(host, operations, cuts_power) => {
                let Some(server) = self.servers.get_mut(&host).filter(|server| server.is_up) else {
                    return false;
                };
                server.cuts_power = cuts_power;
                server.disk.stop_after(operations);
            }
            Fault::CutAllPower(down) => {
                let hosts: Vec<HostId> = self.servers.keys().copied().collect();
                let ended = hosts.into_iter().map(|host| {
                    let down = down / 2 + self.random.below(down);
                    self.end_for(host, true, down)
                });
                return ended.fold(false, |any, ended| any | ended);
            }
            Fault::Pause(host, duration) => {
                if self.executor.is_paused(host) || !self.is_up(host) {
                    return false;
                }
                self.executor.pause(host, self.executor.now() + duration);
            }
            Fault::Cut(from, to, duration) => {
                if from == to {
                    return false;
                }
                self.network.cut(from, to);
                if self.random.chance(700) {
                    self.network.cut(to, from);
                }
                self.after(duration, Event::Heal);
            }
            Fault::Reset(count) => {
                return (0..count).filter_map(|_| self.network.reset_one()).count() > 0;
            }
            Fault::Slow(factor, duration) => {
                self.network.set_slow(factor);
                self.after(duration, Event::NotSlow);
            }
            Fault::Jump(host, by_ms) => self.servers[&host].clock.jump(by_ms),
            Fault::FlipBit(host) => return self.flip_bit(host),
            Fault::FailDisk(host, writes) => {
                let kind = if writes { Kind::Write } else { Kind::Sync };
                self.servers[&host].disk.fail(kind, 1);
                return self.is_up(host);
            }
            Fault::FillDisk(host, duration) => {
                let disk = &self.servers[&host].disk;
                disk.set_capacity(disk.used_bytes() + LAST_BYTES);
                self.after(duration, Event::Room(host));
            }
            Fault::FailLog(directory, duration) => return self.fail_log(directory, duration),
            Fault::FlipLogBit(directory) => return self.flip_log_bit(directory),
        }
        true
    }

    /// Ends a server that is up, for a while.
    fn end_for(&mut self, host: HostId, cuts_power: bool, down: Micros) -> bool {
        let was_up = self.is_up(host);
        if was_up {
            self.end(host, cuts_power);
            self.after(down, Event::Start(host));
        }
        was_up
    }

    fn is_up(&self, host: HostId) -> bool {
        self.servers.get(&host).is_none_or(|server| server.is_up)
    }

    /// A directory of the log fails, for a while. The other is left: it is neither failed nor damaged.
    fn fail_log(&mut self, directory: usize, duration: Micros) -> bool {
        if self.log_faults.is_some() || !self.has_whole_log() {
            return false;
        }
        self.log_faults = Some(LogFault::Failed(directory));
        self.servers[&NAMENODE].disk.set_failed(&wal_dirs()[directory], true);
        self.after(duration, Event::RepairLog(directory));
        true
    }

    /// A directory of the log works again; what it lacks it gets at the next start.
    pub(crate) fn repair_log(&mut self, directory: usize) {
        self.executor.note(|| format!("directory {directory} of the log works again"));
        self.servers[&NAMENODE].disk.set_failed(&wal_dirs()[directory], false);
        self.log_faults = Some(LogFault::Behind);
    }

    /// Whether the namenode is up and writes to all directories of its log.
    fn has_whole_log(&self) -> bool {
        self.namenode.as_ref().is_some_and(|namenode| namenode.failed_log_dirs() == 0)
    }

    /// Turns a bit of a segment or a checkpoint around, where the other directory has the same: a start puts it right.
    fn flip_log_bit(&mut self, directory: usize) -> bool {
        if self.log_faults.is_some() || !self.has_whole_log() {
            return false;
        }
        let disk = &self.servers[&NAMENODE].disk;
        let directory = &wal_dirs()[directory];
        let is_flippable = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.starts_with(directory) && (name.starts_with("wal-") || name.starts_with("checkpoint-"))
        };
        let paths: Vec<PathBuf> = disk.files().into_iter().filter(is_flippable).collect();
        if paths.is_empty() {
            return false;
        }
        let path = self.random.pick(&paths).clone();
        let pages = disk.stored_pages(&path);
        if pages.is_empty() {
            return false;
        }
        let offset = self.random.pick(&pages) + self.random.below(4096);
        if disk.flip_bit(&path, offset, self.random.below(8) as u8) {
            self.executor.note(|| format!("{}: a bit at {offset} has turned around", path.display()));
            self.log_faults = Some(LogFault::Behind);
            return true;
        }
        false
    }

    fn kill_client(&mut self, host: HostId, worker: usize, down: Micros) -> bool {
        if !self.clients_down.insert(worker) {
            return false;
        }
        self.network.mute(host);
        self.executor.kill(host);
        self.network.host_dark(host);
        self.network.host_lit(host);
        let change = self.shared.in_flight.borrow_mut()[worker].take();
        let mut model = self.shared.model.borrow_mut();
        if let Some(change) = change {
            model.unanswered(worker, &change);
        }
        model.writers_are_gone(worker);
        drop(model);
        self.after(down, Event::Start(host));
        true
    }

    /// Turns a bit of a finalized replica around, where two others are good: of three one may be taken for too many.
    fn flip_bit(&mut self, host: HostId) -> bool {
        let Some(namenode) = self.namenode.clone() else { return false };
        let closed = namenode.look(|core| -> Vec<BlockRef> {
            let state = core.state();
            // A writer that comes back would go on in the damaged one, and make the good ones outdated.
            let is_over = |block: &BlockRef| {
                state
                    .block(block.block)
                    .is_some_and(|(_, file)| state.leases().recovered(file.inode).is_none())
            };
            state.all_blocks().filter(|view| !view.is_open).map(|view| view.block).filter(is_over).collect()
        });
        let flippable: Vec<BlockRef> = closed
            .into_iter()
            .filter(|block| self.is_good(host, *block) && self.good_elsewhere(host, *block) >= 2)
            .filter(|block| !self.damaged.iter().any(|(_, damaged)| *damaged == block.block))
            .collect();
        if flippable.is_empty() {
            return false;
        }
        let block = *self.random.pick(&flippable);
        let disk = &self.servers[&host].disk;
        let name = format!("blk_{}", block.block);
        let Some(path) = disk.files().into_iter().find(|path| path.ends_with(&name)) else { return false };
        let pages = disk.stored_pages(&path);
        if pages.is_empty() {
            return false;
        }
        let offset = self.random.pick(&pages) + self.random.below(4096);
        let has_flipped = disk.flip_bit(&path, offset, self.random.below(8) as u8);
        if has_flipped {
            self.executor.note(|| format!("{host} {}: a bit at {offset} has turned around", path.display()));
            self.damaged.insert((host, block.block));
        }
        has_flipped
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

    fn good_elsewhere(&self, host: HostId, block: BlockRef) -> usize {
        self.datanodes.keys().filter(|other| **other != host && self.is_good(**other, block)).count()
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

    /// Closed blocks that lack replicas, on the disks and not only in the namenode's mind.
    pub(crate) fn short_blocks(&self) -> Vec<String> {
        let Some(namenode) = &self.namenode else { return Vec::new() };
        let closed = namenode.look(|core| -> Vec<(BlockRef, usize)> {
            let state = core.state();
            let closed = state.all_blocks().filter(|view| !view.is_open);
            let wanted =
                |block: BlockRef| state.block(block.block).map_or(1, |(_, file)| file.replication.into());
            closed.map(|view| (view.block, wanted(view.block))).collect()
        });
        let missing = |(block, wanted): (BlockRef, usize)| {
            let whole = self.datanodes.keys().filter(|host| self.has_whole(**host, block)).count();
            let is_short = whole < wanted.min(self.datanodes.len());
            is_short.then(|| format!("{block:?} has {whole} replicas in quiet, {wanted} are wanted"))
        };
        closed.into_iter().filter_map(missing).collect()
    }
}
