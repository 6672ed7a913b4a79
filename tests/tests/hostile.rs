//! Bytes that no client of ours sends: refused or closed with a logged reason, and the servers go on within their limits.

use std::io::Write;
use std::net::SocketAddr;

use ringfs_proto::Code;
use ringfs_proto::capability::{Capability, ClusterKey, Mode};
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::frame::Header;
use ringfs_proto::ids::{BlockId, CallId, ClusterId, DatanodeId, PrincipalId, RegistrationEpoch};
use ringfs_proto::meta::admin::PingV1;
use ringfs_proto::meta::data::{
    PipelineNodeV1, RangeDataV1, ReadHint, ReadRangeV1, ReadRangesRequestV1, ReplicaInfoRequestV1, WriteHint,
    WriteOpenRequestV1,
};
use ringfs_proto::meta::membership::{HeartbeatRequestV1, RegisterRequestV1};
use ringfs_proto::ops::{Heartbeat, Op, Ping, ReadRanges, Register, ReplicaInfo, WriteOpen};
use ringfs_proto::wire::Message;
use ringfs_tests::cluster::{Cluster, Options, Server, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::raw::{self, Raw};
use ringfs_tests::wait;

/// A small deterministic generator: the same hostile bytes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn one_file() -> (Cluster, ringfs_sdk::LocatedBlock) {
    let cluster = Cluster::start(&Options { datanodes: 1, ..Options::default() });
    let client = cluster.client();
    let mut writer = client.create_with("/f", &file_options(1, 1 << 20)).expect("created");
    writer.write_all(&Pattern { seed: 1 }.bytes(0, 10_000)).expect("written");
    writer.close().expect("closed");
    let located = client.block_locations("/f", 0, u64::MAX).expect("located").remove(0);
    (cluster, located)
}

/// Says hello, then `bytes`; the server must close without a panic.
fn say(address: SocketAddr, is_greeted: bool, bytes: &[u8]) {
    let mut raw = if is_greeted { Raw::greeted(address) } else { Raw::connect(address) };
    // The server may close before it has read everything.
    drop(raw.stream.write_all(bytes));
    drop(raw.stream.shutdown(std::net::Shutdown::Write));
    while raw.receive().is_ok() {}
}

fn assert_serves_within_limits(server: &mut Server, descriptors_before: usize) {
    let address = server.address();
    let echo = Raw::greeted(address).call::<Ping>(&PingV1 { echo: 7 }).expect("it still answers");
    assert_eq!(echo.echo, 7);
    let limit = server.ready.as_ref().expect("started").memory_limit_bytes;
    let process = server.process();
    assert!(process.ended().is_none(), "it still runs");
    let used = process.resident_bytes_max();
    assert!(used <= limit, "{used} bytes of memory, the limit is {limit}");
    wait::until_true("descriptors are given back", || process.descriptors() <= descriptors_before + 4);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn malformed_bytes_close_the_connection_and_nothing_else() {
    let (mut cluster, _) = one_file();
    for role in ["namenode", "datanode"] {
        let server = if role == "namenode" { &mut cluster.namenode } else { &mut cluster.datanodes[0] };
        let (address, before) = (server.address(), server.process().descriptors());
        let mut random = Random(0x1234_5678_9abc_def1);
        let ping = Raw::connect(address).request::<Ping>(&PingV1 { echo: 1 });
        for len in 0..ping.len() {
            say(address, true, &ping[..len]);
        }
        for bit in (0..ping.len() * 8).step_by(7) {
            let mut damaged = ping.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            say(address, true, &damaged);
        }
        for turn in 0..100 {
            let bytes = random.bytes(1 + (random.0 % 3000) as usize);
            say(address, turn % 2 == 0, &bytes);
        }
        for start in
            [&b"hrpc\x09\0\0"[..], b"\x00\x1c\x51", b"GET / HTTP/1.1\r\n\r\n", &[0xde, 0xad, 0xbe, 0xef]]
        {
            say(address, false, start);
        }
        let mut oversized = Header::request(Op::Ping, CallId(1));
        (oversized.meta_len, oversized.payload_len) = (u32::MAX, u32::MAX);
        say(address, true, &oversized.encode());
        // Metadata that is random, under a good checksum.
        for turn in 0..50 {
            let op = Op::ALL[turn % Op::ALL.len()];
            let mut bytes = Vec::new();
            let junk = random.bytes(200);
            ringfs_proto::frame::append(&mut bytes, Header::request(op, CallId(9)), 0, |meta| {
                meta.extend(&junk);
            });
            say(address, true, &bytes);
        }
        assert_serves_within_limits(server, before);
        assert!(server.log().contains("connection closed"), "the reason is logged");
    }
}

#[test]
fn half_frames_and_idle_connections_hold_little() {
    // This process holds the other ends.
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    let (mut cluster, _) = one_file();
    for role in ["namenode", "datanode"] {
        let server = if role == "namenode" { &mut cluster.namenode } else { &mut cluster.datanodes[0] };
        let address = server.address();
        let (before, threads) = (server.process().descriptors(), server.process().threads());
        let mut head = Header::request(Op::Ping, CallId(1));
        head.meta_len = 1 << 20;
        let mut held = Vec::new();
        for connection in 0..1000 {
            let mut raw = Raw::greeted(address);
            if connection % 2 == 0 {
                raw.stream.write_all(&head.encode()[..60]).expect("sent");
            }
            held.push(raw);
        }
        assert!(server.process().threads() <= threads + 2, "a connection costs no thread");
        drop(held);
        assert_serves_within_limits(server, before);
    }
}

#[test]
fn calls_without_reading_answers_are_bounded() {
    let (mut cluster, _) = one_file();
    let client = cluster.client();
    for entry in 0..300 {
        client.mkdirs(&format!("/many/directory-{entry:050}")).expect("made");
    }
    let before = cluster.namenode.process().descriptors();
    let mut raw = Raw::greeted(cluster.namenode.address());
    let request = ringfs_proto::meta::namespace::ListRequestV1 {
        path: "/many".to_owned(),
        start_after: String::new(),
        entries_max: 0,
    };
    raw.stream.set_nonblocking(true).expect("non-blocking");
    let mut sent = 0;
    for _ in 0..100_000 {
        let bytes = raw.request::<ringfs_proto::ops::List>(&request);
        if raw.stream.write_all(&bytes).is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 100_000, "the server stops reading");
    drop(raw);
    assert_serves_within_limits(&mut cluster.namenode, before);
}

fn read_code(address: SocketAddr, range: &ReadRangeV1) -> u16 {
    let mut raw = Raw::greeted(address);
    let ranges = vec![range.clone()];
    let request =
        ReadRangesRequestV1 { ranges, credit_bytes: 1 << 20, hint: ReadHint::Normal, record_bytes: 0 };
    let bytes = raw.request::<ReadRanges>(&request);
    raw.stream.write_all(&bytes).expect("sent");
    let (_, meta, _) = raw.receive().expect("an answer");
    RangeDataV1::decode(&meta).expect("a part").code
}

#[test]
fn a_block_id_alone_opens_nothing() {
    let (mut cluster, located) = one_file();
    let address = cluster.datanodes[0].address();
    let block = located.block;
    let range = |capability| ReadRangeV1 {
        capability,
        block: block.block,
        stamp: block.stamp,
        offset: 0,
        length: 10,
    };
    assert_eq!(read_code(address, &range(located.capability)), 0, "the real one opens it");
    let genuine = Capability {
        mode: Mode::Read,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
        user: PrincipalId(0),
        block: block.block,
        stamp: block.stamp,
        length_limit: 1 << 20,
        expires_s: u64::MAX / 2,
    };
    let key = cluster.cluster_file().key;
    let (invalid, expired) = (Code::CapabilityInvalid as u16, Code::CapabilityExpired as u16);
    assert_eq!(read_code(address, &range([0; 64])), invalid, "none");
    assert_eq!(
        read_code(address, &range(ClusterKey::new(1, [7; 32]).sign(&genuine))),
        invalid,
        "of another cluster"
    );
    assert_eq!(read_code(address, &range(key.sign(&Capability { expires_s: 1, ..genuine }))), expired);
    let other_block = Capability { block: BlockId(block.block.0 + 1), ..genuine };
    assert_eq!(read_code(address, &range(key.sign(&other_block))), invalid);
    let mut raw = Raw::greeted(address);
    let info = ReplicaInfoRequestV1 { capability: [0; 64], block: block.block };
    assert_eq!(raw.call::<ReplicaInfo>(&info).expect_err("refused").code, Code::CapabilityInvalid);
    let node = &located.nodes[0];
    let nodes = vec![PipelineNodeV1 {
        datanode: node.datanode,
        storage: node.storage,
        host: node.host.clone(),
        port: node.port,
    }];
    let open = WriteOpenRequestV1 {
        // A capability to read does not open for writing.
        capability: key.sign(&Capability { block: BlockId(999), ..genuine }),
        block: BlockId(999),
        stamp: block.stamp,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
        nodes,
        hint: WriteHint::Normal,
        announced_length: u64::MAX,
        stage: ringfs_proto::meta::data::WriteStage::Create,
    };
    assert_eq!(raw.call::<WriteOpen>(&open).expect("an answer").code, invalid);
    assert!(cluster.datanodes[0].metric("ringfs_datanode_refused_capabilities_total") >= 6.0);
    assert!(cluster.datanodes[0].process().ended().is_none());
}

#[test]
fn a_datanode_without_the_key_cannot_join() {
    let cluster = Cluster::start(&Options::default());
    let mut raw = Raw::connect(cluster.namenode.address());
    raw.hello(&raw::hello());
    let datanode = DatanodeId([5; 16]);
    let mut request = RegisterRequestV1 {
        datanode,
        cluster: cluster.cluster_file().cluster,
        nonce: [0; 16],
        proof: [0; 32],
        host: String::new(),
        port: 1,
        http_port: 0,
        software: "test".to_owned(),
        pid: 1,
        volumes: Vec::new(),
    };
    assert_eq!(raw.call::<Register>(&request).expect_err("refused").code, Code::PermissionDenied);
    request.cluster = ClusterId([9; 16]);
    assert_eq!(raw.call::<Register>(&request).expect_err("refused").code, Code::WrongCluster);
    let heartbeat = HeartbeatRequestV1 {
        epoch: RegistrationEpoch(1),
        volumes: Vec::new(),
        reads_active: 0,
        writes_active: 0,
        copies_active: 0,
        written: vec![BlockId(1)],
    };
    let code = raw.call::<Heartbeat>(&heartbeat).expect_err("refused").code;
    assert!(matches!(code, Code::NotRegistered | Code::StaleEpoch));
}
