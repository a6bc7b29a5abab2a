//! The URL that is published to. Pure.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rtsp_types::Url;

/// The port of RTSP on most broadcasters. 554, the registered one, needs privileges.
const PORT: u16 = 8554;

/// The URL of a station that is published to, and the token.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishUrl {
    /// Without user and password.
    url: Url,
    /// User and password, as the Basic scheme sends them.
    login: Option<String>,
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
        let decoded = |text: &str| {
            let form = format!("x={}", text.replace('+', "%2B"));
            form_value(&form)
        };
        let (user, password) = (decoded(url.username()), url.password().map(decoded));
        let login = (!user.is_empty() || password.is_some())
            .then(|| STANDARD.encode(format!("{user}:{}", password.unwrap_or_default())));
        // An error means that URLs of this scheme have no user.
        let _ = (url.set_username(""), url.set_password(None));
        if url.port().is_none() {
            let _ = url.set_port(Some(PORT));
        }
        Ok(PublishUrl { url, login })
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
        self.login.as_ref().map(|login| format!("Basic {login}"))
    }
}

/// The value of a form of one field, without its escapes.
fn form_value(form: &str) -> String {
    let base = Url::parse(&format!("http://x/?{form}"));
    base.ok()
        .and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned()))
        .unwrap_or_default()
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
        let login = STANDARD.encode("anna:s3/cret+");
        assert_eq!(url.authorization(), Some(format!("Basic {login}")));
        assert_eq!(PublishUrl::parse("rtsp://h:1/publish/a").unwrap().authorization(), None);
        for text in ["", "anna", "http://h/publish/a", "rtsp:///publish/a", "/dev/video0"] {
            let sentence = PublishUrl::parse(text).unwrap_err();
            assert!(sentence.contains("rtsp://HOST:8554/publish/NAME"), "{text}: {sentence}");
        }
        assert!(!format!("{url:?}").contains("cret"));
    }
}
