//! RTSP messages from the bytes of a connection (RFC 2326), for the server and for the viewer's client. Liberal in what it
//! takes: a line may end in CRLF, LF or CR (section 4), a header may be Latin-1, and a name may have spaces before its colon.
//!
//! rtsp-types 0.1.3 has the types of a message, but its parser is not used: it takes CRLF and UTF-8 only, and its map of
//! headers finds names that match by their beginning (`HeaderName::cmp` compares no further than the shorter name). With
//! `Accept-Language: de` and no `Accept`, it finds `de` under `Accept`. So [`MessageFramer`] keeps the headers of [`READ`]
//! alone, of which no name is the beginning of another.

mod login;
mod transport;

use rtsp_types::headers::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_BASE, CONTENT_LOCATION, CONTENT_TYPE, CSEQ, PROXY_REQUIRE,
    RANGE, REQUIRE, SCALE, SESSION, TIMESTAMP, TRANSPORT, WWW_AUTHENTICATE,
};
use rtsp_types::{Data, HeaderName, Message, Method, Request, Response, StatusCode, Url, Version};

#[cfg(feature = "viewer")]
pub(crate) use login::basic;
pub(crate) use login::take_login;
pub(crate) use transport::{LowerTransport, TransportSpec};

/// The headers that a parsed message has. The others are left out.
const READ: [HeaderName; 15] = [
    ACCEPT,
    AUTHORIZATION,
    CONNECTION,
    CONTENT_BASE,
    CONTENT_LOCATION,
    CONTENT_TYPE,
    CSEQ,
    PROXY_REQUIRE,
    RANGE,
    REQUIRE,
    SCALE,
    SESSION,
    TIMESTAMP,
    TRANSPORT,
    WWW_AUTHENTICATE,
];

/// Bytes that are not an RTSP message. What follows them cannot be understood either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FramingError {
    /// Another version of RTSP than 1.0 and 2.0.
    Version,
    /// The whole head of an HTTP request.
    Http(HttpRequest),
    Malformed,
}

/// The head of an HTTP request, which may be about a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    /// Its `x-sessioncookie`, by which the two halves of a tunnel find each other.
    pub(crate) cookie: Option<String>,
    /// Number of its bytes.
    pub(crate) length: usize,
}

/// Finds and parses the messages in the bytes of a connection. Between two calls for the same message, it keeps how far it
/// has looked, so that bytes that arrive one by one are not searched again and again.
#[derive(Debug, Default)]
pub(crate) struct MessageFramer {
    scan: HeadScan,
    /// Number of bytes that the message has, once that is known.
    need: usize,
}

/// A message and the number of its bytes; `None` if it is not complete.
type FramerResult<B> = Result<Option<(Message<B>, usize)>, FramingError>;

impl MessageFramer {
    /// Takes the message at the beginning of `bytes`, behind empty lines. Returns it with the number of its bytes; `None` if
    /// the message is not complete. Then the caller adds to `bytes`, and leaves them as they are otherwise.
    ///
    /// # Errors
    /// The bytes are not a message, also as far as can be told from a part of it.
    pub(crate) fn take<'a, B: From<&'a [u8]> + AsRef<[u8]>>(&mut self, bytes: &'a [u8]) -> FramerResult<B> {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let message = &bytes[blank..];
        let taken = match message.first() {
            None => return Ok(None),
            _ if message.len() < self.need => return Ok(None),
            Some(b'$') => self.data(message),
            Some(&first) if is_token(first) => self.message(message)?,
            Some(_) => return Err(FramingError::Malformed),
        };
        Ok(taken.map(|(message, length)| {
            *self = MessageFramer::default();
            (message, blank + length)
        }))
    }

    /// Number of bytes that the message at the beginning has, as far as that is known: 0 before.
    #[cfg(feature = "broadcaster")]
    pub(crate) fn need(&self) -> usize {
        self.need
    }

    /// Interleaved data (RFC 2326 section 10.12).
    fn data<'a, B: From<&'a [u8]>>(&mut self, bytes: &'a [u8]) -> Option<(Message<B>, usize)> {
        self.need = 4;
        let (&[_, channel, high, low], rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        self.need = 4 + length;
        let body = rest.get(..length)?;
        Some((Message::Data(Data::new(channel, B::from(body))), self.need))
    }

    fn message<'a, B: From<&'a [u8]> + AsRef<[u8]>>(&mut self, bytes: &'a [u8]) -> FramerResult<B> {
        let had_line = self.scan.first_line.is_some();
        let head = self.scan.find(bytes);
        if let (false, Some(line)) = (had_line, self.scan.first_line) {
            // Nonsense is rejected early.
            let line = text(&bytes[..line]);
            if !is_http(&line) {
                StartLine::parse(&line)?;
            }
        }
        let Some(head) = head else { return Ok(None) };
        let head_text = text(&bytes[..head]);
        let mut lines = lines(&head_text);
        let line = lines.next().unwrap_or_default();
        let headers = lines.map(|line| header(&line)).collect::<Result<Vec<_>, FramingError>>()?;
        // A CR has ended the head as soon as it came. An LF behind it belongs to it.
        let crlf = bytes[head - 1] == b'\r' && bytes.get(head) == Some(&b'\n');
        let begin = head + usize::from(crlf);
        if is_http(&line) {
            return Err(FramingError::Http(HttpRequest::new(&line, headers, begin)));
        }
        let start = StartLine::parse(&line)?;
        let length = content_length(&headers)?;
        // Saturating, since the other side chooses the length of the body.
        self.need = begin.saturating_add(length);
        let Some(body) = bytes.get(begin..self.need) else { return Ok(None) };
        Ok(Some((start.message(&headers, B::from(body)), self.need)))
    }
}

impl HttpRequest {
    fn new(line: &str, headers: Vec<(String, String)>, length: usize) -> HttpRequest {
        let method = line.split_ascii_whitespace().next().unwrap_or_default().to_owned();
        let cookie = headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("x-sessioncookie"));
        HttpRequest { method, cookie: cookie.map(|(_, cookie)| cookie), length }
    }
}

/// Whether this is the first line of an HTTP request.
fn is_http(line: &str) -> bool {
    line.split_ascii_whitespace().nth(2).is_some_and(|version| version.starts_with("HTTP/"))
}

/// Searches for the end of a head: an empty line.
#[derive(Debug)]
struct HeadScan {
    /// Number of bytes that were searched.
    at: usize,
    /// Length of the first line, once it is complete.
    first_line: Option<usize>,
    /// Whether the line at `at` has no byte yet.
    is_empty: bool,
    /// Whether the line before ended in a CR, to which an LF at `at` belongs.
    after_cr: bool,
}

impl Default for HeadScan {
    fn default() -> HeadScan {
        HeadScan { at: 0, first_line: None, is_empty: true, after_cr: false }
    }
}

impl HeadScan {
    /// The length of the head, its last line end included, but for the LF behind a CR. `None` if it is not complete.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\r' | b'\n' if self.is_empty => return Some(self.at + 1),
                b'\r' | b'\n' => {
                    self.first_line.get_or_insert(self.at);
                    (self.is_empty, self.after_cr) = (true, byte == b'\r');
                }
                _ => (self.is_empty, self.after_cr) = (false, false),
            }
            self.at += 1;
        }
        None
    }
}

/// The first line of a message.
enum StartLine {
    Request { method: Method, uri: Option<Url>, version: Version },
    Response { version: Version, status: StatusCode, reason: String },
}

impl StartLine {
    fn parse(line: &str) -> Result<StartLine, FramingError> {
        let line = line.trim_ascii();
        let (first, rest) = line.split_once([' ', '\t']).ok_or(FramingError::Malformed)?;
        let rest = rest.trim_ascii();
        if has_protocol(first) {
            let version = version(first)?;
            let (status, reason) = rest.split_at_checked(3).ok_or(FramingError::Malformed)?;
            let status = number(status).and_then(|n| u16::try_from(n).ok()).ok_or(FramingError::Malformed)?;
            return Ok(StartLine::Response {
                version,
                status: status.into(),
                reason: reason.trim_ascii().to_owned(),
            });
        }
        let (uri, last) = rest.rsplit_once([' ', '\t']).ok_or(FramingError::Malformed)?;
        let version = version(last)?;
        if !first.bytes().all(is_token) {
            return Err(FramingError::Malformed);
        }
        let uri = match uri.trim_ascii() {
            "*" => None,
            uri => Some(Url::parse(uri).map_err(|_| FramingError::Malformed)?),
        };
        Ok(StartLine::Request { method: Method::from(first), uri, version })
    }

    fn message<B: AsRef<[u8]>>(self, headers: &[(String, String)], body: B) -> Message<B> {
        let known = headers.iter().filter_map(|(name, value)| {
            let known = READ.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name))?;
            Some((known, value.as_str()))
        });
        match self {
            StartLine::Request { method, uri, version } => {
                let mut request = Request::builder(method, version);
                if let Some(uri) = uri {
                    request = request.request_uri(uri);
                }
                Message::Request(
                    known.fold(request, |request, (name, value)| request.header(name, value)).build(body),
                )
            }
            StartLine::Response { version, status, reason } => {
                let response = Response::builder(version, status).reason_phrase(reason);
                Message::Response(
                    known.fold(response, |response, (name, value)| response.header(name, value)).build(body),
                )
            }
        }
    }
}

fn has_protocol(word: &str) -> bool {
    word.get(..5).is_some_and(|protocol| protocol.eq_ignore_ascii_case("RTSP/"))
}

fn version(word: &str) -> Result<Version, FramingError> {
    match word.get(5..).filter(|_| has_protocol(word)) {
        Some("1.0") => Ok(Version::V1_0),
        Some("2.0") => Ok(Version::V2_0),
        Some(_) => Err(FramingError::Version),
        None => Err(FramingError::Malformed),
    }
}

/// The lines of a head, each with those that continue it, up to the empty line.
fn lines(head: &str) -> impl Iterator<Item = String> {
    // The empty line between the CR and the LF of a CRLF is left out with the others.
    let mut lines = head.split(['\r', '\n']).filter(|line| !line.is_empty()).peekable();
    std::iter::from_fn(move || {
        let mut line = lines.next()?.to_owned();
        while let Some(more) = lines.next_if(|next| next.starts_with([' ', '\t'])) {
            line.push(' ');
            line.push_str(more.trim_ascii());
        }
        Some(line)
    })
}

/// The name and the value of a header.
fn header(line: &str) -> Result<(String, String), FramingError> {
    let (name, value) = line.split_once(':').ok_or(FramingError::Malformed)?;
    let name = name.trim_ascii();
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(FramingError::Malformed);
    }
    Ok((name.to_owned(), value.trim_ascii().to_owned()))
}

fn content_length(headers: &[(String, String)]) -> Result<usize, FramingError> {
    let mut lengths = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Content-Length"));
    let Some((_, length)) = lengths.next() else { return Ok(0) };
    if length.is_empty()
        || !length.bytes().all(|byte| byte.is_ascii_digit())
        || lengths.any(|(_, l)| l != length)
    {
        return Err(FramingError::Malformed);
    }
    // A number that is too large for us is too large for every buffer, too.
    Ok(length.parse().unwrap_or(usize::MAX))
}

/// A number of decimal digits and nothing else.
fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Text in UTF-8; if it is not, in Latin-1, in which every byte is a character.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// A character of a token, as methods and names of headers are (RFC 2326 section 15.1).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
