//! What benchmarks print: a Markdown table for people, and JSON lines for programs, in `target/bench/results.jsonl`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde_json::json;

/// Where the JSON lines go, below the directory that the benchmark runs in.
pub const RESULTS: &str = "target/bench/results.jsonl";

/// The results of one benchmark, in the order in which they were found.
#[derive(Debug)]
pub struct Report {
    benchmark: &'static str,
    rows: Vec<(String, f64, &'static str)>,
}

impl Report {
    /// None yet.
    pub fn new(benchmark: &'static str) -> Self {
        Self { benchmark, rows: Vec::new() }
    }

    /// A result; it is also said at once on standard error, as more may take long.
    pub fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        let what = what.into();
        eprintln!("{what}: {} {unit}", number(value));
        self.rows.push((what, value, unit));
    }

    /// The value of a result.
    pub fn value(&self, what: &str) -> Option<f64> {
        self.rows.iter().find(|(name, ..)| name == what).map(|(_, value, _)| *value)
    }

    /// As a table.
    pub fn table(&self) -> String {
        let mut text = format!("| {} | | |\n|---|---|---|\n", self.benchmark);
        for (what, value, unit) in &self.rows {
            text.push_str(&format!("| {what} | {} | {unit} |\n", number(*value)));
        }
        text
    }

    /// One JSON object a line.
    pub fn lines(&self) -> String {
        let line = |(what, value, unit): &(String, f64, &str)| {
            json!({ "benchmark": self.benchmark, "what": what, "value": value, "unit": unit }).to_string()
                + "\n"
        };
        self.rows.iter().map(line).collect()
    }

    /// Prints the table, and adds the lines to `results`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn finish(&self, results: &Path) -> std::io::Result<()> {
        println!("{}", self.table());
        if let Some(directory) = results.parent() {
            fs::create_dir_all(directory)?;
        }
        OpenOptions::new().create(true).append(true).open(results)?.write_all(self.lines().as_bytes())
    }
}

/// Large numbers whole, small ones with what is worth knowing.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_a_table_and_lines() {
        let mut report = Report::new("sample");
        report.add("start", 12.34, "ms");
        report.add("files", 1_000_000.0, "");
        report.add("pause", 0.0421, "ms");
        assert_eq!(
            report.table(),
            "| sample | | |\n|---|---|---|\n| start | 12.3 | ms |\n| files | 1000000 |  |\n| pause | 0.042 | ms |\n"
        );
        assert_eq!(report.value("start"), Some(12.34));
        let first: serde_json::Value =
            serde_json::from_str(report.lines().lines().next().expect("a line")).expect("JSON");
        assert_eq!((&first["benchmark"], &first["unit"]), (&"sample".into(), &"ms".into()));
        let temp = tempfile::tempdir().expect("temporary directory");
        let results = temp.path().join("new/results.jsonl");
        report.finish(&results).expect("written");
        report.finish(&results).expect("written");
        assert_eq!(fs::read_to_string(results).expect("read").lines().count(), 6, "added");
    }
}
