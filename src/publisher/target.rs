//! The URL that is published to. Pure.

use std::fmt;

use rtsp_types::Url;

use crate::wire::rtsp::take_login;

/// The port of RTSP on most broadcasters. 554, the registered one, needs privileges.
const PORT: u16 = 8554;

/// The URL of a station that is published to, and the token.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishUrl {
    /// Without user and password.
    url: Url,
    /// The value of the Authorization header.
    authorization: Option<String>,
}

impl PublishUrl {
    /// The URL in `text`: `rtsp://HOST:8554/publish/NAME`, with the token as the password of any user.
    ///
    /// # Errors
    /// The sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<PublishUrl, String> {
        let fix = "write rtsp://HOST:8554/publish/NAME, with the token as in rtsp://anna:TOKEN@HOST:8554/publish/NAME";
        let mut url = Url::parse(text).map_err(|_| format!("this is no URL; {fix}"))?;
        if url.scheme() != "rtsp" {
            return Err(format!("this is no URL of RTSP; {fix}"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(format!("this URL has no host; {fix}"));
        }
        let authorization = take_login(&mut url);
        if url.port().is_none() {
            let _ = url.set_port(Some(PORT));
        }
        Ok(PublishUrl { url, authorization })
    }

    /// Without user and password.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Host and port.
    pub(super) fn address(&self) -> (String, u16) {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        (host, self.url.port().unwrap_or(PORT))
    }

    /// The value of the Authorization header, if there is a user or a password.
    pub(super) fn authorization(&self) -> Option<String> {
        self.authorization.clone()
    }
}

/// Without the token.
impl fmt::Display for PublishUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for PublishUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_perhaps_a_token() {
        let url = PublishUrl::parse("rtsp://anna:s3%2Fcret+@[::1]/publish/Anna?token=x").unwrap();
        assert_eq!(url.to_string(), "rtsp://[::1]:8554/publish/Anna");
        assert_eq!(url.address(), ("::1".into(), 8554));
        assert_eq!(url.url().as_str(), "rtsp://[::1]:8554/publish/Anna?token=x");
        assert_eq!(url.authorization().as_deref(), Some("Basic YW5uYTpzMy9jcmV0Kw=="));
        assert_eq!(PublishUrl::parse("rtsp://h:1/publish/a").unwrap().authorization(), None);
        for text in ["", "anna", "http://h/publish/a", "rtsp:///publish/a", "/dev/video0"] {
            let sentence = PublishUrl::parse(text).unwrap_err();
            assert!(sentence.contains("rtsp://HOST:8554/publish/NAME"), "{text}: {sentence}");
        }
        assert!(!format!("{url:?}").contains("cret"));
    }
}
