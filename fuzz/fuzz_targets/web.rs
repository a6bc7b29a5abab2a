//! Arbitrary messages of a web page, and hosts and origins of its requests: no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    stationcast::web::fuzz(bytes);
});
