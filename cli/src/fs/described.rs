//! The commands as man pages and shells describe them.

use super::{COMMANDS, Command};

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Without its dash.
    pub name: &'static str,
    /// Name, options and what it takes.
    pub usage: &'static str,
    /// Sentences, one a line; the options as `-x  what it does`.
    pub help: &'static str,
    /// Options without a value, without their dash.
    pub flags: &'static [&'static str],
    /// Options with a value, without their dash.
    pub values: &'static [&'static str],
}

impl Described {
    /// The first line of its help.
    pub fn summary(&self) -> &'static str {
        self.help.lines().next().unwrap_or_default()
    }

    /// All options, with their dash.
    pub fn options(&self) -> impl Iterator<Item = String> {
        self.flags.iter().chain(self.values).map(|option| format!("-{option}"))
    }
}

/// All commands, in the order of `-help`, then those that list them.
pub fn described() -> Vec<Described> {
    let describe = |command: &Command| {
        let Command { name, usage, help, flags, values, .. } = *command;
        Described { name, usage, help, flags, values }
    };
    let mut all: Vec<Described> = COMMANDS.iter().map(describe).collect();
    let about = |name, usage, help| Described { name, usage, help, flags: &[], values: &[] };
    all.push(about("help", "help [cmd ...]", "Print what each command, or all of them, does."));
    all.push(about("usage", "usage [cmd ...]", "Print how each command, or all of them, is called."));
    all
}
