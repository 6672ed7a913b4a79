//! Hadoop's command lines: single-dash words, flags before operands, generic options before the command.

use super::Command;

/// Options that stand before the command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generic {
    /// `-fs URI` or `--fs URI`.
    pub fs: Option<String>,
    /// `-D dfs.replication=N`.
    pub replication: Option<u16>,
    /// `-D dfs.blocksize=N`, with a suffix as Hadoop has them: 128m.
    pub block_size: Option<u64>,
}

/// Flags, options with a value, and operands of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    flags: Vec<&'static str>,
    values: Vec<(&'static str, String)>,
    /// What is left.
    pub operands: Vec<String>,
}

/// Takes the generic options off the front.
///
/// # Errors
/// A sentence for the user.
pub fn split_generic(words: Vec<String>) -> Result<(Generic, Vec<String>), String> {
    let mut generic = Generic::default();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.peek().cloned() {
        let setting = match word.as_str() {
            "-fs" | "--fs" => {
                words.next();
                generic.fs = Some(words.next().ok_or(format!("{word}: the URI is missing"))?);
                continue;
            }
            "-D" => {
                words.next();
                words.next().ok_or("-D: the setting is missing")?
            }
            word => match word.strip_prefix("-D").or_else(|| word.strip_prefix("--fs=")) {
                Some(uri) if word.starts_with("--fs=") => {
                    generic.fs = Some(uri.to_owned());
                    words.next();
                    continue;
                }
                Some(setting) if setting.contains('=') => {
                    let setting = setting.to_owned();
                    words.next();
                    setting
                }
                _ => break,
            },
        };
        apply(&mut generic, &setting)?;
    }
    Ok((generic, words.collect()))
}

fn apply(generic: &mut Generic, setting: &str) -> Result<(), String> {
    let (key, value) = setting.split_once('=').ok_or(format!("-D {setting}: expected KEY=VALUE"))?;
    let invalid = || format!("-D {setting}: not a number that makes sense");
    match key {
        "dfs.replication" => generic.replication = Some(value.parse().map_err(|_| invalid())?),
        "dfs.blocksize" | "dfs.block.size" => {
            generic.block_size = Some(parse_size(value).ok_or_else(invalid)?);
        }
        // Hadoop takes any key; those that mean nothing here change nothing here.
        _ => tracing::debug!(key, "setting without a meaning here"),
    }
    Ok(())
}

/// A number of bytes as Hadoop writes them: 1024, 64k, 128m, 1g (`StringUtils.TraditionalBinaryPrefix`).
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        (at, 't' | 'T') => (&text[..at], 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl Args {
    /// Parses what follows the command: flags first, then operands; `--` ends the flags.
    ///
    /// # Errors
    /// A sentence for the user, as Hadoop's `CommandFormat` says it.
    pub fn parse(command: &Command, words: &[String]) -> Result<Self, String> {
        let mut args = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.as_slice().first() {
            let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else { break };
            words.next();
            if name == "-" {
                break;
            }
            if let Some(flag) = command.flags.iter().find(|flag| **flag == name) {
                args.flags.push(flag);
            } else if let Some(option) = command.values.iter().find(|option| **option == name) {
                let value = words.next().ok_or(format!("option -{name} needs a value"))?;
                args.values.push((option, value.clone()));
            } else {
                return Err(format!("Illegal option -{name}"));
            }
        }
        let rest: Vec<String> = words.cloned().collect();
        if rest.len() < command.operands_min {
            return Err(format!(
                "Not enough arguments: expected {} but got {}",
                command.operands_min,
                rest.len()
            ));
        }
        args.operands = rest;
        Ok(args)
    }

    /// Whether a flag was given.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The value of an option.
    pub fn value(&self, option: &str) -> Option<&str> {
        self.values.iter().rev().find(|(name, _)| *name == option).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{find, put};
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn generic_options_stand_before_the_command() {
        let (generic, rest) =
            split_generic(words("-D dfs.replication=2 -Ddfs.blocksize=64m --fs ringfs://h:1 -ls -R /"))
                .expect("parsed");
        let expected =
            Generic { fs: Some("ringfs://h:1".to_owned()), replication: Some(2), block_size: Some(64 << 20) };
        assert_eq!((generic, rest), (expected, words("-ls -R /")));
        assert!(split_generic(words("-D dfs.replication=x -ls")).is_err());
        assert!(split_generic(words("-D")).is_err());
        assert_eq!(parse_size("1g"), Some(1 << 30));
        assert_eq!(parse_size("99999999t"), None);
    }

    #[test]
    fn flags_options_and_operands_are_told_apart() {
        let args = Args::parse(&put::PUT, &words("-f -t 16 -p a b /c")).expect("parsed");
        assert!(args.has("f") && args.has("p"));
        assert_eq!((args.value("t"), &args.operands), (Some("16"), &words("a b /c")));
        let args = Args::parse(&put::PUT, &words("- /c")).expect("parsed");
        assert_eq!(args.operands, words("- /c"), "a lone dash is standard input");
        let args = Args::parse(&put::PUT, &words("-- -f /c")).expect("parsed");
        assert_eq!((args.has("f"), args.operands), (false, words("-f /c")));
        assert!(
            Args::parse(&put::PUT, &words("-x a /c")).expect_err("refused").contains("Illegal option -x")
        );
        let mkdir = find("-mkdir").expect("a command");
        assert_eq!(
            Args::parse(mkdir, &[]).expect_err("refused"),
            "Not enough arguments: expected 1 but got 0"
        );
    }
}
