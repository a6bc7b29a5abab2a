//! The memory that a stranger's bytes can make the directory's decoder allocate: never more than the message's limit, whatever
//! lengths they claim.
// Only a global allocator can see this, and implementing one is unsafe. It passes every call on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use proptest::prelude::*;
use stationcast::directory::framing::FrameReader;
use stationcast::directory::message::{Message, Reply, Request};
use stationcast::directory::serialization::decode;

struct Measured;

thread_local! {
    /// The largest single allocation of this thread since this was reset, in bytes.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    LARGEST.with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: every call goes to the system allocator, with the caller's arguments.
unsafe impl GlobalAlloc for Measured {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(block, layout, size) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measured = Measured;

/// The largest allocation while a body is decoded, in bytes.
fn of_body<M: Message>(body: &[u8]) -> usize {
    LARGEST.set(0);
    drop(decode::<M>(body));
    LARGEST.get()
}

/// The largest allocation while a stream is decoded, up to its first error, in bytes.
fn of_stream<M: Message>(stream: &[u8]) -> usize {
    LARGEST.set(0);
    let mut reader = FrameReader::<M>::default();
    for piece in stream.chunks(512) {
        reader.room().extend_from_slice(piece);
        loop {
            match reader.take() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return LARGEST.get(),
            }
        }
    }
    reader.room();
    LARGEST.get()
}

/// A claimed length, as encoded on the wire.
fn claim(length: u64) -> Vec<u8> {
    [&[0xfd][..], &length.to_le_bytes()].concat()
}

#[test]
fn a_claimed_length_costs_nothing() {
    for length in [300, 60_000, 900_000, 1 << 20, 1 << 23, u64::from(u32::MAX), u64::MAX] {
        let hello = [vec![0, 1], claim(length)].concat();
        let line_up = [vec![1, 0], claim(length)].concat();
        let mut tuned = vec![2, 7, 1, b'x', 0, 239, 77, 0, 7, 1, 0, 0, 90, 0, 1, 1, 0];
        tuned.extend(claim(length));
        assert!(of_body::<Request>(&hello) < 1024, "a request claims {length}");
        for body in [hello, line_up, tuned] {
            assert!(of_body::<Reply>(&body) < 1024, "a reply claims {length}");
        }
    }
    // The length of a message: its buffer grows in steps, as the bytes arrive.
    assert!(of_stream::<Reply>(&(1u32 << 20).to_le_bytes()) <= 128 * 1024);
    assert!(of_stream::<Reply>(&u32::MAX.to_le_bytes()) <= 128 * 1024);
    assert!(of_stream::<Request>(&4096u32.to_le_bytes()) <= 8 * 1024);
}

proptest! {
    #[test]
    fn arbitrary_bytes_stay_within_the_limit(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), variant in 0u8..5) {
        if let Some(first) = bytes.first_mut() {
            *first = variant;
        }
        assert!(of_body::<Request>(&bytes) <= 4 * 1024);
        assert!(of_body::<Reply>(&bytes) <= 16 * 1024);
        assert!(of_stream::<Request>(&bytes) <= Request::MAX_BODY * 2);
        assert!(of_stream::<Reply>(&bytes) <= 128 * 1024);
    }
}
