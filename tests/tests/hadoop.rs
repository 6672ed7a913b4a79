//! What a bare HDFS client sees: every method, errors, retries, bad bytes. Stock clients are in `make test-hdfs`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use prost::Message;
use ringfs_hadoop::calls::{CLIENT_PROTOCOL, append_call, beginning};
use ringfs_hadoop::client::*;
use ringfs_hadoop::hdfs::{ChecksumType, FsPermission, LocatedBlock};
use ringfs_hadoop::packets::Operation;
use ringfs_hadoop::transfer::{
    BaseHeader, BlockConstructionStage, Checksum, ClientOperationHeader, OpReadBlock, OpWriteBlock, Status,
};
use ringfs_proto::checksum;
use ringfs_tests::cluster::{Cluster, Options};
use ringfs_tests::hadoop::{HadoopRpc, Transfer};

/// Messages of a `.proto` file: label, type and number of their fields.
type Messages = BTreeMap<String, Vec<(String, String, u32)>>;

fn messages() -> Messages {
    let protos = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/hadoop/protos");
    let mut messages = Messages::new();
    for file in ["client.proto", "hdfs.proto"] {
        let text = std::fs::read_to_string(protos.join(file)).expect("read");
        let mut current = String::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["message" | "enum", name, ..] => {
                    current = name.to_owned();
                    messages.entry(current.clone()).or_default();
                }
                [label @ ("required" | "optional" | "repeated"), kind, _, "=", number, ..] => {
                    let number = number.trim_end_matches(';').parse().expect("a number");
                    let kind = kind.rsplit('.').next().unwrap_or(kind).to_owned();
                    messages.entry(current.clone()).or_default().push((label.to_owned(), kind, number));
                }
                _ => {}
            }
        }
    }
    messages
}

/// A request with something in each field that it must have.
fn plausible(messages: &Messages, message: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (label, kind, number) in &messages[message] {
        if label != "required" {
            continue;
        }
        let (wire_type, value) = match kind.as_str() {
            "string" => (2, b"\x02/a".to_vec()),
            "bytes" => (2, vec![0]),
            "bool" | "uint32" | "uint64" | "int32" | "int64" | "sint32" | "sint64" => (0, vec![1]),
            other if messages[other].is_empty() => (0, vec![1]),
            other => {
                let inner = plausible(messages, other);
                (2, [&[inner.len() as u8][..], &inner].concat())
            }
        };
        bytes.push((number << 3 | wire_type) as u8);
        bytes.extend(value);
    }
    bytes
}

#[test]
fn each_of_the_111_methods_answers() {
    let cluster = Cluster::start(&Options::default());
    let messages = messages();
    let methods: Vec<String> = messages
        .keys()
        .filter_map(|name| name.strip_suffix("Request"))
        .map(|name| name[..1].to_lowercase() + &name[1..])
        .collect();
    assert_eq!(methods.len(), 111);
    let user = cluster.client().user().to_owned();
    let mut rpc = HadoopRpc::connect(cluster.namenode.address(), &user);
    for method in &methods {
        let message = method[..1].to_uppercase() + &method[1..] + "Request";
        for request in [plausible(&messages, &message), Vec::new()] {
            rpc.send(CLIENT_PROTOCOL, method, &request);
            let (_, answered) = rpc.receive().unwrap_or_else(|error| panic!("{method}: {error}"));
            if let Err((class, text)) = answered {
                assert_ne!(class, "org.apache.hadoop.ipc.RpcNoSuchMethodException", "{method}: {text}");
                assert!(class.contains('.') && !text.is_empty(), "{method}: {class} {text}");
            }
        }
    }
    rpc.send(CLIENT_PROTOCOL, "brewCoffee", &[]);
    let (class, text) = rpc.receive().expect("an answer").1.expect_err("no such method");
    assert_eq!(class, "org.apache.hadoop.ipc.RpcNoSuchMethodException");
    assert_eq!(text, format!("Unknown method brewCoffee called on {CLIENT_PROTOCOL} protocol."));
    rpc.send("org.example.Coffee", "brew", &[]);
    let (class, _) = rpc.receive().expect("an answer").1.expect_err("no such protocol");
    assert_eq!(class, "org.apache.hadoop.ipc.RpcNoSuchProtocolException");
}

#[test]
fn the_protocols_of_administrators_answer() {
    let namenode_toml =
        "groups = { mapping = \"static\", members = { ann = [\"staff\", \"ops\"] } }\n".to_owned();
    let cluster = Cluster::start(&Options { namenode_toml, ..Options::default() });
    let user = cluster.client().user().to_owned();
    let mut rpc = HadoopRpc::connect(cluster.namenode.address(), &user);
    let mut ask = |protocol: &str, method: &str, request: &[u8]| {
        rpc.send(protocol, method, request);
        rpc.receive().expect("an answer").1
    };
    let groups = ask("org.apache.hadoop.tools.GetUserMappingsProtocol", "getGroupsForUser", b"\x0a\x03ann");
    assert_eq!(groups.expect("known"), b"\x0a\x05staff\x0a\x03ops");
    let status = ask("org.apache.hadoop.ha.HAServiceProtocol", "getServiceStatus", &[]);
    assert_eq!(status.expect("active"), [8, 1, 16, 1]);
    let version = ask("org.apache.hadoop.hdfs.server.protocol.NamenodeProtocol", "versionRequest", &[]);
    assert!(version.expect("told").windows(3).any(|window| window == b"BP-"));
    for (protocol, method) in [
        ("org.apache.hadoop.security.RefreshUserMappingsProtocol", "refreshUserToGroupsMappings"),
        ("org.apache.hadoop.security.authorize.RefreshAuthorizationPolicyProtocol", "refreshServiceAcl"),
        ("org.apache.hadoop.ipc.RefreshCallQueueProtocol", "refreshCallQueue"),
        ("org.apache.hadoop.ipc.GenericRefreshProtocol", "refresh"),
    ] {
        assert_eq!(ask(protocol, method, &[]), Ok(Vec::new()), "{method}");
    }
    let mut stranger = HadoopRpc::connect(cluster.namenode.address(), "eve");
    let protocol = "org.apache.hadoop.security.RefreshUserMappingsProtocol";
    stranger.send(protocol, "refreshUserToGroupsMappings", &[]);
    let (class, _) = stranger.receive().expect("an answer").1.expect_err("denied");
    assert_eq!(class, "org.apache.hadoop.security.AccessControlException");
}

fn create(path: &str, overwrite: bool) -> CreateRequest {
    CreateRequest {
        src: path.to_owned(),
        masked: FsPermission { perm: 0o644 },
        client_name: "a writer".to_owned(),
        create_flag: if overwrite { 3 } else { 1 },
        create_parent: true,
        replication: 1,
        block_size: 1 << 20,
        ..CreateRequest::default()
    }
}

#[test]
fn a_call_that_comes_twice_is_carried_out_once_also_after_a_restart() {
    let mut cluster = Cluster::start(&Options::default());
    let (user, client) = (cluster.client().user().to_owned(), [7; 16]);
    let rename = RenameRequest { src: "/f".to_owned(), dst: "/g".to_owned() };
    let delete = DeleteRequest { src: "/g".to_owned(), recursive: false };
    cluster.client().create("/f").and_then(|mut writer| writer.close()).expect("made");
    for _ in 0..3 {
        // The same calls of the same process, the second time and the third after a restart.
        let mut rpc = HadoopRpc::connect_as(cluster.namenode.address(), &user, client);
        let renamed: RenameResponse = rpc.call("rename", &rename).expect("answered");
        let deleted: DeleteResponse = rpc.call("delete", &delete).expect("answered");
        assert!(renamed.result && deleted.result, "as it was answered before");
        cluster.namenode.kill_9();
        cluster.namenode.start();
    }
    let mut other = HadoopRpc::connect(cluster.namenode.address(), &user);
    let renamed: RenameResponse = other.call("rename", &rename).expect("answered");
    let deleted: DeleteResponse = other.call("delete", &delete).expect("answered");
    assert!(!renamed.result && !deleted.result, "nothing was there");
}

/// A server still answers, and has not restarted.
fn assert_serves(cluster: &mut Cluster) {
    let user = cluster.client().user().to_owned();
    let mut rpc = HadoopRpc::connect(cluster.namenode.address(), &user);
    let info: GetFileInfoResponse =
        rpc.call("getFileInfo", &GetFileInfoRequest { src: "/".to_owned() }).expect("answered");
    assert!(info.fs.is_some());
    for server in [&mut cluster.namenode, &mut cluster.datanodes[0]] {
        assert!(server.process().ended().is_none() && !server.log().contains("panicked"));
    }
}

/// Sends bytes and nothing more; returns what is answered until the server ends the connection.
fn say(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("connected");
    // The server may have had enough before it was told everything.
    let _reset = stream.write_all(bytes);
    let _gone = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn frames_that_are_cut_or_wrong_end_their_connection_and_nothing_else() {
    let mut cluster = Cluster::start(&Options::default());
    let address = cluster.namenode.address();
    let request = b"\x0a\x01/";
    let mut call = Vec::new();
    append_call(&mut call, [1; 16], 0, CLIENT_PROTOCOL, "getFileInfo", request);
    let begin = beginning([1; 16], "ann");
    let whole = [&begin[..], &call].concat();
    for len in 0..whole.len() {
        let answer = say(address, &whole[..len]);
        assert!(answer.is_empty(), "{len} bytes are no call");
    }
    // Each byte turned around: an answer, an error or the end, but no hang and no crash.
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        let _whatever = say(address, &damaged);
    }
    let fatal = |bytes: &[u8], class: &str| {
        let answer = say(address, bytes);
        assert!(answer.windows(class.len()).any(|window| window == class.as_bytes()), "{class}");
    };
    fatal(b"hrpc\x08\0\0", "RPC$VersionMismatch");
    fatal(b"hrpc\x09\0\x07", "AccessControlException");
    fatal(&[&begin[..], b"\xff\xff\xff\xff"].concat(), "RpcServerException");
    fatal(
        &[&begin[..], b"\0\0\0\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"].concat(),
        "RpcServerException",
    );
    fatal(&[b"hrpc\x09\0\0", &call[..]].concat(), "RpcServerException");
    // What came before is carried out.
    let user = cluster.client().user().to_owned();
    let mut made = Vec::new();
    append_call(&mut made, [1; 16], 0, CLIENT_PROTOCOL, "create", &create("/before", false).encode_to_vec());
    fatal(&[&beginning([1; 16], &user)[..], &made, b"\xff\xff\xff\xff"].concat(), "RpcServerException");
    let is_made = || cluster.client().stat("/before").is_ok();
    ringfs_tests::wait::until_true("the call before is carried out", is_made);
    assert_serves(&mut cluster);
}

fn checksums(data: &[u8]) -> Vec<u8> {
    data.chunks(512).flat_map(|chunk| checksum::ChecksumType::Crc32c.of(chunk).to_be_bytes()).collect()
}

fn operation_header(located: &LocatedBlock) -> ClientOperationHeader {
    let base_header =
        BaseHeader { block: located.b.clone(), token: Some(located.block_token.clone()), trace_info: None };
    ClientOperationHeader { base_header, client_name: "a writer".to_owned() }
}

fn write_block(located: &LocatedBlock) -> OpWriteBlock {
    OpWriteBlock {
        header: operation_header(located),
        stage: BlockConstructionStage::PipelineSetupCreate as i32,
        pipeline_size: 1,
        requested_checksum: Checksum { r#type: ChecksumType::ChecksumCrc32c as i32, bytes_per_checksum: 512 },
        storage_id: located.storage_i_ds.first().cloned(),
        ..OpWriteBlock::default()
    }
}

fn add_block(rpc: &mut HadoopRpc, path: &str) -> LocatedBlock {
    let _made: CreateResponse = rpc.call("create", &create(path, true)).expect("made");
    let add = AddBlockRequest {
        src: path.to_owned(),
        client_name: "a writer".to_owned(),
        ..AddBlockRequest::default()
    };
    let added: AddBlockResponse = rpc.call("addBlock", &add).expect("added");
    added.block
}

#[test]
fn packets_are_written_verified_and_read_back() {
    let mut cluster = Cluster::start(&Options::default());
    let user = cluster.client().user().to_owned();
    let mut rpc = HadoopRpc::connect(cluster.namenode.address(), &user);
    let datanode = cluster.datanodes[0].address();
    let data: Vec<u8> = (0..3000u32).map(|at| (at * 7) as u8).collect();

    // Bytes that do not match: the writer is told, and nothing of them is there.
    let located = add_block(&mut rpc, "/bad");
    let mut transfer = Transfer::connect(datanode);
    assert_eq!(transfer.begin(Operation::Write, &write_block(&located)).status(), Status::Success);
    transfer.send(0, 0, &[0; 4], &data[..10], false);
    let ack = transfer.ack().expect("an ack");
    assert_eq!(ack.reply, [Status::ErrorChecksum as i32]);
    assert!(transfer.ack().is_err(), "the connection ends");

    // Good ones, with a chunk that comes twice as after a flush, and a heartbeat.
    let located = add_block(&mut rpc, "/good");
    let mut transfer = Transfer::connect(datanode);
    assert_eq!(transfer.begin(Operation::Write, &write_block(&located)).status(), Status::Success);
    transfer.send(0, 0, &checksums(&data[..700]), &data[..700], false);
    assert_eq!(transfer.ack().expect("an ack").seqno, 0);
    transfer.send(-1, 0, &[], &[], false);
    assert_eq!(transfer.ack().expect("an ack").seqno, -1);
    transfer.send(1, 512, &checksums(&data[512..3000]), &data[512..3000], false);
    transfer.send(2, 3000, &[], &[], true);
    assert_eq!(transfer.ack().expect("an ack").seqno, 1);
    assert_eq!(transfer.ack().expect("an ack").seqno, 2);
    let mut last = located.b.clone();
    last.num_bytes = Some(3000);
    let complete = CompleteRequest {
        src: "/good".to_owned(),
        client_name: "a writer".to_owned(),
        last: Some(last),
        file_id: None,
    };
    let completed: CompleteResponse = rpc.call("complete", &complete).expect("closed");
    assert!(completed.result, "at the first time");
    let mut bytes = vec![0; 3000];
    let read = cluster.client().open("/good").and_then(|reader| reader.read_at(0, &mut bytes));
    assert_eq!((read.expect("read natively"), &bytes), (3000, &data));

    // A block id alone opens nothing.
    let located: GetBlockLocationsResponse = rpc
        .call(
            "getBlockLocations",
            &GetBlockLocationsRequest { src: "/good".to_owned(), offset: 0, length: 1 },
        )
        .expect("located");
    let located = located.locations.expect("there").blocks.remove(0);
    let read = |with_token: bool, offset, len| {
        let mut header = operation_header(&located);
        header.base_header.token = header.base_header.token.filter(|_| with_token);
        OpReadBlock { header, offset, len, ..OpReadBlock::default() }
    };
    let mut transfer = Transfer::connect(datanode);
    assert_eq!(transfer.begin(Operation::Read, &read(false, 0, 10)).status(), Status::ErrorAccessToken);
    assert_eq!(transfer.begin(Operation::Read, &read(true, 0, 3001)).status(), Status::Error);
    let begun = transfer.begin(Operation::Read, &read(true, 600, 100));
    assert_eq!(begun.read_op_checksum_info.expect("checksums").chunk_offset, 512);
    assert_serves(&mut cluster);
}

#[test]
fn bytes_that_are_no_operation_end_their_connection_and_nothing_else() {
    let mut cluster = Cluster::start(&Options::default());
    let datanode = cluster.datanodes[0].address();
    let garbage: [&[u8]; 7] = [
        b"\0\x1b\x51\0",
        b"\0\x1c\x99\0",
        b"\0\x1c\x51\0",
        b"\0\x1c\x51\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\0\x1c\x51\x05\xff\xff\xff\xff\xff",
        b"\0\x1c",
        b"\xde\xad\xbe\xef\0\0\0\0\0\0\0\0\0\0\0\0",
    ];
    for bytes in garbage {
        assert!(say(datanode, bytes).is_empty(), "{bytes:02x?}");
    }
    assert_serves(&mut cluster);
}

/// One sends byte by byte, another takes no answers: neither is in the way of others, and both get all that they asked for.
#[test]
fn slow_clients_are_served_and_keep_nobody_waiting() {
    const CALLS_MAX: i32 = 200_000;
    let cluster = Cluster::start(&Options::default());
    let address = cluster.namenode.address();
    let user = cluster.client().user().to_owned();
    let mut rpc = HadoopRpc::connect(address, &user);
    for number in 0..500 {
        let _made: CreateResponse =
            rpc.call("create", &create(&format!("/d/{number:0100}"), false)).expect("made");
    }
    let list = GetListingRequest { src: "/d".to_owned(), ..GetListingRequest::default() };

    let mut dribbling = beginning([2; 16], &user);
    append_call(&mut dribbling, [2; 16], 0, CLIENT_PROTOCOL, "getListing", &list.encode_to_vec());
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_nodelay(true).expect("set");
    for byte in dribbling {
        stream.write_all(&[byte]).expect("taken");
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("answered");

    // Answers of 100 KiB each: long before the last call both buffers are full, and the server reads no more.
    // A long name of the directory fills them with few calls.
    let long = GetListingRequest { src: format!("/d{}", "/".repeat(7000)), ..list.clone() }.encode_to_vec();
    let mut greedy = HadoopRpc::connect(address, &user);
    greedy.stream.set_nonblocking(true).expect("set");
    let mut asked = 0;
    let mut rest: Vec<u8> = Vec::new();
    let is_full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    while asked < CALLS_MAX {
        append_call(&mut rest, [3; 16], asked, CLIENT_PROTOCOL, "getListing", &long);
        asked += 1;
        match greedy.stream.write(&rest) {
            Ok(len) => drop(rest.drain(..len)),
            Err(error) if is_full(&error) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(asked < CALLS_MAX, "the server takes no more than it can answer");
    let found: GetListingResponse = rpc.call("getListing", &list).expect("others are served");
    assert_eq!(found.dir_list.expect("there").partial_listing.len(), 500);
    let held = cluster.namenode.ready.as_ref().expect("started").memory_limit_bytes;
    assert!(
        cluster.namenode.process.as_ref().expect("runs").resident_bytes() < held,
        "what waits is bounded"
    );

    greedy.stream.set_nonblocking(false).expect("set");
    let mut writer = greedy.stream.try_clone().expect("cloned");
    let writing = std::thread::spawn(move || writer.write_all(&rest));
    let mut answered: Vec<i32> = (0..asked).map(|_| greedy.receive().expect("answered at last").0).collect();
    writing.join().expect("joined").expect("taken");
    answered.sort_unstable();
    assert!(answered.into_iter().eq(0..asked), "each once");
}
