//! Arbitrary bytes as the directory's messages, as bodies and as a stream cut anywhere: no panic, no memory beyond the limits, and
//! a message that was decoded is the same after it was encoded and decoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stationcast::directory::framing::FrameReader;
use stationcast::directory::message::{Message, Reply, Request};
use stationcast::directory::serialization::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    body::<Request>(bytes);
    body::<Reply>(bytes);
    stream::<Request>(bytes);
    stream::<Reply>(bytes);
});

fn body<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = decode::<M>(bytes) else { return };
    let again = encode(&message).expect("the shortest form of a message that has fitted fits");
    assert!(again.len() <= bytes.len() + 4);
    assert_eq!(decode::<M>(&again[4..]).expect("our own bytes"), message);
}

/// A stream has the same messages however it is cut.
fn stream<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let read = |step: usize| {
        let (mut reader, mut messages) = (FrameReader::<M>::default(), Vec::new());
        for piece in bytes.chunks(step) {
            reader.room().extend_from_slice(piece);
            loop {
                match reader.take() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        (messages, None)
    };
    assert_eq!(read(1), read(usize::MAX));
}
