//! A metric as a role reports it; the HTTP face turns it into text.

/// Whether a value only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from the start of the process.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// One value with its name, Prometheus style: `ringfs_datanode_read_bytes_total`.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Name, with unit and `_total` for counters.
    pub name: &'static str,
    /// What it counts, one sentence.
    pub help: &'static str,
    /// Whether it only rises.
    pub kind: Kind,
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl Metric {
    /// A counter without labels.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: Kind::Counter, labels: Vec::new(), value: value as f64 }
    }

    /// A gauge without labels.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, kind: Kind::Gauge, labels: Vec::new(), value }
    }

    /// The same metric with one more label.
    pub fn with_label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}

/// What a running server shows to its operator.
pub trait Observed: Send + Sync {
    /// Why the server cannot serve, or `Ok`.
    ///
    /// # Errors
    /// One sentence for the operator.
    fn health(&self) -> Result<(), String>;

    /// All metrics of this moment; metrics of one name stand together.
    fn metrics(&self) -> Vec<Metric>;
}
