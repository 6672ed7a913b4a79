//! `-count`. HDFS: `Count`, `ContentSummary`.

use super::args::Args;
use super::text::human_size;
use super::{Command, Failure, Shell, json};
use crate::output::outln;

pub const COMMAND: Command = Command {
    name: "count",
    flags: &["q", "h", "v", "u", "x", "e", "s", json::FLAG],
    values: &[],
    operands_min: 1,
    usage: "count [-q] [-h] [-v] [-u] [-x] [--json] <path> ...",
    help: "Print the numbers of directories, files and bytes below each path: DIR_COUNT FILE_COUNT CONTENT_SIZE PATHNAME\n\
           -q  the quotas too: there are none\n-u  the quotas alone\n-h  numbers for people: 1.5 K\n-v  with a header\n\
           --json  an object for each path\n\
           -x, -e, -s  taken and without effect: there are no snapshots and no erasure coding",
    run,
};

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let (with_quota, with_counts) = (args.has("q") || args.has("u"), !args.has("u"));
    if args.has("v") && !args.has(json::FLAG) {
        let mut header = String::new();
        if with_quota {
            header += &format!(
                "{:>12} {:>15} {:>15} {:>15} ",
                "QUOTA", "REM_QUOTA", "SPACE_QUOTA", "REM_SPACE_QUOTA"
            );
        }
        if with_counts {
            header += &format!("{:>12} {:>12} {:>18} ", "DIR_COUNT", "FILE_COUNT", "CONTENT_SIZE");
        }
        outln!("{header}PATHNAME");
    }
    let number = |value: u64| if args.has("h") { human_size(value) } else { value.to_string() };
    shell.for_each(COMMAND.name, &args.operands, |place| {
        let summary = place.client.content_summary(&place.path).map_err(|error| place.failure(&error))?;
        if args.has(json::FLAG) {
            json::print(&serde_json::json!({
                "path": place.path, "directories": summary.directories, "files": summary.files,
                "length": summary.length, "space_consumed": summary.space_consumed,
            }));
            return Ok(());
        }
        let mut line = String::new();
        if with_quota {
            line += &format!("{:>12} {:>15} {:>15} {:>15} ", "none", "inf", "none", "inf");
        }
        if with_counts {
            let [directories, files, bytes] =
                [summary.directories, summary.files, summary.length].map(number);
            line += &format!("{directories:>12} {files:>12} {bytes:>18} ");
        }
        outln!("{line}{}", place.shown);
        Ok(())
    })
}
