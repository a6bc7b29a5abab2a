//! Arbitrary multipart streams of a live source, cut anywhere, arbitrary JPEG files, and arbitrary packets of H.264, H.265 and
//! AAC: no panic, and memory is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stationcast::wire::payload::aac::{AacFormat, AacFrames};
use stationcast::wire::payload::h26x::{AccessUnits, NalCodec};

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let head = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (kind, stream) = bytes.split_at(head);
    stationcast::content::live::fuzz(&String::from_utf8_lossy(kind), stream, usize::from(*piece));

    let [mut h264, mut h265] = [NalCodec::H264, NalCodec::H265].map(AccessUnits::new);
    let mut aac = AacFrames::new(AacFormat::HIGH_RATE);
    for packet in bytes.chunks(usize::from(*piece).max(2)) {
        let (timestamp, last) = (u32::from(packet[0] & 1), packet[0] & 2 != 0);
        for units in [&mut h264, &mut h265] {
            let done = units.push(&packet[1..], timestamp, last, packet[0] & 4 != 0);
            let length: usize = done.unwrap_or_default().iter().map(|unit| unit.bytes.len()).sum();
            assert!(length <= 4 * bytes.len());
        }
        let frames = aac.push(&packet[1..], timestamp).unwrap_or_default();
        assert!(frames.iter().map(|frame| frame.len()).sum::<usize>() <= bytes.len());
    }
});
