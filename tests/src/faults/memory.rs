//! Memory and descriptors of the processes of a run, over time.
//!
//! Servers are killed and started again, so that like is compared with like: what a process takes at the same age, early in
//! the run and late in it; and how fast processes grow once they are past that age.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::{descriptors_of, resident_bytes_of};

/// How often processes are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// The age from which on processes are compared: caches and pools have filled by then.
const AGE_S: f64 = 10.0;

/// What a process took at a moment.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// Since the run began.
    pub at_s: f64,
    /// Since the process was first seen.
    pub age_s: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

/// All samples of a run: by name of the process, and by its incarnations.
#[derive(Debug)]
pub struct Memory {
    begin: Instant,
    next: Instant,
    processes: BTreeMap<String, Vec<Incarnation>>,
}

/// A process from its start to its end.
#[derive(Debug)]
struct Incarnation {
    pid: i32,
    since: Instant,
    samples: Vec<Sample>,
}

/// What is to be said of a process.
#[derive(Debug, Clone, Serialize)]
pub struct Growth {
    /// Its name.
    pub name: String,
    /// How often it was started, as far as it was seen.
    pub incarnations: usize,
    /// Highest resident memory.
    pub resident_bytes_max: u64,
    /// Resident memory at the age of ten seconds: median of the first third of its incarnations, and of the last.
    pub resident_bytes_first_last: Option<[u64; 2]>,
    /// Most open descriptors.
    pub descriptors_max: usize,
    /// Descriptors at the age of ten seconds, in the same way.
    pub descriptors_first_last: Option<[u64; 2]>,
    /// How fast it grows when it is older: by least squares over all incarnations. `None`: none lived long enough.
    pub slope_bytes_per_minute: Option<f64>,
    /// Seconds of such life that this was measured over.
    pub slope_over_s: f64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { begin: Instant::now(), next: Instant::now(), processes: BTreeMap::new() }
    }
}

impl Memory {
    /// Looks at processes, at most once a second.
    pub fn look(&mut self, processes: impl IntoIterator<Item = (String, i32)>) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        for (name, pid) in processes {
            let resident_bytes = resident_bytes_of(pid);
            if resident_bytes == 0 {
                continue;
            }
            let incarnations = self.processes.entry(name).or_default();
            if incarnations.last().is_none_or(|last| last.pid != pid) {
                incarnations.push(Incarnation { pid, since: now, samples: Vec::new() });
            }
            let Some(last) = incarnations.last_mut() else { continue };
            let (at_s, age_s) = ((now - self.begin).as_secs_f64(), (now - last.since).as_secs_f64());
            last.samples.push(Sample { at_s, age_s, resident_bytes, descriptors: descriptors_of(pid) });
        }
    }

    /// All samples, by process and incarnation.
    pub fn samples(&self) -> BTreeMap<String, Vec<Vec<Sample>>> {
        let of = |incarnations: &Vec<Incarnation>| {
            incarnations.iter().map(|incarnation| incarnation.samples.clone()).collect()
        };
        self.processes.iter().map(|(name, incarnations)| (name.clone(), of(incarnations))).collect()
    }

    /// What is to be said of each process.
    pub fn growth(&self) -> Vec<Growth> {
        self.processes.iter().map(|(name, incarnations)| Growth::of(name, incarnations)).collect()
    }
}

impl Growth {
    fn of(name: &str, incarnations: &[Incarnation]) -> Self {
        let all = || incarnations.iter().flat_map(|incarnation| &incarnation.samples);
        let at_age: Vec<&Sample> = incarnations
            .iter()
            .filter_map(|incarnation| incarnation.samples.iter().find(|sample| sample.age_s >= AGE_S))
            .collect();
        let (slope, slope_over_s) = slope(incarnations);
        Self {
            name: name.to_owned(),
            incarnations: incarnations.len(),
            resident_bytes_max: all().map(|sample| sample.resident_bytes).max().unwrap_or(0),
            resident_bytes_first_last: first_last(at_age.iter().map(|sample| sample.resident_bytes)),
            descriptors_max: all().map(|sample| sample.descriptors).max().unwrap_or(0),
            descriptors_first_last: first_last(at_age.iter().map(|sample| sample.descriptors as u64)),
            slope_bytes_per_minute: slope,
            slope_over_s,
        }
    }
}

/// Medians of the first third and of the last third of some values.
fn first_last(values: impl Iterator<Item = u64>) -> Option<[u64; 2]> {
    let values: Vec<u64> = values.collect();
    let third = values.len().div_ceil(3);
    let median = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part.get(part.len() / 2).copied()
    };
    Some([median(values.get(..third)?)?, median(values.get(values.len() - third..)?)?])
}

/// Bytes per minute that processes grow by, each around its own mean, and over how many seconds that was seen.
fn slope(incarnations: &[Incarnation]) -> (Option<f64>, f64) {
    let (mut covariance, mut variance, mut over_s) = (0.0, 0.0, 0.0);
    for incarnation in incarnations {
        let old: Vec<&Sample> = incarnation.samples.iter().filter(|sample| sample.age_s >= AGE_S).collect();
        let (Some(first), Some(last)) = (old.first(), old.last()) else { continue };
        over_s += last.age_s - first.age_s;
        let mean = |value: fn(&Sample) -> f64| {
            old.iter().map(|sample| value(sample)).sum::<f64>() / old.len() as f64
        };
        let (mean_age, mean_bytes) =
            (mean(|sample| sample.age_s), mean(|sample| sample.resident_bytes as f64));
        for sample in &old {
            let age = sample.age_s - mean_age;
            covariance += age * (sample.resident_bytes as f64 - mean_bytes);
            variance += age * age;
        }
    }
    ((variance > 0.0).then(|| covariance / variance * 60.0), over_s)
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        write!(f, "{:<12}{:>6}", self.name, self.incarnations)?;
        match self.resident_bytes_first_last {
            Some([first, last]) => write!(f, "{:>9.1}{:>9.1}", mib(first as f64), mib(last as f64))?,
            None => write!(f, "{:>9}{:>9}", "-", "-")?,
        }
        write!(f, "{:>9.1}", mib(self.resident_bytes_max as f64))?;
        match self.slope_bytes_per_minute {
            Some(slope) => write!(f, "{:>12.2}{:>8.0}", mib(slope), self.slope_over_s)?,
            None => write!(f, "{:>12}{:>8}", "-", "-")?,
        }
        match self.descriptors_first_last {
            Some([first, last]) => write!(f, "{first:>8}{last:>6}")?,
            None => write!(f, "{:>8}{:>6}", "-", "-")?,
        }
        write!(f, "{:>6}", self.descriptors_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation(bytes: impl Fn(u64) -> u64) -> Incarnation {
        let sample = |second| Sample {
            at_s: second as f64,
            age_s: second as f64,
            resident_bytes: bytes(second),
            descriptors: 7,
        };
        Incarnation { pid: 1, since: Instant::now(), samples: (0..40).map(sample).collect() }
    }

    #[test]
    fn growth_is_measured_within_each_process_and_after_its_start() {
        // Each begins higher than the one before, fills its caches, and then grows by 100 bytes a second.
        let grows: Vec<Incarnation> = [1000, 50_000]
            .map(|from| incarnation(move |second| from + 100 * second + 10_000 * second.min(5)))
            .into();
        let growth = Growth::of("server", &grows);
        let slope = growth.slope_bytes_per_minute.expect("old enough");
        assert!((slope - 6000.0).abs() < 1.0, "{slope}");
        assert!((growth.slope_over_s - 58.0).abs() < f64::EPSILON);
        assert_eq!(growth.resident_bytes_first_last, Some([52_000, 101_000]));
        assert_eq!(growth.descriptors_first_last, Some([7, 7]));
        assert_eq!(growth.resident_bytes_max, 50_000 + 3900 + 50_000);
    }

    #[test]
    fn of_processes_that_died_young_nothing_is_said() {
        let young = Incarnation { samples: Vec::new(), ..incarnation(|_| 1) };
        let growth = Growth::of("server", &[young]);
        assert_eq!((growth.resident_bytes_first_last, growth.slope_bytes_per_minute), (None, None));
    }
}
