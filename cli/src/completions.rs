//! `ringfs completions`: what shells need to complete its command lines. What clap knows comes from clap; the commands of
//! `ringfs fs`, which are spelt with one dash, are added to it.

use std::fmt::Write;

use clap_complete::{Shell, generate};

use crate::fs::described::{Described, described};
use crate::output::print;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The shell. `source <(ringfs completions bash)` in ~/.bashrc; for zsh a file _ringfs of $fpath; for fish
    /// ~/.config/fish/completions/ringfs.fish.
    #[arg(value_enum)]
    shell: Known,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script of a shell.
pub fn run(options: &Options, cli: clap::Command) {
    print(format_args!("{}", script(options.shell, cli)));
}

fn script(shell: Known, mut cli: clap::Command) -> String {
    let clap_shell = match shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut bytes = Vec::new();
    generate(clap_shell, &mut cli, "ringfs", &mut bytes);
    let from_clap = String::from_utf8_lossy(&bytes).into_owned();
    let commands = described();
    match shell {
        Known::Bash => format!("{from_clap}\n{}", bash(&commands)),
        Known::Zsh => zsh(&from_clap, &commands),
        Known::Fish => format!("{from_clap}\n{}", fish(&commands)),
    }
}

fn names(commands: &[Described]) -> String {
    let names: Vec<String> = commands.iter().map(|command| format!("-{}", command.name)).collect();
    names.join(" ")
}

fn options(command: &Described) -> String {
    command.options().collect::<Vec<_>>().join(" ")
}

/// The words of `ringfs fs`, which are all that clap does not know, are looked at first.
fn bash(commands: &[Described]) -> String {
    let mut cases = String::new();
    for command in commands {
        put(&mut cases, format_args!("        -{}) words=\"{}\" ;;", command.name, options(command)));
    }
    format!(
        r#"_ringfs_fs() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 2 ]]; then
        COMPREPLY=($(compgen -W "{names}" -- "$current"))
        return 0
    fi
    case "${{COMP_WORDS[2]}}" in
{cases}    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    else
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}}

_ringfs_any() {{
    if [[ ${{COMP_WORDS[1]}} == fs && $COMP_CWORD -ge 2 ]]; then _ringfs_fs; else _ringfs "$@"; fi
}}

complete -F _ringfs_any -o bashdefault -o default ringfs
"#,
        names = names(commands)
    )
}

/// As clap's script ends by calling or registering its own function, that function is given another name, and ours stands
/// before it.
fn zsh(from_clap: &str, commands: &[Described]) -> String {
    let body = from_clap.replace("_ringfs() {", "_ringfs_clap() {");
    let end = body.rfind("if [ \"$funcstack[1]\"").unwrap_or(body.len());
    let (mut described, mut cases) = (String::new(), String::new());
    for command in commands {
        let summary = command.summary().replace('\'', "’").replace(':', "\\:");
        put(&mut described, format_args!("        '-{}:{summary}'", command.name));
        put(&mut cases, format_args!("        -{}) words=({}) ;;", command.name, options(command)));
    }
    format!(
        r#"{body}
_ringfs_fs() {{
    local -a commands words_of_command
    commands=(
{described}    )
    if (( CURRENT == 3 )); then
        _describe -t commands 'file system command' commands
        return
    fi
    local -a words
    case "$1" in
{cases}    esac
    if [[ $PREFIX == -* ]]; then compadd -- $words; else _files; fi
}}

_ringfs() {{
    if [[ $words[2] == fs ]] && (( CURRENT > 2 )); then
        _ringfs_fs "$words[3]"
    else
        _ringfs_clap "$@"
    fi
}}

if [ "$funcstack[1]" = "_ringfs" ]; then
    _ringfs "$@"
else
    compdef _ringfs ringfs
fi
"#,
        body = body[..end].trim_end()
    )
    .replace("    local -a commands words_of_command\n", "    local -a commands\n")
}

fn fish(commands: &[Described]) -> String {
    let mut text = String::from(
        "function __ringfs_fs_has\n    set -l words (commandline -opc)\n    test (count $words) -ge 2; and test $words[2] = fs; and test (count $words) -ge 3; and test \"$words[3]\" = $argv[1]\nend\n\n",
    );
    let first = "test (count (commandline -opc)) -eq 2; and test (commandline -opc)[2] = fs";
    for command in commands {
        let summary = command.summary().replace('\'', "’");
        put(&mut text, format_args!("complete -c ringfs -n '{first}' -o '{}' -d '{summary}'", command.name));
        for (names, is_value) in [(command.flags, false), (command.values, true)] {
            for name in names {
                let value = if is_value { " -r" } else { "" };
                put(
                    &mut text,
                    format_args!(
                        "complete -c ringfs -n '__ringfs_fs_has -{}' -o '{name}'{value}",
                        command.name
                    ),
                );
            }
        }
    }
    text
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn each_shell_is_told_every_command_and_its_options() {
        for shell in [Known::Bash, Known::Zsh, Known::Fish] {
            let script = script(shell, crate::Cli::command());
            for command in described() {
                let name = if shell == Known::Fish {
                    format!("'{}'", command.name)
                } else {
                    format!("-{}", command.name)
                };
                assert!(script.contains(&name), "{shell:?} {name}");
                for option in command.flags {
                    assert!(script.contains(option), "{shell:?} {name} {option}");
                }
            }
            for name in ["fsck", "admin", "safemode", "recover-lease", "topology"] {
                assert!(script.contains(name), "{shell:?} {name}");
            }
        }
    }
}
