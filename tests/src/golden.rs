//! Transcripts of command lines: what a shell shows, kept in a file and compared with what it shows now.
//!
//! A transcript is a text in `tests/golden`. A line `$ COMMAND` is given to bash, with `ringfs` and the file system of a test's
//! cluster at hand; what it prints follows, lines of standard error behind `2> `, and `[exit N]` when N is not 0. `#` begins
//! a comment before the first command; `#mask REGEX => TEXT` replaces what differs from run to run, beside what is always
//! replaced ([`MASKS`]). With `RINGFS_BLESS=1` a test writes its transcript anew instead of comparing it; look at the difference before you keep it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use crate::cluster::{Cluster, binary};

/// What differs from run to run, and what stands for it.
pub const MASKS: &[(&str, &str)] = &[
    ("127\\.0\\.0\\.1:[0-9]+", "HOST:PORT"),
    ("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    ("[A-Z][a-z]{2} [A-Z][a-z]{2} [0-9]{2} [0-9:]{8} UTC [0-9]{4}", "DATE"),
    ("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}(:[0-9]{2})?", "DATE"),
    ("in [0-9]+ milliseconds", "in N milliseconds"),
];

/// Where the transcripts are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Runs the commands of a transcript, one after the other, and compares.
///
/// # Panics
/// If anything is printed that the transcript does not have, with both; if the transcript cannot be read.
pub fn check(cluster: &Cluster, name: &str) {
    check_as(cluster, name, None);
}

/// As [`check`], with commands of a user.
///
/// # Panics
/// As [`check`].
pub fn check_as(cluster: &Cluster, name: &str, user: Option<&str>) {
    let path = directory().join(name);
    let expected =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let actual = replay(cluster, &expected, user);
    if std::env::var_os("RINGFS_BLESS").is_some() {
        std::fs::write(&path, actual).expect("the transcript is written");
        return;
    }
    if let Some((number, (was, is))) = difference(&expected, &actual) {
        panic!(
            "{name}, line {number}:\n  expected: {was}\n  is:       {is}\nThe whole of it, as it is now:\n{actual}"
        );
    }
}

/// The first line that differs.
fn difference<'a>(expected: &'a str, actual: &'a str) -> Option<(usize, (&'a str, &'a str))> {
    let (mut expected, mut actual) = (expected.lines(), actual.lines());
    (1..).find_map(|number| match (expected.next(), actual.next()) {
        (None, None) => Some(None),
        (was, is) if was == is => None,
        (was, is) => Some(Some((number, (was.unwrap_or("the end"), is.unwrap_or("the end"))))),
    })?
}

/// The transcript as it is now.
fn replay(cluster: &Cluster, transcript: &str, user: Option<&str>) -> String {
    let mut masks: Vec<(Regex, String)> = vec![(
        Regex::new(&regex::escape(&cluster.dir().display().to_string())).expect("escaped"),
        "DIR".to_owned(),
    )];
    let own = transcript.lines().filter_map(|line| line.strip_prefix("#mask ")?.split_once(" => "));
    for (pattern, text) in own.chain(MASKS.iter().copied()) {
        masks.push((Regex::new(pattern).expect("a pattern"), text.to_owned()));
    }
    let (mut text, mut has_begun) = (String::new(), false);
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            let shown = run(cluster, command, user);
            let shown =
                masks.iter().fold(shown, |shown, (from, to)| from.replace_all(&shown, to).into_owned());
            // Writing to a string cannot fail.
            let _ = write!(text, "$ {command}\n{shown}\n");
            has_begun = true;
        } else if line.starts_with('#') && !has_begun {
            // Behind the first command it is what a command has printed.
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// What a shell shows of a command.
fn run(cluster: &Cluster, command: &str, user: Option<&str>) -> String {
    let program = binary();
    let directory = program.parent().expect("a directory").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    if let Some(user) = user {
        shell.env("RINGFS_USER", user);
    }
    let output = shell
        .args(["-c", command])
        .current_dir(cluster.dir())
        .env("PATH", format!("{directory}:{path}"))
        .env("RINGFS_URI", cluster.uri())
        .env("TZ", "UTC")
        .env("COLUMNS", "100")
        .env("RUST_LOG", "off")
        .env_remove("RINGFS_CONFIG")
        .output()
        .expect("bash runs");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        let _ = writeln!(text, "{}", format!("2> {line}").trim_end());
    }
    match output.status.code() {
        Some(0) => text,
        Some(code) => text + &format!("[exit {code}]\n"),
        None => text + "[ended by a signal]\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_found() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\n", "a\nc\n"), Some((2, ("b", "c"))));
        assert_eq!(difference("a\n", "a\nc\n"), Some((2, ("the end", "c"))));
    }
}
