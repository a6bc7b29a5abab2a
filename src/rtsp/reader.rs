//! The messages in a connection's bytes. Pure: a stranger's bytes are cut here, with a bound on each message.

use std::num::NonZeroUsize;

use rtsp_types::{Message, ParseError, StatusCode};

/// Most bytes of a request, head and body; also of interleaved data, whose receiver reports take some fifty.
pub(super) const MAX_REQUEST: usize = 16 * 1024;

/// What has arrived and is no whole message yet.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    bytes: Vec<u8>,
    /// Of the message that is not whole: whether its head is, as far as was looked;
    headed: bool,
    /// how far that is;
    looked: usize,
    /// and with how many bytes it is worth parsing again, if its head is not whole before. Parsing begins at the beginning:
    /// after each byte that comes, a request of 16 KiB would be 134 MB to read.
    again: usize,
}

impl MessageReader {
    /// Adds what has arrived: at most [`room`](Self::room) bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room());
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes it takes.
    pub(super) fn room(&self) -> usize {
        MAX_REQUEST - self.bytes.len()
    }

    /// Whether a part of a message is here, [`take`](Self::take) having returned `None`.
    pub(super) fn is_midway(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// The next message that is here as a whole.
    ///
    /// # Errors
    /// What is here is no message and will be none; the connection cannot go on. With the status that says why.
    pub(super) fn take(&mut self) -> Result<Option<Message<Vec<u8>>>, StatusCode> {
        // Some clients end a body, or keep a connection alive, by empty lines (RFC 2326 section 4.1).
        let blank = self.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if blank > 0 {
            self.remove(blank);
        }
        if self.bytes.is_empty() {
            return Ok(None);
        }
        if self.is_worth_parsing() {
            match Message::parse(&self.bytes) {
                Ok((message, length)) => {
                    self.remove(length);
                    return Ok(Some(message));
                }
                // What a body or data lacks is told. The end of a head is seen when it comes; what will never be one, soon.
                Err(ParseError::Incomplete(lacks)) => {
                    let here = self.bytes.len();
                    let known = self.headed || self.bytes.starts_with(b"$");
                    let lacks = if known { lacks.map_or(1, NonZeroUsize::get) } else { here };
                    // A stranger says how long a body is.
                    self.again = here.saturating_add(lacks);
                }
                Err(ParseError::Error) => return Err(self.fault()),
            }
        }
        if self.room() > 0 { Ok(None) } else { Err(StatusCode::RequestMessageBodyTooLarge) }
    }

    fn is_worth_parsing(&mut self) -> bool {
        let from = self.looked.saturating_sub(3);
        let ended = !self.headed && self.bytes[from..].windows(4).any(|four| four == b"\r\n\r\n");
        self.headed |= ended;
        self.looked = self.bytes.len();
        ended || self.bytes.len() >= self.again
    }

    fn remove(&mut self, length: usize) {
        self.bytes.drain(..length);
        (self.headed, self.looked, self.again) = (false, 0, 0);
    }

    /// A version that we do not speak is told from nonsense.
    fn fault(&self) -> StatusCode {
        let line = self.bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let version = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        let other = version.strip_prefix(b"RTSP/").is_some_and(|number| number != b"1.0" && number != b"2.0");
        if other { StatusCode::RTSPVersionNotSupported } else { StatusCode::BadRequest }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Taken = Result<Option<Message<Vec<u8>>>, StatusCode>;

    fn fed(bytes: &[u8]) -> (MessageReader, Taken) {
        let mut inbox = MessageReader::default();
        inbox.push(&bytes[..bytes.len().min(MAX_REQUEST)]);
        let taken = inbox.take();
        (inbox, taken)
    }

    #[test]
    fn messages_are_taken_one_by_one_however_they_arrive() {
        let bytes = b"\r\n\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x01\x00\x02ab\
            GET_PARAMETER rtsp://h/1 RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 3\r\n\r\nabc\r\n";
        let mut inbox = MessageReader::default();
        let mut taken = Vec::new();
        for byte in bytes {
            inbox.push(&[*byte]);
            taken.extend(inbox.take().unwrap());
        }
        let [Message::Request(first), Message::Data(data), Message::Request(last)] = &taken[..] else {
            panic!("{taken:?}")
        };
        assert_eq!((data.channel_id(), data.as_slice()), (1, &b"ab"[..]));
        assert_eq!((first.request_uri(), last.body().as_slice()), (None, &b"abc"[..]));
        assert!(!inbox.is_midway());
    }

    #[test]
    fn a_request_that_comes_byte_by_byte_is_not_parsed_for_each_of_them() {
        let head =
            format!("DESCRIBE rtsp://h/1 RTSP/1.0\r\nContent-Length: 4000\r\n{}\r\n", "X:y\r\n".repeat(2000));
        let body = "\r\n".repeat(2000);
        let request = head + &body;
        let (mut inbox, mut parsed, mut again) = (MessageReader::default(), 0, 0);
        for (n, byte) in request.bytes().enumerate() {
            inbox.push(&[byte]);
            let taken = inbox.take().unwrap();
            assert_eq!(taken.is_some(), n + 1 == request.len(), "byte {n}");
            parsed += usize::from(std::mem::replace(&mut again, inbox.again) != inbox.again);
        }
        assert!(parsed < 20, "{parsed}");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (bytes, status) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03"[..], 400),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            (b"OPTIONS * RTSP/3.0\r\nCSeq: 1\r\n\r\n", 505),
            (b"OPTIONS * RTSP/1.1\r\nCSeq: 1\r\n\r\n", 505),
            (b"DESCRIBE /1 RTSP/1.0\r\nCSeq: 1\r\n\r\n", 400),
            (b"DESCRIBE rtsp://h/1 RTSP/1.0\r\nContent-Length: -1\r\n\r\n", 400),
            (b"DESCRIBE rtsp://h/1 RTSP/1.0\r\nX: \xff\xfe\r\n\r\n", 400),
        ] {
            assert_eq!(fed(bytes).1.unwrap_err(), status.into(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_request_is_bounded() {
        let head = "DESCRIBE rtsp://h/1 RTSP/1.0\r\nCSeq: 1\r\n";
        for long in [
            format!("{head}X: {}", "x".repeat(MAX_REQUEST)),
            format!("{head}{}", "X: y\r\n".repeat(MAX_REQUEST)),
            format!("{head}Content-Length: {}\r\n\r\n{}", u64::MAX, "x".repeat(MAX_REQUEST)),
            format!("$\u{1}\u{7f}\u{7f}{}", "x".repeat(MAX_REQUEST)),
        ] {
            assert_eq!(fed(long.as_bytes()).1.unwrap_err(), StatusCode::RequestMessageBodyTooLarge);
        }
        let most = MAX_REQUEST - head.len() - "Content-Length: 12345\r\n\r\n".len();
        let (inbox, taken) =
            fed(format!("{head}Content-Length: {most:5}\r\n\r\n{}", "x".repeat(most)).as_bytes());
        assert!(taken.unwrap().is_some() && inbox.room() == MAX_REQUEST);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = fed(&bytes);
        }

        #[test]
        fn messages_are_the_same_however_they_arrive(
            text in "(OPTIONS \\* RTSP/1.0\r\n|PLAY rtsp://h RTSP/1.0\r\n|\\$\u{1}\u{0}\u{3}|RTSP/1.0 200 OK\r\n|X: y\r\n|Content-Length: [0-9]\r\n|\r\n|\r\n|\r\n|[a:]){0,24}",
            piece in 1usize..9,
        ) {
            let taken = |piece| {
                let (mut inbox, mut taken) = (MessageReader::default(), Vec::new());
                for piece in text.as_bytes().chunks(piece) {
                    inbox.push(piece);
                    loop {
                        match inbox.take() {
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
        fn any_request_is_answered(text in "(OPTIONS|PLAY|\\$|RTSP/1.0|RTSP/| |\r\n|:|Content-Length|-?[0-9]{1,21}|rtsp://h|[ -~é]){0,32}") {
            let _ = fed(text.as_bytes());
        }
    }
}
