//! `ringfs man`: manual pages of all commands, made from the same tables as their help.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::fs::described::{Described, described};
use crate::output::outln;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// An existing directory, e.g. /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes a page for each command.
pub fn run(options: &Options, cli: clap::Command) -> ExitCode {
    match write_all(&options.directory, cli) {
        Ok(count) => {
            outln!("wrote {count} pages to {}", options.directory.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringfs: write manual pages to {}: {error}", options.directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(directory: &Path, cli: clap::Command) -> std::io::Result<usize> {
    let pages = pages(cli)?;
    for (name, page) in &pages {
        fs::write(directory.join(format!("{name}.1")), page)?;
    }
    Ok(pages.len())
}

/// The pages by their names.
fn pages(cli: clap::Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut cli = cli.disable_help_subcommand(true);
    // Names such as `ringfs-admin-report` are known afterwards.
    cli.build();
    let mut pages = Vec::new();
    add(&cli, &mut pages)?;
    Ok(pages)
}

fn add(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    if name == "ringfs-fs" {
        page.extend(fs_commands()?);
    }
    pages.push((name.to_owned(), page));
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| add(below, pages))
}

/// The section about the file system commands, which clap does not know.
fn fs_commands() -> std::io::Result<Vec<u8>> {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for Described { usage, help, .. } in described() {
        roff.control("TP", []);
        roff.text([bold(format!("-{usage}"))]);
        for (number, line) in help.lines().enumerate() {
            if number > 0 {
                roff.control("br", []);
            }
            roff.text([roman(line)]);
        }
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in
        [("0", "Done."), ("1", "A path failed; the others were done."), ("255", "The command line is wrong.")]
    {
        roff.control("TP", []);
        roff.text([bold(code)]);
        roff.text([roman(meaning)]);
    }
    let mut bytes = Vec::new();
    roff.to_writer(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages(crate::Cli::command()).expect("made");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in
            ["ringfs", "ringfs-up", "ringfs-fsck", "ringfs-admin", "ringfs-admin-safemode", "ringfs-fs"]
        {
            assert!(names.contains(&name), "{name} of {names:?}");
        }
        let (_, fs) = pages.iter().find(|(name, _)| name == "ringfs-fs").expect("a page");
        let fs = String::from_utf8_lossy(fs);
        for command in described() {
            assert!(fs.contains(&format!("\\-{}", command.name)), "{} is in {fs}", command.name);
        }
        assert!(names.iter().all(|name| !name.contains(' ')));
    }
}
