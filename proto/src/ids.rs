//! Identifiers, as newtypes so that no two kinds can be swapped.

use core::fmt;

/// Defines a 64-bit id that is shown as a plain decimal number.
macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
        )]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

/// Defines a 128-bit id that is shown as a UUID and parsed from one.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
        )]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }

        impl core::str::FromStr for $name {
            type Err = UuidError;
            fn from_str(text: &str) -> Result<Self, UuidError> {
                parse_uuid(text).map(Self)
            }
        }
    };
}

number_id!(
    /// A block of a file. Sequential from the namenode's log, starting at 1, never reused; 0 means none.
    BlockId
);
number_id!(
    /// A generation stamp: the version of a block. A higher stamp fences every writer that holds a lower one.
    Stamp
);
number_id!(
    /// A file or directory. The root is 1; 0 means none.
    InodeId
);
number_id!(
    /// A call of a session. Rises by at least one with each new call; a retry of a call keeps its id.
    CallId
);
number_id!(
    /// Ties together the log lines of all servers that took part in one call of a client; 0 means none.
    TraceId
);
number_id!(
    /// Position of a record in the write-ahead log, starting at 1, without gaps.
    LogIndex
);
number_id!(
    /// Term of the namenode that wrote a record. Always 1 until there are replicated namenodes.
    Term
);
number_id!(
    /// Fences older connections of a datanode: each registration gets a higher one.
    RegistrationEpoch
);
number_id!(
    /// Order of the reports of one storage. Rises with each report that is sent, also across restarts.
    ReportSequence
);

uuid_id!(
    /// The cluster, made by formatting the namenode.
    ClusterId
);
uuid_id!(
    /// A datanode, made at its first start.
    DatanodeId
);
uuid_id!(
    /// A volume of a datanode, made when the volume is formatted.
    StorageId
);
uuid_id!(
    /// A client process, fresh at each start and in each forked child. Retries and leases belong to it.
    SessionId
);

/// A user or group name as the namenode has numbered it. Meaningful inside one cluster only.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct PrincipalId(pub u32);

/// The text is not a UUID (8-4-4-4-12 hexadecimal digits).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parse uuid {text:?}: expected 8-4-4-4-12 hexadecimal digits")]
pub struct UuidError {
    /// What was given.
    pub text: String,
}

fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 0xf)];
        at += 2;
    }
    f.write_str(core::str::from_utf8(&text).map_err(|_impossible| fmt::Error)?)
}

fn parse_uuid(text: &str) -> Result<[u8; 16], UuidError> {
    let error = || UuidError { text: text.chars().take(64).collect() };
    let groups: Vec<&str> = text.split('-').collect();
    if groups.iter().map(|group| group.len()).ne([8, 4, 4, 4, 12]) {
        return Err(error());
    }
    let digits = groups.concat();
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let high = pair.first().and_then(|digit| char::from(*digit).to_digit(16)).ok_or_else(error)?;
        let low = pair.get(1).and_then(|digit| char::from(*digit).to_digit(16)).ok_or_else(error)?;
        *byte = (high * 16 + low) as u8;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_survives_text() {
        let id = ClusterId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 254, 255]);
        assert_eq!(id.to_string(), "00010203-0405-0607-0809-0a0b0c0dfeff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn malformed_uuid_is_rejected() {
        for text in
            ["", "0001", "00010203-0405-0607-0809-0a0b0c0dfefg", "000102030405-0607-0809-0a0b-0c0dfeff", "é"]
        {
            assert!(text.parse::<ClusterId>().is_err(), "{text}");
        }
    }
}
