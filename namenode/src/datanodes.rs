//! The datanodes and their storages: who is heard, with how much room, and what waits to be told to them.

mod commands;
mod excess;
mod holders;
mod load;
mod placement;
mod racks;
mod silence;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use ringfs_proto::ids::{BlockId, DatanodeId, RegistrationEpoch, ReportSequence, StorageId};
use ringfs_proto::limits::{COMMAND_BLOCKS_MAX, VOLUMES_MAX};
use ringfs_proto::meta::admin::{DatanodeInfoV1, DatanodeState};
use ringfs_proto::meta::membership::{
    CommandV1, HeartbeatRequestV1, InvalidateV1, RegisterRequestV1, VolumeStatusV1,
};
use ringfs_proto::meta::namespace::{BlockRefV1, NodeV1};
use ringfs_proto::{Code, WireError};

use roaring::RoaringBitmap;

use crate::blocks::StorageIndex;

use commands::Commands;
use load::Load;
pub use placement::{CopyPlacement, Placement};
use racks::{RackIndex, Racks};
use silence::Silence;

/// Most datanodes that a namenode knows.
pub const DATANODES_MAX: usize = 4096;
/// Replicas that wait to be deleted, per datanode; more are found again by the next full report.
const INVALIDATIONS_MAX: usize = 1_000_000;

/// A full report that is arriving.
#[derive(Debug)]
pub struct Reporting {
    /// Its sequence.
    pub sequence: ReportSequence,
    /// The page that comes next.
    pub next_page: u32,
    /// What it has named.
    pub seen: RoaringBitmap,
    /// What incremental reports have changed since it began: for these they know better.
    pub changed: BTreeSet<BlockId>,
}

/// A volume.
#[derive(Debug)]
pub struct Storage {
    /// Its id.
    pub id: StorageId,
    /// Whose it is.
    pub datanode: usize,
    /// As last reported.
    pub status: VolumeStatusV1,
    /// The last incremental report that was taken into account.
    pub sequence: ReportSequence,
    /// The full report that is arriving.
    pub reporting: Option<Reporting>,
    /// Whether a full report has arrived since registration.
    pub is_reported: bool,
}

/// A datanode.
#[derive(Debug)]
pub struct Datanode {
    /// Its id.
    pub id: DatanodeId,
    /// Its number.
    index: usize,
    /// Where clients reach it.
    pub host: String,
    /// Data port.
    pub port: u16,
    http_port: u16,
    software: String,
    pid: u32,
    epoch: RegistrationEpoch,
    connection: Option<u64>,
    /// On the loop's own clock, see [`silence`].
    heard_ms: u64,
    state: DatanodeState,
    rack: RackIndex,
    storages: Vec<StorageIndex>,
    invalidations: VecDeque<(StorageId, BlockRefV1)>,
    invalidated_ms: u64,
    commands: Commands,
    /// Bytes promised to blocks that were placed since its last heartbeat.
    promised_bytes: u64,
    /// Blocks that were placed since its last heartbeat.
    placed: u32,
    reads_active: u32,
    writes_active: u32,
    sending: Load,
    receiving: Load,
}

impl Datanode {
    /// What it shall delete now, at the given rate.
    fn deletions(&mut self, now_ms: u64, per_second: u32) -> Vec<CommandV1> {
        let elapsed_ms = now_ms.saturating_sub(self.invalidated_ms).min(1000);
        let allowed = (u64::from(per_second) * elapsed_ms / 1000) as usize;
        if allowed == 0 {
            return Vec::new();
        }
        self.invalidated_ms = now_ms;
        let count = allowed.min(COMMAND_BLOCKS_MAX).min(self.invalidations.len());
        let mut by_storage: BTreeMap<StorageId, Vec<BlockRefV1>> = BTreeMap::new();
        for (storage, block) in self.invalidations.drain(..count) {
            by_storage.entry(storage).or_default().push(block);
        }
        let invalidate = |(storage, mut replicas): (StorageId, Vec<BlockRefV1>)| {
            // A replica may wait twice: since its file was deleted, and since it was reported again.
            replicas.sort_unstable_by_key(|replica| (replica.block, Reverse(replica.stamp)));
            replicas.dedup_by_key(|replica| replica.block);
            CommandV1::Invalidate(InvalidateV1 { storage, replicas })
        };
        by_storage.into_iter().map(invalidate).collect()
    }
}

/// How long silence may last.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Before a datanode is avoided, ms.
    pub stale_ms: u64,
    /// Before it is taken as lost, ms.
    pub dead_ms: u64,
    /// How long copying waits when many vanish at once, ms.
    pub mass_failure_wait_ms: u64,
}

/// All datanodes.
#[derive(Debug)]
pub struct Datanodes {
    nodes: Vec<Datanode>,
    by_id: HashMap<DatanodeId, usize>,
    storages: Vec<Storage>,
    storage_by_id: HashMap<StorageId, StorageIndex>,
    patience: Patience,
    silence: Silence,
    racks: Racks,
    racks_in_use: usize,
    last_epoch: u64,
    random: u64,
}

impl Datanodes {
    /// None yet. `seed` makes placement differ between runs.
    pub fn new(patience: Patience, seed: u64) -> Self {
        Self {
            nodes: Vec::new(),
            by_id: HashMap::new(),
            storages: Vec::new(),
            storage_by_id: HashMap::new(),
            patience,
            silence: Silence::default(),
            racks: Racks::default(),
            racks_in_use: 0,
            last_epoch: 0,
            random: seed | 1,
        }
    }

    /// A datanode with a proved key joins or comes back. Returns its epoch, and the storages that it has no more or that
    /// have failed.
    ///
    /// # Errors
    /// `DuplicateId` when another live process has its id, or one of its volumes belongs to another; `LimitExceeded`.
    pub fn register(
        &mut self,
        request: &RegisterRequestV1,
        address: IpAddr,
        connection: u64,
        now_ms: u64,
    ) -> Result<(RegistrationEpoch, Vec<StorageIndex>), WireError> {
        let host = if request.host.is_empty() { address.to_string() } else { request.host.clone() };
        self.check_registration(request, &host)?;
        let index = match self.by_id.get(&request.datanode) {
            Some(index) => *index,
            None => self.add(request.datanode),
        };
        self.last_epoch += 1;
        let epoch = RegistrationEpoch(self.last_epoch);
        let storages: Vec<StorageIndex> =
            request.volumes.iter().map(|volume| self.storage_for(index, volume)).collect();
        let is_gone = |storage: &StorageIndex| {
            !storages.contains(storage) || self.storages[*storage as usize].status.is_failed
        };
        let gone = self.nodes[index].storages.iter().copied().filter(is_gone).collect();
        let (rack, heard_ms) = (self.racks.of_host(&host), self.silence.time_ms(now_ms));
        let node = &mut self.nodes[index];
        (node.host, node.rack) = (host, rack);
        (node.port, node.http_port, node.pid) = (request.port, request.http_port, request.pid);
        node.software.clone_from(&request.software);
        (node.epoch, node.connection, node.heard_ms) = (epoch, Some(connection), heard_ms);
        (node.state, node.storages) = (DatanodeState::Live, storages);
        (node.promised_bytes, node.placed) = (0, 0);
        node.commands.clear();
        Ok((epoch, gone))
    }

    fn check_registration(&self, request: &RegisterRequestV1, host: &str) -> Result<(), WireError> {
        if request.volumes.is_empty() || request.volumes.len() > VOLUMES_MAX {
            let message = format!("datanode {} has {} volumes", request.datanode, request.volumes.len());
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        if let Some(node) = self.by_id.get(&request.datanode).map(|index| &self.nodes[*index]) {
            let is_other = node.host != host || node.port != request.port || node.pid != request.pid;
            if node.state == DatanodeState::Live && node.connection.is_some() && is_other {
                let message = format!(
                    "datanode id {} is in use by {}:{} (pid {}): was a volume copied?",
                    node.id, node.host, node.port, node.pid
                );
                return Err(WireError::new(Code::DuplicateId, message));
            }
        } else if self.nodes.len() >= DATANODES_MAX {
            return Err(WireError::new(
                Code::LimitExceeded,
                format!("there are {DATANODES_MAX} datanodes already"),
            ));
        }
        for volume in &request.volumes {
            let owner =
                self.storage_by_id.get(&volume.storage).map(|index| self.storages[*index as usize].datanode);
            let other = owner.map(|owner| &self.nodes[owner]).filter(|owner| owner.id != request.datanode);
            if let Some(other) = other.filter(|other| other.connection.is_some()) {
                let message =
                    format!("volume {} belongs to datanode {}: was it copied?", volume.storage, other.id);
                return Err(WireError::new(Code::DuplicateId, message));
            }
        }
        Ok(())
    }

    fn add(&mut self, id: DatanodeId) -> usize {
        self.nodes.push(Datanode {
            id,
            index: self.nodes.len(),
            host: String::new(),
            port: 0,
            http_port: 0,
            software: String::new(),
            pid: 0,
            epoch: RegistrationEpoch(0),
            connection: None,
            heard_ms: 0,
            state: DatanodeState::Dead,
            rack: 0,
            storages: Vec::new(),
            invalidations: VecDeque::new(),
            invalidated_ms: 0,
            commands: Commands::default(),
            promised_bytes: 0,
            placed: 0,
            reads_active: 0,
            writes_active: 0,
            sending: Load::default(),
            receiving: Load::default(),
        });
        self.by_id.insert(id, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn storage_for(&mut self, datanode: usize, volume: &VolumeStatusV1) -> StorageIndex {
        let index = *self.storage_by_id.entry(volume.storage).or_insert_with(|| {
            let status = volume.clone();
            let (id, sequence) = (volume.storage, ReportSequence(0));
            self.storages.push(Storage {
                id,
                datanode,
                status,
                sequence,
                reporting: None,
                is_reported: false,
            });
            // DATANODES_MAX x VOLUMES_MAX exceeds 2^16: the number of storages is bounded by its type.
            StorageIndex::try_from(self.storages.len() - 1).unwrap_or(StorageIndex::MAX - 1)
        });
        let storage = &mut self.storages[index as usize];
        if storage.datanode != datanode {
            // It moved: what becomes of its former datanode is no matter of this volume any more.
            self.nodes[storage.datanode].storages.retain(|other| *other != index);
        }
        (storage.datanode, storage.reporting, storage.is_reported) = (datanode, None, false);
        // The full report that follows begins the order of its reports anew.
        storage.sequence = ReportSequence(0);
        storage.status = volume.clone();
        index
    }

    /// The datanode that a message of a connection belongs to.
    ///
    /// # Errors
    /// `NotRegistered`, `StaleEpoch`.
    pub fn check_epoch(&self, connection: u64, epoch: RegistrationEpoch) -> Result<usize, WireError> {
        if let Some(index) =
            self.nodes.iter().position(|node| node.epoch == epoch && node.connection == Some(connection))
        {
            return Ok(index);
        }
        if epoch.0 <= self.last_epoch && epoch.0 > 0 {
            return Err(WireError::new(
                Code::StaleEpoch,
                format!("registration {epoch} was replaced by a newer one"),
            ));
        }
        Err(WireError::new(Code::NotRegistered, "the datanode is not registered with this namenode"))
    }

    /// The storages of a datanode that its volumes say have failed, and that had not.
    pub fn newly_failed(&self, index: usize, volumes: &[VolumeStatusV1]) -> Vec<StorageIndex> {
        let failed = volumes.iter().filter(|volume| volume.is_failed);
        let storages = failed.filter_map(|volume| self.storage_by_id.get(&volume.storage).copied());
        let is_new = |storage: &StorageIndex| {
            let storage = &self.storages[*storage as usize];
            storage.datanode == index && !storage.status.is_failed
        };
        storages.filter(is_new).collect()
    }

    /// A datanode is alive; returns what it shall do, with at most `per_second` replicas to delete.
    pub fn heartbeat(
        &mut self,
        index: usize,
        request: &HeartbeatRequestV1,
        now_ms: u64,
        per_second: u32,
        may_invalidate: bool,
    ) -> Vec<CommandV1> {
        for status in &request.volumes {
            let storage =
                self.storage_by_id.get(&status.storage).map(|index| &mut self.storages[*index as usize]);
            if let Some(storage) = storage.filter(|storage| storage.datanode == index) {
                storage.status.clone_from(status);
            }
        }
        let heard_ms = self.silence.time_ms(now_ms);
        let node = &mut self.nodes[index];
        (node.heard_ms, node.state) = (heard_ms, DatanodeState::Live);
        (node.promised_bytes, node.placed) = (0, 0);
        (node.reads_active, node.writes_active) = (request.reads_active, request.writes_active);
        let mut commands = node.commands.take();
        if may_invalidate {
            commands.extend(node.deletions(now_ms, per_second));
        }
        commands
    }

    /// A replica shall be deleted. False when too many are to be deleted already: a later full report finds it again.
    pub fn invalidate(&mut self, storage: StorageIndex, block: BlockRefV1) -> bool {
        let storage = &self.storages[storage as usize];
        let node = &mut self.nodes[storage.datanode];
        let has_room = node.invalidations.len() < INVALIDATIONS_MAX;
        if has_room {
            node.invalidations.push_back((storage.id, block));
        }
        has_room
    }

    /// The connection of a datanode is gone: it is avoided from now on.
    pub fn disconnected(&mut self, connection: u64) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.connection == Some(connection)) {
            node.connection = None;
            if node.state == DatanodeState::Live {
                node.state = DatanodeState::Stale;
            }
        }
    }

    /// A full report of every live storage is there, or none is expected.
    pub fn are_all_reported(&self) -> bool {
        let live = self.nodes.iter().filter(|node| node.state == DatanodeState::Live);
        live.flat_map(|node| &node.storages).all(|storage| self.storages[*storage as usize].is_reported)
    }

    /// The number of a storage of a datanode.
    ///
    /// # Errors
    /// `InvalidArgument` for a storage of another.
    pub fn storage_index(&self, datanode: usize, id: StorageId) -> Result<StorageIndex, WireError> {
        let index = self.storage_by_id.get(&id).copied();
        let index = index.filter(|index| self.storages[*index as usize].datanode == datanode);
        index.ok_or_else(|| {
            WireError::new(Code::InvalidArgument, format!("storage {id} is not of this datanode"))
        })
    }

    /// The number of a storage, if it is of this datanode.
    pub fn find_storage(&self, datanode: DatanodeId, storage: StorageId) -> Option<StorageIndex> {
        let index = *self.storage_by_id.get(&storage)?;
        (self.nodes[self.storages[index as usize].datanode].id == datanode).then_some(index)
    }

    /// A storage.
    pub fn storage_mut(&mut self, index: StorageIndex) -> &mut Storage {
        &mut self.storages[index as usize]
    }

    /// Where a replica is, for clients.
    pub fn node(&self, storage: StorageIndex) -> NodeV1 {
        let storage = &self.storages[storage as usize];
        let node = &self.nodes[storage.datanode];
        NodeV1 {
            datanode: node.id,
            storage: storage.id,
            host: node.host.clone(),
            port: node.port,
            is_stale: node.state != DatanodeState::Live,
        }
    }

    /// Storages in the order in which a reader at `address` should try them: live before silent, its own host first.
    pub fn sort_for_reading(&mut self, storages: &mut [StorageIndex], address: IpAddr) {
        let turn = self.next_random();
        let host = address.to_string();
        let rank = |storage: &StorageIndex| {
            let node = &self.nodes[self.storages[*storage as usize].datanode];
            let order = u64::from(*storage).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ turn;
            (node.state != DatanodeState::Live, node.host != host, order)
        };
        storages.sort_by_cached_key(rank);
    }

    /// A storage of each of a few datanodes that answer, for a reader at `address`: its own host first.
    pub fn some_live(&mut self, address: IpAddr, count: usize) -> Vec<StorageIndex> {
        let usable = self.nodes.iter().filter(|node| node.is_usable());
        let mut live: Vec<StorageIndex> = usable.filter_map(|node| node.storages.first().copied()).collect();
        self.sort_for_reading(&mut live, address);
        live.truncate(count.max(1));
        live
    }

    /// The datanodes as people see them.
    pub fn report(&self, now_ms: u64) -> Vec<DatanodeInfoV1> {
        let info = |node: &Datanode| DatanodeInfoV1 {
            datanode: node.id,
            host: node.host.clone(),
            port: node.port,
            http_port: node.http_port,
            state: node.state,
            last_heartbeat_ms: self.silence.time_ms(now_ms).saturating_sub(node.heard_ms),
            software: node.software.clone(),
            volumes: node
                .storages
                .iter()
                .map(|storage| self.storages[*storage as usize].status.clone())
                .collect(),
            rack: self.racks.name(node.rack).to_owned(),
            blocks: node
                .storages
                .iter()
                .map(|storage| self.storages[*storage as usize].status.replicas)
                .sum(),
        };
        self.nodes.iter().map(info).collect()
    }

    /// Live, silent and lost datanodes.
    pub fn counts(&self) -> [u32; 3] {
        let count = |state| self.nodes.iter().filter(|node| node.state == state).count() as u32;
        [count(DatanodeState::Live), count(DatanodeState::Stale), count(DatanodeState::Dead)]
    }

    /// Volumes of datanodes that are not lost.
    pub fn volumes(&self) -> impl Iterator<Item = &VolumeStatusV1> + '_ {
        let nodes = self.nodes.iter().filter(|node| node.state != DatanodeState::Dead);
        nodes.flat_map(|node| &node.storages).map(|storage| &self.storages[*storage as usize].status)
    }

    /// Replicas that wait to be deleted.
    pub fn pending_invalidations(&self) -> u64 {
        self.nodes.iter().map(|node| node.invalidations.len() as u64).sum()
    }

    /// Xorshift: placement needs variety, not secrecy.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
