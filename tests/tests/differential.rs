//! The same steps against a real HDFS and against RingFS, by Hadoop's own client: `make test-hdfs`. What differs is marked in
//! `tests/hdfs/steps.txt`, each with a reason that `docs/hdfs-compat.md` gives; under `message` only the text does.

use std::fs;
use std::path::Path;

use ringfs_tests::cluster::{Cluster, Options};
use ringfs_tests::java::{self, RealHdfs};

/// Differences that are printed at most.
const SHOWN_MAX: usize = 200;

/// Characters of a result that are printed at most.
const RESULT_CHARS_MAX: usize = 600;

/// A step, and what came of it.
#[derive(Debug)]
struct Taken {
    step: String,
    result: String,
}

/// Takes all steps against a system, in one Java virtual machine.
fn take(uri: &str, name: &str) -> Vec<Taken> {
    let target = env!("CARGO_TARGET_TMPDIR");
    let local = tempfile::tempdir().expect("temporary directory");
    let results = Path::new(target).join(format!("differential-{name}.txt"));
    let output = java::java(target, "Differential")
        .arg(uri)
        .arg(java::root().join("tests/hdfs/steps.txt"))
        .arg(local.path())
        .arg(&results)
        .output()
        .expect("java is there");
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("DONE\n"), "{name}: {out}{errors}");
    let text = fs::read_to_string(results).expect("read");
    let mut taken: Vec<Taken> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("> "), taken.last_mut()) {
            (Some(step), _) => taken.push(Taken { step: step.to_owned(), result: String::new() }),
            (None, Some(last)) => last.result = format!("{}\n    {line}", last.result),
            (None, None) => panic!("{line}"),
        }
    }
    taken
}

/// For each step, why it differs if it does so on purpose.
fn reasons() -> Vec<Option<String>> {
    let text = fs::read_to_string(java::root().join("tests/hdfs/steps.txt")).expect("read");
    let mut reason = None;
    let mut reasons = Vec::new();
    for line in text.lines() {
        if let Some(key) = line.strip_prefix("! ") {
            reason = Some(key.to_owned());
        } else if !line.is_empty() && !line.starts_with('#') {
            reasons.push(reason.take());
        }
    }
    reasons
}

/// The exit code or the class of the error of a result.
fn class(result: &str) -> &str {
    let line = result.trim_start().lines().next().unwrap_or_default();
    line.split(':').next().unwrap_or_default()
}

#[test]
fn a_step_has_the_same_result_as_in_hdfs_or_a_reason() {
    let hdfs = RealHdfs::start(
        1,
        &[
            "hadoop.user.group.static.mapping.overrides=alice=staff;bob=staff,ops;eve=",
            "fs.trash.interval=60",
        ],
    );
    let namenode_toml = "small_files.inline_bytes_max = 65536\ntrash_interval_minutes = 60\nreplication = 1\n\
        groups = { mapping = \"static\", members = { alice = [\"staff\"], bob = [\"staff\", \"ops\"] } }\n";
    let cluster = Cluster::start(&Options { namenode_toml: namenode_toml.to_owned(), ..Options::default() });
    let expected = take(&hdfs.uri(), "hdfs");
    drop(hdfs);
    let found = take(&cluster.uri().replace("ringfs://", "hdfs://"), "ringfs");
    let reasons = reasons();
    assert_eq!((expected.len(), found.len()), (reasons.len(), reasons.len()));
    let documented = fs::read_to_string(java::root().join("docs/hdfs-compat.md")).expect("read");
    let mut wrong = Vec::new();
    for ((expected, found), reason) in expected.iter().zip(&found).zip(&reasons) {
        let differs = expected.result != found.result;
        match reason {
            Some(key) if key == "message" && class(&expected.result) != class(&found.result) => {
                wrong.push(format!("{}: {} and {}", expected.step, expected.result, found.result));
            }
            Some(key) if !differs => wrong.push(format!("{}: is as in HDFS, and not {key}", expected.step)),
            Some(key) if !documented.contains(&format!("| `{key}` |")) => {
                wrong.push(format!("{}: docs/hdfs-compat.md has no difference {key}", expected.step));
            }
            None if differs => {
                let short = |result: &str| result.chars().take(RESULT_CHARS_MAX).collect::<String>();
                let (hdfs, ringfs) = (short(&expected.result), short(&found.result));
                wrong.push(format!("{}\n  HDFS:{hdfs}\n  RingFS:{ringfs}", short(&expected.step)));
            }
            _ => {}
        }
    }
    let shown = wrong.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {} steps:\n{shown}\n{}", wrong.len(), reasons.len(), cluster.logs());
}
