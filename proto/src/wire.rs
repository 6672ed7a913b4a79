//! How a message becomes bytes: rkyv, always validated when it comes from a peer or a disk.
//!
//! rkyv has no schema evolution, so each (operation, version) and (record, version) has a type of its own, which
//! is never changed after the first release. The wire form is little-endian, unaligned, with 32-bit relative
//! pointers (features of the workspace's rkyv dependency), pinned by golden bytes in the tests.

/// The bytes are not a valid archive of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("decode {kind} from {len} bytes: {reason}")]
pub struct DecodeError {
    /// The expected type.
    pub kind: &'static str,
    /// How many bytes there were.
    pub len: usize,
    /// What is wrong with them.
    pub reason: String,
}

/// A frozen type that crosses a wire or lands on disk.
pub trait Message: Sized {
    /// Appends the encoded form to `bytes`.
    fn encode_into(&self, bytes: &mut Vec<u8>);

    /// Validates and decodes.
    ///
    /// # Errors
    /// [`DecodeError`] when `bytes` is not exactly a valid encoding. Allocates at most a small multiple of
    /// `bytes.len()`.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The encoded form in a vector of its own.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes);
        bytes
    }
}

/// Implements [`Message`] for types that derive rkyv's traits.
#[macro_export]
macro_rules! impl_message {
    ($($name:ty),* $(,)?) => {$(
        impl $crate::wire::Message for $name {
            fn encode_into(&self, bytes: &mut Vec<u8>) {
                let taken = core::mem::take(bytes);
                *bytes = rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, taken)
                    .expect("writing to a vector cannot fail");
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::DecodeError> {
                rkyv::from_bytes::<Self, rkyv::rancor::Error>(bytes).map_err(|error| $crate::wire::DecodeError {
                    kind: stringify!($name),
                    len: bytes.len(),
                    reason: error.to_string(),
                })
            }
        }
    )*};
}
