//! RTSP messages from the bytes of a connection. Pure; the length of a message is bounded.

use rtsp_types::{Message, StatusCode};

use crate::wire::rtsp::{FramingError, HttpRequest, MessageFramer};

/// Longest request, head and body, in bytes; also longest interleaved data. A receiver report takes some 50 bytes.
pub(super) const MAX_REQUEST: usize = 16 * 1024;

/// Why no further message can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoMessage {
    /// The bytes are not a message, or the message is too long: the status to respond with.
    Invalid(StatusCode),
    /// HTTP is spoken, of which this is the first request. Its head is taken; what follows it is left.
    Http(HttpRequest),
}

/// Cuts the bytes of a connection into messages.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    /// Bytes that have arrived and were not taken yet.
    bytes: Vec<u8>,
    framer: MessageFramer,
}

impl MessageReader {
    /// Adds bytes that have arrived: at most [`room`](Self::room).
    pub(super) fn push(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room());
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes [`push`](Self::push) accepts.
    pub(super) fn room(&self) -> usize {
        MAX_REQUEST - self.bytes.len()
    }

    /// Whether a part of a message has arrived. Valid after [`take`](Self::take) has returned `None`.
    pub(super) fn is_midway(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Takes the next complete message; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The bytes are not a message, or the message is too long. No further message can be taken.
    pub(super) fn take(&mut self) -> Result<Option<Message<Vec<u8>>>, NoMessage> {
        // Some clients end a body, or keep a connection alive, by empty lines (RFC 2326 section 4.1).
        let blank = self.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.bytes.drain(..blank);
        if self.bytes.is_empty() {
            return Ok(None);
        }
        match self.framer.take(&self.bytes) {
            Ok(Some((message, length))) => {
                self.bytes.drain(..length);
                Ok(Some(message))
            }
            Ok(None) if self.room() > 0 && self.framer.need() <= MAX_REQUEST => Ok(None),
            Ok(None) => Err(NoMessage::Invalid(StatusCode::RequestMessageBodyTooLarge)),
            Err(FramingError::Version) => Err(NoMessage::Invalid(StatusCode::RTSPVersionNotSupported)),
            Err(FramingError::Malformed) => Err(NoMessage::Invalid(StatusCode::BadRequest)),
            Err(FramingError::Http(http)) => {
                self.bytes.drain(..http.length);
                Err(NoMessage::Http(http))
            }
        }
    }

    /// The bytes that have arrived behind the last message.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Taken = Result<Option<Message<Vec<u8>>>, NoMessage>;

    fn fed(bytes: &[u8]) -> (MessageReader, Taken) {
        let mut reader = MessageReader::default();
        reader.push(&bytes[..bytes.len().min(MAX_REQUEST)]);
        let taken = reader.take();
        (reader, taken)
    }

    #[test]
    fn messages_are_taken_one_by_one_from_single_bytes() {
        let bytes = b"\r\n\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x01\x00\x02ab\
            GET_PARAMETER rtsp://h/1 RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 3\r\n\r\nabc\r\n";
        let mut reader = MessageReader::default();
        let mut taken = Vec::new();
        for byte in bytes {
            reader.push(&[*byte]);
            taken.extend(reader.take().unwrap());
        }
        let [Message::Request(first), Message::Data(data), Message::Request(last)] = &taken[..] else {
            panic!("{taken:?}")
        };
        assert_eq!((data.channel_id(), data.as_slice()), (1, &b"ab"[..]));
        assert_eq!((first.request_uri(), last.body().as_slice()), (None, &b"abc"[..]));
        assert!(!reader.is_midway());
    }

    #[test]
    fn bytes_that_are_not_a_message_are_errors() {
        for (bytes, status) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03"[..], 400),
            (b"GET / HTTX/1.1\r\nHost: x\r\n\r\n", 400),
            (b"OPTIONS * RTSP/3.0\r\nCSeq: 1\r\n\r\n", 505),
            (b"OPTIONS * RTSP/1.1\r\nCSeq: 1\r\n\r\n", 505),
            (b"DESCRIBE /1 RTSP/1.0\r\nCSeq: 1\r\n\r\n", 400),
            (b"DESCRIBE rtsp://h/1 RTSP/1.0\r\nContent-Length: -1\r\n\r\n", 400),
            (b"DESCRIBE rtsp://h/1 RTSP/1.0\r\nno colon\r\n\r\n", 400),
            (b"DESCRIBE rtsp://h/1\r\nCSeq: 1\r\n", 400),
        ] {
            assert_eq!(
                fed(bytes).1.unwrap_err(),
                NoMessage::Invalid(status.into()),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn the_length_of_a_request_is_bounded() {
        let head = "DESCRIBE rtsp://h/1 RTSP/1.0\r\nCSeq: 1\r\n";
        for long in [
            format!("{head}X: {}", "x".repeat(MAX_REQUEST)),
            format!("{head}{}", "X: y\r\n".repeat(MAX_REQUEST)),
            format!("{head}Content-Length: {}\r\n\r\n{}", u64::MAX, "x".repeat(MAX_REQUEST)),
            format!("$\u{1}\u{7f}\u{7f}{}", "x".repeat(MAX_REQUEST)),
        ] {
            let too_large = NoMessage::Invalid(StatusCode::RequestMessageBodyTooLarge);
            assert_eq!(fed(long.as_bytes()).1.unwrap_err(), too_large);
        }
        // The head alone tells it, whether the body comes or not.
        for length in ["16385", "20000", "100000000000000000000"] {
            let taken = fed(format!("{head}Content-Length: {length}\r\n\r\n").as_bytes()).1;
            assert_eq!(taken.unwrap_err(), NoMessage::Invalid(StatusCode::RequestMessageBodyTooLarge));
        }
        let most = MAX_REQUEST - head.len() - "Content-Length: 12345\r\n\r\n".len();
        let (reader, taken) =
            fed(format!("{head}Content-Length: {most:5}\r\n\r\n{}", "x".repeat(most)).as_bytes());
        assert!(taken.unwrap().is_some() && reader.room() == MAX_REQUEST);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = fed(&bytes);
        }

        #[test]
        fn messages_do_not_depend_on_how_the_bytes_arrive(
            text in "(OPTIONS \\* RTSP/1.0\r\n|PLAY rtsp://h RTSP/1.0\r\n|\\$\u{1}\u{0}\u{3}|RTSP/1.0 200 OK\r\n|X: y\r\n|Content-Length: [0-9]\r\n|\r\n|\r\n|\r\n|[a:]){0,24}",
            piece in 1usize..9,
        ) {
            let taken = |piece| {
                let (mut reader, mut taken) = (MessageReader::default(), Vec::new());
                for piece in text.as_bytes().chunks(piece) {
                    reader.push(piece);
                    loop {
                        match reader.take() {
                            Ok(Some(message)) => taken.push(message),
                            Ok(None) => break,
                            Err(_) => return taken,
                        }
                    }
                }
                taken
            };
            prop_assert_eq!(taken(piece), taken(MAX_REQUEST));
        }

        #[test]
        fn no_request_makes_it_panic(text in "(OPTIONS|PLAY|\\$|RTSP/1.0|RTSP/| |\r\n|:|Content-Length|-?[0-9]{1,21}|rtsp://h|[ -~é]){0,32}") {
            let _ = fed(text.as_bytes());
        }
    }
}
