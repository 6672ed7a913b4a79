//! Standard output of the tools: whoever reads it may have enough before the end (`ringfs fs -ls -R / | head`).

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// What a shell reports for a program that SIGPIPE has ended.
const EXIT_PIPE: i32 = 141;

/// Prints; ends the process quietly when nobody reads any more.
pub fn print(text: Arguments<'_>) {
    let Err(error) = std::io::stdout().lock().write_fmt(text) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(EXIT_PIPE);
    }
    eprintln!("ringfs: write to standard output: {error}");
    std::process::exit(1);
}

/// As [`print()`], and what is not a whole line is seen at once.
pub fn print_now(text: Arguments<'_>) {
    print(text);
    // A reader that has gone away is noticed by the next line.
    let _seen_later = std::io::stdout().flush();
}

/// Prints a line; ends the process quietly when nobody reads any more.
pub fn print_line(text: Arguments<'_>) {
    print(format_args!("{text}\n"));
}

/// Rows as lines, each column as wide as its widest cell, two spaces apart; numbers stand on the right.
pub fn align<const COLUMNS: usize>(rows: &[[String; COLUMNS]], are_numbers: [bool; COLUMNS]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).zip(are_numbers);
        let cells: Vec<String> = cells
            .map(
                |((cell, width), is_number)| {
                    if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Prints a line, as `println!` does, for readers that may go away.
macro_rules! outln {
    ($($text:tt)*) => { $crate::output::print_line(format_args!($($text)*)) };
}

pub(crate) use outln;
