//! Texts, bytes and lists of messages, which take no more memory than they have bytes.
//!
//! serde's own `String` and `Vec<u8>` would allocate the length that the body claims, up to bincode's limit, before they check
//! that so many bytes are there. A borrowed value is checked first, so a false length costs nothing.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

use super::MAX_STATIONS;

pub(super) fn text<'de, D: Deserializer<'de>>(decoder: D) -> Result<String, D::Error> {
    <&str>::deserialize(decoder).map(str::to_owned)
}

pub(super) fn optional_text<'de, D: Deserializer<'de>>(decoder: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<&str>::deserialize(decoder)?.map(str::to_owned))
}

pub(super) fn read_bytes<'de, D: Deserializer<'de>>(decoder: D) -> Result<Vec<u8>, D::Error> {
    <&[u8]>::deserialize(decoder).map(<[u8]>::to_vec)
}

pub(super) fn write_bytes<S: Serializer>(bytes: &[u8], encoder: S) -> Result<S::Ok, S::Error> {
    encoder.serialize_bytes(bytes)
}

pub(super) fn stations<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    decoder: D,
) -> Result<Vec<T>, D::Error> {
    struct StationsVisitor<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for StationsVisitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_STATIONS} stations")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut stations = Vec::new();
            while let Some(entry) = seq.next_element()? {
                if stations.len() == MAX_STATIONS {
                    return Err(A::Error::custom("more than 999 stations"));
                }
                stations.push(entry);
            }
            Ok(stations)
        }
    }
    decoder.deserialize_seq(StationsVisitor(PhantomData))
}
