//! `-getfattr`, `-setfattr`. HDFS: `XAttrCommands`, `XAttrCodec`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::args::Args;
use super::path::Place;
use super::{Command, Failure, Shell};
use crate::output::outln;

pub const GETFATTR: Command = Command {
    name: "getfattr",
    flags: &["R", "d"],
    values: &["n", "e"],
    operands_min: 1,
    usage: "getfattr [-R] {-n name | -d} [-e en] <path>",
    help: "Print extended attributes.\n\
           -n  the value of one\n-d  all of them\n-e  how values are written: text, hex or base64\n-R  with everything below",
    run: getfattr,
};

pub const SETFATTR: Command = Command {
    name: "setfattr",
    flags: &[],
    values: &["n", "v", "x"],
    operands_min: 1,
    usage: "setfattr {-n name [-v value] | -x name} <path>",
    help: "Set or remove an extended attribute. Names begin with user. or, for superusers, trusted.\n\
           -n  its name\n-v  its value: text, \"text\", 0x and hexadecimal, or 0s and base64\n-x  remove it",
    run: setfattr,
};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Text,
    Hex,
    Base64,
}

fn getfattr(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let encoding = match args.value("e") {
        None => Encoding::Text,
        Some(text) => Encoding::parse(text).ok_or_else(|| {
            Failure::Usage(format!("Invalid/unsupported encoding option specified: {text}"))
        })?,
    };
    let name = args.value("n");
    if name.is_none() && !args.has("d") {
        return Err(Failure::Usage("Must specify '-n name' or '-d' option.".to_owned()));
    }
    shell.for_each(GETFATTR.name, &args.operands, |place| {
        let mut all = vec![(place.clone(), place.stat()?)];
        if args.has("R") {
            all.extend(place.below(0)?);
        }
        for (place, _) in all {
            outln!("# file: {}", place.shown);
            let names: Vec<&str> = name.into_iter().collect();
            let found = place.client.xattrs(&place.path, &names);
            let found = found.map_err(|error| Failure::Path(error.message()))?;
            for xattr in found {
                match xattr.value.is_empty() {
                    true => outln!("{}", xattr.name),
                    false => outln!("{}={}", xattr.name, encoding.encode(&xattr.value)),
                }
            }
            outln!("");
        }
        Ok(())
    })
}

fn setfattr(shell: &Shell, args: &Args) -> Result<(), Failure> {
    let usage = |reason: &str| Failure::Usage(reason.to_owned());
    let (name, value) = match (args.value("n"), args.value("x")) {
        (Some(_), Some(_)) => return Err(usage("Cannot specify both '-n name' and '-x name' option.")),
        (None, None) => return Err(usage("Must specify '-n name' or '-x name' option.")),
        (None, Some(name)) => (name, None),
        (Some(name), None) => {
            let text = args.value("v").unwrap_or_default();
            (name, Some(decode(text).ok_or_else(|| usage(&format!("the value {text} is none")))?))
        }
    };
    shell.for_each(SETFATTR.name, &args.operands, |place: &Place| {
        place.stat()?;
        let changed = match &value {
            Some(value) => place.client.set_xattr(&place.path, name, value),
            None => place.client.remove_xattr(&place.path, name),
        };
        changed.map_err(|error| Failure::Path(error.message()))
    })
}

impl Encoding {
    fn parse(text: &str) -> Option<Self> {
        match text.to_lowercase().as_str() {
            "text" => Some(Self::Text),
            "hex" => Some(Self::Hex),
            "base64" => Some(Self::Base64),
            _ => None,
        }
    }

    fn encode(self, value: &[u8]) -> String {
        match self {
            Self::Text => format!("\"{}\"", String::from_utf8_lossy(value)),
            Self::Hex => format!("0x{}", value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            Self::Base64 => format!("0s{}", STANDARD.encode(value)),
        }
    }
}

/// Reads a value as it is written on a command line.
fn decode(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let digits: Vec<u8> =
            hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
        return digits
            .len()
            .is_multiple_of(2)
            .then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect());
    }
    if let Some(base64) = text.strip_prefix("0s").or_else(|| text.strip_prefix("0S")) {
        return STANDARD.decode(base64).ok();
    }
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    Some(quoted.unwrap_or(text).as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_and_read_in_every_encoding() {
        for value in [&b""[..], b"a", b"ab", b"abc", b"any carnal pleas", &[0, 255, 128, 7]] {
            assert_eq!(decode(&Encoding::Hex.encode(value)).as_deref(), Some(value));
            assert_eq!(decode(&Encoding::Base64.encode(value)).as_deref(), Some(value));
        }
        assert_eq!(Encoding::Base64.encode(b"Man"), "0sTWFu");
        assert_eq!(Encoding::Base64.encode(b"M"), "0sTQ==");
        assert_eq!(decode("\"quoted\"").as_deref(), Some(&b"quoted"[..]));
        assert_eq!(decode("plain").as_deref(), Some(&b"plain"[..]));
        assert_eq!((decode("0xabc"), decode("0xzz"), decode("0s*")), (None, None, None));
    }
}
