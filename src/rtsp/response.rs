//! Responses: what all of them have, and rejections. Pure.

use std::fmt;

use rtsp_types::{HeaderName, Request, Response, ResponseBuilder, StatusCode, Version, headers};

use super::RETRY_AFTER;

/// Why a request is refused, as the response says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) status: StatusCode,
    /// A header with details.
    pub(super) header: Option<(HeaderName, String)>,
    /// A sentence for the reader of the client's log.
    pub(super) why: Option<String>,
}

impl From<StatusCode> for Rejection {
    fn from(status: StatusCode) -> Rejection {
        Rejection { status, header: None, why: None }
    }
}

impl Rejection {
    pub(super) fn with(status: StatusCode, name: HeaderName, value: impl Into<String>) -> Rejection {
        Rejection { status, header: Some((name, value.into())), why: None }
    }

    /// What the client wants cannot be had now; `why` says the reason.
    pub(super) fn unavailable(why: &dyn fmt::Display) -> Rejection {
        let retry_after = RETRY_AFTER.as_secs().to_string();
        Rejection::with(StatusCode::ServiceUnavailable, headers::RETRY_AFTER, retry_after).because(why)
    }

    /// The same, and `why` says the reason.
    pub(super) fn because(self, why: &dyn fmt::Display) -> Rejection {
        let why = why.to_string().replace(|c: char| !(' '..='~').contains(&c), "?");
        Rejection { why: Some(why), ..self }
    }

    pub(super) fn response(self, echo: &Echo) -> Response<Vec<u8>> {
        let mut response = response(self.status, echo);
        if let Some((name, value)) = self.header {
            response = response.header(name, value);
        }
        let Some(why) = self.why else { return response.build(Vec::new()) };
        // Players show the phrase, and no body.
        response
            .reason_phrase(format!("{}: {why}", reason(self.status)))
            .header(headers::CONTENT_TYPE, "text/plain")
            .build(format!("{why}\n").into_bytes())
    }
}

/// The headers of a request that its response repeats, or answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Echo {
    /// The number of the request: decimal digits, as many as the client likes (RFC 2326 section 12.17).
    pub(super) cseq: Option<String>,
    /// By which the client measures the time to the server and back (RFC 2326 section 12.38).
    pub(super) timestamp: Option<String>,
    /// Whether the client wants the connection closed behind the response (RFC 2326 section 12.10).
    pub(super) close: bool,
}

impl Echo {
    pub(super) fn of(request: &Request<Vec<u8>>) -> Echo {
        let text = |name| request.header(&name).map(|value| value.as_str());
        let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_plain = |text: &&str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let options = text(headers::CONNECTION).unwrap_or_default();
        Echo {
            cseq: text(headers::CSEQ).filter(is_number).map(str::to_owned),
            timestamp: text(headers::TIMESTAMP).filter(is_plain).map(str::to_owned),
            close: options.split(',').any(|option| option.trim_ascii().eq_ignore_ascii_case("close")),
        }
    }
}

/// A response with the headers that all responses have.
pub(super) fn response(status: StatusCode, echo: &Echo) -> ResponseBuilder {
    let mut response = Response::builder(Version::V1_0, status)
        .reason_phrase(reason(status))
        .header(headers::SERVER, concat!("stationcast/", env!("CARGO_PKG_VERSION")));
    if let Some(cseq) = &echo.cseq {
        response = response.header(headers::CSEQ, cseq.as_str());
    }
    if let Some(timestamp) = &echo.timestamp {
        response = response.header(headers::TIMESTAMP, timestamp.as_str());
    }
    if echo.close {
        response = response.header(headers::CONNECTION, "close");
    }
    response
}

/// The reason phrase of a status.
fn reason(status: StatusCode) -> String {
    match status {
        // Some clients look for "OK"; rtsp-types 0.1.3 says "Ok".
        StatusCode::Ok => "OK".to_owned(),
        // rtsp-types 0.1.3 says "ALlowed".
        StatusCode::OnlyAggregateOperationAllowed => "Only Aggregate Operation Allowed".to_owned(),
        status => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rtsp::MessageFramer;

    #[test]
    fn a_response_repeats_the_number_and_the_timestamp_of_its_request() {
        for (headers, cseq, timestamp, close) in [
            ("CSeq: 4294967296", Some("4294967296"), None, false),
            ("CSeq: 007\nTimestamp: 3.14", Some("007"), Some("3.14"), false),
            (
                "CSeq: 99999999999999999999999999999\nTimestamp: 12 0.5",
                Some("99999999999999999999999999999"),
                Some("12 0.5"),
                false,
            ),
            ("cseq:1\nConnection: Close", Some("1"), None, true),
            ("CSeq: 1\nConnection: keep-alive , close", Some("1"), None, true),
            ("CSeq: 1\nConnection: closed\nTimestamp: \u{1b}", Some("1"), None, false),
            ("CSeq: 1, 1", None, None, false),
        ] {
            let text = format!("OPTIONS * RTSP/1.0\n{headers}\n\n");
            let Ok(Some((rtsp_types::Message::Request(request), _))) =
                MessageFramer::default().take(text.as_bytes())
            else {
                panic!("{text}")
            };
            let echo = Echo::of(&request);
            let ok = response(StatusCode::Ok, &echo).build(Vec::new());
            for response in [ok, Rejection::from(StatusCode::NotFound).response(&echo)] {
                let header = |name| response.header(&name).map(|value| value.as_str());
                assert_eq!(header(headers::CSEQ), cseq, "{headers}");
                assert_eq!(header(headers::TIMESTAMP), timestamp, "{headers}");
                assert_eq!(header(headers::CONNECTION), close.then_some("close"), "{headers}");
            }
        }
    }

    #[test]
    fn reason_phrases_are_spelt() {
        for status in 100..=599 {
            for word in reason(StatusCode::from(status)).split([' ', '-']) {
                let rest = word.get(1..).unwrap_or_default();
                let upper = rest.bytes().filter(u8::is_ascii_uppercase).count();
                assert!(upper == 0 || upper == rest.len(), "{status}: {word}");
            }
        }
        assert_eq!(reason(StatusCode::OnlyAggregateOperationAllowed), "Only Aggregate Operation Allowed");
    }
}
