//! When a pipeline that has lost a datanode gets another one.

use serde::Deserialize;

/// Whether a datanode that failed is replaced while the write goes on. Named and decided as HDFS's
/// `dfs.client.block.write.replace-datanode-on-failure.policy` (`ReplaceDatanodeOnFailure`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplacePolicy {
    /// Never: the pipeline goes on with what is left, and the namenode makes new replicas once the block is finished.
    Never,
    /// When the file shall have three replicas or more, and half of them or fewer are left, or readers may depend on
    /// what was flushed.
    #[default]
    Default,
    /// Whenever one is missing.
    Always,
}

impl ReplacePolicy {
    /// Whether a pipeline of `left` nodes, of a file that shall have `replication` replicas, gets another node.
    /// `is_flushed`: something of the block was flushed, or it was there before.
    pub(super) fn wants_more(self, replication: usize, left: usize, is_flushed: bool) -> bool {
        if left == 0 || left >= replication {
            return false;
        }
        match self {
            Self::Never => false,
            Self::Default => replication >= 3 && (left <= replication / 2 || is_flushed),
            Self::Always => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReplacePolicy::{Always, Default, Never};

    #[test]
    fn the_default_is_that_of_hdfs() {
        for (replication, left, is_flushed, expected) in [
            (3, 2, false, false),
            (3, 2, true, true),
            (3, 1, false, true),
            (2, 1, true, false),
            (10, 6, false, false),
            (10, 5, false, true),
            (3, 3, true, false),
            (3, 0, true, false),
        ] {
            assert_eq!(
                Default.wants_more(replication, left, is_flushed),
                expected,
                "{replication} {left} {is_flushed}"
            );
            assert!(!Never.wants_more(replication, left, is_flushed));
            assert_eq!(
                Always.wants_more(replication, left, is_flushed),
                left > 0 && left < replication,
                "{replication} {left}"
            );
        }
    }
}
