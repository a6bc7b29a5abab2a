//! The station that a publisher's request means: the name and the token in its URL and its header. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rtsp_types::headers::AUTHORIZATION;
use rtsp_types::{Request, Url};

/// The first part of the path of a URL that is published to.
const PUBLISH: &str = "publish";

/// The station that a publisher means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rtsp) struct PublishTarget {
    /// The name in the URL, decoded.
    pub(in crate::rtsp) name: String,
    /// The token in the query.
    token: Option<String>,
    /// The part of the URL behind the station's, without slashes: a track of it; empty if there is none. FFmpeg puts it behind the
    /// query.
    pub(in crate::rtsp) control: String,
}

impl PublishTarget {
    /// `/publish/NAME`, `/publish/NAME/CONTROL`, `/publish/NAME?token=TOKEN/CONTROL`. `None` of any other URL.
    pub(in crate::rtsp) fn parse(uri: &Url) -> Option<PublishTarget> {
        let mut parts = uri.path().trim_matches('/').splitn(3, '/');
        if parts.next()? != PUBLISH {
            return None;
        }
        let name = decoded(parts.next().filter(|name| !name.is_empty())?);
        let mut control = parts.next().unwrap_or_default();
        let mut token = None;
        if let Some(query) = uri.query() {
            // A token has no slash.
            let (query, behind) = query.split_once('/').unwrap_or((query, ""));
            if control.is_empty() {
                control = behind;
            }
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            token = pairs.filter(|(key, _)| *key == "token").map(|(_, value)| decoded(value)).next();
        }
        Some(PublishTarget { name, token, control: control.trim_matches('/').to_owned() })
    }

    /// The token that a request offers: as the password of the Basic scheme (RFC 7617), whatever the user is, or in its URL.
    pub(in crate::rtsp) fn token(&self, request: &Request<Vec<u8>>) -> Option<String> {
        let header = request.header(&AUTHORIZATION).map(|value| value.as_str());
        let basic = header.and_then(|value| {
            let (scheme, code) = value.trim_ascii().split_once(' ')?;
            let text =
                scheme.eq_ignore_ascii_case("Basic").then(|| STANDARD.decode(code.trim_ascii()).ok())??;
            let text = String::from_utf8(text).ok()?;
            let (user, password) = text.split_once(':')?;
            Some(if password.is_empty() { user } else { password }.to_owned())
        });
        basic.or_else(|| self.token.clone())
    }
}

/// A part of a URL without its escapes. What is no text afterwards has replacement characters.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let code = behind.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let escaped = code
            .filter(|code| byte == b'%' && code.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtsp_types::{Method, Version};

    use super::*;

    fn target(url: &str) -> Option<(String, Option<String>, String)> {
        let target = PublishTarget::parse(&Url::parse(url).unwrap())?;
        Some((target.name, target.token, target.control))
    }

    #[test]
    fn a_url_tells_the_name_the_token_and_the_track() {
        for (url, name, token, control) in [
            ("rtsp://h/publish/anna", "anna", None, ""),
            ("rtsp://h:8554/publish/anna/", "anna", None, ""),
            ("rtsp://h/publish/anna/streamid=0", "anna", None, "streamid=0"),
            ("rtsp://h/publish/anna/a/b", "anna", None, "a/b"),
            ("rtsp://h/publish/Caf%C3%A9%202", "Café 2", None, ""),
            ("rtsp://h/publish/100%25%", "100%%", None, ""),
            ("rtsp://h/publish/anna?token=s3cret", "anna", Some("s3cret"), ""),
            // As FFmpeg and GStreamer make the URL of a track.
            ("rtsp://h/publish/anna?token=s3cret/streamid=1", "anna", Some("s3cret"), "streamid=1"),
            ("rtsp://h/publish/anna/stream=1?token=s3cret", "anna", Some("s3cret"), "stream=1"),
            ("rtsp://h/publish/anna?a=b&token=x%2ey&c", "anna", Some("x.y"), ""),
        ] {
            let expected = Some((name.to_owned(), token.map(str::to_owned), control.to_owned()));
            assert_eq!(target(url), expected, "{url}");
        }
        for url in
            ["rtsp://h/", "rtsp://h/1", "rtsp://h/publish", "rtsp://h/publish/", "rtsp://h/published/a"]
        {
            assert_eq!(target(url), None, "{url}");
        }
    }

    #[test]
    fn the_token_is_a_password_or_in_the_url() {
        let token = |url: &str, header: Option<&str>| {
            let mut request = Request::builder(Method::Announce, Version::V1_0);
            if let Some(header) = header {
                request = request.header(AUTHORIZATION, header);
            }
            PublishTarget::parse(&Url::parse(url).unwrap()).unwrap().token(&request.build(Vec::new()))
        };
        let (url, with) = ("rtsp://h/publish/a", "rtsp://h/publish/a?token=inurl");
        for (url, header, expected) in [
            (url, None, None),
            (with, None, Some("inurl")),
            (url, Some("Basic YW5uYTpzM2NyZXQ="), Some("s3cret")), // anna:s3cret
            (with, Some("basic  YW5uYTpzM2NyZXQ="), Some("s3cret")),
            (url, Some("Basic czNjcmV0Og=="), Some("s3cret")), // s3cret:
            (with, Some("Digest username=\"anna\""), Some("inurl")),
            (with, Some("Basic ?"), Some("inurl")),
            (url, Some("Basic"), None),
        ] {
            assert_eq!(token(url, header).as_deref(), expected, "{url} {header:?}");
        }
    }

    proptest! {
        #[test]
        fn no_url_makes_it_panic(path in "(publish|/|%|[0-9a-f]{2}|\\?|token=|&|é|[ -~]){0,16}", header in "(Basic )?[ -~é]{0,24}") {
            if let Ok(url) = Url::parse(&format!("rtsp://h/{path}"))
                && let Some(target) = PublishTarget::parse(&url)
            {
                let request = Request::builder(Method::Announce, Version::V1_0).header(AUTHORIZATION, header);
                let _ = target.token(&request.build(Vec::new()));
            }
        }
    }
}
