//! The words of the command line, before they are parsed.

use std::ffi::OsString;

/// Whether the words are a command line of `fsck`.
pub fn is_fsck(words: &[OsString]) -> bool {
    // Options stand before the command only as `--log-format WORD` or `--log-format=WORD`.
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        match word.to_str() {
            Some("--log-format") => drop(rest.next()),
            Some(word) if word.starts_with("--") => {}
            word => return word == Some("fsck"),
        }
    }
    false
}

/// `fsck` takes its options with one dash, as in Hadoop, and with two: here they get two.
pub fn as_clap_has_them(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    if !is_fsck(&words) {
        return words;
    }
    for word in words.iter_mut().skip(1).take_while(|word| *word != "--") {
        let Some(text) = word.to_str() else { continue };
        let is_long = text.len() > 2 && text.starts_with('-') && !text.starts_with("--");
        if is_long {
            *word = OsString::from(format!("-{text}"));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(text: &str) -> Vec<OsString> {
        as_clap_has_them(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_of_fsck_may_have_one_dash() {
        assert_eq!(
            convert("ringfs fsck /a -files --blocks -fs ringfs://h -h -- -racks"),
            ["ringfs", "fsck", "/a", "--files", "--blocks", "--fs", "ringfs://h", "-h", "--", "-racks"]
        );
        assert_eq!(convert("ringfs --log-format json fsck -files")[4], "--files");
        assert_eq!(convert("ringfs fs -ls fsck"), ["ringfs", "fs", "-ls", "fsck"]);
    }
}
