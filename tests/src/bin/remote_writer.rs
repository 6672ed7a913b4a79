//! A writer that tests on real processes kill, stop and cut off: `ringfs_tests::remote`.

use std::process::ExitCode;

use ringfs_tests::remote;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match remote::run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("remote_writer: {error}");
            ExitCode::FAILURE
        }
    }
}
