//! Errors of the namespace as the Java classes that clients know.

use ringfs_hadoop::frames::RemoteError;
use ringfs_hadoop::rpc::RpcErrorCode;
use ringfs_proto::{Code, WireError};

pub(crate) const FILE_NOT_FOUND: &str = "java.io.FileNotFoundException";
pub(crate) const FILE_ALREADY_EXISTS: &str = "org.apache.hadoop.fs.FileAlreadyExistsException";
pub(crate) const ILLEGAL_ARGUMENT: &str = "org.apache.hadoop.HadoopIllegalArgumentException";
pub(crate) const IO: &str = "java.io.IOException";
pub(crate) const ACCESS_CONTROL: &str = "org.apache.hadoop.security.AccessControlException";
pub(crate) const UNSUPPORTED: &str = "java.lang.UnsupportedOperationException";

/// The class of an error where an operation has none of its own for it.
fn class_of(error: &WireError) -> &'static str {
    match error.code {
        Code::NotFound | Code::IsADirectory => FILE_NOT_FOUND,
        Code::AlreadyExists => FILE_ALREADY_EXISTS,
        Code::NotADirectory => "org.apache.hadoop.fs.ParentNotDirectoryException",
        Code::NotEmpty => "org.apache.hadoop.fs.PathIsNotEmptyDirectoryException",
        Code::PermissionDenied => ACCESS_CONTROL,
        Code::InvalidArgument if error.message.starts_with("Invalid path name") => {
            "org.apache.hadoop.fs.InvalidPathException"
        }
        Code::InvalidArgument if error.message.ends_with("is a reserved name.") => ILLEGAL_ARGUMENT,
        Code::NameTooLong if error.message.starts_with("Pathname too long") => IO,
        Code::NameTooLong => "org.apache.hadoop.hdfs.protocol.FSLimitException$PathComponentTooLongException",
        Code::LeaseHeld => "org.apache.hadoop.hdfs.protocol.AlreadyBeingCreatedException",
        Code::LeaseLost => "org.apache.hadoop.hdfs.server.namenode.LeaseExpiredException",
        Code::SafeMode => "org.apache.hadoop.hdfs.server.namenode.SafeModeException",
        Code::NotReplicatedYet => "org.apache.hadoop.hdfs.server.namenode.NotReplicatedYetException",
        Code::Busy => "org.apache.hadoop.ipc.RetriableException",
        _ => IO,
    }
}

/// An error of the namespace.
pub(crate) fn of_wire(error: WireError) -> RemoteError {
    RemoteError::new(class_of(&error), error.message)
}

/// An error of the namespace, of another class where an operation has one of its own for a code.
pub(crate) fn of_wire_but(error: WireError, own: &[(Code, &'static str)]) -> RemoteError {
    match own.iter().find(|(code, _)| *code == error.code) {
        Some((_, class)) if class_of(&error) != "org.apache.hadoop.fs.InvalidPathException" => {
            RemoteError::new(class, error.message)
        }
        _ => of_wire(error),
    }
}

/// The same error, of a method that has its own words for what is missing: `{}` in them is the path.
pub(crate) fn missing(error: WireError, words: &str) -> WireError {
    let path = error.message.strip_prefix("File does not exist: ").filter(|_| error.code == Code::NotFound);
    match path.map(|path| words.replace("{}", path)) {
        Some(message) => WireError { message, ..error },
        None => error,
    }
}

/// The same error, of a method that checks the way to its path before it looks whether anything is there
/// (HDFS: `FSPermissionChecker.checkTraverse`).
pub(crate) fn traversed(error: WireError) -> WireError {
    match error.message.strip_prefix("Parent path is not a directory: ") {
        Some(path) if error.code == Code::NotADirectory => {
            let message = format!("{path} (is not a directory)");
            WireError { message, ..error }
        }
        _ => error,
    }
}

/// A request that cannot be decoded.
pub(crate) fn malformed(reason: &str) -> RemoteError {
    let class = "org.apache.hadoop.ipc.RpcServerException";
    let message = format!("the request cannot be decoded: {reason}");
    RemoteError { class, message, detail: RpcErrorCode::FatalDeserializingRequest }
}

/// A method that is not there.
pub(crate) fn no_such_method(method: &str, protocol: &str) -> RemoteError {
    let class = "org.apache.hadoop.ipc.RpcNoSuchMethodException";
    let message = format!("Unknown method {method} called on {protocol} protocol.");
    RemoteError { class, message, detail: RpcErrorCode::ErrorNoSuchMethod }
}

/// A protocol that is not there.
pub(crate) fn no_such_protocol(protocol: &str) -> RemoteError {
    let class = "org.apache.hadoop.ipc.RpcNoSuchProtocolException";
    let message = format!("Unknown protocol: {protocol}");
    RemoteError { class, message, detail: RpcErrorCode::ErrorNoSuchProtocol }
}

/// What is not there for good.
pub(crate) fn unsupported(what: &str) -> RemoteError {
    RemoteError::new(UNSUPPORTED, format!("{what} is not supported by RingFS"))
}
