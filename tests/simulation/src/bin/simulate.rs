//! Runs simulations: `simulate [--seed N | --seeds COUNT --from FIRST] [--trace]`.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ringfs_simulation::faults::Fault;
use ringfs_simulation::world::{FAULTS_MIN, STEPS_MIN};
use ringfs_simulation::{Outcome, Plan, run};

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

/// A life in which little happens proves little: that is a failure too.
fn is_eventful(mut outcome: Outcome) -> Outcome {
    let (steps, faults) = (outcome.steps, outcome.faults.iter().sum::<u64>());
    if outcome.violations.is_empty() && (steps < STEPS_MIN || faults < FAULTS_MIN) {
        outcome.violations.push(format!("only {steps} steps and {faults} faults"));
    }
    outcome
}

fn main() -> ExitCode {
    let is_traced = std::env::args().any(|argument| argument == "--trace");
    if is_traced {
        // What the servers log stands between what the simulation says; its times are those above.
        tracing_subscriber::fmt().without_time().with_target(false).with_writer(std::io::stderr).init();
    }
    let (from, count) = match argument("--seed") {
        Some(seed) => (seed, 1),
        None => (argument("--from").unwrap_or(1), argument("--seeds").unwrap_or(100)),
    };
    let (next, begin) = (AtomicU64::new(from), Instant::now());
    let outcomes: Mutex<Vec<(u64, Outcome)>> = Mutex::default();
    let threads = if is_traced { 1 } else { 2 };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let plan = Plan { seed, is_traced, mistake: None };
                    let outcome = catch_unwind(|| run(plan)).map_or_else(
                        |_| Outcome { violations: vec!["it panicked".to_owned()], ..Outcome::default() },
                        is_eventful,
                    );
                    for violation in &outcome.violations {
                        println!("seed {seed}: {violation}\n  replay: make simulate SEED={seed} TRACE=1");
                    }
                    outcomes.lock().expect("held by nobody who panics").push((seed, outcome));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("nobody holds it");
    let sum =
        |value: fn(&Outcome) -> u64| -> u64 { outcomes.iter().map(|(_, outcome)| value(outcome)).sum() };
    let bad = outcomes.iter().filter(|(_, outcome)| !outcome.violations.is_empty()).count();
    println!(
        "{} seeds, {} steps (least {}), {} operations acknowledged, {} failed, {} bytes compared, {bad} seeds with violations, {:.1} s",
        outcomes.len(),
        sum(|outcome| outcome.steps),
        outcomes.iter().map(|(_, outcome)| outcome.steps).min().unwrap_or(0),
        sum(|outcome| outcome.acknowledged),
        sum(|outcome| outcome.failed),
        sum(|outcome| outcome.read_bytes),
        begin.elapsed().as_secs_f64(),
    );
    for (kind, name) in Fault::NAMES.iter().enumerate() {
        let count: u64 = outcomes.iter().map(|(_, outcome)| outcome.faults[kind]).sum();
        println!("  {count:>8} {name}");
    }
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
