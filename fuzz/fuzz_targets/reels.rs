//! Arbitrary heads of reels and of sound files, with right checksums: no panic, and nothing that reaches out of the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    stationcast::content::reel::fuzz(bytes);
    stationcast::content::sound::reel::fuzz(bytes);
});
