//! How the packets of a session travel: the offers of a client (RFC 2326 section 12.39), and the chosen transport. Pure.

use std::net::{IpAddr, SocketAddr};

use rtsp_types::headers::{
    self, RtpLowerTransport, RtpProfile, RtpTransport, RtpTransportParameters, Transports,
};
use rtsp_types::{Headers, StatusCode};

use crate::wire::rtsp::{LowerTransport, TransportSpec};

/// Lowest UDP port of a client. Below are the ports of services, at which nobody shall aim a station.
const UNPRIVILEGED: u16 = 1024;

/// A transport that a client offers and the server supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransportOffer {
    /// The station's own group.
    Multicast,
    /// UDP to these two ports of the client.
    Udp { rtp: u16, rtcp: u16 },
    /// In the RTSP connection, on these channels for RTP and RTCP; `None` if the client leaves them to us.
    Interleaved(Option<(u8, u8)>),
}

/// The transport of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionTransport {
    /// The station's own group. Nothing is sent for this client.
    Multicast { group: SocketAddr, ttl: u8, source: IpAddr },
    /// From two ports of the server to two of the client, for RTP and RTCP.
    Udp { client: (u16, u16), server: (u16, u16), ssrc: u32 },
    /// In the RTSP connection, on these channels for RTP and RTCP.
    Interleaved { channels: (u8, u8), ssrc: u32 },
}

impl TransportOffer {
    /// The first supported offer of a Transport header. `peer` is the client's address. `unicast_only` is for programmes on
    /// demand. An alternative that cannot be used, malformed ones included, is passed over.
    ///
    /// # Errors
    /// 400 if the header is missing, or malformed in every alternative; 403 if the packets shall go to another address; 461
    /// if no offer is supported.
    pub(super) fn first(
        headers: &Headers,
        peer: IpAddr,
        unicast_only: bool,
    ) -> Result<TransportOffer, StatusCode> {
        TransportOffer::first_for(&["play"], headers, peer, unicast_only)
    }

    /// The first supported offer of a client that publishes.
    ///
    /// # Errors
    /// As [`first`](Self::first).
    pub(super) fn first_to_record(headers: &Headers, peer: IpAddr) -> Result<TransportOffer, StatusCode> {
        // Clients of Apple's server wrote "receive".
        TransportOffer::first_for(&["record", "receive"], headers, peer, true)
    }

    fn first_for(
        modes: &[&str],
        headers: &Headers,
        peer: IpAddr,
        unicast_only: bool,
    ) -> Result<TransportOffer, StatusCode> {
        let header = headers.get(&headers::TRANSPORT).ok_or(StatusCode::BadRequest)?;
        let mut rejection = None;
        for spec in TransportSpec::list(header.as_str()) {
            let status = match spec.and_then(|spec| supported(&spec, peer, modes)) {
                Ok(TransportOffer::Multicast) if unicast_only => StatusCode::UnsupportedTransport,
                Ok(offer) => return Ok(offer),
                Err(status) => status,
            };
            rejection = match (rejection, status) {
                (None, status) => Some(status),
                (Some(StatusCode::Forbidden), _) | (_, StatusCode::Forbidden) => Some(StatusCode::Forbidden),
                (Some(StatusCode::BadRequest), StatusCode::BadRequest) => Some(StatusCode::BadRequest),
                _ => Some(StatusCode::UnsupportedTransport),
            };
        }
        Err(rejection.unwrap_or(StatusCode::UnsupportedTransport))
    }
}

fn supported(spec: &TransportSpec, peer: IpAddr, modes: &[&str]) -> Result<TransportOffer, StatusCode> {
    let unsupported = StatusCode::UnsupportedTransport;
    if !spec.modes.is_empty() && !spec.modes.iter().any(|mode| modes.contains(&mode.as_str())) {
        return Err(unsupported);
    }
    // A client by multicast may name its ports, too: live555 does.
    let unicast = spec.unicast || (spec.client_port.is_some() && !spec.multicast);
    match spec.lower.ok_or(unsupported)? {
        LowerTransport::Tcp if spec.multicast => Err(unsupported),
        LowerTransport::Tcp => {
            let pair = spec.interleaved.map(|(rtp, rtcp)| (rtp, rtcp.unwrap_or(rtp.wrapping_add(1))));
            if pair.is_some_and(|(rtp, rtcp)| rtp == rtcp) {
                return Err(unsupported);
            }
            Ok(TransportOffer::Interleaved(pair))
        }
        LowerTransport::Udp if unicast => {
            let elsewhere = |to: &String| {
                // An IPv6 address may be written as in a URL.
                let to = to.trim_start_matches('[').trim_end_matches(']');
                to.parse().map(|to: IpAddr| to.to_canonical()) != Ok(peer)
            };
            if spec.destination.as_ref().is_some_and(elsewhere) {
                return Err(StatusCode::Forbidden);
            }
            let (rtp, rtcp) = spec.client_port.ok_or(unsupported)?;
            let rtcp = rtcp.or(rtp.checked_add(1)).ok_or(unsupported)?;
            if rtp < UNPRIVILEGED || rtcp < UNPRIVILEGED || rtp == rtcp {
                return Err(unsupported);
            }
            Ok(TransportOffer::Udp { rtp, rtcp })
        }
        // Multicast is the default (RFC 2326 section 12.39).
        LowerTransport::Udp => Ok(TransportOffer::Multicast),
    }
}

impl SessionTransport {
    /// Whether `offer` asks for this transport.
    pub(super) fn matches(&self, offer: &TransportOffer) -> bool {
        match (self, offer) {
            (SessionTransport::Multicast { .. }, TransportOffer::Multicast) => true,
            (SessionTransport::Udp { client, .. }, &TransportOffer::Udp { rtp, rtcp }) => {
                *client == (rtp, rtcp)
            }
            // On any channels: the server decides which.
            (SessionTransport::Interleaved { .. }, TransportOffer::Interleaved(_)) => true,
            _ => false,
        }
    }

    /// Whether `offer` asks for a transport of this kind. All tracks of a session travel alike.
    pub(super) fn is_alike(&self, offer: &TransportOffer) -> bool {
        matches!(
            (self, offer),
            (SessionTransport::Multicast { .. }, TransportOffer::Multicast)
                | (SessionTransport::Udp { .. }, TransportOffer::Udp { .. })
                | (SessionTransport::Interleaved { .. }, TransportOffer::Interleaved(_))
        )
    }

    /// The Transport header of the response to SETUP.
    pub(super) fn header(&self) -> Transports {
        let unicast = RtpTransportParameters { unicast: true, ..Default::default() };
        let (lower_transport, params) = match *self {
            SessionTransport::Multicast { group, ttl, source } => {
                let params = RtpTransportParameters {
                    multicast: true,
                    destination: Some(group.ip().to_string()),
                    source: Some(source.to_string()),
                    port: Some((group.port(), group.port().checked_add(1))),
                    ttl: Some(ttl),
                    ..Default::default()
                };
                (None, params)
            }
            SessionTransport::Udp { client, server, ssrc } => {
                let pair = |(rtp, rtcp)| Some((rtp, Some(rtcp)));
                let (client_port, server_port) = (pair(client), pair(server));
                (None, RtpTransportParameters { client_port, server_port, ssrc: vec![ssrc], ..unicast })
            }
            SessionTransport::Interleaved { channels: (rtp, rtcp), ssrc } => {
                let interleaved = Some((rtp, Some(rtcp)));
                let params = RtpTransportParameters { interleaved, ssrc: vec![ssrc], ..unicast };
                (Some(RtpLowerTransport::Tcp), params)
            }
        };
        vec![headers::Transport::Rtp(RtpTransport { profile: RtpProfile::Avp, lower_transport, params })]
            .into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtsp_types::headers::TypedHeader;
    use rtsp_types::{Method, Request, Version};

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

    fn first(text: &str, unicast_only: bool) -> Result<TransportOffer, u16> {
        let request = Request::builder(Method::Setup, Version::V1_0).header(headers::TRANSPORT, text).empty();
        TransportOffer::first(request.as_ref(), PEER, unicast_only).map_err(u16::from)
    }

    #[test]
    fn the_first_supported_offer_is_taken() {
        let udp = Ok(TransportOffer::Udp { rtp: 5000, rtcp: 5001 });
        let on = |pair| Ok(TransportOffer::Interleaved(pair));
        for (text, offer) in [
            ("RTP/AVP;multicast", Ok(TransportOffer::Multicast)),
            ("RTP/AVP", Ok(TransportOffer::Multicast)),
            ("RTP/AVP/UDP;unicast;client_port=5000-5001;mode=play", udp),
            ("RTP/AVP;unicast;client_port=5000;mode=\"PLAY\"", udp),
            ("RTP/AVP;client_port=5000-5001;destination=192.0.2.9", udp),
            ("RTP/AVP/TCP;unicast;interleaved=0-1", on(Some((0, 1)))),
            ("RTP/AVP/TCP;interleaved=4", on(Some((4, 5)))),
            ("RTP/AVP/TCP;unicast", on(None)),
            ("RTP/SAVP;unicast;client_port=5000-5001, RTP/AVP/TCP;unicast", on(None)),
            ("RAW/RAW/UDP;unicast,RTP/AVP;unicast;client_port=5000-5001", udp),
            ("RTP/AVP;unicast;client_port=80-81,RTP/AVP/TCP;unicast;interleaved=2-3", on(Some((2, 3)))),
            // Liberal, as RFC 2326 has it and clients write it.
            ("RTP/AVP;unicast;client_port=5000-5001;", udp),
            ("RTP/AVP;unicast;;client_port = 5000 - 5001 ; ", udp),
            ("RTP/AVP;unicast;destination;client_port=5000-5001", udp),
            ("RTP/AVP;unicast;destination=;client_port=5000-5001", udp),
            ("RTP/AVP;unicast;destination=\"192.0.2.9\";client_port=\"5000-5001\"", udp),
            ("RTP/AVP;unicast;destination=[::ffff:192.0.2.9];client_port=5000-5001", udp),
            ("rtp/avp/udp;UNICAST;Client_Port=5000-5001;MODE=Play", udp),
            ("RTP/AVP;client_port=5000-;mode=\"RECORD, PLAY\"", udp),
            ("RTP/AVP;unicast;client_port=5000-5001;append;layers=1;x;y=\"a;b,c\"", udp),
            ("rtp/avp/tcp", on(None)),
            ("Rtp/Avp/Tcp;interleaved=2-3;", on(Some((2, 3)))),
            ("RTP/AVP/TCP;unicast;interleaved=", on(None)),
            ("RTP/AVP;multicast;client_port=", Ok(TransportOffer::Multicast)),
            ("RTP/AVP;multicast;client_port=5000-5001", Ok(TransportOffer::Multicast)),
            ("RTP/AVP;multicast;destination;ttl=", Ok(TransportOffer::Multicast)),
            ("RTP/AVP;unicast;client_port=70000-70001,RTP/AVP/TCP", on(None)),
            (
                "nonsense, =;=, ,;, RTP/AVP/TCP;interleaved=300-301, RTP/AVP/TCP;interleaved=0-1",
                on(Some((0, 1))),
            ),
            ("RTP/AVP;unicast;client_port=5000-5001;destination=192.0.2.10,RTP/AVP/TCP", on(None)),
        ] {
            assert_eq!(first(text, false), offer, "{text}");
        }
        assert_eq!(first("RTP/AVP;multicast,RTP/AVP/TCP;unicast", true), on(None));
    }

    #[test]
    fn unsupported_offers_have_their_status() {
        for (text, status) in [
            ("", 461),
            ("mode=\"", 461),
            (";", 461),
            ("RTP/AVP;unicast;client_port=five", 400),
            ("RTP/AVP;unicast;client_port=+5000-5001", 400),
            ("RTP/AVP;unicast;client_port=70000,RTP/SAVP", 461),
            (
                "RTP/AVP;unicast;client_port=70000,RTP/AVP;unicast;client_port=5000;destination=192.0.2.10",
                403,
            ),
            ("RTP/AVP;unicast;dest_addr=\"192.0.2.10:5000\"", 403),
            ("RTP/AVP/TCP/X;unicast", 461),
            ("RTP/AVPX;unicast;client_port=5000-5001", 461),
            ("RTP;unicast;client_port=5000-5001", 461),
            ("RTP/AVP;unicast;client_port=", 461),
            ("RTP/AVP;unicast;client_port=70000-70001", 400),
            ("RTP/AVP/TCP;interleaved=300-301", 400),
            ("RTP/AVP/TCP;interleaved=7-7", 461),
            ("RTP/AVP;unicast", 461),
            ("RTP/AVP;unicast;client_port=0-1", 461),
            ("RTP/AVP;unicast;client_port=80-81", 461),
            ("RTP/AVP;unicast;client_port=5000-5000", 461),
            ("RTP/AVP;unicast;client_port=65535", 461),
            ("RTP/AVPF;unicast;client_port=5000-5001", 461),
            ("RTP/AVP;unicast;client_port=5000-5001;mode=record", 461),
            ("RTP/AVP/TCP;multicast", 461),
            ("RTP/AVP/SCTP;unicast", 461),
            ("RTP/AVP;unicast;client_port=5000-5001;destination=192.0.2.10", 403),
            ("RTP/AVP;unicast;client_port=5000-5001;destination=example.org", 403),
        ] {
            assert_eq!(first(text, false), Err(status), "{text}");
        }
        assert_eq!(first("RTP/AVP;multicast", true), Err(461));
    }

    #[test]
    fn the_header_of_a_response_describes_the_transport() {
        let header = |transport: SessionTransport| {
            let mut request = Request::builder(Method::Setup, Version::V1_0).empty();
            transport.header().insert_into(&mut request);
            request.header(&headers::TRANSPORT).unwrap().as_str().to_owned()
        };
        let group = "239.77.0.2:5004".parse().unwrap();
        assert_eq!(
            header(SessionTransport::Multicast { group, ttl: 4, source: PEER }),
            "RTP/AVP;multicast;ttl=4;port=5004-5005;destination=239.77.0.2;source=192.0.2.9"
        );
        let udp = SessionTransport::Udp { client: (5000, 5001), server: (6000, 6001), ssrc: 0xabc };
        assert_eq!(header(udp), "RTP/AVP;unicast;ssrc=00000ABC;client_port=5000-5001;server_port=6000-6001");
        assert!(
            udp.matches(&TransportOffer::Udp { rtp: 5000, rtcp: 5001 })
                && !udp.matches(&TransportOffer::Udp { rtp: 5000, rtcp: 5002 })
        );
        let tcp = SessionTransport::Interleaved { channels: (0, 1), ssrc: 1 };
        assert_eq!(header(tcp), "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=00000001");
        assert!(tcp.matches(&TransportOffer::Interleaved(None)) && !tcp.matches(&TransportOffer::Multicast));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(RTP|/|AVP|TCP|;|=|,|-|\"|\\\\|mode|dest_addr|src_addr|ssrc|port|[ -~é]){0,24}") {
            let _ = first(&text, false);
        }
    }
}
