//! Every acknowledged byte has somebody who holds it: looked at again and again while things fail, at the servers' own
//! knowledge and not through a client.

use ringfs_namenode::core::Core;
use ringfs_namenode::state::BlockView;
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_proto::meta::namespace::FileRefV1;

use crate::executor::{HostId, Micros};
use crate::file::File;
use crate::world::{DATANODES, SECOND, World};

/// Steps between two looks.
pub(crate) const STEPS_PER_LOOK: u64 = 32;
/// After a start the namenode takes datanodes that it has not heard of for lost; a little before, to be sure.
const UNKNOWN_IS_LOST: Micros = 5 * SECOND;

/// A file of which something was acknowledged, and its blocks as the namenode has them.
struct Promised {
    number: u64,
    path: String,
    bytes: u64,
    blocks: Vec<BlockView>,
}

impl World {
    /// Looks for acknowledged bytes that nobody holds.
    pub(crate) fn check_holders(&self) {
        for file in self.promised(|file| file.closed.unwrap_or(0).max(file.flushed).max(file.synced)) {
            let Promised { number, path, bytes, blocks } = &file;
            let end = blocks
                .last()
                .map_or(0, |last| if last.is_open { u64::MAX } else { last.offset + last.block.length });
            if end < *bytes {
                self.violated(format!(
                    "{path}, file {number}, ends at {end}, {bytes} bytes were acknowledged"
                ));
            }
            for (view, needed) in parts(blocks, 0, *bytes) {
                if !self.is_held(view, needed, None) && !self.may_be_asleep(view) {
                    self.violated(format!(
                        "{path}, file {number}: nobody holds {needed} acknowledged bytes of {:?}",
                        view.block
                    ));
                }
            }
        }
    }

    /// Files whose flushed bytes are on another datanode too, which is up: they outlive a power cut of this one.
    pub(crate) fn kept_without(&self, host: HostId) -> Vec<u64> {
        let flushed = self.promised(|file| file.flushed);
        let is_kept = |file: &Promised| {
            let synced = self.shared.model.borrow().file(file.number).synced;
            parts(&file.blocks, synced, file.bytes)
                .all(|(view, needed)| self.is_held(view, needed, Some(host)))
        };
        flushed.iter().filter(|file| is_kept(file)).map(|file| file.number).collect()
    }

    /// Whether the namenode has given a datanode up: recovery goes on without what it holds.
    pub(crate) fn is_a_datanode_lost(&self) -> bool {
        let Some(namenode) = &self.namenode else { return false };
        let is_started = self.executor.now() >= self.namenode_since + UNKNOWN_IS_LOST;
        namenode.look(|core| {
            let gauges = &core.metrics().gauges;
            let here = gauges.datanodes_live.get() + gauges.datanodes_stale.get();
            gauges.datanodes_dead.get() > 0 || (is_started && here < u64::from(DATANODES))
        })
    }

    /// The files that have a promise, of workers whose directory is known for certain.
    fn promised(&self, promise: impl Fn(&File) -> u64) -> Vec<Promised> {
        let Some(namenode) = &self.namenode else { return Vec::new() };
        let model = self.shared.model.borrow();
        let in_flight = self.shared.in_flight.borrow();
        let mut found = Vec::new();
        for (worker, change) in in_flight.iter().enumerate() {
            let ([tree], None) = (model.trees(worker), change) else { continue };
            let files = tree.iter().filter_map(|(path, node)| Some((path, node.file?)));
            for (path, number) in files {
                let bytes = promise(&model.file(number));
                if bytes > 0 {
                    let blocks = namenode.look(|core| blocks_of(core, path));
                    found.push(Promised { number, path: path.clone(), bytes, blocks });
                }
            }
        }
        found
    }

    /// Whether a datanode that is up, and is not this one, has so many bytes of a block.
    fn is_held(&self, view: &BlockView, needed: u64, except: Option<HostId>) -> bool {
        if view.value.is_some() {
            // It is in the log: who reads it looks at it.
            return true;
        }
        let (block, stamp) = (view.block.block, view.block.stamp);
        let others = self.datanodes.iter().filter(|(host, _)| Some(**host) != except);
        others.filter(|(host, _)| !self.damaged.contains(&(**host, block))).any(|(_, datanode)| {
            datanode.node.store.find(block).is_some_and(|replica| {
                let is_whole = !replica.is_corrupt() && !replica.is_gone();
                // A recovery that has fenced it is about to give it the stamp, with what it has.
                let stamp_to_be = replica.stamp().max(replica.seating.floor());
                let counts = replica.state() != ReplicaState::Temporary && stamp_to_be >= stamp;
                is_whole && counts && replica.tail().length >= needed
            })
        })
    }

    /// Whether a datanode that is down has a file of the block: how much is in it shows when it is back.
    fn may_be_asleep(&self, view: &BlockView) -> bool {
        let name = format!("blk_{}", view.block.block);
        let down = self.servers.iter().filter(|(_, server)| !server.is_up);
        down.flat_map(|(_, server)| server.disk.files()).any(|path| path.ends_with(&name))
    }
}

fn blocks_of(core: &Core, path: &str) -> Vec<BlockView> {
    let state = core.state();
    let file = state.file_ref(&FileRefV1::Path(path.to_owned()));
    file.map(|file| state.blocks_in(&file, 0, u64::MAX).collect()).unwrap_or_default()
}

/// The blocks that hold bytes from `begin` to `end` of a file, with how many of their first bytes these need.
fn parts(blocks: &[BlockView], begin: u64, end: u64) -> impl Iterator<Item = (&BlockView, u64)> {
    blocks.iter().filter_map(move |view| {
        let needed = end.saturating_sub(view.offset);
        let needed = if view.is_open { needed } else { needed.min(view.block.length) };
        (needed > 0 && view.offset + needed > begin).then_some((view, needed))
    })
}
