//! A seed decides everything: what cannot be replayed cannot be fixed.

use ringfs_simulation::{Plan, run};

fn plan(seed: u64) -> Plan {
    Plan { seed, ..Plan::default() }
}

#[test]
fn a_seed_gives_the_same_life_twice_on_any_thread() {
    for seed in 1..=20 {
        let here = run(plan(seed));
        let there = std::thread::spawn(move || run(plan(seed))).join().expect("it ends");
        assert_eq!(here, there, "seed {seed}");
    }
}

#[test]
fn seeds_give_different_lives() {
    let hashes: std::collections::BTreeSet<u64> = (1..=10).map(|seed| run(plan(seed)).hash).collect();
    assert_eq!(hashes.len(), 10);
}
