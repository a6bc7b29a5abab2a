//! The messages in a connection's bytes. Pure: a stranger's bytes are cut here, with a bound on each message.

use rtsp_types::{Message, ParseError, StatusCode};

/// Most bytes of a request, head and body; also of interleaved data, whose receiver reports take some fifty.
pub(super) const MAX_REQUEST: usize = 16 * 1024;

/// What has arrived and is no whole message yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
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
        self.bytes.drain(..blank);
        if self.bytes.is_empty() {
            return Ok(None);
        }
        match Message::parse(&self.bytes) {
            Ok((message, length)) => {
                self.bytes.drain(..length);
                Ok(Some(message))
            }
            Err(ParseError::Incomplete(_)) if self.room() > 0 => Ok(None),
            Err(ParseError::Incomplete(_)) => Err(StatusCode::RequestMessageBodyTooLarge),
            Err(ParseError::Error) => Err(self.fault()),
        }
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

    fn fed(bytes: &[u8]) -> (Inbox, Taken) {
        let mut inbox = Inbox::default();
        inbox.push(&bytes[..bytes.len().min(MAX_REQUEST)]);
        let taken = inbox.take();
        (inbox, taken)
    }

    #[test]
    fn messages_are_taken_one_by_one_however_they_arrive() {
        let bytes = b"\r\n\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x01\x00\x02ab\
            GET_PARAMETER rtsp://h/1 RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 3\r\n\r\nabc\r\n";
        let mut inbox = Inbox::default();
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
        fn any_request_is_answered(text in "(OPTIONS|PLAY|\\$|RTSP/1.0|RTSP/| |\r\n|:|Content-Length|-?[0-9]{1,21}|rtsp://h|[ -~é]){0,32}") {
            let _ = fed(text.as_bytes());
        }
    }
}
