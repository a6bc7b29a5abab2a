//! The bytes of messages. Pure, and the only file that uses bincode.
//!
//! ```text
//!  0               4
//! +---------------+------------------------------------+
//! | length (u32,  | body: one Request or one Reply,    |
//! | little endian)| `length` bytes, none left over     |
//! +---------------+------------------------------------+
//! ```
//!
//! A request's body has at most 4 KiB, a reply's 1 MiB. `docs/protocol.md` describes the bodies; its examples are this
//! module's golden tests.

use bincode::error::DecodeError;

use super::message::{Message, MessageError};

/// Bytes of the length prefix.
pub(super) const PREFIX: usize = 4;

// bincode's limit counts an integer at its size in memory (8 for a u64), not at the 1..=9 bytes that it takes on the
// wire: at most 8 bytes counted for 1 sent. With 8 times MAX_BODY no message within MAX_BODY is refused. Memory is
// bounded otherwise: by the body's length, and by the functions in `message` that deserialize text, pictures and stations:
// they allocate only for what has arrived, whatever length the body claims.
const LIMIT: usize = 8 * 1024 * 1024;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// Encodes `message`, with its length prefix.
///
/// # Errors
/// [`MessageError::TooLong`] if its body exceeds [`Message::MAX_BODY`].
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, MessageError> {
    let mut bytes = vec![0; PREFIX];
    bincode::serde::encode_into_std_write(message, &mut bytes, config())
        .map_err(|error| MessageError::Malformed { kind: M::KIND, reason: error.to_string() })?;
    let length = bytes.len() - PREFIX;
    if length > M::MAX_BODY {
        return Err(MessageError::TooLong { kind: M::KIND, length, limit: M::MAX_BODY });
    }
    bytes[..PREFIX].copy_from_slice(&(length as u32).to_le_bytes()); // at most 1 MiB: fits
    Ok(bytes)
}

/// Decodes a message from its whole body, without the length prefix.
///
/// # Errors
/// Any [`MessageError`]: all of `body` is one valid message, or this fails.
pub fn decode<M: Message>(body: &[u8]) -> Result<M, MessageError> {
    if body.len() > M::MAX_BODY {
        return Err(MessageError::TooLong { kind: M::KIND, length: body.len(), limit: M::MAX_BODY });
    }
    let (message, used): (M, usize) = bincode::serde::decode_from_slice(body, config())
        .map_err(|error| MessageError::Malformed { kind: M::KIND, reason: sentence(&error) })?;
    if used != body.len() {
        return Err(MessageError::Trailing { kind: M::KIND, extra: body.len() - used });
    }
    message.check().map_err(|rule| MessageError::Invalid { kind: M::KIND, rule })?;
    Ok(message)
}

/// Why a body cannot be read, for people: bincode's own errors are Rust.
fn sentence(error: &DecodeError) -> String {
    match error {
        DecodeError::UnexpectedEnd { .. } => "it ends too early".into(),
        DecodeError::LimitExceeded => "a length in it is too large".into(),
        DecodeError::InvalidIntegerType { .. } => "an integer is wider than its field".into(),
        DecodeError::Utf8 { inner } => {
            format!("text in it is not UTF-8 from its byte {} on", inner.valid_up_to())
        }
        DecodeError::OutsideUsizeRange(found) => format!("a length in it is {found}"),
        DecodeError::UnexpectedVariant { found, .. } => format!("it has no variant {found}"),
        DecodeError::OtherString(reason) => of_serde(reason),
        DecodeError::Other(reason) => of_serde(reason),
        _ => "it is not as the protocol says".into(),
    }
}

/// A sentence of ours as it is; of serde's, those about a variant and an integer as we would write them.
fn of_serde(reason: &str) -> String {
    let Some(rest) = reason.strip_prefix("invalid value: integer `") else { return reason.into() };
    match rest.split_once('`') {
        Some((number, expected)) if expected.contains("variant") => format!("it has no variant {number}"),
        Some((number, _)) => format!("{number} is none of the values of its field"),
        None => "a number in it is out of range".into(),
    }
}

#[cfg(test)]
mod tests;
