//! Faults of every kind into a real cluster under load: nothing acknowledged is lost, and no client sees an error.

use ringfs_tests::faults::plan::KINDS;
use ringfs_tests::faults::{self, Options};

/// Four of each kind, and some.
const FAULTS: usize = 66;
const FAULTS_MIN: u64 = 60;
const SEED: u64 = 1;

#[test]
fn nothing_acknowledged_is_lost_whatever_breaks() {
    println!("again with: make faults N={FAULTS} SEED={SEED}");
    let report = match faults::run(&Options { seed: SEED, faults: FAULTS, ..Options::default() }) {
        Ok(report) => report,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    println!("{report}");
    assert_eq!(report.lost, [""; 0]);
    assert_eq!(report.error_texts, [""; 0]);
    assert_eq!(report.errors, 0);
    assert_eq!(report.ended, [""; 0], "servers that ended by themselves");
    assert_eq!(report.faults.len(), KINDS.len());
    for faults in &report.faults {
        assert!(faults.injected > faults.void, "{}: {faults:?}", faults.kind);
    }
    assert!(report.injected() >= FAULTS_MIN, "{}", report.injected());
    assert!(
        report.operations.iter().all(|operations| operations.acknowledged > 0),
        "{:?}",
        report.operations
    );
}
