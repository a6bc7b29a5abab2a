//! Arbitrary packets of sound, in any order and at any time: no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    stationcast::speaker::fuzz(bytes);
});
