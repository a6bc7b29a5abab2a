//! How the packets of a session travel: what a client offers (RFC 2326 section 12.39), and what is made of it. Pure.

use std::net::{IpAddr, SocketAddr};

use rtsp_types::headers::{
    RtpLowerTransport, RtpProfile, RtpTransport, RtpTransportParameters, Transport, TransportMode,
    Transports, TypedHeader,
};
use rtsp_types::{Headers, StatusCode, headers};

/// The lowest port of a client that is sent to. Below are the ports of services: nobody shall aim a station at one.
const UNPRIVILEGED: u16 = 1024;

/// What a client wants, of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransportOffer {
    /// The station's own group.
    Multicast,
    /// UDP to these ports of the client.
    Udp { rtp: u16, rtcp: u16 },
    /// In the RTSP connection; on these channels, if it says which.
    Interleaved(Option<(u8, u8)>),
}

/// How a session travels, as it was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionTransport {
    /// It does anyway: nothing is delivered for this client.
    Multicast { group: SocketAddr, ttl: u8, source: IpAddr },
    /// From our two ports to the client's.
    Udp { client: (u16, u16), server: (u16, u16), ssrc: u32 },
    /// Channels for RTP and RTCP.
    Interleaved { channels: (u8, u8), ssrc: u32 },
}

impl TransportOffer {
    /// The first offer of a Transport header that can be taken. The client's address is `peer`; who shall have a
    /// programme of their own can have it by unicast only.
    ///
    /// # Errors
    /// 400 without the header or with one that makes no sense, 403 for packets to others, 461 for everything else.
    pub(super) fn first(
        headers: &Headers,
        peer: IpAddr,
        unicast_only: bool,
    ) -> Result<TransportOffer, StatusCode> {
        let mut refusal = StatusCode::UnsupportedTransport;
        for transport in parse(headers)?.iter() {
            match acceptable(transport, peer) {
                Ok(TransportOffer::Multicast) if unicast_only => {}
                Ok(offer) => return Ok(offer),
                Err(StatusCode::Forbidden) => refusal = StatusCode::Forbidden,
                Err(_) => {}
            }
        }
        Err(refusal)
    }
}

fn parse(headers: &Headers) -> Result<Transports, StatusCode> {
    let text = headers.get(&headers::TRANSPORT).ok_or(StatusCode::BadRequest)?.as_str();
    // Quotes are of use around a `mode` only, where they may as well be missing. The parser of rtsp-types 0.1.3 panics at
    // some that do not pair up, as in `mode="` and `dest_addr="/"`.
    let unquoted: String = text.chars().filter(|c| !matches!(c, '"' | '\\')).collect();
    let mut header = headers.clone();
    header.insert(headers::TRANSPORT, unquoted);
    Transports::from_headers(header).ok().flatten().ok_or(StatusCode::BadRequest)
}

fn acceptable(transport: &Transport, peer: IpAddr) -> Result<TransportOffer, StatusCode> {
    let unsupported = StatusCode::UnsupportedTransport;
    let Transport::Rtp(RtpTransport { profile: RtpProfile::Avp, lower_transport, params }) = transport else {
        return Err(unsupported);
    };
    if !params.mode.is_empty() && !params.mode.contains(&TransportMode::Play) {
        return Err(unsupported);
    }
    let unicast = params.unicast || params.client_port.is_some();
    match lower_transport {
        Some(RtpLowerTransport::Tcp) if params.multicast => Err(unsupported),
        Some(RtpLowerTransport::Tcp) => {
            let pair = params.interleaved.map(|(rtp, rtcp)| (rtp, rtcp.unwrap_or(rtp.wrapping_add(1))));
            if pair.is_some_and(|(rtp, rtcp)| rtp == rtcp) {
                return Err(unsupported);
            }
            Ok(TransportOffer::Interleaved(pair))
        }
        None | Some(RtpLowerTransport::Udp) if unicast => {
            let elsewhere = |to: &String| to.parse().map(|to: IpAddr| to.to_canonical()) != Ok(peer);
            if params.destination.as_ref().is_some_and(elsewhere) || !params.dest_addr.is_empty() {
                return Err(StatusCode::Forbidden);
            }
            let (rtp, rtcp) = params.client_port.ok_or(unsupported)?;
            let rtcp = rtcp.or(rtp.checked_add(1)).ok_or(unsupported)?;
            if rtp < UNPRIVILEGED || rtcp < UNPRIVILEGED || rtp == rtcp {
                return Err(unsupported);
            }
            Ok(TransportOffer::Udp { rtp, rtcp })
        }
        // What says neither is multicast (RFC 2326 section 12.39).
        None | Some(RtpLowerTransport::Udp) => Ok(TransportOffer::Multicast),
        Some(RtpLowerTransport::Other(_)) => Err(unsupported),
    }
}

impl SessionTransport {
    /// Whether this is what `offer` asks for.
    pub(super) fn is(&self, offer: &TransportOffer) -> bool {
        match (self, offer) {
            (SessionTransport::Multicast { .. }, TransportOffer::Multicast) => true,
            (SessionTransport::Udp { client, .. }, &TransportOffer::Udp { rtp, rtcp }) => {
                *client == (rtp, rtcp)
            }
            // Which channels, we have the last word on.
            (SessionTransport::Interleaved { .. }, TransportOffer::Interleaved(_)) => true,
            _ => false,
        }
    }

    /// The Transport header that says so.
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
        vec![Transport::Rtp(RtpTransport { profile: RtpProfile::Avp, lower_transport, params })].into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtsp_types::{Method, Request, Version};

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

    fn first(text: &str, unicast_only: bool) -> Result<TransportOffer, u16> {
        let request = Request::builder(Method::Setup, Version::V1_0).header(headers::TRANSPORT, text).empty();
        TransportOffer::first(request.as_ref(), PEER, unicast_only).map_err(u16::from)
    }

    #[test]
    fn the_first_offer_that_can_be_taken_is() {
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
        ] {
            assert_eq!(first(text, false), offer, "{text}");
        }
        assert_eq!(first("RTP/AVP;multicast,RTP/AVP/TCP;unicast", true), on(None));
    }

    #[test]
    fn what_cannot_be_taken_is_refused() {
        for (text, status) in [
            ("", 461),
            ("mode=\"", 400),
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
    fn what_is_settled_is_said_in_the_header() {
        let said = |transport: SessionTransport| {
            let mut request = Request::builder(Method::Setup, Version::V1_0).empty();
            transport.header().insert_into(&mut request);
            request.header(&headers::TRANSPORT).unwrap().as_str().to_owned()
        };
        let group = "239.77.0.2:5004".parse().unwrap();
        assert_eq!(
            said(SessionTransport::Multicast { group, ttl: 4, source: PEER }),
            "RTP/AVP;multicast;ttl=4;port=5004-5005;destination=239.77.0.2;source=192.0.2.9"
        );
        let udp = SessionTransport::Udp { client: (5000, 5001), server: (6000, 6001), ssrc: 0xabc };
        assert_eq!(said(udp), "RTP/AVP;unicast;ssrc=00000ABC;client_port=5000-5001;server_port=6000-6001");
        assert!(
            udp.is(&TransportOffer::Udp { rtp: 5000, rtcp: 5001 })
                && !udp.is(&TransportOffer::Udp { rtp: 5000, rtcp: 5002 })
        );
        let tcp = SessionTransport::Interleaved { channels: (0, 1), ssrc: 1 };
        assert_eq!(said(tcp), "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=00000001");
        assert!(tcp.is(&TransportOffer::Interleaved(None)) && !tcp.is(&TransportOffer::Multicast));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "(RTP|/|AVP|TCP|;|=|,|-|\"|\\\\|mode|dest_addr|src_addr|ssrc|port|[ -~é]){0,24}") {
            let _ = first(&text, false);
        }
    }
}
