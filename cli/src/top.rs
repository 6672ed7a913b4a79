//! `ringfs top`: what a cluster does now, live on the terminal, or once for a script.

mod draw;
mod sample;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ringfs_sdk::Client;
use ringfs_sdk::environment::{Clock, SystemClock};

use crate::admin::connect;
use crate::output::outln;
use draw::{History, draw};
use sample::Sample;
use view::View;

/// Size of what `--once` prints, in characters, where standard output is no terminal.
const PRINTED_SIZE: (u16, u16) = (110, 40);

/// Between the first look and the second, so that something is there soon.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Options of `ringfs top`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = interval)]
    interval: f64,
    /// Look twice, print what happened in between, and end.
    #[arg(long)]
    once: bool,
    /// Print JSON, one object a look, instead of drawing.
    #[arg(long)]
    json: bool,
    /// The file system [default: RINGFS_URI or the client's configuration]
    #[arg(long, value_name = "URI")]
    fs: Option<String>,
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number of seconds from 0.1 to 3600".to_owned()),
    }
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    let done = connect(options.fs.as_deref()).map_err(|error| error.to_string()).and_then(|client| {
        if options.once || options.json || !std::io::stdout().is_terminal() {
            print_looks(&client, options)
        } else {
            watch(&client, options)
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("ringfs: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Prints looks: one with `--once`, else one after the other until somebody ends it.
fn print_looks(client: &Client, options: &Options) -> Result<(), String> {
    let begin = Instant::now();
    let (mut before, mut history) = (Sample::take(client, begin)?, History::default());
    loop {
        SystemClock.pause(Duration::from_secs_f64(options.interval));
        let after = Sample::take(client, begin)?;
        let view = View::between(&before, &after);
        history.add(&view);
        if options.json {
            outln!("{}", serde_json::to_string(&view).map_err(|error| error.to_string())?);
        } else {
            crate::output::print(format_args!("{}", plain(&client.uri(), &view, &history, PRINTED_SIZE)?));
        }
        if options.once {
            return Ok(());
        }
        before = after;
    }
}

/// A look as text: what the terminal would show, without colours and empty lines at the end.
fn plain(uri: &str, view: &View, history: &History, (width, height): (u16, u16)) -> Result<String, String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(|error| error.to_string())?;
    terminal.draw(|frame| draw(frame, uri, Ok(view), history)).map_err(|error| error.to_string())?;
    let buffer = terminal.backend().buffer();
    let row = |y: u16| -> String { (0..width).map(|x| buffer[(x, y)].symbol()).collect() };
    let rows: Vec<String> = (0..height).map(|y| row(y).trim_end().to_owned()).collect();
    let filled = rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
    Ok(rows[..filled].iter().map(|row| format!("{row}\n")).collect())
}

/// Draws until `q`, Esc or Ctrl-C. A namenode that does not answer is said so, and asked again.
fn watch(client: &Client, options: &Options) -> Result<(), String> {
    let mut terminal = ratatui::try_init().map_err(|error| format!("draw on the terminal: {error}"))?;
    let done = watch_on(&mut terminal, client, options);
    ratatui::restore();
    done
}

fn watch_on(
    terminal: &mut ratatui::DefaultTerminal,
    client: &Client,
    options: &Options,
) -> Result<(), String> {
    let begin = Instant::now();
    let text = |error: std::io::Error| format!("draw on the terminal: {error}");
    let (mut before, mut view, mut history) = (Sample::take(client, begin)?, None, History::default());
    let mut pause = FIRST_PAUSE.min(Duration::from_secs_f64(options.interval));
    loop {
        let shown = match &view {
            None => Err("looking for the first time ..."),
            Some(Ok(view)) => Ok(view),
            Some(Err(reason)) => Err(String::as_str(reason)),
        };
        let until = Instant::now() + pause;
        // A key, or a terminal of another size, draws at once.
        loop {
            terminal.draw(|frame| draw(frame, &client.uri(), shown, &history)).map_err(text)?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !event::poll(left).map_err(text)? {
                break;
            }
            if is_end(&event::read().map_err(text)?) {
                return Ok(());
            }
        }
        pause = Duration::from_secs_f64(options.interval);
        match Sample::take(client, begin) {
            Ok(after) => {
                let seen = View::between(&before, &after);
                history.add(&seen);
                (before, view) = (after, Some(Ok(seen)));
            }
            Err(reason) => view = Some(Err(reason)),
        }
    }
}

fn is_end(event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return false };
    let is_interrupt = *code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL);
    is_interrupt || matches!(code, KeyCode::Char('q') | KeyCode::Esc)
}
