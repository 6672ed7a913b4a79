//! Faults of a simulation: which, when, for how long. The seed decides.

use crate::executor::{HostId, Micros};
use ringfs_tests::random::Random;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process of a host is killed, and started again after a while.
    Kill(HostId, Micros),
    /// The power of a host is cut, and comes back after a while.
    CutPower(HostId, Micros),
    /// An operation of the disk is the last of its process: the so-manieth from now on. Then as `Kill`, or as `CutPower`.
    StopAt(HostId, u64, bool),
    /// The power of all servers is cut at once.
    CutAllPower(Micros),
    /// A host stands still.
    Pause(HostId, Micros),
    /// Nothing comes from one host to another, for a while.
    Cut(HostId, HostId, Micros),
    /// A stream breaks; so many times.
    Reset(u64),
    /// The network is slow, by this factor, for a while.
    Slow(u64, Micros),
    /// The time of day of a host jumps, ms.
    Jump(HostId, i64),
    /// A bit of a replica on a disk turns around.
    FlipBit(HostId),
    /// Operations of the disk of a host fail: writes or, if not, syncs.
    FailDisk(HostId, bool),
    /// The disk of a host is full, for a while.
    FillDisk(HostId, Micros),
    /// A directory of the log fails, for a while.
    FailLog(usize, Micros),
    /// A bit of a segment or checkpoint in a directory of the log turns around.
    FlipLogBit(usize),
}

impl Fault {
    /// Names of the kinds, for counting.
    pub const NAMES: [&str; 14] = [
        "kill",
        "power cut",
        "stop at disk operation",
        "power cut of all",
        "pause",
        "partition",
        "reset",
        "slow network",
        "clock jump",
        "bit flip",
        "disk error",
        "disk full",
        "log directory fails",
        "bit flip in log or checkpoint",
    ];

    /// Which of the names is its own.
    pub fn kind(&self) -> usize {
        match self {
            Self::Kill(..) => 0,
            Self::CutPower(..) => 1,
            Self::StopAt(..) => 2,
            Self::CutAllPower(_) => 3,
            Self::Pause(..) => 4,
            Self::Cut(..) => 5,
            Self::Reset(_) => 6,
            Self::Slow(..) => 7,
            Self::Jump(..) => 8,
            Self::FlipBit(_) => 9,
            Self::FailDisk(..) => 10,
            Self::FillDisk(..) => 11,
            Self::FailLog(..) => 12,
            Self::FlipLogBit(_) => 13,
        }
    }
}

/// Who can be hit.
#[derive(Debug, Clone)]
pub struct Targets {
    /// The namenode.
    pub namenode: HostId,
    /// The datanodes.
    pub datanodes: Vec<HostId>,
    /// The clients.
    pub clients: Vec<HostId>,
}

/// The faults of a simulation, each with its time, within `duration`.
pub fn schedule(
    random: &mut Random,
    targets: &Targets,
    duration: Micros,
    count: u64,
) -> Vec<(Micros, Fault)> {
    let mut faults: Vec<(Micros, Fault)> =
        (0..count).map(|_| (random.range(200_000..duration), one(random, targets))).collect();
    faults.sort();
    faults
}

/// A fault.
pub fn one(random: &mut Random, targets: &Targets) -> Fault {
    let Targets { namenode, datanodes, clients } = targets;
    let datanode = *random.pick(datanodes);
    let server = if random.chance(350) { *namenode } else { datanode };
    let down = random.range(100_000..5_000_000);
    match random.below(100) {
        0..15 => Fault::Kill(server, down),
        15..23 => Fault::CutPower(server, down),
        23..27 => Fault::FailLog(random.below(2) as usize, down),
        27..30 => Fault::FlipLogBit(random.below(2) as usize),
        30..38 => Fault::StopAt(server, random.range(1..60), random.chance(500)),
        38..42 => Fault::CutAllPower(down),
        42..50 => Fault::Pause(if random.chance(200) { *random.pick(clients) } else { server }, down),
        50..63 => {
            let all: Vec<HostId> = [*namenode].iter().chain(datanodes).chain(clients).copied().collect();
            Fault::Cut(*random.pick(&all), *random.pick(&all), random.range(100_000..8_000_000))
        }
        63..75 => Fault::Reset(random.range(1..6)),
        75..79 => Fault::Slow(random.range(2..40), down),
        79..84 => {
            let by = random.range(1000..3_600_000) as i64;
            Fault::Jump(server, if random.chance(500) { by } else { -by })
        }
        84..90 => Fault::FlipBit(datanode),
        90..95 => Fault::FailDisk(datanode, random.chance(500)),
        95..97 => Fault::FillDisk(datanode, down),
        _ => Fault::Kill(*random.pick(clients), 12_000_000),
    }
}
