//! File I/O that fails on purpose: `tests/shim/faults.c`, built once and preloaded into servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("../shim/faults.c");

/// Rules that a process with the shim obeys.
#[derive(Debug, Clone)]
pub struct Faults {
    library: PathBuf,
    control: PathBuf,
}

impl Faults {
    /// No faults yet; the library and its control file lie in `directory`.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn new(directory: &Path) -> Self {
        let (source, library) = (directory.join("faults.c"), directory.join("faults.so"));
        fs::write(&source, SOURCE).expect("written");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("cc runs");
        assert!(built.status.success(), "faults.c is built: {}", String::from_utf8_lossy(&built.stderr));
        let faults = Self { library, control: directory.join("faults.rules") };
        faults.set("");
        faults
    }

    /// The environment of a process that shall obey.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("RINGFS_FAULTS".to_owned(), text(&self.control)),
        ]
    }

    /// From now on these rules hold: see `tests/shim/faults.c`.
    pub fn set(&self, rules: &str) {
        let new = self.control.with_extension("new");
        fs::write(&new, rules).expect("written");
        fs::rename(&new, &self.control).expect("in place");
    }

    /// The operations that were made to fail: name and path.
    pub fn hits(&self) -> Vec<String> {
        let hits = fs::read_to_string(self.control.with_extension("rules.hits")).unwrap_or_default();
        hits.lines().map(str::to_owned).collect()
    }
}
