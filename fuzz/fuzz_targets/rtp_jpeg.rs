//! Arbitrary datagrams for the tuner, and arbitrary files for the JPEG parser: no panic, no picture that could not be sent or
//! drawn, and none larger than its input.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use stationcast::tuner::Tuner;
use stationcast::media::AirTime;
use stationcast::media::jpeg::{Jpeg, MAX_SIDE};

fuzz_target!(|bytes: &[u8]| {
    datagrams(bytes);
    file(bytes);
});

/// Each datagram comes after its length and the milliseconds since the datagram before, one byte each.
fn datagrams(mut bytes: &[u8]) {
    let given = bytes.len();
    let mut tuner = Tuner::new();
    let mut now = AirTime(1_790_000_000_000_000_000);
    while let [length, millis, rest @ ..] = bytes {
        let (datagram, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        now = now + Duration::from_millis(u64::from(*millis));
        if tuner.poll_timeout().is_some_and(|deadline| deadline <= now) {
            tuner.handle_timeout(now);
        }
        let _ = tuner.handle_datagram(now, datagram);
        while let Some(picture) = tuner.poll_picture() {
            let Jpeg { size, scan, .. } = &picture.jpeg;
            assert!(size.width > 0 && size.width <= MAX_SIDE && size.height > 0 && size.height <= MAX_SIDE);
            assert!(scan.len() <= given, "no longer than the input");
            picture.jpeg.to_jfif();
        }
        bytes = rest;
    }
    let c = tuner.counters();
    assert!(c.malformed + c.other_payload + c.other_sender + c.duplicates + c.late <= 2 * c.datagrams);
}

/// A file that can be read can be written, and read again with the same result.
fn file(bytes: &[u8]) {
    let Ok(jpeg) = Jpeg::from_jfif(Bytes::copy_from_slice(bytes), 80) else { return };
    let again = Jpeg::from_jfif(jpeg.to_jfif().into(), 80).expect("our own file");
    assert_eq!(again, jpeg);
}
