//! The Transport header (RFC 2326 section 12.39): a list of alternatives. Liberal: names in any case, values in quotes or
//! not, parameters without a value or unknown ones. rtsp-types 0.1.3 rejects the whole list for these, and panics at quotes
//! that do not pair up.

use rtsp_types::StatusCode;

/// One alternative of a Transport header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TransportSpec {
    /// `None`: another transport than RTP/AVP.
    pub(crate) lower: Option<LowerTransport>,
    pub(crate) unicast: bool,
    pub(crate) multicast: bool,
    /// Where the packets shall go; `None`: to the requester.
    pub(crate) destination: Option<String>,
    /// Channels for RTP and RTCP. The second may be missing.
    pub(crate) interleaved: Option<(u8, Option<u8>)>,
    /// Ports of the client for RTP and RTCP. The second may be missing.
    pub(crate) client_port: Option<(u16, Option<u16>)>,
    /// The modes that are asked for, in lower case. Empty: play.
    pub(crate) modes: Vec<String>,
}

/// How RTP/AVP packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LowerTransport {
    Udp,
    Tcp,
}

impl TransportSpec {
    /// The alternatives of a Transport header, in its order. An alternative with a value that cannot be is an error of its
    /// own, 400, and spoils no other.
    pub(crate) fn list(header: &str) -> impl Iterator<Item = Result<TransportSpec, StatusCode>> {
        parts(header, ',').filter(|text| !text.is_empty()).map(TransportSpec::parse)
    }

    fn parse(text: &str) -> Result<TransportSpec, StatusCode> {
        let mut parts = parts(text, ';');
        let mut protocol = parts.next().unwrap_or_default().split('/').map(str::trim_ascii);
        let mut next_is = |word: &str| protocol.next().is_some_and(|part| part.eq_ignore_ascii_case(word));
        let is_avp = next_is("RTP") && next_is("AVP");
        let lower = match (protocol.next(), protocol.next()) {
            (None, None) => Some(LowerTransport::Udp),
            (Some(lower), None) if lower.eq_ignore_ascii_case("UDP") => Some(LowerTransport::Udp),
            (Some(lower), None) if lower.eq_ignore_ascii_case("TCP") => Some(LowerTransport::Tcp),
            _ => None,
        };
        let mut spec = TransportSpec { lower: lower.filter(|_| is_avp), ..TransportSpec::default() };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim_ascii().trim_matches('"').trim_ascii();
            match name.trim_ascii().to_ascii_lowercase().as_str() {
                "unicast" => spec.unicast = true,
                "multicast" => spec.multicast = true,
                "destination" if !value.is_empty() => spec.destination = Some(value.to_owned()),
                // Of RTSP 2.0, where it stands for `destination` and `client_port`. We do not send anywhere else either.
                "dest_addr" if !value.is_empty() => spec.destination = Some(value.to_owned()),
                "interleaved" if !value.is_empty() => spec.interleaved = Some(pair(value)?),
                "client_port" if !value.is_empty() => spec.client_port = Some(pair(value)?),
                "mode" => {
                    spec.modes = value
                        .split(',')
                        .map(|m| m.trim_ascii().to_ascii_lowercase())
                        .filter(|m| !m.is_empty())
                        .collect()
                }
                _ => {}
            }
        }
        Ok(spec)
    }
}

/// `5000-5001` or `5000`.
fn pair<N: std::str::FromStr>(text: &str) -> Result<(N, Option<N>), StatusCode> {
    let number = |text: &str| {
        let digits = text.trim_ascii();
        let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).ok_or(StatusCode::BadRequest)
    };
    Ok(match text.split_once('-') {
        None => (number(text)?, None),
        Some((first, "")) => (number(first)?, None),
        Some((first, second)) => (number(first)?, Some(number(second)?)),
    })
}

/// The parts of `text` between separators that are not in quotes, without the spaces around them.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
    .map(str::trim_ascii)
}
