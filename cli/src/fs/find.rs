//! `-find`. HDFS: `find.Find` and its expressions.

use ringfs_namenode::state::{Choice, Glob};

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell};
use crate::output::print;

pub const COMMAND: Command = Command {
    name: "find",
    flags: &[],
    values: &[],
    operands_min: 0,
    usage: "find <path> ... <expression> ...",
    help: "Print what an expression holds for, at and below each path; the home directory if there is none.\n\
           -name PATTERN  the last name matches the glob pattern\n-iname PATTERN  the same, whatever the case\n\
           -print  print the path: what is done if nothing else is asked\n-print0  print it with a zero behind\n\
           -a, -and  both hold; two expressions side by side mean the same",
    run,
};

/// What is asked of each path, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Name(String),
    NameOfAnyCase(String),
    Print,
    Print0,
}

fn run(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let (paths, expressions) = parse(&args.operands).map_err(Failure::Usage)?;
    shell.for_each(COMMAND.name, &paths, |place| {
        place.stat()?;
        look(place, &expressions);
        for (place, _) in place.below(0)? {
            look(&place, &expressions);
        }
        Ok(())
    })
}

/// Paths, then expressions.
fn parse(words: &[String]) -> Result<(Vec<String>, Vec<Expression>), String> {
    let first = words.iter().position(|word| word.starts_with('-') && word.len() > 1).unwrap_or(words.len());
    let (paths, rest) = words.split_at(first);
    let (mut expressions, mut rest) = (Vec::new(), rest.iter());
    while let Some(word) = rest.next() {
        let mut pattern = || rest.next().cloned().ok_or(format!("{word}: the pattern is missing"));
        match word.as_str() {
            "-name" => expressions.push(Expression::Name(pattern()?)),
            "-iname" => expressions.push(Expression::NameOfAnyCase(pattern()?.to_lowercase())),
            "-print" => expressions.push(Expression::Print),
            "-print0" => expressions.push(Expression::Print0),
            "-a" | "-and" => {}
            other => return Err(format!("Unexpected argument: {other}")),
        }
    }
    if !expressions.iter().any(|one| matches!(one, Expression::Print | Expression::Print0)) {
        expressions.push(Expression::Print);
    }
    let paths = if paths.is_empty() { vec![String::new()] } else { paths.to_vec() };
    Ok((paths, expressions))
}

fn look(place: &Place, expressions: &[Expression]) {
    for expression in expressions {
        let name = place.name();
        let holds = match expression {
            Expression::Name(pattern) => matches(pattern, name),
            Expression::NameOfAnyCase(pattern) => matches(pattern, &name.to_lowercase()),
            Expression::Print => {
                print(format_args!("{}\n", place.shown));
                true
            }
            Expression::Print0 => {
                print(format_args!("{}\0", place.shown));
                true
            }
        };
        if !holds {
            return;
        }
    }
}

/// Whether a name matches a glob pattern, as the server matches one component of a path.
pub fn matches(pattern: &str, name: &str) -> bool {
    Glob::parse(&format!("/{pattern}")).is_ok_and(|glob| (&glob).admits(0, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn paths_come_before_expressions_and_print_is_meant() {
        let (paths, expressions) = parse(&words("/a /b -name *.txt -a -iname A*")).expect("parsed");
        assert_eq!(paths, words("/a /b"));
        let expected = [
            Expression::Name("*.txt".to_owned()),
            Expression::NameOfAnyCase("a*".to_owned()),
            Expression::Print,
        ];
        assert_eq!(expressions, expected);
        assert_eq!(parse(&[]).expect("parsed"), (vec![String::new()], vec![Expression::Print]));
        assert!(parse(&words("/a -name")).is_err() && parse(&words("/a -size 3")).is_err());
    }
}
