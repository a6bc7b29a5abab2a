use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::directory::framing::FrameReader;
use crate::directory::message::{
    ErrorCode, FilmOnAir, KeyFrom, MAX_CODEC, MAX_NAME, OnAir, Reply, Request, Services, SoundPacket, State,
    StationFilms, StationInfo, StationKeys, StationNow, StationSigner, StationSound, StationSource,
    StreamKeys, plain_text,
};
use crate::media::{AirTime, FrameRate, Size, StationId};
use crate::wire::signature;
use crate::wire::srtp::{MasterKey, Profile};

/// The examples of docs/protocol.md, by name. They are the golden messages.
fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let document = include_str!("../../../docs/protocol.md");
    let blocks = document.split("```hex ").skip(1);
    blocks
        .map(|block| {
            let block = block.split("```").next().expect("split gives at least one");
            let (name, lines) = block.split_once('\n').expect("a name, then lines");
            let digits = lines.lines().map(|line| line.split(';').next().unwrap_or_default());
            let bytes =
                digits.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).expect(byte));
            (name, bytes.collect())
        })
        .collect()
}

fn nature() -> StationInfo {
    StationInfo {
        id: StationId(2),
        name: "Nature".into(),
        group: "239.77.0.2:5004".parse().unwrap(),
        interface: "lo".into(),
        size: Some(Size { width: 640, height: 272 }),
        rate: FrameRate::new(24_000, 1001),
        quality: 80,
        state: State::Film,
        audience: 3,
    }
}

fn film() -> FilmOnAir {
    FilmOnAir {
        title: "Nature".into(),
        begin: AirTime(1_790_000_000_000_000_000),
        end: Some(AirTime(1_790_000_024_024_000_000)),
    }
}

/// The film after it.
fn ocean() -> FilmOnAir {
    FilmOnAir { title: "Ocean".into(), begin: AirTime(1_790_000_024_024_000_000), end: None }
}

fn requests() -> Vec<(&'static str, Request)> {
    vec![
        ("request-hello", Request::Hello { version: 1, agent: "demo 1.0".into() }),
        ("request-list", Request::List),
        ("request-tune", Request::Tune { station: StationId(300) }),
        ("request-watch", Request::Watch),
        ("request-ping", Request::Ping),
        ("request-services", Request::Services),
        ("request-sources", Request::Sources),
        ("request-sound", Request::Sound),
        ("request-now", Request::Now),
        (
            "request-guide",
            Request::Guide {
                from: AirTime(1_790_000_000_000_000_000),
                until: AirTime(1_790_007_200_000_000_000),
            },
        ),
        ("request-keys", Request::Keys),
        ("request-signers", Request::Signers),
    ]
}

/// The key that the document's example has.
fn key() -> KeyFrom {
    let master = MasterKey {
        key: std::array::from_fn(|at| at as u8),
        salt: std::array::from_fn(|at| 0xa0 + at as u8),
    };
    KeyFrom { from: 4000, master }
}

fn replies() -> Vec<(&'static str, Reply)> {
    let ete = StationInfo {
        id: StationId(300),
        name: "Été".into(),
        group: "[ff15::2]:5004".parse().unwrap(),
        interface: "eth0".into(),
        size: None,
        rate: None,
        quality: 80,
        state: State::Slate { reason: "no film".into() },
        audience: 70_000,
    };
    let starting = StationInfo {
        id: StationId(7),
        name: "x".into(),
        group: "239.77.0.7:5004".parse().unwrap(),
        interface: "lo".into(),
        size: None,
        rate: None,
        quality: 90,
        state: State::Starting,
        audience: 1,
    };
    let now = OnAir { due: AirTime(1_790_000_000_000_000_000), jpeg: vec![0xff, 0xd8, 0xff, 0xd9] };
    let sentence = "there is no station 9 in the line-up".into();
    let at = AirTime(1_790_000_000_000_000_000);
    let signer = StationSigner {
        id: StationId(2),
        epoch: 0x1122_3344_5566_7788,
        key: signature::tests::key().public(),
    };
    vec![
        ("reply-hello", Reply::Hello { version: 1, server: "stationcast 0.1.0".into() }),
        ("reply-line-up", Reply::LineUp { revision: 1000, stations: vec![nature(), ete] }),
        ("reply-tuned", Reply::Tuned { entry: nature(), now: Some(now) }),
        ("reply-tuned-nothing-yet", Reply::Tuned { entry: starting, now: None }),
        ("reply-error", Reply::Error { code: ErrorCode::NoSuchStation, sentence }),
        ("reply-pong", Reply::Pong),
        ("reply-services", Reply::Services(Services { rtsp: "0.0.0.0:8554".parse().ok(), http: None })),
        (
            "reply-sources",
            Reply::Sources(vec![
                StationSource { id: StationId(2), address: [192, 0, 2, 7].into() },
                StationSource { id: StationId(300), address: "2001:db8::7".parse().unwrap() },
            ]),
        ),
        (
            "reply-sound",
            Reply::Sound(vec![StationSound {
                id: StationId(2),
                port: 5006,
                payload_type: 97,
                codec: "opus/48000/2".into(),
            }]),
        ),
        (
            "reply-sound-now",
            Reply::SoundNow {
                station: StationId(2),
                packets: vec![SoundPacket {
                    due: AirTime(1_790_000_000_000_000_000),
                    packet: vec![0xfc, 0xff, 0xfe],
                }],
            },
        ),
        (
            "reply-now",
            Reply::Now {
                at: AirTime(1_790_000_012_500_000_000),
                stations: vec![
                    StationNow { id: StationId(2), now: Some(film()), next: Some("Ocean".into()) },
                    StationNow { id: StationId(300), now: None, next: None },
                ],
            },
        ),
        (
            "reply-guide",
            Reply::Guide {
                at: AirTime(1_790_000_012_500_000_000),
                stations: vec![StationFilms { id: StationId(2), films: vec![film(), ocean()] }],
            },
        ),
        (
            "reply-keys",
            Reply::Keys(vec![StationKeys {
                id: StationId(2),
                streams: vec![StreamKeys {
                    profile: Profile::Gcm,
                    ssrc: 0xfeed,
                    index: 3 << 16 | 92,
                    keys: vec![key()],
                }],
            }]),
        ),
        ("reply-signers", Reply::Signers { at, stations: vec![signer] }),
    ]
}

fn golden<M: Message + PartialEq + fmt::Debug>(name: &str, message: &M) {
    let (_, bytes) = examples().into_iter().find(|(example, _)| *example == name).expect(name);
    assert_eq!(encode(message).unwrap(), bytes, "{name}: encoded");
    let mut reader = FrameReader::<M>::default();
    reader.room().extend_from_slice(&bytes);
    assert_eq!(reader.take().unwrap().as_ref(), Some(message), "{name}: decoded");
    assert!(!reader.is_midway());
}

#[test]
fn the_examples_of_the_protocol_document_are_the_bytes_sent() {
    let names: Vec<_> = examples().into_iter().map(|(name, _)| name).collect();
    let known: Vec<_> =
        requests().iter().map(|(name, _)| *name).chain(replies().iter().map(|(name, _)| *name)).collect();
    assert_eq!(names, known);
    requests().iter().for_each(|(name, request)| golden(name, request));
    replies().iter().for_each(|(name, reply)| golden(name, reply));
}

#[test]
fn every_variant_has_the_documented_number() {
    let state = |state| {
        encode(&Reply::Tuned { entry: StationInfo { state, ..nature() }, now: None }).unwrap()[4 + 35]
    };
    assert_eq!([state(State::Starting), state(State::Film)], [0, 1]);
    let code = |code| encode(&Reply::Error { code, sentence: String::new() }).unwrap()[5];
    use ErrorCode::*;
    assert_eq!([BadRequest, UnsupportedVersion, NoSuchStation, Busy, TimedOut].map(code), [0, 1, 2, 3, 4]);
}

/// The fuzz target has two seeds for each example: with the length prefix, and the body alone.
#[test]
fn the_fuzz_seeds_are_the_examples() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/directory");
    for (name, bytes) in examples() {
        assert_eq!(std::fs::read(seeds.join(name)).expect(name), bytes, "{name}");
        assert_eq!(std::fs::read(seeds.join(format!("{name}.body"))).expect(name), bytes[PREFIX..], "{name}");
    }
}

#[test]
fn a_message_that_breaks_a_rule_is_refused() {
    let refused = |body: &[u8], why: &str| {
        let error = decode::<Reply>(body).unwrap_err().to_string();
        assert!(error.contains(why), "{error:?} should contain {why:?}");
    };
    let body = |reply: &Reply| encode(reply).unwrap()[PREFIX..].to_vec();
    let line_up = |stations: Vec<StationInfo>| body(&Reply::LineUp { revision: 1, stations });
    let wrong = |change: fn(&mut StationInfo)| {
        let mut entry = nature();
        change(&mut entry);
        body(&Reply::Tuned { entry, now: None })
    };

    refused(&line_up(vec![nature(), nature()]), "each once");
    refused(&line_up(vec![nature(), StationInfo { id: StationId(1), ..nature() }]), "ascend");
    refused(&wrong(|entry| entry.id = StationId(0)), "1 to 999");
    refused(&wrong(|entry| entry.id = StationId(1000)), "1 to 999");
    refused(&wrong(|entry| entry.group = "192.168.0.1:5004".parse().unwrap()), "multicast");
    refused(&wrong(|entry| entry.group.set_port(0)), "with a port");
    refused(&wrong(|entry| entry.size = Some(Size { width: 0, height: 1 })), "not 0");
    refused(&wrong(|entry| entry.name = "bell \x07".into()), "control");
    refused(&wrong(|entry| entry.name = "n".repeat(253)), "252");
    refused(&wrong(|entry| entry.interface = "\x1b]0;eth0".into()), "control");
    refused(&wrong(|entry| entry.interface = "i".repeat(129)), "128");
    refused(&wrong(|entry| entry.quality = 0), "1 to 99");
    refused(&wrong(|entry| entry.quality = 100), "1 to 99");
    refused(&wrong(|entry| entry.state = State::Slate { reason: "\u{9b}2J".into() }), "control");
    refused(&line_up((1..=1000).map(|_| nature()).collect()), "more than 999 stations");

    let now = |change: fn(&mut FilmOnAir)| {
        let mut film = film();
        change(&mut film);
        let station = |id| StationNow { id: StationId(id), now: Some(film.clone()), next: None };
        body(&Reply::Now { at: AirTime(1), stations: vec![station(2)] })
    };
    refused(&now(|film| film.title = "t".repeat(253)), "252");
    refused(&now(|film| film.title = "\x1b[2J".into()), "control");
    refused(&now(|film| film.end = Some(film.begin)), "after it began");
    let nothing = |id| StationNow { id: StationId(id), now: None, next: None };
    refused(&body(&Reply::Now { at: AirTime(1), stations: vec![nothing(2), nothing(2)] }), "each once");
    let many = (0..1000).map(nothing).collect();
    refused(&body(&Reply::Now { at: AirTime(1), stations: many }), "more than 999 stations");
    let next = StationNow { next: Some("\u{9b}".into()), ..nothing(2) };
    refused(&body(&Reply::Now { at: AirTime(1), stations: vec![next] }), "control");

    let keys = |change: fn(&mut StationKeys)| {
        let stream = StreamKeys { profile: Profile::Gcm, ssrc: 1, index: 5, keys: vec![key()] };
        let mut station = StationKeys { id: StationId(2), streams: vec![stream] };
        change(&mut station);
        body(&Reply::Keys(vec![station]))
    };
    refused(&keys(|station| station.id = StationId(0)), "1 to 999");
    refused(&keys(|station| station.streams.clear()), "1 to 4 streams");
    refused(&keys(|station| station.streams = vec![station.streams[0].clone(); 5]), "1 to 4 streams");
    refused(&keys(|station| station.streams[0].keys.clear()), "one key");
    refused(&keys(|station| station.streams[0].keys = vec![key(), key()]), "ascend by index");
    refused(&keys(|station| station.streams[0].index = 1 << 48), "48 bits");

    let guide = |films: Vec<FilmOnAir>| {
        let stations = vec![StationFilms { id: StationId(2), films }];
        body(&Reply::Guide { at: AirTime(1), stations })
    };
    refused(&guide(vec![ocean(), film()]), "follow each other");
    refused(&guide(vec![film(), film()]), "follow each other");
    refused(&guide(vec![FilmOnAir { title: "t".repeat(253), ..film() }]), "252");
    refused(&guide(vec![ocean(); 1000]), "more than 999");
    let films: Vec<FilmOnAir> = (0..500)
        .map(|n| FilmOnAir { title: "t".into(), begin: AirTime(n), end: Some(AirTime(n + 1)) })
        .collect();
    let stations = (1..=5).map(|id| StationFilms { id: StationId(id), films: films.clone() }).collect();
    refused(&body(&Reply::Guide { at: AirTime(1), stations }), "at most 2,000 films");
    let twice = StationFilms { id: StationId(2), films: vec![] };
    refused(&body(&Reply::Guide { at: AirTime(1), stations: vec![twice.clone(), twice] }), "each once");

    let mut zero_rate = wrong(|_| {});
    let rate = zero_rate.windows(6).position(|bytes| bytes == [0xfb, 0xc0, 0x5d, 0xfb, 0xe9, 0x03]).unwrap();
    zero_rate.splice(rate..rate + 3, [0]);
    refused(&zero_rate, "no term of 0");

    let mut long = body(&Reply::Pong);
    long.push(0);
    assert_eq!(decode::<Reply>(&long), Err(MessageError::Trailing { kind: "reply", extra: 1 }));
    refused(&[5], "cannot be read"); // no such variant
    refused(&[], "cannot be read");
    refused(&[0, 1, 2, 0xff, 0xff], "cannot be read"); // not UTF-8
}

#[test]
fn why_a_body_cannot_be_read_is_a_sentence() {
    for (body, sentence) in [
        (&[99][..], "the reply cannot be read: it has no variant 99"),
        (&[], "the reply cannot be read: it ends too early"),
        (&[0, 1, 2, 0xff, 0xff], "the reply cannot be read: text in it is not UTF-8 from its byte 0 on"),
        (&[0, 1, 5, b'a'], "the reply cannot be read: it ends too early"),
        (&[0, 0xfc, 1, 0, 0, 0, 0], "the reply cannot be read: an integer is wider than its field"),
        (&[5, 2, 0], "the reply cannot be read: it has no variant 2"),
        (&[5, 1, 9], "the reply cannot be read: 9 is none of the values of its field"),
        (&[3, 77, 0], "the reply cannot be read: it has no variant 77"),
        (&[1, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1], "the reply cannot be read: it ends too early"),
    ] {
        assert_eq!(decode::<Reply>(body).unwrap_err().to_string(), sentence, "{body:?}");
    }
    proptest!(|(body in proptest::collection::vec(any::<u8>(), 0..64))| {
        for error in [decode::<Reply>(&body).map(drop), decode::<Request>(&body).map(drop)].into_iter().filter_map(Result::err) {
            let error = error.to_string();
            prop_assert!(!error.contains(['{', '}', '"', '`']), "{error}");
        }
    });
}

#[test]
fn integers_that_are_not_the_shortest_are_taken_up_to_the_width_of_their_field() {
    let tune = |body: &[u8]| decode::<Request>(body);
    let station = Ok(Request::Tune { station: StationId(7) });
    assert_eq!(tune(&[2, 7]), station);
    assert_eq!(tune(&[2, 0xfb, 7, 0]), station);
    assert_eq!(tune(&[0xfb, 2, 0, 7]), station, "a variant too");
    assert_eq!(tune(&[0xfc, 2, 0, 0, 0, 7]), station, "which is a u32");
    assert!(tune(&[2, 0xfc, 7, 0, 0, 0]).is_err(), "a station's number is a u16");
    assert!(tune(&[0xfd, 2, 0, 0, 0, 0, 0, 0, 0, 7]).is_err());
    let hello = Ok(Request::Hello { version: 1, agent: "x".into() });
    for length in [&[1][..], &[0xfb, 1, 0], &[0xfc, 1, 0, 0, 0], &[0xfd, 1, 0, 0, 0, 0, 0, 0, 0]] {
        let body = [&[0, 1], length, b"x"].concat();
        assert_eq!(tune(&body), hello, "a length is a u64: {length:?}");
    }
    assert!(tune(&[&[0, 1, 0xfe, 1][..], &[0; 15], b"x"].concat()).is_err(), "no 16 bytes");
}

#[test]
fn a_length_beyond_the_limit_is_an_error_before_any_body_arrives() {
    fn judge<M: Message + fmt::Debug>(length: u32) -> Result<Option<M>, MessageError> {
        let mut reader = FrameReader::default();
        reader.room().extend_from_slice(&length.to_le_bytes());
        reader.take()
    }
    assert!(matches!(judge::<Request>(4096), Ok(None)));
    assert!(matches!(judge::<Request>(4097), Err(MessageError::TooLong { length: 4097, limit: 4096, .. })));
    assert!(matches!(judge::<Reply>(1 << 20), Ok(None)));
    assert!(judge::<Reply>((1 << 20) + 1).is_err());
    assert!(judge::<Reply>(u32::MAX).is_err());

    let long = Request::Hello { version: 1, agent: "a".repeat(5000) };
    assert!(matches!(encode(&long), Err(MessageError::TooLong { length: 5005, .. })));
    // bincode's own limit does not refuse the largest picture that fits.
    let room = (1 << 20) - encode(&Reply::Tuned { entry: nature(), now: None }).unwrap().len() - 10;
    let now = Some(OnAir { due: AirTime(1), jpeg: vec![7; room] });
    let largest = Reply::Tuned { entry: nature(), now };
    assert_eq!(decode::<Reply>(&encode(&largest).unwrap()[PREFIX..]).unwrap(), largest);
}

fn name() -> impl Strategy<Value = String> {
    "\\PC{0,24}".prop_map(|text| plain_text(&text, MAX_NAME))
}

fn entry(id: impl Strategy<Value = u16>) -> impl Strategy<Value = StationInfo> {
    let group = prop_oneof![
        any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from(Ipv4Addr::new(239, a, b, c))),
        any::<[u16; 7]>().prop_map(|[a, b, c, d, e, f, g]| Ipv6Addr::new(0xff15, a, b, c, d, e, f, g).into()),
    ];
    let size = proptest::option::of((1..=u16::MAX, 1..=u16::MAX));
    let rate = (any::<u32>(), any::<u32>()).prop_map(|(num, den)| FrameRate::new(num, den));
    let state = prop_oneof![
        Just(State::Starting),
        Just(State::Film),
        name().prop_map(|reason| State::Slate { reason })
    ];
    (id, (name(), name()), (group, 1..=u16::MAX), size, rate, 1u8..=99, state, any::<u32>()).prop_map(
        |(id, (name, interface), group, size, rate, quality, state, audience)| StationInfo {
            id: StationId(id),
            name,
            group: group.into(),
            interface,
            size: size.map(|(width, height)| Size { width, height }),
            rate,
            quality,
            state,
            audience,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<u16>(), name()).prop_map(|(version, agent)| Request::Hello { version, agent }),
        Just(Request::List),
        any::<u16>().prop_map(|id| Request::Tune { station: StationId(id) }),
        Just(Request::Watch),
        Just(Request::Ping),
        Just(Request::Services),
        Just(Request::Sources),
        Just(Request::Sound),
        Just(Request::Signers),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    use ErrorCode::*;
    let code = proptest::sample::select(&[BadRequest, UnsupportedVersion, NoSuchStation, Busy, TimedOut]);
    let now = (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(due, jpeg)| OnAir { due: AirTime(due), jpeg });
    let stations = proptest::collection::vec(entry(Just(0)), 0..8).prop_map(|mut stations| {
        stations.iter_mut().zip(1..).for_each(|(entry, id)| entry.id = StationId(id * 100));
        stations
    });
    prop_oneof![
        (any::<u16>(), name()).prop_map(|(version, server)| Reply::Hello { version, server }),
        (any::<u64>(), stations).prop_map(|(revision, stations)| Reply::LineUp { revision, stations }),
        (entry(1u16..=999), proptest::option::of(now)).prop_map(|(entry, now)| Reply::Tuned { entry, now }),
        (code, name()).prop_map(|(code, sentence)| Reply::Error { code, sentence }),
        Just(Reply::Pong),
        (any::<u64>(), proptest::collection::vec(any::<(u64, [u8; 32])>(), 0..8)).prop_map(
            |(at, signers)| {
                let signers = signers.into_iter().zip(1..);
                let stations =
                    signers.map(|((epoch, key), id)| StationSigner { id: StationId(id), epoch, key });
                Reply::Signers { at: AirTime(at), stations: stations.collect() }
            }
        ),
        proptest::collection::vec((1u16.., 96u8..=127, name()), 0..8).prop_map(|sounds| {
            let sounds = sounds.into_iter().zip(1..).map(|((port, payload_type, codec), id)| {
                let codec = plain_text(&codec, MAX_CODEC);
                StationSound { id: StationId(id), port, payload_type, codec }
            });
            Reply::Sound(sounds.collect())
        }),
        (any::<Option<(IpAddr, u16)>>(), any::<Option<(IpAddr, u16)>>()).prop_map(|(rtsp, http)| {
            Reply::Services(Services { rtsp: rtsp.map(SocketAddr::from), http: http.map(SocketAddr::from) })
        }),
    ]
}

/// Encodes `message` and reads it in pieces of `step` bytes. The decoder refuses every strict prefix of the body, and the
/// reader waits for more after every strict prefix of the message.
fn round_trip<M: Message + PartialEq + fmt::Debug + Clone>(message: M, step: usize) {
    let bytes = encode(&message).expect("it fits");
    let body = &bytes[PREFIX..];
    assert_eq!(decode::<M>(body).as_ref(), Ok(&message));
    for end in 0..body.len() {
        assert!(decode::<M>(&body[..end]).is_err(), "{end} of {} bytes", body.len());
    }
    let mut reader = FrameReader::<M>::default();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        assert_eq!(reader.take(), Ok(None));
        let (now, later) = rest.split_at(step.min(rest.len()));
        reader.room().extend_from_slice(now);
        rest = later;
    }
    assert_eq!(reader.take(), Ok(Some(message)));
    assert_eq!((reader.take(), reader.is_midway()), (Ok(None), false));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn requests_survive_a_round_trip(request in request(), step in 1usize..9) {
        round_trip(request, step);
    }

    #[test]
    fn replies_survive_a_round_trip(reply in reply(), step in 1usize..99) {
        round_trip(reply, step);
    }

    #[test]
    fn a_decoded_message_survives_a_round_trip(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), variant in 0u8..9) {
        if let Some(first) = bytes.first_mut() {
            *first = variant;
        }
        if let Ok(request) = decode::<Request>(&bytes) {
            assert_eq!(decode::<Request>(&encode(&request).unwrap()[PREFIX..]), Ok(request));
        }
        if let Ok(reply) = decode::<Reply>(&bytes) {
            assert_eq!(decode::<Reply>(&encode(&reply).unwrap()[PREFIX..]), Ok(reply));
        }
    }

    #[test]
    fn one_changed_byte_never_panics(reply in reply(), at in any::<proptest::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encode(&reply).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let mut reader = FrameReader::<Reply>::default();
        reader.room().extend_from_slice(&bytes);
        while let Ok(Some(_)) = reader.take() {}
    }
}

#[test]
fn a_server_of_another_protocol_is_named() {
    let first = |letters: &[u8; 4]| {
        let length = u32::from_le_bytes(*letters) as usize;
        MessageError::TooLong { kind: "reply", length, limit: 1 << 20 }.to_string()
    };
    assert_eq!(first(b"HTTP"), "it speaks HTTP");
    assert_eq!(first(b"RTSP"), "it speaks RTSP");
    assert_eq!(first(b"SSH-"), "it speaks SSH");
    assert_eq!(first(&[1, 0, 16, 0]), "a reply of 1048577 bytes is longer than the 1048576 allowed");
}
