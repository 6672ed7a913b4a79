//! Which faults are injected, in which order: a function of the seed alone.

use std::fmt;

use crate::random::Random;

/// Something that breaks. Datanodes are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9`, and a new start after the hold.
    KillNamenode,
    /// `kill -9`, and a new start after the hold.
    KillDatanode(usize),
    /// `kill -9` of every server at once.
    KillAll,
    /// SIGSTOP, and SIGCONT after the hold.
    PauseNamenode,
    /// SIGSTOP, and SIGCONT after the hold.
    PauseDatanode(usize),
    /// The namenode's cable is pulled for the hold.
    CutNamenode,
    /// A datanode's cable is pulled for the hold.
    CutDatanode(usize),
    /// A datanode's disk has no room for the hold.
    FillDatanode(usize),
    /// Reads, writes or syncs of a volume's files, or all of them, fail for the hold; then the datanode is started again.
    FailDatanodeIo(usize),
    /// Writes to one of the two directories of the log fail until the namenode is started again.
    FailLogIo,
    /// A bit of a finalized replica is flipped while its datanode runs.
    CorruptBlock(usize),
    /// A bit of the journal is flipped while its datanode is down.
    CorruptJournal(usize),
    /// A bit of one of the two copies of the log is flipped while the namenode is down.
    CorruptLog,
    /// A bit of one of the two copies of the newest checkpoint is flipped while the namenode is down.
    CorruptCheckpoint,
    /// A writing client is killed with its file open.
    KillWriter,
}

/// What a fault is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The namenode.
    Namenode,
    /// A datanode.
    Datanode(usize),
    /// Every server.
    Everything,
    /// A client that is there for nothing else.
    Client,
}

impl Target {
    /// Whether both can be broken at once.
    pub fn is_apart_from(self, other: Self) -> bool {
        self != other && self != Self::Everything && other != Self::Everything
    }
}

/// Names of the kinds, as they are counted.
pub const KINDS: [&str; 15] = [
    "kill namenode",
    "kill datanode",
    "kill all",
    "pause namenode",
    "pause datanode",
    "cut namenode",
    "cut datanode",
    "fill disk",
    "fail datanode I/O",
    "fail log I/O",
    "corrupt block",
    "corrupt journal",
    "corrupt log",
    "corrupt checkpoint",
    "kill writer",
];

impl Fault {
    /// Index of its kind in [`KINDS`].
    pub fn kind(self) -> usize {
        match self {
            Self::KillNamenode => 0,
            Self::KillDatanode(_) => 1,
            Self::KillAll => 2,
            Self::PauseNamenode => 3,
            Self::PauseDatanode(_) => 4,
            Self::CutNamenode => 5,
            Self::CutDatanode(_) => 6,
            Self::FillDatanode(_) => 7,
            Self::FailDatanodeIo(_) => 8,
            Self::FailLogIo => 9,
            Self::CorruptBlock(_) => 10,
            Self::CorruptJournal(_) => 11,
            Self::CorruptLog => 12,
            Self::CorruptCheckpoint => 13,
            Self::KillWriter => 14,
        }
    }

    /// Whether it takes a good replica away for good: only when every block has all of its replicas, and nothing else is
    /// broken; the next fault waits until what it took is made up for.
    pub fn takes_replicas(self) -> bool {
        matches!(self, Self::FailDatanodeIo(_) | Self::CorruptBlock(_) | Self::CorruptJournal(_))
    }

    /// What it is done to.
    pub fn target(self) -> Target {
        match self {
            Self::KillNamenode
            | Self::PauseNamenode
            | Self::CutNamenode
            | Self::FailLogIo
            | Self::CorruptLog
            | Self::CorruptCheckpoint => Target::Namenode,
            Self::KillDatanode(number)
            | Self::PauseDatanode(number)
            | Self::CutDatanode(number)
            | Self::FillDatanode(number)
            | Self::FailDatanodeIo(number)
            | Self::CorruptBlock(number)
            | Self::CorruptJournal(number) => Target::Datanode(number),
            Self::KillAll => Target::Everything,
            Self::KillWriter => Target::Client,
        }
    }

    fn of(kind: usize, datanode: usize) -> Self {
        match kind {
            0 => Self::KillNamenode,
            1 => Self::KillDatanode(datanode),
            2 => Self::KillAll,
            3 => Self::PauseNamenode,
            4 => Self::PauseDatanode(datanode),
            5 => Self::CutNamenode,
            6 => Self::CutDatanode(datanode),
            7 => Self::FillDatanode(datanode),
            8 => Self::FailDatanodeIo(datanode),
            9 => Self::FailLogIo,
            10 => Self::CorruptBlock(datanode),
            11 => Self::CorruptJournal(datanode),
            12 => Self::CorruptLog,
            13 => Self::CorruptCheckpoint,
            _ => Self::KillWriter,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS[self.kind()])?;
        if let Target::Datanode(number) = self.target() { write!(f, " {number}") } else { Ok(()) }
    }
}

/// A fault and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What breaks.
    pub fault: Fault,
    /// How long until it is mended, ms.
    pub hold_ms: u64,
    /// How long after its begin the next one may begin, ms: many overlap.
    pub pause_ms: u64,
}

/// The faults of a run, without end. Kinds come in shuffled rounds, so that every kind is met as often as every other.
#[derive(Debug)]
pub struct Plan {
    random: Random,
    datanodes: usize,
    kinds: Vec<usize>,
    round: Vec<usize>,
}

impl Plan {
    /// The plan of a seed for a cluster of so many datanodes, of these kinds (indices in [`KINDS`]).
    pub fn new(seed: u64, datanodes: usize, kinds: &[usize]) -> Self {
        Self { random: Random::new(seed), datanodes, kinds: kinds.to_vec(), round: Vec::new() }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
            for at in (1..self.round.len()).rev() {
                self.round.swap(at, self.random.below(at as u64 + 1) as usize);
            }
        }
        let kind = self.round.pop()?;
        let datanode = self.random.below(self.datanodes as u64) as usize;
        // Short ones are over before anyone notices; long ones outlast the limit after which a datanode is lost.
        let hold_ms =
            if self.random.chance(300) { self.random.range(2500..4000) } else { self.random.range(50..1500) };
        let pause_ms = self.random.range(50..800);
        Some(Step { fault: Fault::of(kind, datanode), hold_ms, pause_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_once_a_round_and_the_seed_decides() {
        let all: Vec<usize> = (0..KINDS.len()).collect();
        let steps: Vec<Step> = Plan::new(7, 4, &all).take(KINDS.len() * 3).collect();
        for round in steps.chunks(KINDS.len()) {
            let mut kinds: Vec<usize> = round.iter().map(|step| step.fault.kind()).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, all);
        }
        assert_eq!(steps, Plan::new(7, 4, &all).take(steps.len()).collect::<Vec<_>>());
        assert_ne!(steps, Plan::new(8, 4, &all).take(steps.len()).collect::<Vec<_>>());
    }

    #[test]
    fn kinds_and_their_names_agree() {
        for (kind, name) in KINDS.iter().enumerate() {
            assert_eq!(Fault::of(kind, 3).kind(), kind);
            assert!(Fault::of(kind, 3).to_string().starts_with(name));
        }
    }

    #[test]
    fn what_hits_the_same_server_does_not_overlap() {
        let (namenode, datanode) = (Target::Namenode, Target::Datanode(1));
        assert!(namenode.is_apart_from(datanode) && datanode.is_apart_from(Target::Datanode(2)));
        assert!(!datanode.is_apart_from(datanode) && !Target::Client.is_apart_from(Target::Client));
        assert!(!Target::Everything.is_apart_from(namenode) && !namenode.is_apart_from(Target::Everything));
    }
}
