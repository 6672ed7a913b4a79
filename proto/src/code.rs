//! Stable error codes of the wire, and what a caller may do about each.

use core::fmt;

/// What a caller may do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The answer is final.
    Never,
    /// Ask the same node again, after a pause.
    SameNode,
    /// Another replica or node may answer.
    OtherNode,
    /// Fetch fresh locations or capabilities, then try again.
    AfterRefresh,
}

/// Defines the codes in one table: name, number, retry class, description.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $retry:ident, $text:literal;)*) => {
        /// A stable error code. Unknown numbers decode to [`Code::Internal`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $text] $name = $value,)*
        }

        impl Code {
            /// Every code, for tests and tables.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code of a number read from a peer.
            pub fn from_u16(value: u16) -> Code {
                match value {
                    $($value => Code::$name,)*
                    _ => Code::Internal,
                }
            }

            /// What a caller may do after this error.
            pub fn retry(self) -> Retry {
                match self {
                    $(Code::$name => Retry::$retry,)*
                }
            }

            /// What the code means, lower case, without values.
            pub fn text(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    Internal = 1, Never, "internal error";
    NotFound = 2, Never, "no such file or directory";
    AlreadyExists = 3, Never, "already exists";
    NotADirectory = 4, Never, "not a directory";
    IsADirectory = 5, Never, "is a directory";
    NotEmpty = 6, Never, "directory is not empty";
    PermissionDenied = 7, Never, "permission denied";
    InvalidArgument = 8, Never, "invalid argument";
    NameTooLong = 9, Never, "name too long";
    LimitExceeded = 10, Never, "limit exceeded";
    LeaseHeld = 11, Never, "another writer holds the lease";
    LeaseLost = 12, Never, "the lease or the stamp of the writer is stale";
    SafeMode = 13, SameNode, "the namenode is in safe mode";
    NoRoom = 14, Never, "no datanode has room";
    NotReplicatedYet = 15, SameNode, "an earlier block is not replicated yet";
    BlockMissing = 16, AfterRefresh, "no such replica";
    BlockCorrupt = 17, OtherNode, "the replica is corrupt";
    StampMismatch = 18, AfterRefresh, "the replica has another stamp";
    OutOfRange = 19, AfterRefresh, "range beyond the length of the replica";
    CapabilityInvalid = 20, Never, "the capability is missing or was not made by this cluster";
    CapabilityExpired = 21, AfterRefresh, "the capability has expired";
    ChecksumMismatch = 22, OtherNode, "checksum mismatch";
    PipelineFailed = 23, AfterRefresh, "a datanode of the pipeline failed";
    Busy = 24, SameNode, "too busy, try again";
    DeadlinePassed = 25, Never, "deadline passed";
    Unsupported = 26, Never, "unsupported operation or version";
    Malformed = 27, Never, "malformed message";
    WrongCluster = 28, Never, "wrong cluster";
    DuplicateId = 29, Never, "the id is in use by another node";
    StaleEpoch = 30, Never, "the registration was replaced by a newer one";
    NotRegistered = 31, SameNode, "the datanode is not registered";
    ShuttingDown = 32, OtherNode, "the server is shutting down";
    Io = 33, OtherNode, "input or output error";
    VolumeFailed = 34, OtherNode, "the volume has failed";
    ReplicaExists = 35, Never, "the replica exists already";
    ConditionFailed = 36, Never, "a condition of a commit is not met";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// An error as it crosses the wire: branch on the code, show the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// What kind of error.
    pub code: Code,
    /// What was tried, with its values; at most 1 KiB.
    pub message: String,
}

impl WireError {
    /// An error with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_distinct() {
        for code in Code::ALL {
            assert_eq!(Code::from_u16(*code as u16), *code);
        }
        assert_eq!(Code::from_u16(0xffff), Code::Internal);
    }
}
