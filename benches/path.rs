//! The throughput of each step of a picture's path, in bytes a second: `cargo bench --bench path`.
//!
//! The picture is one from the middle of `media/ocean.mp4`, as a station that is 640 pixels wide sends it. The bytes of fitting
//! are the pixels that it reads, those of decoding the pixels that it writes, those of all other steps the coded picture.

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use opencv::core::Mat;
use opencv::prelude::*;
use stationcast::content::decode;
use stationcast::content::encode::{Encoder, Pixels, station_size};
use stationcast::media::jpeg::Jpeg;
use stationcast::media::{AirTime, Due, FrameRate, StationId, Unit};
use stationcast::screen::{DecodedPicture, Decoder};
use stationcast::tuner::Tuner;
use stationcast::wire::MAX_DATAGRAM;
use stationcast::wire::rtp;
use stationcast::wire::signature::tickets::Tickets;
use stationcast::wire::signature::{self, Card, SigningKey};
use stationcast::wire::srtp::{MasterKey, Profile, SessionKeys};

/// The largest UDP payload in one Ethernet packet, and in any datagram.
const DATAGRAMS: [usize; 2] = [1472, MAX_DATAGRAM];

fn film() -> Box<dyn decode::PictureSource> {
    decode::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("media/ocean.mp4")).expect("the demo film opens")
}

/// The 300th picture of the film, and the station's encoder for it.
fn picture() -> (Mat, f64, Encoder) {
    let mut film = film();
    let nth = (0..300).map(|_| film.next_picture().expect("it decodes").expect("it has a picture")).last();
    let size = station_size(film.size(), film.pixel_aspect(), 640);
    let encoder = Encoder::new(size, 80).expect("an encoder");
    let Pixels::Bgr { pixels, pixel_aspect } = nth.expect("there are 300").pixels else { panic!("not BGR") };
    (pixels, pixel_aspect, encoder)
}

fn header(sequence: u16, timestamp: u32, marker: bool) -> rtp::Header {
    rtp::Header { marker, payload_type: rtp::PAYLOAD_TYPE_JPEG, sequence, timestamp, ssrc: 1 }
}

/// All packets of a picture, with RTP sequence numbers from `sequence` on.
fn packets(jpeg: &Jpeg, datagram: usize, sequence: u16, timestamp: u32) -> Vec<Vec<u8>> {
    let packet = |(n, fragment): (usize, stationcast::wire::payload::jpeg::Fragment)| {
        let rtp = header(sequence.wrapping_add(n as u16), timestamp, fragment.last);
        [&jpeg.packet_header(rtp, fragment)[..], &jpeg.scan[fragment.start..fragment.end]].concat()
    };
    jpeg.fragments(datagram).enumerate().map(packet).collect()
}

fn transmit(criterion: &mut Criterion) {
    let (pixels, aspect, mut encoder) = picture();
    let size = encoder.size();
    let jpeg = encoder.encode_bgr(&pixels, aspect).expect("it encodes").jpeg;

    let mut group = criterion.benchmark_group("fit");
    group.throughput(Throughput::Bytes((pixels.total() * 3) as u64));
    let what = format!("{}x{} to {size}, quality 80", pixels.cols(), pixels.rows());
    group.bench_function(what, |bench| bench.iter(|| encoder.encode_bgr(&pixels, aspect)));
    group.finish();

    let mut group = criterion.benchmark_group("packetize");
    group.throughput(Throughput::Bytes(jpeg.scan.len() as u64));
    for datagram in DATAGRAMS {
        // Headers only: the kernel gathers the scan without a copy of ours.
        group.bench_function(BenchmarkId::from_parameter(datagram), |bench| {
            bench.iter(|| {
                for (n, fragment) in jpeg.fragments(datagram).enumerate() {
                    let rtp = header(n as u16, 1, fragment.last);
                    std::hint::black_box(jpeg.packet_header(rtp, fragment));
                }
            });
        });
    }
    group.finish();
}

/// A picture of as many bytes as a station sends at quality 80, and its signer.
fn signed(jpeg: &Jpeg) -> (Unit, SigningKey, StationId) {
    let due = Due { at: AirTime(1_790_000_000_000_000_000), interval: Duration::from_millis(40) };
    (Unit::picture(due, jpeg.clone()), SigningKey::new(), StationId(2))
}

fn sign(criterion: &mut Criterion) {
    let (pixels, aspect, mut encoder) = picture();
    let jpeg = encoder.encode_bgr(&pixels, aspect).expect("it encodes").jpeg;
    let (unit, key, station) = signed(&jpeg);

    let mut group = criterion.benchmark_group("sign");
    group.throughput(Throughput::Bytes(jpeg.scan.len() as u64));
    for datagram in DATAGRAMS {
        group.bench_function(BenchmarkId::from_parameter(datagram), |bench| {
            let mut tickets = Tickets::new();
            bench.iter(|| key.card(station, 1, &mut tickets, &unit, datagram).expect("a card"));
        });
    }
    group.finish();

    for profile in [Profile::Gcm, Profile::CounterMode] {
        let keys = SessionKeys::new(profile, &MasterKey::random().expect("random numbers"));
        let packets = packets(&jpeg, DATAGRAMS[0] - profile.overhead(), 0, unit.rtp_timestamp());
        let sealed = || -> Vec<Vec<u8>> {
            let mut sealed = packets.clone();
            sealed
                .iter_mut()
                .zip(0..)
                .for_each(|(packet, index)| keys.seal(packet, index).expect("it is RTP"));
            sealed
        };
        let mut group = criterion.benchmark_group("encrypt");
        group.throughput(Throughput::Bytes(jpeg.scan.len() as u64));
        group.bench_function(profile.name(), |bench| bench.iter(sealed));
        group.finish();
        let sealed = sealed();
        let mut group = criterion.benchmark_group("decrypt");
        group.throughput(Throughput::Bytes(jpeg.scan.len() as u64));
        group.bench_function(profile.name(), |bench| {
            bench.iter(|| {
                let mut opened = sealed.clone();
                opened.iter_mut().zip(0..).all(|(packet, index)| keys.open(packet, index).is_ok())
            });
        });
        group.finish();
    }

    let mut group = criterion.benchmark_group("verify");
    group.throughput(Throughput::Bytes(jpeg.scan.len() as u64));
    for datagram in DATAGRAMS {
        let card = key.card(station, 1, &mut Tickets::new(), &unit, datagram).expect("a card");
        let packets = packets(&jpeg, datagram, 0, unit.rtp_timestamp());
        group.bench_function(BenchmarkId::from_parameter(datagram), |bench| {
            bench.iter(|| {
                let card = Card::parse(unit.rtp_timestamp(), &card).expect("our own card");
                let digests = card.verify(station, 1, &key.public()).expect("our own signature");
                packets
                    .iter()
                    .zip(digests)
                    .all(|(packet, digest)| signature::packet_digest(&[&packet[rtp::HEADER_LEN..]]) == digest)
            });
        });
    }
    group.finish();
}

fn receive(criterion: &mut Criterion) {
    let (pixels, aspect, mut encoder) = picture();
    let size = encoder.size();
    let jpeg = encoder.encode_bgr(&pixels, aspect).expect("it encodes").jpeg;
    let rate = FrameRate::new(25, 1).expect("a rate");

    let mut group = criterion.benchmark_group("depacketize");
    group.throughput(Throughput::Bytes(jpeg.scan.len() as u64));
    for datagram in DATAGRAMS {
        let (mut tuner, mut sequence, mut n) = (Tuner::new(), 0u16, 0);
        let mut packets = packets(&jpeg, datagram, 0, 0);
        group.bench_function(BenchmarkId::from_parameter(datagram), |bench| {
            bench.iter(|| {
                let now = AirTime(1_000_000_000_000) + rate.nth(n);
                n += 1;
                for packet in &mut packets {
                    // The next sequence number and timestamp: bytes 2 to 7 of the RTP header.
                    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
                    packet[4..8].copy_from_slice(&now.rtp_timestamp().to_be_bytes());
                    sequence = sequence.wrapping_add(1);
                    tuner.handle_datagram(now, packet).expect("our own packet");
                }
                tuner.poll_picture().expect("a whole picture")
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("header rebuild");
    group.throughput(Throughput::Bytes(jpeg.scan.len() as u64));
    group.bench_function("to JFIF", |bench| bench.iter(|| jpeg.to_jfif()));
    group.finish();

    let file = jpeg.to_jfif();
    let (mut decoder, mut shown) = (Decoder::new().expect("a decoder"), DecodedPicture::empty());
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(4 * u64::from(size.width) * u64::from(size.height)));
    group.bench_function(size.to_string(), |bench| {
        bench.iter(|| decoder.decode_into(&file, &mut shown).expect("our own picture"));
    });
    group.finish();
}

criterion_group!(benches, transmit, sign, receive);
criterion_main!(benches);
