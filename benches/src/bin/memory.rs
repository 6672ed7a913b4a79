//! What a large namespace costs the namenode; see [`ringfs_benches::memory`]. `memory [--tiny] [FILES ...]`: namespaces of so
//! many files, 1,000,000 and 10,000,000 without.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringfs_benches::memory::{Sizes, Started, load, run};
use ringfs_benches::report::{RESULTS, Report};

/// Word before the checkpoint that a process of its own loads.
const LOAD: &str = "--load";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, path] = &words[..]
        && word == LOAD
    {
        println!("{}", serde_json::to_string(&load(Path::new(path))?)?);
        return Ok(());
    }
    let mut sizes = if words.iter().any(|word| word == "--tiny") { Sizes::tiny() } else { Sizes::whole() };
    let files: Vec<u64> =
        words.iter().filter(|word| *word != "--tiny").map(|word| word.parse()).collect::<Result<_, _>>()?;
    if !files.is_empty() {
        sizes.files = files;
    }
    // Beside the results, as the directory for temporary files may be memory.
    let directory = PathBuf::from(RESULTS).with_file_name("memory");
    std::fs::create_dir_all(&directory)?;
    let mut report = Report::new("memory");
    let done = run(&sizes, &directory, &start, &mut report);
    std::fs::remove_dir_all(&directory)?;
    done?;
    report.finish(Path::new(RESULTS))?;
    Ok(())
}

/// Loads a checkpoint in a new process.
fn start(path: &Path) -> Result<Started, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?).arg(LOAD).arg(path).output()?;
    if !output.status.success() {
        return Err(format!("load {}: {}", path.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
