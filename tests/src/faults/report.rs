//! What came of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::ledger::Contradiction;
use super::memory::{Growth, Sample};
use super::observer::{Detection, Silence};
use super::plan::KINDS;
use super::shared::{OPERATIONS, Outage};

/// What came of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What decided it.
    pub seed: u64,
    /// How long it took, with the reading back.
    pub elapsed_s: f64,
    /// Faults by kind.
    pub faults: Vec<Faults>,
    /// Operations that were acknowledged, by kind.
    pub operations: Vec<Operations>,
    /// Bytes that were read and compared while faults went on.
    pub compared_bytes: u64,
    /// Files that were read back at the end, and bytes of them.
    pub read_back: [u64; 2],
    /// What was acknowledged and is not so.
    pub lost: Vec<String>,
    /// Calls of clients that failed.
    pub errors: u64,
    /// Texts of some of them.
    pub error_texts: Vec<String>,
    /// Servers that ended though nobody killed them.
    pub ended: Vec<String>,
    /// When datanodes that went silent were noticed.
    pub detections: Vec<Times>,
    /// From the kill of the namenode to the first change that was acknowledged; from the start of the new process.
    pub outages: [Times; 2],
    /// Memory of the processes.
    pub memory: Vec<Growth>,
    /// The same, second by second: by process and incarnation.
    pub samples: BTreeMap<String, Vec<Vec<Sample>>>,
}

/// Faults of a kind.
#[derive(Debug, Serialize)]
pub struct Faults {
    /// Its name.
    pub kind: &'static str,
    /// How many were injected.
    pub injected: u64,
    /// How many of them had nothing to break.
    pub void: u64,
    /// How long after they were mended every block had its replicas again; for kinds that take replicas.
    pub whole_after: Times,
}

/// Operations of a kind.
#[derive(Debug, Serialize)]
pub struct Operations {
    /// Its name.
    pub kind: &'static str,
    /// How many were acknowledged.
    pub acknowledged: u64,
    /// The longest that one took.
    pub slowest_ms: u64,
}

/// Times of something that happened several times.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Times {
    /// Of what.
    pub what: String,
    /// How many.
    pub count: usize,
    /// The median.
    pub median_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

impl Times {
    /// Of some times.
    pub fn of(what: &str, times: impl IntoIterator<Item = u64>) -> Self {
        let mut times: Vec<u64> = times.into_iter().collect();
        times.sort_unstable();
        let median_ms = times.get(times.len() / 2).copied().unwrap_or(0);
        let max_ms = times.last().copied().unwrap_or(0);
        Self { what: what.to_owned(), count: times.len(), median_ms, max_ms }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
        write!(
            f,
            "{:.2} s, at most {:.2} s, of {}",
            seconds(self.median_ms),
            seconds(self.max_ms),
            self.count
        )
    }
}

/// Faults by kind, with their times.
pub fn faults(
    injected: &[u64; KINDS.len()],
    void: &[u64; KINDS.len()],
    whole_after: &[(usize, Duration)],
) -> Vec<Faults> {
    let times = |kind| whole_after.iter().filter(move |(of, _)| *of == kind).map(|(_, time)| ms(*time));
    let all = KINDS.iter().enumerate();
    all.map(|(at, kind)| Faults {
        kind,
        injected: injected[at],
        void: void[at],
        whole_after: Times::of("whole again", times(at)),
    })
    .collect()
}

/// Operations by kind.
pub fn operations(
    acknowledged: &[u64; OPERATIONS.len()],
    slowest_ms: &[u64; OPERATIONS.len()],
) -> Vec<Operations> {
    let all = OPERATIONS.iter().zip(acknowledged).zip(slowest_ms);
    all.map(|((kind, acknowledged), slowest_ms)| Operations {
        kind,
        acknowledged: *acknowledged,
        slowest_ms: *slowest_ms,
    })
    .collect()
}

/// When datanodes were avoided, and taken as lost, by how they went silent.
pub fn detections(seen: &[Detection]) -> Vec<Times> {
    let mut times = Vec::new();
    for (silence, name) in
        [(Silence::Killed, "killed"), (Silence::Paused, "paused"), (Silence::Cut, "cut off")]
    {
        let of = || seen.iter().filter(move |detection| detection.silence == silence);
        times.push(Times::of(
            &format!("{name}: avoided after"),
            of().filter_map(|detection| detection.avoided_ms),
        ));
        times.push(Times::of(
            &format!("{name}: taken as lost after"),
            of().filter_map(|detection| detection.lost_ms),
        ));
    }
    times
}

/// From the kill, and from the start of the new process.
pub fn outages(outages: &[Outage]) -> [Times; 2] {
    [
        Times::of("from the kill", outages.iter().map(|outage| ms(outage.since_kill))),
        Times::of("from the start of the new process", outages.iter().map(|outage| ms(outage.since_start))),
    ]
}

/// What is lost, as text.
pub fn lost(contradictions: &[Contradiction]) -> Vec<String> {
    contradictions.iter().map(ToString::to_string).collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    /// Whether nothing was lost, no client saw an error, and no server ended by itself.
    pub fn is_good(&self) -> bool {
        self.lost.is_empty() && self.errors == 0 && self.ended.is_empty()
    }

    /// Faults that met something.
    pub fn injected(&self) -> u64 {
        self.faults.iter().map(|faults| faults.injected - faults.void).sum()
    }

    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nfaults{:>21}  no effect  every block whole again", "injected")?;
        for Faults { kind, injected, void, whole_after } in &self.faults {
            write!(f, "  {kind:<18}{injected:>7}{void:>11}")?;
            if whole_after.count > 0 {
                write!(f, "  {whole_after}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "  {:<18}{:>7}", "all with effect", self.injected())
    }

    fn write_operations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\noperations{:>14}   slowest", "acknowledged")?;
        for Operations { kind, acknowledged, slowest_ms } in &self.operations {
            writeln!(f, "  {kind:<10}{acknowledged:>12}{:>8.1} s", *slowest_ms as f64 / 1e3)?;
        }
        let all: u64 = self.operations.iter().map(|operations| operations.acknowledged).sum();
        writeln!(f, "  {:<10}{all:>12}", "all")?;
        let mib = |bytes: u64| bytes >> 20;
        let [files, bytes] = self.read_back;
        writeln!(f, "  compared while faults went on: {} MiB", mib(self.compared_bytes))?;
        writeln!(f, "  read back at the end: {files} paths, {} MiB", mib(bytes))
    }

    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\ndatanodes that went silent (median, longest)")?;
        for times in self.detections.iter().filter(|times| times.count > 0) {
            writeln!(f, "  {:<34}{times}", times.what)?;
        }
        writeln!(f, "namenode killed, until a change was acknowledged")?;
        self.outages.iter().try_for_each(|times| writeln!(f, "  {:<34}{times}", times.what))
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nmemory (MiB), descriptors{:>20}{:>33}",
            "10 s after its start", "10 s after its start"
        )?;
        writeln!(
            f,
            "              starts    first     last     most  MiB/minute  over s   first  last  most"
        )?;
        self.memory.iter().try_for_each(|growth| writeln!(f, "  {growth}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:.0} s", self.seed, self.elapsed_s)?;
        self.write_faults(f)?;
        self.write_operations(f)?;
        self.write_times(f)?;
        self.write_memory(f)?;
        for (what, texts) in [("ended by itself", &self.ended), ("client error", &self.error_texts)] {
            texts.iter().try_for_each(|text| writeln!(f, "{what}: {text}"))?;
        }
        self.lost.iter().try_for_each(|text| writeln!(f, "lost: {text}"))?;
        let [lost, errors, ended] = [self.lost.len() as u64, self.errors, self.ended.len() as u64];
        write!(f, "\nlost: {lost}, client errors: {errors}, servers that ended by themselves: {ended}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_median_and_a_longest() {
        let times = Times::of("x", [5, 1, 900]);
        assert_eq!((times.count, times.median_ms, times.max_ms), (3, 5, 900));
        assert_eq!(Times::of("x", []).count, 0);
        assert_eq!(times.to_string(), "0.01 s, at most 0.90 s, of 3");
    }

    #[test]
    fn what_never_was_late_enough_is_not_counted() {
        let seen = |avoided_ms, lost_ms| Detection { silence: Silence::Cut, avoided_ms, lost_ms };
        let times = detections(&[seen(None, None), seen(Some(800), None), seen(Some(900), Some(2000))]);
        let counts: Vec<usize> = times.iter().map(|times| times.count).collect();
        assert_eq!(counts, [0, 0, 0, 0, 2, 1]);
    }
}
