//! Frames, hellos and capabilities: what a peer says before anything is known of it.

use hmac::{Hmac, KeyInit, Mac};
use ringfs_proto::capability::{CAPABILITY_BYTES, Capability, CapabilityError, ClusterKey, KEY_BYTES, Mode};
use ringfs_proto::checksum::{ChecksumType, crc32};
use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{self, HELLO_PREFIX_BYTES, HelloReplyV1, HelloV1, Prefix, Role};
use ringfs_proto::ids::{BlockId, CallId, ClusterId, PrincipalId, SessionId, Stamp};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, HELLO_BYTES_MAX, META_BYTES_MAX, PAYLOAD_BYTES_MAX};
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;
use sha2::Sha256;

use crate::input::Input;

/// A stream of frames, as a server receives it.
pub fn frames(data: &[u8]) {
    let mut input = Input(data);
    while let Some(raw) = input.take(FRAME_HEADER_BYTES).first_chunk::<FRAME_HEADER_BYTES>() {
        let mut sealed = *raw;
        sealed[..4].copy_from_slice(&frame::MAGIC);
        sealed[4] = 1;
        seal(&mut sealed, 60);
        for bytes in [raw, &sealed] {
            let Ok(header) = Header::decode(bytes, META_BYTES_MAX) else { continue };
            assert!(header.meta_len as usize <= META_BYTES_MAX, "metadata is bounded");
            assert!(header.payload_len as usize <= PAYLOAD_BYTES_MAX, "payload is bounded");
            let again = Header::decode(&header.encode(), META_BYTES_MAX);
            assert_eq!(again.as_ref(), Ok(&header), "a header survives");
        }
        let Ok(header) = Header::decode(&sealed, META_BYTES_MAX) else { continue };
        let meta = input.take(header.meta_len as usize);
        let sealed = Header { meta_crc: crc32(meta), ..header };
        assert_eq!(sealed.check_meta(meta), Ok(()));
        if let Some(error) = frame::reply_error(&header, meta) {
            let mut reply = Vec::new();
            frame::append_error(&mut reply, &header, &error);
            assert!(reply.len() <= FRAME_HEADER_BYTES + frame::ERROR_MESSAGE_BYTES_MAX);
        }
        input.take(header.payload_len as usize);
    }
}

/// The first bytes of a connection, from a client (first byte even) or a server.
pub fn hello(data: &[u8]) {
    let mut input = Input(data);
    let is_reply = input.byte() % 2 == 1;
    let raw: [u8; HELLO_PREFIX_BYTES] = input.array();
    let body = input.take(HELLO_BYTES_MAX);
    let mut sealed = raw;
    sealed[..4].copy_from_slice(&frame::MAGIC);
    (sealed[4], sealed[5]) = (0, u8::from(is_reply));
    sealed[6..8].copy_from_slice(&(body.len() as u16).to_le_bytes());
    sealed[8..12].copy_from_slice(&crc32(body).to_le_bytes());
    seal(&mut sealed, 12);
    for bytes in [raw, sealed] {
        let Ok(prefix) = Prefix::decode(&bytes, is_reply) else { continue };
        assert!(prefix.body_len <= HELLO_BYTES_MAX, "a body is bounded");
        if is_reply {
            let _refused = prefix.decode_body::<HelloReplyV1>(body);
        } else if let Ok(hello) = prefix.decode_body::<HelloV1>(body) {
            let version = hello::negotiate_version(&hello);
            assert!(version.is_none_or(|version| (hello.version_min..=hello.version_max).contains(&version)));
        }
    }
}

/// 64 bytes that shall open a block, at the second that the first 8 bytes name.
pub fn capability(data: &[u8]) {
    let mut input = Input(data);
    let now_s = input.u64();
    let raw: [u8; CAPABILITY_BYTES] = input.array();
    let key = ClusterKey::new(1, KEY);
    if let Ok(capability) = key.verify(&raw, now_s) {
        assert_eq!(key.verify(&key.sign(&capability), now_s), Ok(capability));
    }
    let mut sealed = raw;
    let code = Hmac::<Sha256>::new_from_slice(&KEY).expect("HMAC takes keys of any length");
    let code = code.chain_update(&sealed[..48]).finalize().into_bytes();
    sealed[48..].copy_from_slice(&code[..16]);
    match key.verify(&sealed, now_s) {
        Ok(capability) => {
            assert!(now_s <= capability.expires_s, "what has expired opens nothing");
            assert!(capability.chunk_bytes.is_power_of_two());
            assert_eq!(key.verify(&key.sign(&capability), now_s), Ok(capability));
        }
        Err(error) => assert_ne!(error, CapabilityError::Forged, "it was made with the key"),
    }
    let other = ClusterKey::new(2, [0x5a; KEY_BYTES]);
    assert_eq!(other.verify(&sealed, now_s), Err(CapabilityError::Forged), "another key opens nothing");
}

const KEY: [u8; KEY_BYTES] = [9; KEY_BYTES];

/// Puts the CRC-32 of the bytes before `at` there.
pub(crate) fn seal(bytes: &mut [u8], at: usize) {
    let crc = crc32(&bytes[..at]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// One frame of each operation, and an error.
pub fn frame_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for op in Op::ALL {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, Header::request(*op, CallId(7)), 8, |meta| meta.extend(b"metadata"));
        bytes.extend(b"payload.");
        seeds.push(bytes);
    }
    let mut stream: Vec<u8> = seeds.iter().take(4).flatten().copied().collect();
    let error = ringfs_proto::WireError::new(ringfs_proto::Code::NotFound, "no such file");
    frame::append_error(&mut stream, &Header::request(Op::Stat, CallId(8)), &error);
    seeds.push(stream);
    seeds
}

/// A hello and a reply.
pub fn hello_seeds() -> Vec<Vec<u8>> {
    let hello = HelloV1 {
        version_min: 1,
        version_max: 1,
        role: Role::Client,
        features: 0,
        session: SessionId([8; 16]),
        cluster: ClusterId([3; 16]),
        user: "a name longer than eight".to_owned(),
        auth_scheme: 0,
        credentials: vec![1, 2, 3],
    };
    let cluster = ClusterId([3; 16]);
    let reply =
        HelloReplyV1 { code: 0, message: String::new(), version: 1, features: 0, cluster, nonce: [9; 16] };
    let with_kind = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();
    let body_alone = [vec![0; 1 + HELLO_PREFIX_BYTES], hello.encode()].concat();
    vec![with_kind(0, hello::encode_hello(&hello)), with_kind(1, hello::encode_reply(&reply)), body_alone]
}

/// A capability of each mode.
pub fn capability_seeds() -> Vec<Vec<u8>> {
    let seed = |mode| {
        let capability = Capability {
            mode,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: 4096,
            user: PrincipalId(7),
            block: BlockId(17),
            stamp: Stamp(3),
            length_limit: 128 << 20,
            expires_s: 1000,
        };
        let now_s = 999u64.to_le_bytes();
        [&now_s[..], &ClusterKey::new(1, KEY).sign(&capability)].concat()
    };
    vec![seed(Mode::Read), seed(Mode::Write)]
}
