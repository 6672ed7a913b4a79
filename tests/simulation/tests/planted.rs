//! The simulation is worth what it finds: each mistake that is made on purpose is found within the seeds of `make test-core`.

use std::panic::catch_unwind;

use ringfs_simulation::{Mistake, Plan, run};

/// Seeds of `make test-core`.
const SEEDS: u64 = 1000;

/// The first seed that finds a mistake, and what it finds. The same life without the mistake is well.
fn found(mistake: Mistake) -> Option<(u64, String)> {
    (1..=SEEDS).find_map(|seed| {
        let violation = violations(seed, Some(mistake)).into_iter().next()?;
        violations(seed, None).is_empty().then_some((seed, violation))
    })
}

fn violations(seed: u64, mistake: Option<Mistake>) -> Vec<String> {
    let plan = Plan { seed, mistake, ..Plan::default() };
    catch_unwind(|| run(plan)).map_or_else(|_| vec!["it panicked".to_owned()], |outcome| outcome.violations)
}

fn assert_found(mistake: Mistake) {
    let (seed, violation) =
        found(mistake).unwrap_or_else(|| panic!("{mistake:?} is not found by {SEEDS} seeds"));
    println!("{mistake:?} is found by seed {seed}: {violation}");
}

#[test]
fn a_dropped_sync_of_a_block_is_found() {
    assert_found(Mistake::DropBlockSync);
}

#[test]
fn a_dropped_sync_of_the_log_is_found() {
    assert_found(Mistake::DropLogSync);
}

#[test]
fn a_namenode_that_acknowledges_early_is_found() {
    assert_found(Mistake::NamenodeAcknowledgesEarly);
}

#[test]
fn a_datanode_that_acknowledges_early_is_found() {
    assert_found(Mistake::DatanodeAcknowledgesEarly);
}

#[test]
fn forgotten_results_of_retries_are_found() {
    assert_found(Mistake::ForgetRetryResults);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_skipped_fence_is_found() {
    assert_found(Mistake::SkipFences);
}
