//! `make faults N=1000 SEED=1`: injects faults into a real cluster until N of them are over, then reads everything back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ringfs_tests::faults::plan::KINDS;
use ringfs_tests::faults::{self, Options, writer};

const USAGE: &str = "\
usage: faults [--faults N] [--seed N] [--seconds N] [--only KIND[,KIND]..] [--logs DIR] [--report FILE]
  --faults N     faults that are injected (100)
  --seed N       decides which, and what clients write (1)
  --seconds N    ends earlier, when so much time has passed
  --only KINDS   of these kinds alone, as 'kill namenode,cut datanode'
  --logs DIR     keeps the logs of the servers
  --report FILE  writes the report as JSON";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [command, uri, path, seed] = &words[..]
        && command == writer::COMMAND
    {
        let ended = seed.parse().map_err(Into::into).and_then(|seed| writer::run(uri, path, seed));
        return ended.map_or_else(|error| fail(&format!("{path}: {error}")), |()| ExitCode::SUCCESS);
    }
    match parse(&words) {
        Some((options, report)) => run(&options, report.as_deref()),
        None => fail(USAGE),
    }
}

fn parse(words: &[String]) -> Option<(Options, Option<PathBuf>)> {
    let (mut options, mut report) = (Options::default(), None);
    for pair in words.chunks(2) {
        let [name, value] = pair else { return None };
        match name.as_str() {
            "--faults" => options.faults = value.parse().ok()?,
            "--seed" => options.seed = value.parse().ok()?,
            "--seconds" => options.time_max = Duration::from_secs(value.parse().ok()?),
            "--only" => options.kinds = value.split(',').map(kind).collect::<Option<_>>()?,
            "--logs" => options.logs = Some(value.into()),
            "--report" => report = Some(value.into()),
            _ => return None,
        }
    }
    Some((options, report))
}

fn kind(name: &str) -> Option<usize> {
    KINDS.iter().position(|kind| *kind == name.trim())
}

fn run(options: &Options, file: Option<&Path>) -> ExitCode {
    let report = match faults::run(options) {
        Ok(report) => report,
        Err(missing) => return fail(&format!("cannot run here: {missing}")),
    };
    println!("{report}");
    let json = serde_json::to_string_pretty(&report).expect("numbers and texts");
    if let Some(file) = file
        && let Err(error) = std::fs::write(file, json)
    {
        return fail(&format!("write {}: {error}", file.display()));
    }
    if report.is_good() {
        return ExitCode::SUCCESS;
    }
    fail(&format!("again with: make faults N={} SEED={}", options.faults, options.seed))
}

fn fail(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}
