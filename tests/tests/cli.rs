//! `ringfs fs` as its users see it: output, messages and exit codes of every command.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringfs_tests::cluster::{Cluster, Options};
use ringfs_tests::wait;

struct Shell {
    cluster: Cluster,
}

impl Shell {
    fn new() -> Self {
        // As HDFS's own tests, the user of these is a superuser.
        let namenode_toml =
            "groups = { mapping = \"static\", members = { ann = [\"supergroup\"] } }\n".to_owned();
        Self { cluster: Cluster::start(&Options { datanodes: 2, namenode_toml, ..Options::default() }) }
    }

    fn output(&self, words: &[&str]) -> Output {
        let mut command = self.cluster.command(&[&["fs"], words].concat());
        command.env("RINGFS_USER", "ann").current_dir(self.cluster.dir()).output().expect("run")
    }

    /// Standard output of a command that succeeds.
    fn run(&self, words: &[&str]) -> String {
        let output = self.output(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Exit code and standard error of a command that fails.
    fn fail(&self, words: &[&str]) -> (i32, String) {
        let output = self.output(words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), errors.trim_end().to_owned())
    }

    fn local(&self, name: &str, bytes: &[u8]) {
        let path = self.cluster.dir().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, bytes).expect("written");
    }
}

fn failure(text: &str) -> (i32, String) {
    (1, text.to_owned())
}

#[test]
fn commands_answer_as_hdfs_dfs_does() {
    let shell = Shell::new();
    assert_eq!(shell.run(&["-mkdir", "-p", "/data/in"]), "");
    assert_eq!(shell.fail(&["-mkdir", "/data"]), failure("mkdir: `/data': File exists"));
    assert_eq!(shell.fail(&["-mkdir", "/no/such"]), failure("mkdir: `/no/such': No such file or directory"));
    shell.local("a.txt", b"hello\n");
    shell.local("b.txt", b"world\n");
    assert_eq!(shell.run(&["-put", "a.txt", "b.txt", "/data/in"]), "");
    assert_eq!(shell.fail(&["-put", "a.txt", "/data/in"]), failure("put: `/data/in/a.txt': File exists"));
    assert_eq!(shell.run(&["-put", "-f", "b.txt", "/data/in/a.txt"]), "");
    assert_eq!(
        shell.fail(&["-put", "nothing", "/data"]),
        failure("put: `nothing': No such file or directory")
    );
    assert_eq!(
        shell.fail(&["-put", "a.txt", "b.txt", "/new"]),
        failure("put: `/new': No such file or directory")
    );
    assert_eq!(shell.run(&["-cat", "/data/in/a.txt", "/data/in/b.txt"]), "world\nworld\n");
    assert_eq!(shell.fail(&["-cat", "/data"]), failure("cat: `/data': Is a directory"));

    let listing = shell.run(&["-ls", "/data/in"]);
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "Found 2 items"));
    assert!(lines[1].starts_with("-rw-r--r--   3 ann supergroup          6 20"), "{listing}");
    assert!(lines[1].ends_with(" /data/in/a.txt"), "{listing}");
    assert_eq!(
        shell.run(&["-ls", "-C", "-R", "/"]).lines().collect::<Vec<_>>(),
        ["/data", "/data/in", "/data/in/a.txt", "/data/in/b.txt"]
    );
    assert!(shell.run(&["-ls", "-d", "/data"]).starts_with("drwxr-xr-x   - ann supergroup          0 "));
    assert_eq!(shell.fail(&["-ls", "/none"]), failure("ls: `/none': No such file or directory"));

    assert_eq!(
        shell.run(&["-stat", "%n %b %r %F %a %u:%g", "/data/in/a.txt"]),
        "a.txt 6 3 regular file 644 ann:supergroup\n"
    );
    assert_eq!(
        shell.run(&["-setrep", "-w", "1", "/data/in/b.txt"]).lines().next(),
        Some("Replication 1 set: /data/in/b.txt")
    );
    assert_eq!(
        shell.run(&["-setrep", "-R", "3", "/data"]),
        "Replication 3 set: /data/in/a.txt\nReplication 3 set: /data/in/b.txt\n"
    );
    assert_eq!(shell.fail(&["-setrep", "2", "/none"]), failure("setrep: `/none': No such file or directory"));
    let (code, message) = shell.fail(&["-setrep", "0", "/data"]);
    assert!(code == 255 && message.starts_with("-setrep: replication must be >= 1"), "{message}");
    assert_eq!(shell.run(&["-du", "/data"]), "12  36  /data/in\n");
    assert_eq!(shell.run(&["-du", "-s", "-h", "/data"]), "12  36  /data\n");
    for (flag, path, code) in [
        ("-d", "/data", 0),
        ("-f", "/data", 1),
        ("-e", "/none", 1),
        ("-z", "/data/in/a.txt", 1),
        ("-s", "/data/in/a.txt", 0),
    ] {
        assert_eq!(shell.output(&["-test", flag, path]).status.code(), Some(code), "{flag} {path}");
    }

    assert_eq!(shell.run(&["-mv", "/data/in/a.txt", "/data"]), "");
    assert_eq!(
        shell.fail(&["-mv", "/data/a.txt", "/data/in/b.txt"]),
        failure("mv: `/data/in/b.txt': File exists")
    );
    assert_eq!(shell.fail(&["-mv", "/none", "/x"]), failure("mv: `/none': No such file or directory"));
    assert_eq!(shell.run(&["-get", "/data", "back"]), "");
    assert_eq!(fs::read(shell.cluster.dir().join("back/in/b.txt")).expect("read"), b"world\n");
    assert_eq!(shell.fail(&["-get", "/data/a.txt", "a.txt"]), failure("get: `a.txt': File exists"));
    assert_eq!(shell.run(&["-get", "/data/a.txt", "-"]), "world\n");

    assert_eq!(shell.fail(&["-rm", "/data"]), failure("rm: `/data': Is a directory"));
    assert_eq!(shell.fail(&["-rm", "/none"]), failure("rm: `/none': No such file or directory"));
    assert_eq!(shell.run(&["-rm", "-f", "/none"]), "");
    assert_eq!(shell.run(&["-rm", "-r", "/data"]), "Deleted /data\n");
    assert_eq!(shell.run(&["-ls", "/"]), "");
}

#[test]
fn wrong_command_lines_exit_with_255() {
    let shell = Shell::new();
    let (code, text) = shell.fail(&["-foo"]);
    assert!(code == 255 && text.starts_with("-foo: Unknown command"), "{text}");
    let (code, text) = shell.fail(&["-mkdir"]);
    let expected = "-mkdir: Not enough arguments: expected 1 but got 0\nUsage: ringfs fs [generic options] -mkdir [-p] <path> ...";
    assert_eq!((code, text.as_str()), (255, expected));
    assert_eq!(shell.fail(&["-ls", "-x", "/"]).0, 255);
    assert!(shell.run(&["-help", "put"]).contains("replace files that are there"));
    assert!(shell.run(&["-usage", "rm"]).starts_with("Usage: ringfs fs [generic options] -rm"));
}

#[test]
fn relative_paths_uris_and_settings() {
    let shell = Shell::new();
    shell.local("f", &vec![1; 3000]);
    shell.run(&["-mkdir", "-p", "."]);
    shell.run(&["-D", "dfs.replication=1", "-D", "dfs.blocksize=1024", "-put", "f"]);
    assert_eq!(shell.run(&["-stat", "%o %r", "/user/ann/f"]), "1024 1\n");
    assert_eq!(shell.run(&["-ls", "-C"]), "f\n");
    let uri = format!("{}/user/ann/f", shell.cluster.uri());
    assert_eq!(shell.run(&["-cat", &uri]).len(), 3000);
    let mut command = shell.cluster.command(&["fs", "-put", "-", "/from-stdin"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("run");
    child.stdin.take().expect("piped").write_all(&[2; 100_000]).expect("written");
    assert!(child.wait().expect("ended").success());
    assert_eq!(shell.run(&["-stat", "%b", "/from-stdin"]), "100000\n");
    let mut unknown = shell.cluster.command(&["fs", "-ls", "/"]);
    unknown.env_remove("RINGFS_URI").env("HOME", shell.cluster.dir()).current_dir(shell.cluster.dir());
    let output = unknown.output().expect("run");
    assert!(String::from_utf8_lossy(&output.stderr).contains("RINGFS_URI"), "it says what to do: {output:?}");
}

#[test]
fn trees_go_in_and_come_out_unchanged() {
    let shell = Shell::new();
    for file in 0..60 {
        shell.local(&format!("tree/d{}/sub dir/é{file}.bin", file % 7), &vec![file as u8; file * 1013]);
    }
    shell.run(&["-put", "-t", "16", "tree", "/tree"]);
    shell.run(&["-get", "-t", "16", "/tree", "again"]);
    let read = |root: &Path| {
        let files =
            walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(|entry| entry.expect("an entry"));
        let files = files.filter(|entry| entry.file_type().is_file());
        let relative = |path: &Path| path.strip_prefix(root).expect("below").to_owned();
        files.map(|entry| (relative(entry.path()), fs::read(entry.path()).expect("read"))).collect::<Vec<_>>()
    };
    let (before, after) = (read(&shell.cluster.dir().join("tree")), read(&shell.cluster.dir().join("again")));
    assert!(before.len() == 60 && before == after);
}

#[test]
fn an_interrupted_put_leaves_nothing() {
    let shell = Shell::new();
    let mut command = shell.cluster.command(&["fs", "-put", "-", "/f"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("run");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(&[2; 1_000_000]).expect("written");
    let names = || shell.run(&["-ls", "-C", "/"]);
    wait::until_true("the copy has begun", || names().contains("/f._COPYING_"));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("interrupted");
    // It ends at the next bytes; a pipe that is closed already is as good.
    drop(input.write_all(&[2; 8_000_000]));
    drop(input);
    assert!(!child.wait().expect("ended").success());
    assert_eq!(names(), "");
}
