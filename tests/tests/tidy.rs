//! Rules of the tree that no compiler checks. Each failure names its file and its rule.

use std::fs;
use std::path::{Path, PathBuf};

/// RingFS crates that each crate may depend on.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("disk", &[]),
    ("proto/hadoop", &[]),
    ("namenode", &["proto", "disk", "hadoop"]),
    ("datanode", &["proto", "disk", "hadoop"]),
    ("sdk", &["proto"]),
    ("http", &["proto", "namenode", "datanode", "sdk"]),
    ("cli", &["proto", "disk", "namenode", "datanode", "sdk", "http"]),
];

/// Async runtimes and the places of each that may name it.
const RUNTIMES: &[(&str, &[&str])] = &[
    ("glommio::", &["datanode/src/engine/glommio"]),
    ("tokio::", &["datanode/src/engine/threads", "namenode/src/rpc", "http/src"]),
    ("tokio_uring::", &["namenode/src/wal"]),
    ("monoio::", &["sdk/src/driver"]),
];

/// Text that no Rust file holds. Split, so that this file obeys too.
const BANNED: &[&str] = &[concat!("todo", "!("), concat!("#[ign", "ore"), SLEEP];
const SLEEP: &str = concat!("thread::", "sleep(");
/// Files that may hold banned text, with the text and the reason.
const BANNED_EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("tests/src/wait.rs", SLEEP, "the one place that waits for a condition, with a deadline"),
    ("namenode/src/wal/prepare.rs", SLEEP, "a thread of its own waits for room on the disk"),
];

const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];
const FILE_LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// Files of an ending, as path from the root and text.
fn files(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable folder") {
            let path = entry.expect("readable entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.is_file() && name.ends_with(ending) {
                found.push((relative(&path), fs::read_to_string(&path).expect("UTF-8 file")));
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} files");
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned()
}

fn report(rule: &str, failures: &[String]) {
    assert!(failures.is_empty(), "{rule}:\n{}", failures.join("\n"));
}

#[test]
fn dependencies_point_one_way() {
    let mut failures = Vec::new();
    for (name, allowed) in DEPENDENCIES {
        let text = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("manifest");
        for line in text.lines().filter_map(|line| line.strip_prefix("ringfs-")) {
            let other = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&other) {
                failures.push(format!("{name}/Cargo.toml: {name} must not depend on {other}"));
            }
        }
    }
    report("dependencies point one way", &failures);
}

#[test]
fn each_runtime_is_named_in_its_place_only() {
    let mut failures = Vec::new();
    for (file, text) in files(".rs").iter().filter(|(file, _)| file.contains("/src/")) {
        for (runtime, places) in RUNTIMES {
            // Our own module may be called as the runtime that it names.
            let own_module = format!("super::{runtime}");
            let is_named = text.lines().any(|line| {
                !line.trim_start().starts_with("//") && line.replace(&own_module, "").contains(runtime)
            });
            if is_named && !places.iter().any(|place| file.starts_with(place)) {
                failures.push(format!("{file}: names {runtime}, allowed in {places:?}"));
            }
        }
    }
    report("each runtime is named in its place only", &failures);
}

#[test]
fn banned_text_is_absent() {
    let mut failures = Vec::new();
    for (file, text) in files(".rs") {
        for banned in BANNED.iter().filter(|banned| text.contains(**banned)) {
            if !BANNED_EXCEPTIONS.iter().any(|(path, what, _)| *path == file && what == banned) {
                failures.push(format!("{file}: {banned}"));
            }
        }
    }
    report("banned text", &failures);
}

#[test]
fn files_are_short() {
    let long = files(".rs").into_iter().map(|(file, text)| (file, text.lines().count()));
    let failures: Vec<_> = long
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(file, lines)| format!("{file}: {lines} lines"))
        .collect();
    report("files have at most 600 lines", &failures);
}

#[test]
fn links_of_documents_resolve() {
    let mut failures = Vec::new();
    for (file, text) in files(".md").iter().filter(|(file, _)| file.starts_with("docs/")) {
        let folder: PathBuf = root().join(file).parent().expect("a file has a folder").to_path_buf();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                failures.push(format!("{file}: link to {target}"));
            }
        }
    }
    report("links resolve", &failures);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut failures = Vec::new();
    for (file, text) in [".rs", ".toml", ".md"].into_iter().flat_map(files) {
        for path in MACHINE_PATHS.iter().filter(|path| text.contains(**path)) {
            failures.push(format!("{file}: {path}"));
        }
    }
    report("no machine paths", &failures);
}

#[test]
fn planted_mistakes_are_in_no_binary() {
    let allowed = ["namenode/Cargo.toml", "datanode/Cargo.toml", "tests/simulation/Cargo.toml"];
    let named = files(".toml").into_iter().filter(|(_, text)| text.contains("planted-bugs"));
    let failures: Vec<_> = named.map(|(file, _)| file).filter(|file| !allowed.contains(&&**file)).collect();
    report("only the simulation asks for planted mistakes", &failures);
    for manifest in allowed {
        let text = fs::read_to_string(root().join(manifest)).unwrap_or_default();
        assert!(!text.contains("default = [\"planted"), "{manifest}: planted mistakes by default");
    }
}
