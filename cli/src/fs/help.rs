//! `-help` and `-usage`.

use std::process::ExitCode;

use super::{COMMANDS, EXIT_USAGE, find};
use crate::output::outln;

/// Every command in a line.
pub fn overview() -> String {
    let mut text = String::from("Usage: ringfs fs [generic options]\n");
    for command in COMMANDS {
        text.push_str(&format!("\t[-{}]\n", command.usage));
    }
    text.push_str("\t[-help [cmd ...]]\n\t[-usage [cmd ...]]\n\nGeneric options stand before the command:\n");
    text.push_str("\t--fs <ringfs://host:port>   the file system [default: RINGFS_URI, then the client's configuration]\n");
    text.push_str("\t-D dfs.replication=<n>      replicas of new files\n");
    text.push_str("\t-D dfs.blocksize=<size>     block size of new files: 134217728, 128m, 1g\n");
    text
}

/// Shows the usage, or the help, of the named commands or of all.
pub fn show(names: &[String], is_long: bool) -> ExitCode {
    if names.is_empty() {
        crate::output::print(format_args!("{}", overview()));
        if is_long {
            COMMANDS.iter().for_each(|command| print_one(command, true));
        }
        return ExitCode::SUCCESS;
    }
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let dashed = if name.starts_with('-') { name.clone() } else { format!("-{name}") };
        match find(&dashed) {
            Some(command) => print_one(command, is_long),
            None => {
                eprintln!("{name}: Unknown command");
                code = ExitCode::from(EXIT_USAGE);
            }
        }
    }
    code
}

fn print_one(command: &super::Command, is_long: bool) {
    if !is_long {
        outln!("Usage: ringfs fs [generic options] -{}", command.usage);
        return;
    }
    outln!("\n-{} :", command.usage);
    for line in command.help.lines() {
        outln!("  {line}");
    }
}
