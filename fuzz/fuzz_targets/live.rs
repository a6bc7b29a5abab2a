//! Arbitrary multipart streams of a live source, cut anywhere, and arbitrary JPEG files: no panic, and memory is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let head = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (kind, stream) = bytes.split_at(head);
    stationcast::content::live::fuzz(&String::from_utf8_lossy(kind), stream, usize::from(*piece));
});
