//! Arbitrary bytes from an RTSP client, cut anywhere: no panic, and none from what is answered.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    stationcast::rtsp::fuzz(bytes, usize::from(*piece));
});
