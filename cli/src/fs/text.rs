//! Modes, sizes and times as Hadoop writes them.

use chrono::{DateTime, Local, Utc};
use ringfs_sdk::{FileKind, FileStatus};

/// `drwxr-xr-x`, with the sticky bit as `t` or `T`.
pub fn permissions(status: &FileStatus) -> String {
    let kind = if status.kind == FileKind::Directory { 'd' } else { '-' };
    let mut text = String::from(kind);
    for shift in [6, 3, 0] {
        let bits = status.mode >> shift;
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if bits & bit != 0 { letter } else { '-' });
        }
    }
    if status.mode & 0o1000 != 0 {
        let last = if status.mode & 1 != 0 { 't' } else { 'T' };
        text.pop();
        text.push(last);
    }
    text
}

/// 1536 as `1.5 K`; below 1024 the number alone (`StringUtils.TraditionalBinaryPrefix.long2String`).
pub fn human_size(bytes: u64) -> String {
    let units = ['K', 'M', 'G', 'T', 'P', 'E'];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let exponent = (bytes.ilog2() / 10).min(units.len() as u32);
    let value = bytes as f64 / (1u64 << (10 * exponent)) as f64;
    let unit = units[exponent as usize - 1];
    if value.fract() == 0.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// A size for a column.
pub fn size(bytes: u64, is_human: bool) -> String {
    if is_human { human_size(bytes) } else { bytes.to_string() }
}

/// `2026-11-24 12:05`, local time.
pub fn local_minute(ms: u64) -> String {
    time(ms).map_or_else(
        || ms.to_string(),
        |time| time.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string(),
    )
}

/// `2026-11-24 12:05:09`, UTC.
pub fn utc_second(ms: u64) -> String {
    time(ms).map_or_else(|| ms.to_string(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}

fn time(ms: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(ms).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_look_as_in_hadoop() {
        let cases =
            [(0, "0"), (1023, "1023"), (1024, "1 K"), (1536, "1.5 K"), (1 << 30, "1 G"), (u64::MAX, "16 E")];
        for (bytes, expected) in cases {
            assert_eq!(human_size(bytes), expected);
        }
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(utc_second(1_700_000_000_123), "2023-11-14 22:13:20");
    }
}
