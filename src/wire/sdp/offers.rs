//! What a camera or a publisher offers in SDP (RFC 8866): tracks that we can decode, with the parameters that their decoders need.
//! Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sdp_types::{Media, Session};

use crate::wire::payload::aac::AacFormat;
use crate::wire::payload::h26x::{NalCodec, annex_b};

/// Most bytes of a codec's parameters. Usual ones have under 200.
const MOST_PARAMETERS: usize = 4096;

/// A track of a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedTrack {
    /// Its place among the media of the description, from 0.
    pub place: usize,
    /// The payload type of its packets, 0..=127.
    pub payload_type: u8,
    /// Ticks a second of its timestamps, not 0.
    pub clock_rate: u32,
    /// How it is coded.
    pub coding: Coding,
}

/// How a track is coded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coding {
    /// Pictures in RTP/JPEG.
    Jpeg,
    /// Pictures in H.264 or H.265, and the parameter sets that the description has, with start codes; perhaps none.
    Nal(NalCodec, Vec<u8>),
    /// Sound in AAC, by its AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1).
    Aac(AacFormat, Vec<u8>),
    /// Sound in G.711, μ-law. The number of channels, 1..=8.
    Pcmu(u8),
    /// Sound in G.711, A-law. The number of channels, 1..=8.
    Pcma(u8),
    /// Sound as samples of 16 bits, high byte first. The number of channels, 1..=8.
    L16(u8),
    /// Sound in Opus.
    Opus,
}

impl Coding {
    /// Whether it codes pictures.
    pub fn is_picture(&self) -> bool {
        matches!(self, Coding::Jpeg | Coding::Nal(..))
    }

    /// The name of the codec, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Coding::Jpeg => "JPEG",
            Coding::Nal(NalCodec::H264, _) => "H.264",
            Coding::Nal(NalCodec::H265, _) => "H.265",
            Coding::Aac(..) => "AAC",
            Coding::Pcmu(_) | Coding::Pcma(_) => "G.711",
            Coding::L16(_) => "L16",
            Coding::Opus => "Opus",
        }
    }
}

/// The tracks of a description that we can decode, in its order. Of several formats of one medium the first counts, as RFC 8866
/// section 5.14 has it.
pub fn offered_tracks(session: &Session) -> Vec<OfferedTrack> {
    let media = session.medias.iter().enumerate();
    media.filter_map(|(place, media)| offered(place, media)).collect()
}

/// The codecs of a description, for people: `VP8 video, GSM audio`.
pub fn offered_codecs(session: &Session) -> String {
    super::streams::summary(session)
}

fn offered(place: usize, media: &Media) -> Option<OfferedTrack> {
    let format = media.fmt.split_whitespace().next()?;
    let payload_type = format.parse().ok().filter(|payload_type| *payload_type < 128)?;
    let map = value(media, "rtpmap", format).map(str::trim).or(match payload_type {
        // Static types need no map (RFC 3551 section 6).
        0 => Some("PCMU/8000"),
        8 => Some("PCMA/8000"),
        10 => Some("L16/44100/2"),
        11 => Some("L16/44100"),
        26 => Some("JPEG/90000"),
        _ => None,
    })?;
    let mut parts = map.split('/');
    let encoding = parts.next()?.to_ascii_uppercase();
    let clock_rate = parts.next()?.trim().parse().ok().filter(|rate| (1..=384_000).contains(rate))?;
    let channels = parts.next().map_or(Some(1), |channels| channels.trim().parse().ok())?;
    let channels = Some(channels).filter(|channels| (1..=8).contains(channels));
    let parameters = value(media, "fmtp", format).unwrap_or_default();
    let coding = match (media.media.as_str(), &encoding[..]) {
        ("video" | "image", "JPEG") => Coding::Jpeg,
        ("video", "H264") => {
            let sets = parameter(parameters, "sprop-parameter-sets").unwrap_or_default();
            Coding::Nal(NalCodec::H264, parameter_sets([sets]))
        }
        ("video", "H265" | "HEVC") => {
            let sets = ["sprop-vps", "sprop-sps", "sprop-pps"];
            let sets = sets.map(|name| parameter(parameters, name).unwrap_or_default());
            Coding::Nal(NalCodec::H265, parameter_sets(sets))
        }
        ("audio", "MPEG4-GENERIC") => {
            let config = parameter(parameters, "config").and_then(hexadecimal)?;
            let length =
                |name, usual| parameter(parameters, name).map_or(Some(usual), |bits| bits.parse().ok());
            let usual = AacFormat::HIGH_RATE;
            let format = AacFormat {
                size_length: length("sizelength", usual.size_length)?,
                index_length: length("indexlength", usual.index_length)?,
                index_delta_length: length("indexdeltalength", usual.index_delta_length)?,
            };
            let is_known = (1..=16).contains(&format.size_length)
                && format.index_length <= 16
                && format.index_delta_length <= 16;
            is_known.then_some(Coding::Aac(format, config))?
        }
        ("audio", "PCMU") => Coding::Pcmu(channels?),
        ("audio", "PCMA") => Coding::Pcma(channels?),
        ("audio", "L16") => Coding::L16(channels?),
        ("audio", "OPUS") => Coding::Opus,
        _ => return None,
    };
    Some(OfferedTrack { place, payload_type, clock_rate, coding })
}

/// The value of an attribute for this format.
fn value<'a>(media: &'a Media, name: &'a str, format: &str) -> Option<&'a str> {
    let mut values = media.get_attribute_values(name).flatten();
    values.find_map(|value| value.split_once(' ').filter(|(of, _)| *of == format)).map(|(_, value)| value)
}

/// A parameter of a format: `name=value`, separated by semicolons. Names have no case.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (found, value) = parameter.trim().split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Parameter sets in base64, separated by commas. Those that are no base64 are left out: they come with the pictures, too.
fn parameter_sets<'a>(lists: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let sets = lists.into_iter().flat_map(|list| list.split(',')).filter(|set| set.len() <= MOST_PARAMETERS);
    let sets: Vec<Vec<u8>> = sets
        .filter_map(|set| STANDARD.decode(set.trim()).ok())
        .filter(|set| !set.is_empty())
        .take(16)
        .collect();
    annex_b(sets.iter().map(Vec::as_slice))
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let is_right =
        text.is_ascii() && text.len() >= 4 && text.len() <= MOST_PARAMETERS && text.len().is_multiple_of(2);
    let bytes = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok());
    is_right.then(|| bytes.collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracks(media: &str) -> Vec<OfferedTrack> {
        let text =
            format!("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n{}\r\n", media.replace('\n', "\r\n"));
        offered_tracks(&Session::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn tracks_are_offered_with_the_parameters_of_their_decoders() {
        // As FFmpeg, GStreamer and cameras write them.
        let found = tracks(
            "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n\
             a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LA,aM4=; profile-level-id=42C01F\n\
             m=audio 0 RTP/AVP 97\na=rtpmap:97 MPEG4-GENERIC/48000/2\n\
             a=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=1190\n\
             m=application 0 RTP/AVP 107\na=rtpmap:107 vnd.onvif.metadata/90000",
        );
        let sets = vec![0, 0, 0, 1, 0x67, 0x42, 0xc0, 0, 0, 0, 1, 0x68, 0xce];
        let expected = [
            (0, 96, 90_000, Coding::Nal(NalCodec::H264, sets)),
            (1, 97, 48_000, Coding::Aac(AacFormat::HIGH_RATE, vec![0x11, 0x90])),
        ];
        let expected = expected.map(|(place, payload_type, clock_rate, coding)| OfferedTrack {
            place,
            payload_type,
            clock_rate,
            coding,
        });
        assert_eq!(found, expected);
        let codings = |media| tracks(media).into_iter().map(|track| track.coding).collect::<Vec<_>>();
        assert_eq!(
            codings("m=video 0 RTP/AVP 26\nm=audio 0 RTP/AVP 8\nm=audio 0 RTP/AVP 10"),
            [Coding::Jpeg, Coding::Pcma(1), Coding::L16(2)]
        );
        assert_eq!(
            codings(
                "m=video 0 RTP/AVP 98\na=rtpmap:98 h265/90000\na=fmtp:98 sprop-vps=QAE=; sprop-sps=QgE=\nm=audio 0 RTP/AVP 99\na=rtpmap:99 opus/48000/2"
            ),
            [Coding::Nal(NalCodec::H265, vec![0, 0, 0, 1, 0x40, 1, 0, 0, 0, 1, 0x42, 1]), Coding::Opus]
        );
    }

    #[test]
    fn what_cannot_be_decoded_is_not_offered() {
        for media in [
            "m=video 0 RTP/AVP 96\na=rtpmap:96 VP8/90000",
            "m=video 0 RTP/AVP 96",
            "m=video 0 RTP/AVP 200\na=rtpmap:200 H264/90000",
            "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/0",
            "m=audio 0 RTP/AVP 96\na=rtpmap:96 L16/48000/99",
            "m=audio 0 RTP/AVP 96\na=rtpmap:96 mpeg4-generic/48000\na=fmtp:96 config=xyz1",
            "m=audio 0 RTP/AVP 96\na=rtpmap:96 mpeg4-generic/48000\na=fmtp:96 config=1190;sizelength=0",
        ] {
            assert_eq!(tracks(media), [], "{media}");
        }
    }
}
