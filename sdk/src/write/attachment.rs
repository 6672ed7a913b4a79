//! A writer's hold on its lease: the session's connection to the namenode, looked at by each call and made again when it is
//! lost. No thread does it, so a writer that is not called keeps its lease only as long as the connection lives.

use std::time::Instant;

use ringfs_proto::meta::namespace::RenewLeaseRequestV1;
use ringfs_proto::ops::RenewLease;

use crate::client::Shared;
use crate::limits::{ATTACH_TIMEOUT, ATTACHMENT_CHECK_INTERVAL, ATTACHMENT_RETRY_INTERVAL};

/// When to look next.
#[derive(Debug, Default)]
pub(super) struct Attachment {
    next_check: Option<Instant>,
}

impl Attachment {
    /// Looks at the session's connection, at most once in a while, and attaches the session again if it is gone. The
    /// data path does not depend on the namenode, so a failure is not the caller's: the next call of it will tell.
    pub fn check(&mut self, shared: &Shared) {
        let now = shared.clock.now();
        if self.next_check.is_some_and(|next| now < next) {
            return;
        }
        self.next_check = Some(now + ATTACHMENT_CHECK_INTERVAL);
        if shared.namenode.is_attached() {
            return;
        }
        if let Err(fault) =
            shared.namenode.try_once::<RenewLease>(&RenewLeaseRequestV1 { told: None }, ATTACH_TIMEOUT)
        {
            tracing::debug!(%fault, "the session could not be attached again");
            self.next_check = Some(shared.clock.now() + ATTACHMENT_RETRY_INTERVAL);
        }
    }
}
