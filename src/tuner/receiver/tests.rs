use std::net::UdpSocket;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use super::*;
use crate::interface::named;
use crate::net;
use crate::tuner::rtsp_client::tests::{framed, opening, serve};
use crate::tuner::source::{MOST_AT_ONCE, wait};
use crate::wire::rtp::HEADER_LEN;

/// Poll interval and most polls: a guard against hanging, never a measurement.
const POLL: Duration = Duration::from_millis(10);
const POLLS: usize = 3000;

#[test]
fn a_receiver_of_a_group_that_never_falls_silent_ends_when_it_is_dropped() {
    let (group, lo) = ("239.255.77.9:5204".parse().unwrap(), named("lo").unwrap());
    let out: UdpSocket = net::sender(group, &lo, 0).unwrap().into();
    // RTP/JPEG: 4:2:0, Q 80, 16 by 16 pixels.
    let payload = [0, 0, 0, 0, 1, 80, 2, 2, 0x28, 0xa2, 0x8a, 0x00];
    let send = move |sequence: u16| {
        let timestamp = u32::from(sequence) * 3600;
        let header = Header { marker: true, payload_type: 26, sequence, timestamp, ssrc: 7 };
        let mut packet = [0; HEADER_LEN];
        header.emit(&mut packet);
        out.send_to(&[&packet[..], &payload].concat(), group).unwrap();
    };
    // Each picture that is received makes the next one come, before the receiver reads again.
    let sequence = AtomicU16::new(0);
    let next = Arc::new(move || send(sequence.fetch_add(1, Relaxed)));
    let by_receiver = next.clone();
    let sink = move |_| by_receiver();
    let receiver = Receiver::start(ReceiveFrom::Group(group, "lo".into(), None), 10, sink).unwrap();
    let poll = |ready: &dyn Fn() -> bool| {
        (0..POLLS).any(|_| {
            let _ = wait(None, None, Some(POLL));
            ready()
        })
    };
    assert!(poll(&|| receiver.status().buffer > 0), "it has joined");
    (0..4).for_each(|_| next());
    let flood = 3 * MOST_AT_ONCE as u64;
    assert!(poll(&|| receiver.status().counters.pictures > flood), "{:?}", receiver.status());
    drop(receiver);
    assert!(poll(&|| Arc::strong_count(&next) == 1), "its thread goes on");
}

#[test]
fn the_counters_survive_a_broken_connection() {
    // The packet arrives in one read with the response to PLAY. Then the first connection is closed; the second
    // stays open and silent.
    let mut responses = opening("RTP/AVP/TCP;unicast;interleaved=0-1");
    responses[2].extend(framed(0, b"not RTP"));
    let address = serve(vec![responses.clone(), responses]).0;
    let receiver =
        Receiver::start(ReceiveFrom::rtsp_station(&address.into(), StationId(2)), 10, |_| {}).unwrap();
    let received = (0..POLLS).any(|_| {
        let _ = wait(None, None, Some(POLL));
        receiver.status().counters.datagrams == 2
    });
    assert!(received, "{:?}", receiver.status());
}
