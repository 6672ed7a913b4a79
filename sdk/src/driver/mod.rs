//! What touches the process and the kernel in ways that the rest of the crate must not: generations of a forked process,
//! and waiting for several sockets at once. The only module with unsafe code, and the only one that names monoio.

#[allow(unsafe_code)]
pub(crate) mod process;
#[allow(unsafe_code)]
mod ring;
pub(crate) mod wait;
