//! Replays the kept corpus of every fuzz target, and flips and cuts every seed, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringfs_fuzzing::TARGETS;

/// Bytes of a seed that are flipped one by one; of a longer one, every n-th.
const FLIPS_MAX: usize = 400;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(folder: &Path, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("readable entry").file_name().to_string_lossy().strip_suffix(ending).map(str::to_owned)
    };
    entries.filter_map(name).collect()
}

#[test]
fn the_kept_corpus_passes() {
    let mut inputs = 0;
    for target in TARGETS {
        for name in names(&project().join("corpus").join(target.name), "") {
            let path = project().join("corpus").join(target.name).join(name);
            (target.run)(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            inputs += 1;
        }
    }
    assert!(inputs >= TARGETS.len(), "a corpus is kept");
}

#[test]
fn seeds_pass_cut_and_flipped() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has seeds", target.name);
        for seed in seeds {
            (target.run)(&seed);
            let step = seed.len() / FLIPS_MAX + 1;
            for at in (0..seed.len()).step_by(step) {
                (target.run)(&seed[..at]);
                for flip in [1, 0x80, 0xff] {
                    let mut flipped = seed.clone();
                    flipped[at] ^= flip;
                    (target.run)(&flipped);
                }
            }
        }
    }
}

#[test]
fn every_target_has_a_binary_and_a_corpus() {
    let known: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(&project().join("targets"), ".rs"), known);
    assert_eq!(names(&project().join("corpus"), ""), known);
    let manifest = fs::read_to_string(project().join("Cargo.toml")).expect("manifest");
    for name in known {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
    }
}
