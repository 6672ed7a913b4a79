//! `make faults N=1000 SEED=1`: injects faults into a real cluster until N of them are over, then reads everything back.

use std::process::ExitCode;
use std::time::Duration;

use ringfs_tests::faults::{self, Options, writer};

const USAGE: &str = "usage: faults [--faults N] [--seed N] [--seconds N] [--engine glommio|threads]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [command, uri, path, seed] = &words[..]
        && command == writer::COMMAND
    {
        let ended = seed.parse().map_err(Into::into).and_then(|seed| writer::run(uri, path, seed));
        return ended.map_or_else(|error| fail(&format!("{path}: {error}")), |()| ExitCode::SUCCESS);
    }
    match parse(&words) {
        Some(options) => run(&options),
        None => fail(USAGE),
    }
}

fn parse(words: &[String]) -> Option<Options> {
    let day = Duration::from_secs(24 * 3600);
    let mut options = Options { seed: 1, faults: 100, time_max: day, engine: "auto" };
    for pair in words.chunks(2) {
        let [name, value] = pair else { return None };
        match name.as_str() {
            "--faults" => options.faults = value.parse().ok()?,
            "--seed" => options.seed = value.parse().ok()?,
            "--seconds" => options.time_max = Duration::from_secs(value.parse().ok()?),
            "--engine" => {
                options.engine = ["glommio", "threads"].into_iter().find(|engine| engine == value)?;
            }
            _ => return None,
        }
    }
    Some(options)
}

fn run(options: &Options) -> ExitCode {
    match faults::run(options) {
        Ok(report) => {
            println!("{report}");
            if report.is_good() {
                return ExitCode::SUCCESS;
            }
            fail(&format!("again with: make faults N={} SEED={}", options.faults, options.seed))
        }
        Err(missing) => fail(&format!("cannot run here: {missing}")),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}
