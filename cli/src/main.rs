//! `ringfs`: the servers, a whole cluster on one machine, file system commands, administration.

mod admin;
mod completions;
mod config_file;
mod du;
mod fs;
mod fsck;
mod logging;
mod man;
mod output;
mod place;
mod ready;
mod scrape;
mod servers;
mod top;
mod up;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The configuration is wrong.
const EXIT_CONFIG: u8 = 2;
/// A server refused to start, or failed.
const EXIT_REFUSED: u8 = 3;

/// A namenode refused to start because acknowledged changes cannot be read back.
const EXIT_DAMAGED: u8 = 4;

/// A distributed file system for deep learning.
#[derive(Debug, Parser)]
#[command(name = "ringfs", version, about, arg_required_else_help = true)]
struct Cli {
    /// How servers and tools log: text, or one JSON object a line. What is logged is set by RUST_LOG.
    #[arg(long, global = true, value_enum, default_value_t = logging::Format::Text)]
    log_format: logging::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a whole cluster on this machine, in the foreground.
    Up(up::Options),
    /// Run a namenode.
    Namenode(NamenodeOptions),
    /// Run a datanode.
    Datanode(DatanodeOptions),
    /// File system commands, spelt and answering as `hdfs dfs`.
    #[command(disable_help_flag = true)]
    Fs {
        /// `ringfs fs -help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        words: Vec<std::ffi::OsString>,
    },
    /// Check that all blocks of a tree can be read, as `hdfs fsck`.
    Fsck(fsck::Options),
    /// Count what a tree holds, for each owner if asked.
    Du(du::Options),
    /// Watch a cluster live: throughput, operations, busiest users, datanodes in trouble.
    Top(top::Options),
    /// Print what a shell needs to complete the command lines of ringfs.
    Completions(completions::Options),
    /// Write manual pages of all commands.
    Man(man::Options),
    /// Look after a cluster.
    Admin(admin::Options),
}

/// How a server behaves as the child of `ringfs up`, or of a test.
#[derive(Debug, clap::Args)]
struct ChildOptions {
    /// Write this JSON file once the server listens.
    #[arg(long, value_name = "FILE", hide = true)]
    ready_file: Option<PathBuf>,
    /// End with this parent process, however it ends.
    #[arg(long, value_name = "PID", hide = true)]
    with_parent: Option<u32>,
}

#[derive(Debug, clap::Args)]
struct NamenodeOptions {
    /// Configuration, TOML; docs/configuration.md has every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Make a new cluster in the configured, empty directory, and exit.
    #[arg(long)]
    format: bool,
    #[command(flatten)]
    child: ChildOptions,
}

#[derive(Debug, clap::Args)]
struct DatanodeOptions {
    /// Configuration, TOML; docs/configuration.md has every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    child: ChildOptions,
}

fn main() -> ExitCode {
    let words = words::as_clap_has_them(std::env::args_os());
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = if words::is_fsck(&words) { fsck::EXIT_FAILED } else { EXIT_CONFIG };
            // Help and version are no errors; a wrong word is one of configuration.
            let code = if error.use_stderr() { wrong } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let is_server = matches!(cli.command, Command::Namenode(_) | Command::Datanode(_));
    logging::start(cli.log_format, is_server);
    match cli.command {
        Command::Up(options) => up::run(&options),
        Command::Namenode(options) if options.format => servers::format_namenode(&options.config),
        Command::Namenode(options) => servers::run_namenode(&options.config, &options.child),
        Command::Datanode(options) => servers::run_datanode(&options.config, &options.child),
        Command::Fs { words } => fs::run(&words),
        Command::Fsck(options) => fsck::run(&options),
        Command::Du(options) => du::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Completions(options) => {
            completions::run(&options, Cli::command());
            ExitCode::SUCCESS
        }
        Command::Man(options) => man::run(&options, Cli::command()),
        Command::Admin(options) => admin::run(&options),
    }
}
