//! A stream of pictures as an endless multipart document (`multipart/x-mixed-replace`, RFC 2046 section 5.1), as cameras
//! send it: parts behind boundary lines, with a length or without. Pure; its memory is bounded whatever comes.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::{Finder, find};

use crate::media::AirTime;

/// Most bytes of a picture. One of 4096x4096 at high quality has about as many.
pub(super) const MOST_PICTURE: usize = 8 << 20;

/// Most bytes of a part's header.
const MOST_HEADER: usize = 8 << 10;

/// Most bytes between two parts.
const MOST_BETWEEN: usize = 1 << 20;

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MultipartError {
    /// The content type has no boundary, or is not multipart.
    #[error("it sends {0:?} and not multipart/x-mixed-replace; name the camera's stream of motion JPEG")]
    Type(String),
    /// There is no boundary line for too long.
    #[error("it sends {} MB without a boundary", MOST_BETWEEN >> 20)]
    NoBoundary,
    /// A part's header does not end.
    #[error("the header of a picture does not end within {} kB", MOST_HEADER >> 10)]
    Header,
    /// A picture is too large.
    #[error("a picture has more than {} MB", MOST_PICTURE >> 20)]
    TooLarge,
    /// The last boundary has come.
    #[error("it ended its stream")]
    Ended,
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The body.
    pub(super) body: Bytes,
    /// When the picture was taken, by the clock of the source; `None` if the part does not tell (`X-Timestamp`).
    pub(super) stamp: Option<AirTime>,
}

/// The part of the stream that is parsed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// A boundary; so many bytes have been passed over.
    Boundary(usize),
    /// The end of a part's header.
    Header,
    /// A body of this length.
    Sized(usize, Option<AirTime>),
    /// A body up to the next boundary. So many bytes of it have none.
    Open(usize, Option<AirTime>),
}

/// Cuts a stream into parts.
#[derive(Debug)]
pub(super) struct Multipart {
    /// Two dashes and the name.
    delimiter: Finder<'static>,
    unread: BytesMut,
    awaited: Awaited,
}

impl Multipart {
    /// A stream of this content type. The boundary may be in quotes, and may have its leading dashes already, as some cameras
    /// write it.
    ///
    /// # Errors
    /// It is not a multipart stream.
    pub(super) fn new(content_type: &str) -> Result<Multipart, MultipartError> {
        let fault = || MultipartError::Type(content_type.chars().take(60).collect());
        let (kind, parameters) = content_type.split_once(';').ok_or_else(fault)?;
        if !kind.trim().to_ascii_lowercase().starts_with("multipart/") {
            return Err(fault());
        }
        let boundary = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
        });
        let name = boundary.map(|name| name.trim_start_matches('-')).filter(|name| !name.is_empty());
        let delimiter = format!("--{}", name.ok_or_else(fault)?);
        Ok(Multipart {
            delimiter: Finder::new(&delimiter).into_owned(),
            unread: BytesMut::new(),
            awaited: Awaited::Boundary(0),
        })
    }

    /// Takes bytes of the stream. The caller then takes all parts.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next whole part; `None` until more bytes have come.
    ///
    /// # Errors
    /// The stream cannot be read on.
    pub(super) fn next(&mut self) -> Result<Option<Part>, MultipartError> {
        loop {
            match self.awaited {
                Awaited::Boundary(passed) => {
                    let length = self.delimiter.needle().len();
                    let Some(at) = self.delimiter.find(&self.unread) else {
                        // The delimiter may have come in part.
                        let over = self.unread.len().saturating_sub(length - 1);
                        self.unread.advance(over);
                        self.awaited = Awaited::Boundary(passed + over);
                        if passed + over > MOST_BETWEEN {
                            return Err(MultipartError::NoBoundary);
                        }
                        return Ok(None);
                    };
                    self.unread.advance(at + length);
                    self.awaited = Awaited::Header;
                }
                Awaited::Header => {
                    let head = &self.unread[..self.unread.len().min(MOST_HEADER)];
                    if head.starts_with(b"--\r") || head.starts_with(b"--\n") {
                        return Err(MultipartError::Ended);
                    }
                    let Some((end, behind)) = header_end(head) else {
                        return if head.len() == MOST_HEADER {
                            Err(MultipartError::Header)
                        } else {
                            Ok(None)
                        };
                    };
                    let (length, stamp) = header(&self.unread[..end]);
                    if length.is_some_and(|length| length > MOST_PICTURE as u64) {
                        return Err(MultipartError::TooLarge);
                    }
                    self.unread.advance(behind);
                    self.awaited = match length {
                        Some(length) => Awaited::Sized(length as usize, stamp),
                        None => Awaited::Open(0, stamp),
                    };
                }
                Awaited::Sized(length, stamp) => {
                    if self.unread.len() < length {
                        return Ok(None);
                    }
                    let body = self.unread.split_to(length).freeze();
                    self.awaited = Awaited::Boundary(0);
                    return Ok(Some(Part { body, stamp }));
                }
                Awaited::Open(searched, stamp) => {
                    let length = self.delimiter.needle().len();
                    let Some(at) = self.delimiter.find(&self.unread[searched..]) else {
                        if self.unread.len() > MOST_PICTURE {
                            return Err(MultipartError::TooLarge);
                        }
                        self.awaited = Awaited::Open(self.unread.len().saturating_sub(length - 1), stamp);
                        return Ok(None);
                    };
                    let mut body = self.unread.split_to(searched + at).freeze();
                    // The line break before the boundary, and dashes of its own, are not the body's.
                    while let [rest @ .., b'-' | b'\r' | b'\n'] = &body[..] {
                        body.truncate(rest.len());
                    }
                    self.awaited = Awaited::Boundary(0);
                    return Ok(Some(Part { body, stamp }));
                }
            }
        }
    }

    /// Bytes that are held.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> usize {
        self.unread.len()
    }
}

/// Where a header ends, and where its body begins.
fn header_end(head: &[u8]) -> Option<(usize, usize)> {
    let crlf = find(head, b"\n\r\n").map(|at| (at + 1, at + 3));
    let lf = find(head, b"\n\n").map(|at| (at + 1, at + 2));
    match (crlf, lf) {
        (Some(crlf), Some(lf)) => Some(crlf.min(lf)),
        (one, other) => one.or(other),
    }
}

/// The length and the time stamp that a header tells. The rest of the boundary's line is its first line.
fn header(head: &[u8]) -> (Option<u64>, Option<AirTime>) {
    let (mut length, mut stamp) = (None, None);
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        let Some((name, value)) = str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else {
            continue;
        };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            // A length of 0 is one that the camera does not know.
            "content-length" => length = value.parse().ok().filter(|&length| length > 0),
            "x-timestamp" => stamp = time_stamp(value),
            _ => {}
        }
    }
    (length, stamp)
}

/// Seconds since 1970, with a fraction.
fn time_stamp(text: &str) -> Option<AirTime> {
    let seconds: f64 = text.parse().ok().filter(|seconds| (0.0..1e10).contains(seconds))?;
    Some(AirTime((seconds * 1e9) as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bodies of a stream that comes in pieces of `piece` bytes, and its end.
    fn bodies(kind: &str, stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<MultipartError>) {
        let mut multipart = Multipart::new(kind).unwrap();
        let mut found = Vec::new();
        for piece in stream.chunks(piece) {
            multipart.push(piece);
            loop {
                match multipart.next() {
                    Ok(Some(part)) => found.push(part.body.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    #[test]
    fn parts_are_found_however_cameras_write_them() {
        let kind = "multipart/x-mixed-replace; boundary=picture";
        for (kind, stream) in [
            (
                kind,
                "--picture\r\nContent-Length: 3\r\n\r\none\r\n--picture\r\nContent-Length: 3\r\n\r\ntwo\r\n--picture\r\n",
            ),
            (
                kind,
                "--picture\r\nContent-Type: image/jpeg\r\n\r\none\r\n--picture\r\nX: y\r\n\r\ntwo\r\n--picture\r\n",
            ),
            (kind, "\r\n\r\n--picture\n\none\n--picture\n\ntwo\n--picture\n\n"),
            (kind, "--picture\r\nCONTENT-LENGTH:3\r\n\r\none--picture  \r\ncontent-length: 3\r\n\r\ntwo"),
            (
                kind,
                "--picture\r\nContent-Length: 0\r\n\r\none\r\n--picture\r\nContent-Length: x\r\n\r\ntwo\r\n--picture",
            ),
            ("Multipart/X-Mixed-Replace;BOUNDARY=\"a b;c\"", "--a b\r\n\r\n"),
            (
                "multipart/x-mixed-replace; boundary=\"picture\"",
                "--picture\r\n\r\none\r\n--picture\r\n\r\ntwo\r\n--picture",
            ),
            (
                "multipart/x-mixed-replace; boundary=--picture",
                "--picture\r\n\r\none\r\n--picture\r\n\r\ntwo\r\n--picture",
            ),
            (
                "multipart/x-mixed-replace;x=1;boundary=--picture",
                "----picture\r\n\r\none\r\n----picture\r\n\r\ntwo\r\n----picture",
            ),
        ] {
            for piece in [1, 2, 7, 1000] {
                let (found, end) = bodies(kind, stream.as_bytes(), piece);
                assert_eq!(end, None);
                if stream.contains("one") {
                    assert_eq!(found, [b"one", b"two"], "{kind} in pieces of {piece}: {stream:?}");
                }
            }
        }
    }

    #[test]
    fn a_length_that_is_wrong_costs_one_picture() {
        let kind = "multipart/x-mixed-replace; boundary=p";
        let stream =
            b"--p\r\nContent-Length: 2\r\n\r\nshort\r\n--p\r\nContent-Length: 4\r\n\r\ngood\r\n--p--\r\n";
        let (found, end) = bodies(kind, stream, 3);
        assert_eq!((found, end), (vec![b"sh".to_vec(), b"good".to_vec()], Some(MultipartError::Ended)));
    }

    #[test]
    fn time_stamps_are_read() {
        let mut multipart = Multipart::new("multipart/x-mixed-replace; boundary=p").unwrap();
        multipart.push(b"--p\r\nX-Timestamp: 1790000000.250000\r\nContent-Length: 1\r\n\r\na--p\r\nX-Timestamp: -1\r\nContent-Length: 1\r\n\r\nb");
        let at = AirTime(1_790_000_000_250_000_000);
        assert!(multipart.next().unwrap().unwrap().stamp.unwrap().signed_since(at).abs() < 1000);
        assert_eq!(multipart.next().unwrap().unwrap().stamp, None);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let kind = "multipart/x-mixed-replace; boundary=p";
        let endless = |head: &[u8], fill: u8, most: usize| {
            let mut multipart = Multipart::new(kind).unwrap();
            multipart.push(head);
            let chunk = vec![fill; 64 << 10];
            for _ in 0..1600 {
                multipart.push(&chunk);
                let next = multipart.next();
                assert!(multipart.held() <= most + chunk.len(), "{} bytes are held", multipart.held());
                match next {
                    Ok(part) => assert_eq!(part, None),
                    Err(error) => return error,
                }
            }
            panic!("100 MB were taken");
        };
        assert_eq!(endless(b"", b'x', 100), MultipartError::NoBoundary);
        assert_eq!(endless(b"--p\r\nX-Header: ", b'x', MOST_HEADER), MultipartError::Header);
        assert_eq!(
            endless(b"--p\r\nContent-Type: image/jpeg\r\n\r\n", 0xff, MOST_PICTURE),
            MultipartError::TooLarge
        );
        assert_eq!(
            endless(b"--p\r\nContent-Length: 9999999999999\r\n\r\n", 0, 100),
            MultipartError::TooLarge
        );
    }

    #[test]
    fn other_content_types_are_refused_with_a_sentence() {
        for kind in [
            "image/jpeg",
            "text/html; charset=utf-8",
            "multipart/x-mixed-replace",
            "multipart/x; boundary=--",
            "",
        ] {
            let error = Multipart::new(kind).unwrap_err().to_string();
            assert!(error.starts_with(&format!("it sends {kind:?} and not")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parts_do_not_depend_on_how_a_stream_is_cut(
            tokens in proptest::collection::vec(proptest::sample::select(vec![
                "--p", "--p--", "\r\n", "\n", "\r\n\r\n", "Content-Length: 3\r\n", "Content-Length: 99\n", "-", "abc", "\u{ff}",
                "X-Timestamp: 1.5\r\n", "content-length:-1\r\n",
            ]), 0..60),
            piece in 1usize..40,
        ) {
            let stream = tokens.concat();
            let kind = "multipart/x-mixed-replace; boundary=p";
            let whole = bodies(kind, stream.as_bytes(), usize::MAX);
            prop_assert_eq!(bodies(kind, stream.as_bytes(), piece), whole);
        }
    }
}
