//! What touches the process and the kernel in ways that the rest of the crate must not: generations of a forked process,
//! waiting for several sockets at once, the thread of a reactor. The only module with unsafe code, and the only one that
//! names monoio and corosensei.

#[allow(unsafe_code)]
pub(crate) mod fiber;
#[allow(unsafe_code)]
pub(crate) mod process;
#[allow(unsafe_code)]
pub(crate) mod reactor;
#[allow(unsafe_code)]
mod ring;
mod tasks;
pub(crate) mod wait;
