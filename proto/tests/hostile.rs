//! Whatever bytes arrive: an error or a value, never a panic.

use proptest::prelude::*;
use ringfs_proto::frame::Header;
use ringfs_proto::hello::{HelloReplyV1, HelloV1};
use ringfs_proto::ids::CallId;
use ringfs_proto::limits::META_BYTES_MAX;
use ringfs_proto::meta::{admin, data, membership, namespace};
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;

macro_rules! decode_all {
    ($bytes:expr; $($name:ty),* $(,)?) => {$(let _ = <$name>::decode($bytes);)*};
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        decode_all!(&bytes; HelloV1, HelloReplyV1,
            admin::PingV1,
            admin::FsStatsRequestV1,
            admin::FsStatsReplyV1,
            admin::DatanodeReportRequestV1,
            admin::DatanodeReportReplyV1,
            admin::ServerDefaultsRequestV1,
            admin::ServerDefaultsReplyV1,
            data::ReadRangesRequestV1,
            data::RangeDataV1,
            data::CreditV1,
            data::WillNeedRequestV1,
            data::WriteOpenRequestV1,
            data::WriteOpenReplyV1,
            data::WritePacketV1,
            data::WriteAckV1,
            data::ReplicaInfoRequestV1,
            data::ReplicaInfoReplyV1,
            membership::RegisterRequestV1,
            membership::RegisterReplyV1,
            membership::HeartbeatRequestV1,
            membership::HeartbeatReplyV1,
            membership::BlockReportRequestV1,
            membership::IncrementalReportRequestV1,
            membership::ReportReplyV1,
            namespace::FileStatusV1,
            namespace::StatRequestV1,
            namespace::ListRequestV1,
            namespace::ListReplyV1,
            namespace::MkdirsRequestV1,
            namespace::DoneV1,
            namespace::CreateRequestV1,
            namespace::CreateReplyV1,
            namespace::AddBlockRequestV1,
            namespace::AddBlockReplyV1,
            namespace::AbandonBlockRequestV1,
            namespace::CompleteRequestV1,
            namespace::GetBlockLocationsRequestV1,
            namespace::GetBlockLocationsReplyV1,
            namespace::RenameRequestV1,
            namespace::DeleteRequestV1,
            namespace::DeleteReplyV1);
    }
}

#[test]
fn a_flipped_bit_in_a_header_is_an_error() {
    for op in Op::ALL {
        let bytes = Header::request(*op, CallId(7)).encode();
        assert!(Header::decode(&bytes, META_BYTES_MAX).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged, META_BYTES_MAX).is_err(), "{op:?}, bit {bit}");
        }
    }
}

#[test]
fn fixed_size_messages_reject_every_truncation() {
    let bytes = data::WriteAckV1 {
        sequence: 1,
        length: 2,
        synced_length: 3,
        is_finalized: true,
        code: 4,
        failed_node: 5,
    }
    .encode();
    assert_eq!(data::WriteAckV1::decode(&bytes).map(|ack| ack.encode()), Ok(bytes.clone()));
    for len in 0..bytes.len() {
        assert!(data::WriteAckV1::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn chunks_of_zero_bytes_are_refused() {
    use ringfs_proto::checksum::{ChecksumType, verify_chunks};
    assert_eq!(verify_chunks(ChecksumType::Crc32c, b"data", 0, &[0; 4]), Err(0));
}
