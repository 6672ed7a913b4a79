//! Patterns of paths. HDFS: `Globber`, `GlobExpander`, `GlobPattern`.
//!
//! A pattern becomes one matcher per level of the tree; a level without special characters is a name to look up. Matchers
//! are regular expressions of a kind that takes time linear in the name, whatever the pattern.

use regex::{Regex, RegexBuilder};
use ringfs_proto::limits::{GLOB_PATTERNS_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};
use ringfs_proto::{Code, WireError};

use super::walk::Choice;

/// Memory of one compiled matcher, at most, bytes.
const MATCHER_BYTES_MAX: usize = 1 << 20;
/// Bytes of a pattern that cost as much to match as looking at one more entry.
const PATTERN_BYTES_PER_COST: usize = 64;

/// A pattern that has been checked, without texts in braces that contain slashes.
#[derive(Debug)]
pub struct Glob {
    levels: Vec<Level>,
}

#[derive(Debug)]
enum Level {
    Name(String),
    Pattern { matcher: Box<Regex>, cost: usize },
}

impl Glob {
    /// The patterns that a pattern stands for, each without a slash in braces, in the order in which they are written.
    ///
    /// # Errors
    /// `InvalidArgument`, `LimitExceeded`.
    pub fn expand(pattern: &str) -> Result<Vec<String>, WireError> {
        if pattern.len() > PATH_BYTES_MAX {
            let message = format!("pattern of {} bytes exceeds {PATH_BYTES_MAX}", pattern.len());
            return Err(WireError::new(Code::NameTooLong, message));
        }
        if !pattern.starts_with('/') {
            return Err(invalid(pattern, "not absolute"));
        }
        let (mut todo, mut done) = (vec![pattern.to_owned()], Vec::new());
        while let Some(next) = todo.pop() {
            match braces_with_slash(&next) {
                Some(braces) => todo.extend(braces.written_out(&next).into_iter().rev()),
                None => done.push(next),
            }
            if todo.len() + done.len() > GLOB_PATTERNS_MAX {
                let message = format!("pattern {pattern} stands for more than {GLOB_PATTERNS_MAX} patterns");
                return Err(WireError::new(Code::LimitExceeded, message));
            }
        }
        Ok(done)
    }

    /// A pattern that came out of [`Self::expand`].
    ///
    /// # Errors
    /// `InvalidArgument`: it is no pattern, or too large; `NameTooLong`.
    pub fn parse(pattern: &str) -> Result<Self, WireError> {
        let names: Vec<&str> = pattern.split('/').filter(|name| !name.is_empty()).collect();
        if names.len() > PATH_DEPTH_MAX {
            let message = format!("pattern of {} levels exceeds {PATH_DEPTH_MAX}", names.len());
            return Err(WireError::new(Code::NameTooLong, message));
        }
        let level = |name: &&str| parse_level(name).map_err(|reason| invalid(pattern, &reason));
        Ok(Self { levels: names.iter().map(level).collect::<Result<_, _>>()? })
    }

    /// Whether an entry that is admitted at this depth matches the whole pattern.
    pub fn is_match_at(&self, depth: usize) -> bool {
        depth + 1 == self.levels.len()
    }

    /// Whether it is the pattern of the root alone.
    pub fn is_root(&self) -> bool {
        self.levels.is_empty()
    }
}

impl Choice for &Glob {
    fn only(&self, depth: usize) -> Option<&str> {
        match self.levels.get(depth)? {
            Level::Name(name) => Some(name),
            Level::Pattern { .. } => None,
        }
    }

    fn admits(&self, depth: usize, name: &str) -> bool {
        match self.levels.get(depth) {
            Some(Level::Name(only)) => only == name,
            Some(Level::Pattern { matcher, .. }) => matcher.is_match(name),
            None => false,
        }
    }

    fn is_last(&self, depth: usize) -> bool {
        depth + 1 >= self.levels.len()
    }

    fn cost(&self, depth: usize) -> usize {
        match self.levels.get(depth) {
            Some(Level::Pattern { cost, .. }) => *cost,
            _ => 1,
        }
    }
}

/// Braces with a slash in them: where they begin and end, and where the commas between their texts are.
struct Braces {
    open: usize,
    commas: Vec<usize>,
    close: usize,
}

impl Braces {
    fn written_out(&self, pattern: &str) -> Vec<String> {
        let (before, after) = (&pattern[..self.open], &pattern[self.close + 1..]);
        let begins = std::iter::once(self.open).chain(self.commas.iter().copied());
        let ends = self.commas.iter().copied().chain([self.close]);
        begins.zip(ends).map(|(begin, end)| format!("{before}{}{after}", &pattern[begin + 1..end])).collect()
    }
}

/// The first outermost braces with a slash in them.
fn braces_with_slash(pattern: &str) -> Option<Braces> {
    let (mut depth, mut open, mut commas, mut has_slash) = (0usize, 0, Vec::new(), false);
    let mut characters = pattern.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '{' => {
                depth += 1;
                if depth == 1 {
                    (open, has_slash) = (at, false);
                    commas.clear();
                }
            }
            ',' if depth == 1 => commas.push(at),
            '/' if depth > 0 => has_slash = true,
            '}' if depth == 1 && has_slash => return Some(Braces { open, commas, close: at }),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn invalid(pattern: &str, reason: &str) -> WireError {
    WireError::new(Code::InvalidArgument, format!("Illegal file pattern: {reason} in {pattern}"))
}

/// One level: as a name if nothing in it is special, else as a regular expression.
fn parse_level(text: &str) -> Result<Level, String> {
    let mut parser =
        Parser { rest: text.chars(), name: String::new(), regex: String::new(), is_pattern: false };
    parser.parse()?;
    if !parser.is_pattern {
        return Ok(Level::Name(parser.name));
    }
    let regex = format!("^(?s:{})$", parser.regex);
    let matcher = RegexBuilder::new(&regex).size_limit(MATCHER_BYTES_MAX).build();
    let matcher = matcher.map_err(|error| format!("no pattern ({error})"))?;
    Ok(Level::Pattern { matcher: Box::new(matcher), cost: 1 + text.len() / PATTERN_BYTES_PER_COST })
}

struct Parser<'a> {
    rest: std::str::Chars<'a>,
    /// The text without escapes.
    name: String,
    regex: String,
    is_pattern: bool,
}

impl Parser<'_> {
    fn parse(&mut self) -> Result<(), String> {
        let mut braces = 0;
        while let Some(character) = self.rest.next() {
            match character {
                '\\' => {
                    let escaped = self.escaped()?;
                    self.literal(escaped);
                }
                '*' => self.special(".*"),
                '?' => self.special("."),
                '{' => {
                    braces += 1;
                    self.special("(?:");
                }
                ',' if braces > 0 => self.special("|"),
                '}' if braces > 0 => {
                    braces -= 1;
                    self.special(")");
                }
                '[' => self.class()?,
                other => self.literal(other),
            }
        }
        if braces > 0 { Err("Unclosed group".to_owned()) } else { Ok(()) }
    }

    fn escaped(&mut self) -> Result<char, String> {
        self.rest.next().ok_or_else(|| "Missing escaped character".to_owned())
    }

    fn literal(&mut self, character: char) {
        self.name.push(character);
        self.regex.push_str(&hex(character));
    }

    fn special(&mut self, regex: &str) {
        self.is_pattern = true;
        self.regex.push_str(regex);
    }

    /// What follows `[`, up to `]`. A `]` that comes first is one of the characters.
    fn class(&mut self) -> Result<(), String> {
        let mut ahead = self.rest.clone();
        let is_negated = matches!(ahead.next(), Some('^' | '!'));
        if is_negated {
            self.rest = ahead;
        }
        let mut class = String::new();
        loop {
            match self.rest.next().ok_or("Unclosed character class")? {
                ']' if !class.is_empty() => break,
                '[' => return Err("Unclosed character class".to_owned()),
                begin => {
                    let begin = if begin == '\\' { self.escaped()? } else { begin };
                    self.range(begin, &mut class)?;
                }
            }
        }
        self.special(&format!("[{}{class}]", if is_negated { "^" } else { "" }));
        Ok(())
    }

    /// One character of a class, or those from it to another.
    fn range(&mut self, begin: char, class: &mut String) -> Result<(), String> {
        class.push_str(&hex(begin));
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || matches!(ahead.clone().next(), Some(']') | None) {
            return Ok(());
        }
        self.rest = ahead;
        let end = self.escaped()?;
        let end = if end == '\\' { self.escaped()? } else { end };
        if end < begin {
            return Err(format!("Illegal character range {begin}-{end}"));
        }
        class.push('-');
        class.push_str(&hex(end));
        Ok(())
    }
}

/// A character that means itself, whatever it is.
fn hex(character: char) -> String {
    format!("\\x{{{:x}}}", u32::from(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let glob = Glob::parse(&format!("/{pattern}")).expect(pattern);
        (&glob).admits(0, name)
    }

    #[test]
    fn patterns_mean_what_they_mean_in_hadoop() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("a?c", &["abc", "aéc", "a?c"], &["ac", "abbc"]),
            ("*", &["", "a", ".hidden"], &[]),
            ("a*.csv", &["a.csv", "ab.csv"], &["a.csv.gz", "ba.csv", "axcsv"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x", "-x"]),
            ("[^a-c]x", &["dx", "éx"], &["ax"]),
            ("[!a]x", &["bx", "!x"], &["ax"]),
            ("[a^]", &["a", "^"], &["b"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[\\]&&~~]", &["]", "&", "~"], &["\\"]),
            ("{ab,cd}e", &["abe", "cde"], &["ab", "e"]),
            ("{a,b{c,d}}", &["a", "bc", "bd"], &["b", "bcd"]),
            ("x{,y}", &["x", "xy"], &["y"]),
            ("a,b}", &["a,b}"], &["a"]),
            ("\\*", &["*"], &["a"]),
            ("a.b+(c)|$^", &["a.b+(c)|$^"], &["axb+(c)|$^"]),
        ];
        for (pattern, good, bad) in cases {
            assert!(good.iter().all(|name| matches(pattern, name)), "{pattern} matches {good:?}");
            assert!(bad.iter().all(|name| !matches(pattern, name)), "{pattern} does not match {bad:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["/[a", "/{a", "/a\\", "/[c-a]", "/[[]", "/[]"] {
            let error = Glob::parse(pattern).expect_err(pattern);
            assert_eq!(error.code, Code::InvalidArgument, "{pattern}: {error}");
        }
        assert_eq!(Glob::expand("a/*").expect_err("not absolute").code, Code::InvalidArgument);
    }

    #[test]
    fn texts_with_slashes_are_written_out() {
        let expand = |pattern| Glob::expand(pattern).expect(pattern);
        assert_eq!(expand("/{a/b,c}/{d,e}"), ["/a/b/{d,e}", "/c/{d,e}"]);
        assert_eq!(expand("/x{/a,/b{/c,d}}"), ["/x/a", "/x/b/c", "/x/bd"]);
        assert_eq!(expand("/{a,b}/\\{c/d,e}"), ["/{a,b}/\\{c/d,e}"]);
        assert_eq!(expand("/{a/b"), ["/{a/b"]);
        let many = format!("/{}", "{a/,b/}".repeat(10));
        assert_eq!(Glob::expand(&many).expect_err("too many").code, Code::LimitExceeded);
    }

    #[test]
    fn names_without_special_characters_are_looked_up() {
        let glob = Glob::parse("/data/a\\*b/*").expect("valid");
        let glob = &glob;
        assert_eq!((glob.only(0), glob.only(1), glob.only(2)), (Some("data"), Some("a*b"), None));
        assert!(!glob.is_last(1) && glob.is_last(2));
    }
}
