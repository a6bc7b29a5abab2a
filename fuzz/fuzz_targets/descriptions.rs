//! Arbitrary responses of an RTSP server to the viewer, SDP in them: no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    stationcast::tuner::rtsp_client::fuzz(bytes);
});
