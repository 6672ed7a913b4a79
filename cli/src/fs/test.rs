//! `-test`: the exit code is the answer.

use ringfs_sdk::FileKind;

use super::args::Args;
use super::{Command, Failure, Shell};

pub const COMMAND: Command = Command {
    name: "test",
    flags: &["d", "e", "f", "r", "s", "w", "z"],
    values: &[],
    operands_min: 1,
    usage: "test -[defrswz] <path>",
    help: "Exit with 0 if the answer is yes, else with 1.\n\
           -d  is it a directory?\n-e  is it there?\n-f  is it a file?\n-r  may it be read?\n-s  is it not empty?\n\
           -w  may it be written?\n-z  is it a file of no bytes?",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let asked: Vec<&str> = COMMAND.flags.iter().copied().filter(|flag| args.has(flag)).collect();
    let ([flag], [path]) = (&asked[..], &args.operands[..]) else {
        let reason = if asked.is_empty() {
            "No test flag given"
        } else {
            "Only one test flag is allowed, and one path"
        };
        return Err(Failure::Usage(reason.to_owned()));
    };
    let place = shell.resolver.place(path)?;
    let status = place.find()?;
    let may = |access: u8| place.client.check_access(&place.path, access).is_ok();
    let is_true = status.is_some_and(|status| match *flag {
        "d" => status.kind == FileKind::Directory,
        "f" => status.kind == FileKind::File,
        "s" => status.length > 0 || status.children > 0,
        "z" => status.kind == FileKind::File && status.length == 0,
        "r" => may(4),
        "w" => may(2),
        _ => true,
    });
    if is_true { Ok(()) } else { Err(Failure::Silent) }
}
