//! The error of every call: a kind that says what to do, what was tried on what, and why it failed.

use std::io;

use ringfs_proto::frame::FrameError;
use ringfs_proto::hello::HelloError;
use ringfs_proto::wire::DecodeError;
use ringfs_proto::{Code, WireError};

/// What every call returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The path is not there.
    NotFound,
    /// The path is there already.
    AlreadyExists,
    /// The user may not do this.
    PermissionDenied,
    /// The request can never succeed as it is: change it. [`Error::errno`] and [`Error::code`] say more.
    Refused,
    /// Another writer holds the file: wait, or write another.
    Busy,
    /// The writer's lease or stamp is gone: what was acknowledged is safe, open the file anew.
    LeaseLost,
    /// The file system takes no changes now: wait, or ask its operator.
    SafeMode,
    /// No datanode has room: free some, or ask the operator. Nothing that was acknowledged is harmed.
    NoRoom,
    /// No replica gave right bytes within the tries of this call: the data is lost, or its datanodes are down.
    DataUnavailable,
    /// No datanode of the pipeline is left, after data had flowed: what was flushed is safe, write the file anew.
    PipelineFailed,
    /// The deadline passed; the call may have been carried out.
    TimedOut,
    /// Nobody answers at the address, or not in our protocol.
    Unreachable,
    /// The handle is closed, has failed before, or belongs to the parent process.
    BadHandle,
    /// The configuration cannot be used.
    Config,
    /// A server's or our own mistake: report it.
    Internal,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {subject}: {source}")]
pub struct Error {
    kind: Kind,
    operation: &'static str,
    subject: String,
    source: Box<Fault>,
}

impl Error {
    pub(crate) fn new(operation: &'static str, subject: impl Into<String>, source: Fault) -> Self {
        Self { kind: source.kind(), operation, subject: subject.into(), source: Box::new(source) }
    }

    pub(crate) fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// What to do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was tried: a verb, as in `create`.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// On what it was tried: a path, or an address.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The code that a server answered, if one did.
    pub fn code(&self) -> Option<Code> {
        self.source.code()
    }

    /// The server's message, or the text of the cause.
    pub fn message(&self) -> String {
        self.source.to_string()
    }

    /// The number that C programs expect; 255 for internal errors.
    pub fn errno(&self) -> i32 {
        match self.kind {
            Kind::NotFound => libc::ENOENT,
            Kind::AlreadyExists => libc::EEXIST,
            Kind::PermissionDenied => libc::EACCES,
            Kind::Refused => self.code().map_or(libc::EINVAL, refused_errno),
            Kind::Busy => libc::EBUSY,
            Kind::LeaseLost => libc::ESTALE,
            Kind::SafeMode => libc::EROFS,
            Kind::NoRoom => libc::ENOSPC,
            Kind::DataUnavailable | Kind::PipelineFailed => libc::EIO,
            Kind::TimedOut => libc::ETIMEDOUT,
            Kind::Unreachable => libc::EHOSTUNREACH,
            Kind::BadHandle => libc::EBADF,
            Kind::Config => libc::EINVAL,
            Kind::Internal => EINTERNAL,
        }
    }
}

/// errno of whatever has no other (as Hadoop's libhdfs).
const EINTERNAL: i32 = 255;

fn refused_errno(code: Code) -> i32 {
    match code {
        Code::NotADirectory => libc::ENOTDIR,
        Code::IsADirectory => libc::EISDIR,
        Code::NotEmpty => libc::ENOTEMPTY,
        Code::NameTooLong => libc::ENAMETOOLONG,
        Code::LimitExceeded => libc::EDQUOT,
        Code::Unsupported => libc::ENOTSUP,
        _ => libc::EINVAL,
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            Kind::BadHandle | Kind::Internal => io::ErrorKind::Other,
            _ => io::Error::from_raw_os_error(error.errno()).kind(),
        };
        Self::new(kind, error)
    }
}

/// The cause of an error, as it is passed around inside the crate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("protocol violated: {0}")]
    Protocol(String),
    #[error("checksum mismatch in chunk {chunk} of the block")]
    Checksum { chunk: u64 },
    #[error("no answer within {0} ms")]
    Silent(u128),
    #[error("no replica could be read: {0}")]
    NoReplica(String),
    #[error("{0}")]
    Handle(&'static str),
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Transport(#[from] crate::transport::TransportError),
}

impl Fault {
    /// What a server answered.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Wire(error) => Some(error.code),
            Self::Transport(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the connection is unusable, so that another may answer.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Frame(_) | Self::Hello(_) | Self::Protocol(_) | Self::Silent(_))
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Wire(error) => code_kind(error.code),
            Self::Transport(error) => error.code().map_or(Kind::Unreachable, code_kind),
            Self::Io(_) | Self::Frame(_) | Self::Hello(_) | Self::Protocol(_) | Self::Decode(_) => {
                Kind::Unreachable
            }
            Self::Checksum { .. } | Self::NoReplica(_) => Kind::DataUnavailable,
            Self::Silent(_) => Kind::TimedOut,
            Self::Handle(_) => Kind::BadHandle,
            Self::Config(_) => Kind::Config,
        }
    }
}

fn code_kind(code: Code) -> Kind {
    match code {
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::PermissionDenied | Code::CapabilityInvalid => Kind::PermissionDenied,
        Code::NotADirectory
        | Code::IsADirectory
        | Code::NotEmpty
        | Code::InvalidArgument
        | Code::NameTooLong
        | Code::LimitExceeded
        | Code::WrongCluster
        | Code::ConditionFailed
        | Code::Unsupported => Kind::Refused,
        Code::LeaseHeld => Kind::Busy,
        Code::LeaseLost => Kind::LeaseLost,
        Code::SafeMode => Kind::SafeMode,
        Code::NoRoom => Kind::NoRoom,
        Code::DeadlinePassed | Code::Busy | Code::NotReplicatedYet => Kind::TimedOut,
        Code::BlockMissing
        | Code::BlockCorrupt
        | Code::StampMismatch
        | Code::OutOfRange
        | Code::CapabilityExpired
        | Code::ChecksumMismatch
        | Code::Io
        | Code::VolumeFailed => Kind::DataUnavailable,
        Code::PipelineFailed => Kind::PipelineFailed,
        Code::ShuttingDown | Code::NotRegistered => Kind::Unreachable,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(code: Code) -> i32 {
        Error::new("try", "/x", WireError::new(code, "why").into()).errno()
    }

    #[test]
    fn each_condition_has_the_number_that_c_programs_expect() {
        for (code, expected) in [
            (Code::NotFound, libc::ENOENT),
            (Code::NotADirectory, libc::ENOTDIR),
            (Code::IsADirectory, libc::EISDIR),
            (Code::NotEmpty, libc::ENOTEMPTY),
            (Code::InvalidArgument, libc::EINVAL),
            (Code::NameTooLong, libc::ENAMETOOLONG),
            (Code::LimitExceeded, libc::EDQUOT),
            (Code::Unsupported, libc::ENOTSUP),
            (Code::LeaseHeld, libc::EBUSY),
            (Code::LeaseLost, libc::ESTALE),
            (Code::SafeMode, libc::EROFS),
            (Code::NoRoom, libc::ENOSPC),
            (Code::BlockMissing, libc::EIO),
            (Code::DeadlinePassed, libc::ETIMEDOUT),
            (Code::Internal, EINTERNAL),
        ] {
            assert_eq!(errno(code), expected, "{code:?}");
        }
    }

    #[test]
    fn the_text_names_operation_subject_and_cause() {
        let error = Error::new("stat", "/a", WireError::new(Code::NotFound, "no such file").into());
        assert_eq!(error.to_string(), "stat /a: no such file");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
    }
}
