//! Which host is on which rack: a table that is read again when it changes, or a script that is asked once per host.
//!
//! Both run on a thread of their own; the namespace thread only takes answers. Until an answer is there, and where there
//! is none, a datanode is on the default rack.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use crate::config::Config;
use crate::inbox::Inbox;
use crate::server::StartError;

/// Between two looks at the table.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Hosts that the script is given at once (HDFS: `net.topology.script.number.args`).
const SCRIPT_HOSTS_MAX: usize = 100;
/// How long the script may take.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks whether the script has ended.
const SCRIPT_POLL: Duration = Duration::from_millis(10);
/// How long a host that the script gave no answer for is not asked about again.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes of a table that are read, and of the answer of a script.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Lists of hosts that wait for the script.
const ASKED_MAX: usize = 4;

/// What was learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Racks {
    /// Host and rack.
    pub racks: Vec<(String, String)>,
    /// Whether hosts that are not named are on the default rack.
    pub is_whole: bool,
}

/// The thread that knows racks. It ends with this.
#[derive(Debug)]
pub struct Topology {
    asked: Option<SyncSender<Vec<String>>>,
    is_script: bool,
}

impl Topology {
    /// Begins to look, if the configuration names a table or a script.
    ///
    /// # Errors
    /// `Config` when it names both, `Thread`.
    pub fn start(config: &Config, inbox: Arc<Inbox>) -> Result<Self, StartError> {
        if config.topology_file.is_some() && config.topology_script.is_some() {
            let message = "topology_file and topology_script: name one of them";
            return Err(StartError::Config(message.to_owned()));
        }
        let (asked, hosts) = sync_channel(ASKED_MAX);
        let is_script = config.topology_script.is_some();
        let run: Box<dyn FnOnce() + Send> = match (&config.topology_file, &config.topology_script) {
            (Some(file), _) => {
                let file = file.clone();
                Box::new(move || watch_table(&file, &hosts, &inbox))
            }
            (None, Some(script)) => {
                let script = script.clone();
                Box::new(move || ask_script(&script, &hosts, &inbox))
            }
            (None, None) => return Ok(Self { asked: None, is_script: false }),
        };
        let thread = std::thread::Builder::new().name("topology".to_owned());
        thread.spawn(run).map_err(StartError::Thread)?;
        Ok(Self { asked: Some(asked), is_script })
    }

    /// Whether it wants to hear of hosts.
    pub fn asks_for_hosts(&self) -> bool {
        self.is_script
    }

    /// Hosts whose rack is not known. Asked for again by the next turn if too many wait.
    pub fn ask(&self, hosts: Vec<String>) {
        if let (Some(asked), false) = (&self.asked, hosts.is_empty()) {
            // Full: the next turn asks again.
            let _is_waiting = asked.try_send(hosts);
        }
    }
}

/// Reads the table whenever it changes, until nobody listens.
fn watch_table(file: &Path, end: &Receiver<Vec<String>>, inbox: &Inbox) {
    let mut known = None;
    loop {
        let version = version_of(file);
        if known.as_ref() != Some(&version) {
            match read_bounded(file) {
                Ok(text) => {
                    let racks = parse_table(&text, file);
                    tracing::info!(file = %file.display(), hosts = racks.len(), "topology read");
                    inbox.add(|work| work.racks.push(Racks { racks, is_whole: true }));
                }
                Err(error) => tracing::warn!(file = %file.display(), %error, "could not read the topology"),
            }
            known = Some(version);
        }
        match end.recv_timeout(LOOK_INTERVAL) {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Asks the script about hosts, each once unless it fails, until nobody listens.
fn ask_script(script: &Path, asked: &Receiver<Vec<String>>, inbox: &Inbox) {
    let mut answered: BTreeSet<String> = BTreeSet::new();
    let mut not_before = Instant::now();
    while let Ok(hosts) = asked.recv() {
        let new: Vec<String> = hosts.into_iter().filter(|host| !answered.contains(host)).collect();
        if new.is_empty() || Instant::now() < not_before {
            continue;
        }
        for hosts in new.chunks(SCRIPT_HOSTS_MAX) {
            match run_script(script, hosts) {
                Ok(racks) => {
                    answered.extend(racks.iter().map(|(host, _)| host.clone()));
                    inbox.add(|work| work.racks.push(Racks { racks, is_whole: false }));
                }
                Err(error) => {
                    tracing::warn!(script = %script.display(), error, "the topology script failed: default rack");
                    not_before = Instant::now() + RETRY_INTERVAL;
                }
            }
        }
    }
}

/// The table's modification time and length: what shows that it was changed.
fn version_of(file: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn read_bounded(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(TEXT_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads `host rack` lines; `#` begins a comment (HDFS: `TableMapping`). Lines that make no sense are passed over.
fn parse_table(text: &str, file: &Path) -> Vec<(String, String)> {
    let mut racks = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [host, rack] if is_rack(rack) => racks.push((host.to_owned(), rack.to_owned())),
            _ => tracing::warn!(file = %file.display(), line = number + 1, "not `host /rack`: passed over"),
        }
    }
    racks
}

/// A rack is a path, as in HDFS: `/rack`, `/row/rack`.
fn is_rack(text: &str) -> bool {
    text.len() > 1 && text.starts_with('/') && !text.ends_with('/')
}

/// Runs the script with hosts as arguments; it prints a rack for each, separated by white space (HDFS:
/// `ScriptBasedMapping`).
fn run_script(script: &Path, hosts: &[String]) -> Result<Vec<(String, String)>, String> {
    let mut command = Command::new(script);
    command.args(hosts).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let deadline = Instant::now() + SCRIPT_DEADLINE;
    let output = child.stdout.take().ok_or("no output")?;
    // Read apart, so that a long answer does not make the script wait for us while we wait for it.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.take(TEXT_BYTES_MAX).read_to_string(&mut text).map(|_| text)
    });
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if Instant::now() >= deadline => {
                drop(child.kill());
                drop(child.wait());
                return Err(format!("no answer within {SCRIPT_DEADLINE:?}"));
            }
            None => std::thread::park_timeout(SCRIPT_POLL),
        }
    };
    let text =
        reader.join().map_err(|_| "its reader ended".to_owned())?.map_err(|error| error.to_string())?;
    let racks: Vec<&str> = text.split_whitespace().collect();
    if !status.success() || racks.len() != hosts.len() || !racks.iter().all(|rack| is_rack(rack)) {
        return Err(format!("{status}, {} racks for {} hosts", racks.len(), hosts.len()));
    }
    Ok(hosts.iter().cloned().zip(racks.into_iter().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn pairs(racks: &[(&str, &str)]) -> Vec<(String, String)> {
        racks.iter().map(|(host, rack)| ((*host).to_owned(), (*rack).to_owned())).collect()
    }

    fn wait_for(inbox: &Inbox, racks: &Racks) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            inbox.wait(Duration::from_millis(100));
            let found = inbox.take().racks;
            if found.contains(racks) {
                return;
            }
            assert!(Instant::now() < deadline, "{found:?}");
        }
    }

    #[test]
    fn a_table_names_hosts_and_racks() {
        let text =
            "# hosts\n10.0.0.1 /r1\n\n  10.0.0.2\t/row/r2  # moved\nnonsense\n10.0.0.3 r3\n10.0.0.4 /\n";
        assert_eq!(parse_table(text, Path::new("t")), pairs(&[("10.0.0.1", "/r1"), ("10.0.0.2", "/row/r2")]));
    }

    #[test]
    fn a_table_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("racks");
        std::fs::write(&file, "a /r1\n").expect("written");
        let config = Config { topology_file: Some(file.clone()), ..Config::default() };
        let inbox = Arc::new(Inbox::new(1000));
        let _topology = Topology::start(&config, inbox.clone()).expect("started");
        wait_for(&inbox, &Racks { racks: pairs(&[("a", "/r1")]), is_whole: true });
        std::fs::write(&file, "a /r1\nb /r22\n").expect("written");
        wait_for(&inbox, &Racks { racks: pairs(&[("a", "/r1"), ("b", "/r22")]), is_whole: true });
    }

    #[test]
    fn a_script_is_asked_about_hosts() {
        let dir = tempfile::tempdir().expect("a directory");
        let script = dir.path().join("racks.sh");
        std::fs::write(&script, "#!/bin/sh\nfor host in \"$@\"; do echo /rack-$host; done\n")
            .expect("written");
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("made executable");
        let hosts = ["a".to_owned(), "b".to_owned()];
        // A file that was just written may still be open in a child of another test.
        let racks = loop {
            match run_script(&script, &hosts) {
                Err(error) if error.contains("busy") => continue,
                other => break other,
            }
        };
        assert_eq!(racks, Ok(pairs(&[("a", "/rack-a"), ("b", "/rack-b")])));
        let config = Config { topology_script: Some(script), ..Config::default() };
        let inbox = Arc::new(Inbox::new(1000));
        let topology = Topology::start(&config, inbox.clone()).expect("started");
        assert!(topology.asks_for_hosts());
        topology.ask(vec!["c".to_owned()]);
        wait_for(&inbox, &Racks { racks: pairs(&[("c", "/rack-c")]), is_whole: false });
    }

    #[test]
    fn a_script_that_fails_or_answers_nonsense_is_not_believed() {
        let hosts = ["/r".to_owned()];
        assert!(run_script(Path::new("/bin/false"), &hosts).is_err());
        assert!(run_script(Path::new("/nowhere"), &hosts).is_err());
        assert!(run_script(Path::new("/bin/echo"), &["a".to_owned()]).is_err(), "`a` is no rack");
        assert_eq!(run_script(Path::new("/bin/echo"), &hosts), Ok(pairs(&[("/r", "/r")])));
    }
}
