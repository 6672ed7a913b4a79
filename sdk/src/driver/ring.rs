//! Waiting for several sockets through monoio: io_uring where the kernel allows it, else epoll.

use std::io;
use std::time::Instant;

use super::wait::{Interest, Waiting};

/// Waits like [`super::wait::any`]; `None` where this thread cannot run the driver.
pub(super) fn any(
    _interests: &[Interest<'_>],
    _until: Instant,
    _waiting: Waiting,
) -> Option<io::Result<bool>> {
    None
}
