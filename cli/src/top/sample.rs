//! What `top` looks at: the state of the cluster at one time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringfs_sdk::{Activity, Client, Code, DatanodeInfo, FsStats};

use crate::scrape;

/// How long the metrics of a datanode are waited for.
const SCRAPE_DEADLINE: Duration = Duration::from_secs(1);
/// Datanodes whose metrics are fetched at once.
const SCRAPES_AT_ONCE: usize = 32;

/// A datanode, with its metrics if they could be had.
#[derive(Debug, Clone)]
pub struct NodeSample {
    /// As the namenode knows it.
    pub info: DatanodeInfo,
    /// By name.
    pub metrics: Option<BTreeMap<String, f64>>,
}

/// The cluster.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When, since some start.
    pub at: Duration,
    /// Totals.
    pub stats: FsStats,
    /// What the namenode was asked.
    pub activity: Activity,
    /// The datanodes; `None` when the user may not ask for them.
    pub nodes: Option<Vec<NodeSample>>,
}

impl Sample {
    /// Asks everybody.
    ///
    /// # Errors
    /// A sentence for the user: the namenode does not answer.
    pub fn take(client: &Client, begin: Instant) -> Result<Self, String> {
        let text = |error: ringfs_sdk::Error| error.to_string();
        let stats = client.fs_stats().map_err(text)?;
        let activity = client.activity(0).map_err(text)?;
        let nodes = match client.datanode_report() {
            Ok(nodes) => Some(scrape_all(nodes)),
            Err(error) if error.code() == Some(Code::PermissionDenied) => None,
            Err(error) => return Err(error.to_string()),
        };
        Ok(Self { at: begin.elapsed(), stats, activity, nodes })
    }
}

fn scrape_all(nodes: Vec<DatanodeInfo>) -> Vec<NodeSample> {
    let mut samples = Vec::with_capacity(nodes.len());
    let mut nodes = nodes.into_iter().peekable();
    while nodes.peek().is_some() {
        let group: Vec<DatanodeInfo> = nodes.by_ref().take(SCRAPES_AT_ONCE).collect();
        samples.extend(std::thread::scope(|scope| {
            let running: Vec<_> = group.iter().map(|node| scope.spawn(|| scrape_one(node))).collect();
            let metrics: Vec<_> = running.into_iter().map(|one| one.join().ok().flatten()).collect();
            group
                .iter()
                .zip(metrics)
                .map(|(info, metrics)| NodeSample { info: info.clone(), metrics })
                .collect::<Vec<_>>()
        }));
    }
    samples
}

fn scrape_one(node: &DatanodeInfo) -> Option<BTreeMap<String, f64>> {
    if node.http_port == 0 {
        return None;
    }
    let address = match node.host.contains(':') {
        true => format!("[{}]:{}", node.host, node.http_port),
        false => format!("{}:{}", node.host, node.http_port),
    };
    scrape::fetch(&address, SCRAPE_DEADLINE).ok().map(|text| scrape::parse(&text))
}
