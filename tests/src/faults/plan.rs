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
    /// Reads or writes of a datanode's files fail for the hold.
    FailDatanodeIo(usize),
    /// Writes to one of the two directories of the log fail until the namenode is started again.
    FailLogIo,
    /// A byte of a block file is flipped while its datanode runs.
    CorruptBlock(usize),
    /// A byte of the journal is flipped while its datanode is down.
    CorruptJournal(usize),
    /// A byte of one of the two copies of the log is flipped while the namenode is down.
    CorruptLog,
    /// A byte of one of the two copies of the newest checkpoint is flipped while the namenode is down.
    CorruptCheckpoint,
    /// A writing client is killed with its file open.
    KillWriter,
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

    /// Whether it takes a good replica, or a good copy of the log, away for good: only one at a time, and only when
    /// what the one before took is made up for.
    pub fn destroys(self) -> bool {
        (7..=13).contains(&self.kind())
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
        match self {
            Self::KillDatanode(node)
            | Self::PauseDatanode(node)
            | Self::CutDatanode(node)
            | Self::FillDatanode(node)
            | Self::FailDatanodeIo(node)
            | Self::CorruptBlock(node)
            | Self::CorruptJournal(node) => write!(f, " {node}"),
            _ => Ok(()),
        }
    }
}

/// A fault and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What breaks.
    pub fault: Fault,
    /// How long until it is mended, ms.
    pub hold_ms: u64,
}

/// The faults of a run, without end. Kinds come in shuffled rounds, so that every kind is met as often as every other.
#[derive(Debug)]
pub struct Plan {
    random: Random,
    datanodes: usize,
    round: Vec<usize>,
}

impl Plan {
    /// The plan of a seed for a cluster of so many datanodes.
    pub fn new(seed: u64, datanodes: usize) -> Self {
        Self { random: Random::new(seed), datanodes, round: Vec::new() }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.round.is_empty() {
            self.round = (0..KINDS.len()).collect();
            for at in (1..self.round.len()).rev() {
                self.round.swap(at, self.random.below(at as u64 + 1) as usize);
            }
        }
        let kind = self.round.pop()?;
        let datanode = self.random.below(self.datanodes as u64) as usize;
        // Short ones are over before anyone notices; long ones outlast the limit after which a datanode is lost.
        let hold_ms =
            if self.random.chance(300) { self.random.range(2500..4000) } else { self.random.range(50..1500) };
        Some(Step { fault: Fault::of(kind, datanode), hold_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_once_a_round_and_the_seed_decides() {
        let steps: Vec<Step> = Plan::new(7, 4).take(KINDS.len() * 3).collect();
        for round in steps.chunks(KINDS.len()) {
            let mut kinds: Vec<usize> = round.iter().map(|step| step.fault.kind()).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, (0..KINDS.len()).collect::<Vec<_>>());
        }
        assert_eq!(steps, Plan::new(7, 4).take(steps.len()).collect::<Vec<_>>());
        assert_ne!(steps, Plan::new(8, 4).take(steps.len()).collect::<Vec<_>>());
    }

    #[test]
    fn kinds_and_their_names_agree() {
        for (kind, name) in KINDS.iter().enumerate() {
            assert_eq!(Fault::of(kind, 3).kind(), kind);
            assert!(Fault::of(kind, 3).to_string().starts_with(name));
        }
    }
}
