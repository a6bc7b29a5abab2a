//! The name and password in a URL, as the Basic scheme sends them (RFC 2617 section 2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rtsp_types::Url;

/// The value of an Authorization header with this name and password.
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// Takes the name and the password out of a URL: they do not belong into a request. Returns the value of an Authorization header with
/// them, without their escapes; `None` if there are none.
pub(crate) fn take_login(url: &mut Url) -> Option<String> {
    let decoded = |text: &str| {
        let form = format!("http://x/?x={}", text.replace('+', "%2B"));
        let url = Url::parse(&form).ok();
        url.and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned())).unwrap_or_default()
    };
    let (name, password) = (decoded(url.username()), url.password().map(decoded));
    // An error means that URLs of this scheme have no user.
    let _ = (url.set_username(""), url.set_password(None));
    (!name.is_empty() || password.is_some()).then(|| basic(&name, &password.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_password_are_taken_out_of_a_url_without_their_escapes() {
        let mut url = Url::parse("rtsps://anna:s3%2Fcr%26t+%20x@h/2").unwrap();
        assert_eq!(take_login(&mut url), Some(basic("anna", "s3/cr&t+ x")));
        assert_eq!(url.as_str(), "rtsps://h/2");
        assert_eq!(take_login(&mut url), None);
        assert_eq!(take_login(&mut Url::parse("rtsp://:sct_1@h/2").unwrap()), Some(basic("", "sct_1")));
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
