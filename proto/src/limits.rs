//! Every bound that both ends of a wire must agree on. Bounds of one role live in that role.

/// Bytes of the fixed frame header.
pub const FRAME_HEADER_BYTES: usize = 64;
/// Largest metadata of a frame to or from a client.
pub const META_BYTES_MAX: usize = 1 << 20;
/// Largest metadata of a frame between datanode and namenode (block reports).
pub const META_BYTES_MAX_REPORT: usize = 4 << 20;
/// Largest payload of a frame: a data packet with its checksums.
pub const PAYLOAD_BYTES_MAX: usize =
    PACKET_DATA_BYTES_MAX + PACKET_DATA_BYTES_MAX / CHUNK_BYTES_MIN as usize * 4;
/// Largest body of a hello and of its reply.
pub const HELLO_BYTES_MAX: usize = 4096;

/// Most block data in one packet.
pub const PACKET_DATA_BYTES_MAX: usize = 1 << 20;
/// Most checksums in one packet: one per chunk, and one more for a packet that begins inside a chunk.
pub const PACKET_CHECKSUM_BYTES_MAX: usize = (PACKET_DATA_BYTES_MAX / CHUNK_BYTES_MIN as usize + 1) * 4;
/// Block data in a packet, unless the writer chooses otherwise. Fits a second-level cache together with its copy.
pub const PACKET_DATA_BYTES_DEFAULT: usize = 512 << 10;
/// Bytes that a writer has sent and not yet seen acknowledged, at most.
pub const WRITE_WINDOW_BYTES_DEFAULT: usize = 8 << 20;
/// Ranges in one `ReadRanges` request.
pub const READ_RANGES_MAX: usize = 1024;
/// Bytes of all ranges of one `ReadRanges` request.
pub const READ_REQUEST_BYTES_MAX: u64 = 64 << 20;
/// Calls that a client may have unanswered on one connection.
pub const CALLS_IN_FLIGHT_MAX: usize = 1024;

/// Smallest checksum chunk.
pub const CHUNK_BYTES_MIN: u32 = 512;
/// Largest checksum chunk.
pub const CHUNK_BYTES_MAX: u32 = 1 << 20;
/// Checksum chunk of native writers.
pub const CHUNK_BYTES_NATIVE: u32 = 4096;
/// Largest length limit of a block.
pub const BLOCK_BYTES_MAX: u64 = 1 << 40;
/// Smallest block size that a file may ask for (Hadoop's contract tests need 1024).
pub const BLOCK_BYTES_MIN: u64 = 1024;
/// Block size of a file, unless the creator says otherwise.
pub const BLOCK_BYTES_DEFAULT: u64 = 128 << 20;
/// Most datanodes in a pipeline.
pub const PIPELINE_NODES_MAX: usize = 16;
/// Largest replication of a file (HDFS: `dfs.replication.max`).
pub const REPLICATION_MAX: u16 = 512;
/// Replication of a file, unless the creator says otherwise.
pub const REPLICATION_DEFAULT: u16 = 3;

/// Bytes of one path component (HDFS: `dfs.namenode.fs-limits.max-component-length`).
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a path (HDFS: `HdfsServerConstants.MAX_PATH_LENGTH`).
pub const PATH_BYTES_MAX: usize = 8000;
/// Components of a path (HDFS: `HdfsServerConstants.MAX_PATH_DEPTH`).
pub const PATH_DEPTH_MAX: usize = 1000;
/// Entries of one directory (HDFS: `dfs.namenode.fs-limits.max-directory-items`).
pub const DIRECTORY_ENTRIES_MAX: u32 = 1_048_576;
/// Blocks of one file (HDFS: `dfs.namenode.fs-limits.max-blocks-per-file`).
pub const FILE_BLOCKS_MAX: u32 = 10_000;
/// Entries in one page of a listing (HDFS: `dfs.ls.limit`).
pub const LIST_PAGE_ENTRIES_MAX: u32 = 1000;
/// Bytes of the largest file that a namenode may be told to keep itself; also the bytes of such files in one reply.
pub const INLINE_BYTES_MAX: usize = 512 << 10;
/// Paths in one request of `BatchStat` and `BatchOpen`.
pub const BATCH_PATHS_MAX: usize = 1000;
/// Files that one call of `Concat` moves behind another.
pub const CONCAT_SOURCES_MAX: usize = 1000;
/// Steps of one call of `Commit`.
pub const COMMIT_STEPS_MAX: usize = 256;
/// Conditions of one step of `Commit`.
pub const COMMIT_CONDITIONS_MAX: usize = 16;
/// Patterns that one pattern of `Glob` may stand for: texts in braces that contain slashes are written out.
pub const GLOB_PATTERNS_MAX: usize = 256;
/// Blocks in one reply of `GetBlockLocations`; a reader of a longer range asks again.
pub const LOCATED_BLOCKS_MAX: usize = 1000;
/// Users of which the namenode tells what they asked.
pub const ACTIVITY_USERS_MAX: u32 = 1000;
/// Entries of an access ACL, and of a default ACL (HDFS: `AclTransformation.MAX_ENTRIES`).
pub const ACL_ENTRIES_MAX: usize = 32;
/// Extended attributes of one inode (HDFS: `dfs.namenode.fs-limits.max-xattrs-per-inode`).
pub const XATTRS_PER_INODE_MAX: usize = 32;
/// Bytes of the name, without its namespace, and the value of an extended attribute (HDFS:
/// `dfs.namenode.fs-limits.max-xattr-size`).
pub const XATTR_BYTES_MAX: usize = 16_384;
/// The latest time that an inode may be given, ms since 1970: access times are kept in 32 bits of seconds.
pub const TIME_MS_MAX: u64 = u32::MAX as u64 * 1000;
/// Bytes of a user or group name.
pub const PRINCIPAL_BYTES_MAX: usize = 64;
/// Replicas in one page of a block report.
pub const REPORT_PAGE_REPLICAS_MAX: usize = 50_000;
/// Blocks named in one command to a datanode.
pub const COMMAND_BLOCKS_MAX: usize = 1000;
/// Volumes of one datanode.
pub const VOLUMES_MAX: usize = 64;
/// Results that the namenode keeps for retries, per session.
pub const RETRY_RESULTS_MAX: usize = 1024;
