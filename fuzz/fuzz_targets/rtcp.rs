//! Arbitrary RTCP from a client: no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    stationcast::wire::rtcp::fuzz(bytes);
});
