//! Arbitrary datagrams for a receiver of an encrypted station, among true ones, and arbitrary cards of signed pictures: no panic,
//! and true packets open whatever came before.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stationcast::directory::{KeyFrom, StationKeys, StreamKeys};
use stationcast::media::StationId;
use stationcast::tuner::keyring::{Keyring, Opener};
use stationcast::wire::rtp::Header;
use stationcast::wire::signature::Card;
use stationcast::wire::srtp::{MasterKey, Profile, SessionKeys};

const SSRC: u32 = 0xfeed;

fuzz_target!(|bytes: &[u8]| {
    for profile in [Profile::Gcm, Profile::CounterMode] {
        datagrams(profile, bytes);
        let _ = keys(profile).open_rtcp(bytes);
    }
    let _ = Card::parse(7, bytes);
});

fn master() -> MasterKey {
    MasterKey { key: *b"0123456789abcdef", salt: *b"a salty secret" }
}

fn keys(profile: Profile) -> SessionKeys {
    SessionKeys::new(profile, &master())
}

/// Each datagram comes after its length, one byte.
fn datagrams(profile: Profile, mut bytes: &[u8]) {
    let ring = Arc::new(Keyring::default());
    let first = 65_500;
    let keys_of = vec![KeyFrom { from: 0, master: master() }];
    let stream = StreamKeys { profile, ssrc: SSRC, index: first, keys: keys_of };
    ring.replace(vec![StationKeys { id: StationId(2), streams: vec![stream] }]);
    let mut opener = Opener::new(ring, StationId(2));
    let mut index = first;
    while let [length, rest @ ..] = bytes {
        let (datagram, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        assert!(opener.open(&mut datagram.to_vec()).is_err(), "it has no tag of ours");
        let header = Header { marker: true, payload_type: 26, sequence: index as u16, timestamp: 1, ssrc: SSRC };
        let mut packet = vec![0; 12];
        header.emit(packet.first_chunk_mut().expect("12 bytes"));
        packet.extend(datagram);
        let plain = packet.clone();
        keys(profile).seal(&mut packet, index).expect("it is RTP");
        assert_eq!(opener.open(&mut packet).expect("it is ours"), plain);
        index += 1;
        bytes = rest;
    }
}
