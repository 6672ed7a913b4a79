//! Every bound of this crate. Bounds that both ends of a wire agree on are in `ringfs_proto::limits`.

use std::time::Duration;

/// How long a call survives a namenode that does not answer, unless the user says otherwise.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(60);
/// How long one connection may take to be made.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// How long a peer may be silent while something is expected of it.
pub const IO_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How long a pipeline may be silent while an acknowledgement is due, before its nodes are asked whether they live.
pub const PIPELINE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How long a node of a silent pipeline has for saying that it lives.
pub const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// First pause between two tries; doubled each time.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest pause between two tries of a server that is there and asks for patience.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Longest pause while a server is awaited that is away: asking one that is not there costs it nothing, and the pause is what
/// its clients lose once it is back.
pub const RETURN_BACKOFF_MAX: Duration = Duration::from_millis(250);
/// Sockets that one process may have open at once.
pub const SOCKETS_MAX: usize = 4096;
/// Idle connections kept to one address.
pub const IDLE_PER_ADDRESS_MAX: usize = 128;
/// Idle connections kept in all.
pub const IDLE_MAX: usize = 512;
/// How long an idle connection to a datanode is kept. Shorter than the datanode's own patience.
pub const IDLE_EXPIRY: Duration = Duration::from_secs(45);
/// Data asked for in one range of one request: large reads are split into ranges of this size.
pub const RANGE_BYTES_MAX: u64 = 8 << 20;
/// Requests on the wire at once on one connection: the next is there before the answer to the one before ends.
pub const REQUESTS_AHEAD: usize = 2;
/// A sequential reader asks for this much at a time.
pub const STREAM_REQUEST_BYTES: u64 = 32 << 20;
/// A sequential reader lets a datanode be this far ahead.
pub const STREAM_CREDIT_BYTES: u64 = 8 << 20;
/// A sequential reader with a smaller buffer takes this much off the socket at once.
pub const STREAM_TAIL_BYTES: u64 = 64 << 10;
/// Hedged reads per thousand, unless the user says otherwise.
pub const HEDGE_BUDGET_PERMILLE_DEFAULT: u32 = 50;
/// A replica that was silent for less is never hedged, unless the user says otherwise.
pub const HEDGE_AFTER_MIN_DEFAULT: Duration = Duration::from_millis(20);
/// Bytes that one hedge asks for again, in memory of its own.
pub const HEDGE_BYTES_MAX: u64 = 4 << 20;
/// Hedges that may follow each other when none were needed for long.
pub const HEDGES_AT_ONCE_MAX: u64 = 16;
/// Datanodes whose latencies are kept.
pub const LATENCY_ADDRESSES_MAX: usize = 1024;
/// Latencies of one datanode before the 95th percentile says anything.
pub const LATENCY_SAMPLES_MIN: u32 = 20;
/// Latencies of one datanode that count; then all of them count half.
pub const LATENCY_SAMPLES_MAX: u32 = 512;
/// Times that locations are fetched anew within one read when every replica has refused for good: corrupt, missing. (One
/// that is only unreachable may come back: it is waited for until the deadline.)
pub const REFRESHES_MAX: usize = 4;
/// Replicas found bad that wait to be reported, and those that were, so that each is reported once.
pub const BAD_REPLICAS_MAX: usize = 64;
/// How long the report of bad replicas may take; the next read tries again.
pub const BAD_REPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a writer looks at its session's connection.
pub const ATTACHMENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long it waits after it could not be made again.
pub const ATTACHMENT_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// How long making it again may keep a call waiting.
pub const ATTACH_TIMEOUT: Duration = Duration::from_secs(1);
/// Pipelines that are set up for a new block without a pause in between.
pub const PIPELINE_TRIES_MAX: usize = 5;
/// Failures of a writer's pipelines in a row, without a byte acknowledged in between (HDFS: 5, in `DataStreamer`).
pub const PIPELINE_FAILURES_MAX: usize = 5;
/// Times that the namenode is asked for more datanodes within one recovery.
pub const REPLACEMENTS_MAX: usize = 4;
/// Times within one recovery that a node may know a later stamp than the one given out, before it is dropped for that.
pub const FENCES_MAX: usize = 3;
/// How long a recovery waits for the namenode to say where the nodes of its pipeline are now.
pub const LOCATE_TIMEOUT: Duration = Duration::from_secs(2);
/// Slowest copy of an open replica to a node that joins its pipeline; a slower one has failed.
pub const TRANSFER_BYTES_PER_SECOND_MIN: u64 = 2 << 20;
/// Acknowledgements that have arrived and wait to be looked at.
pub const ACKS_WAITING_MAX: usize = 4096;
/// Bytes of the stack of an operation on a reactor. Mapped, not used: an operation touches some 20 KiB of it.
pub const FIBER_STACK_BYTES: usize = 512 << 10;
/// An operation that has run for longer without a wait lets others run.
pub const FIBER_TURN_MAX: Duration = Duration::from_micros(200);
/// Stacks that a reactor keeps for later operations.
pub const FIBER_STACKS_IDLE_MAX: usize = 64;
/// Operations that one reactor has in progress at once. Each may hold a connection to the namenode.
pub const REACTOR_OPERATIONS_MAX: usize = 128;
/// Operations that wait for a reactor to begin them; the next ones wait for room.
pub const REACTOR_QUEUE_LEN_MAX: usize = 1024;
/// Events that a reactor takes from the kernel at once.
pub const REACTOR_EVENTS_MAX: usize = 256;
