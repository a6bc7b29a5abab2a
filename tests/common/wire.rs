//! A station as it was on the wire, packet by packet.

use std::fs;
use std::path::Path;

use stationcast::wire::payload::jpeg::Depacketizer;
use stationcast::wire::rtp::Header;

use super::film::Film;
use super::picture::Picture;

/// The packets of one picture.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) timestamp: u32,
    /// Each packet's header and the bytes of its datagram.
    pub(crate) packets: Vec<(Header, usize)>,
    /// The JPEG file that they make.
    pub(crate) jpeg: Vec<u8>,
    pub(crate) picture: Picture,
}

/// The pictures in a file that the helper `capture` has written, from the first whole one on. Checks the rules of every
/// station: one sender, payload type 26, sequence numbers without a gap, one timestamp a picture, the marker on its last packet.
pub(crate) fn units(capture: &Path) -> Vec<Unit> {
    let bytes = fs::read(capture).unwrap();
    let mut units = Vec::new();
    let mut packets: Vec<(Header, usize)> = Vec::new();
    let mut depacketizer = Depacketizer::default();
    let mut last: Option<Header> = None;
    for datagram in datagrams(&bytes) {
        let (header, payload) = Header::parse(datagram).unwrap();
        assert_eq!(header.payload_type, 26);
        let Some(before) = last.replace(header) else { continue };
        assert_eq!(header.ssrc, before.ssrc, "one sender");
        assert_eq!(header.sequence, before.sequence.wrapping_add(1), "a gap");
        assert_eq!(header.timestamp == before.timestamp, !before.marker, "the marker ends a picture");
        if units.is_empty() && packets.is_empty() && !before.marker {
            continue;
        }
        packets.push((header, datagram.len()));
        if let Some(jpeg) = depacketizer.push(&header, payload).unwrap() {
            let jpeg = jpeg.to_jfif();
            let picture = Picture::of_jpeg(&jpeg);
            let packets = std::mem::take(&mut packets);
            units.push(Unit { timestamp: header.timestamp, packets, jpeg, picture });
        }
    }
    units
}

/// The datagrams that the helper `capture` has written.
fn datagrams(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, behind) = bytes.split_first_chunk::<4>()?;
        let (datagram, rest) = behind.split_at(u32::from_le_bytes(*length) as usize);
        bytes = rest;
        Some(datagram)
    })
}

/// Bytes of UDP payload of the largest datagram in a file that the helper `capture` has written. Checks nothing else.
pub(crate) fn largest_datagram(capture: &Path) -> usize {
    datagrams(&fs::read(capture).unwrap()).map(<[u8]>::len).max().unwrap_or(0)
}

/// The entropy-coded bytes of a JPEG file.
pub(crate) fn scan(file: &[u8]) -> &[u8] {
    let sos = file.windows(4).position(|bytes| bytes == [0xff, 0xda, 0, 12]).expect("a scan");
    &file[sos + 14..file.len() - 2]
}

/// Checks that pictures on air are, byte by byte, the JPEG files in a folder that have their numbers.
pub(crate) fn check_scans<'a>(units: impl IntoIterator<Item = &'a Unit>, folder: &Path) {
    for unit in units {
        let (_, number) = unit.picture.strip().expect("a strip");
        let sent = fs::read(folder.join(format!("{number:04}.jpg"))).unwrap();
        assert!(scan(&unit.jpeg) == scan(&sent), "picture {number} is another one on air");
    }
}

/// Ticks from each picture to the next.
pub(crate) fn steps(units: &[Unit]) -> Vec<u32> {
    units.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp)).collect()
}

/// Checks that all pictures are those of `film`, each with the timestamp of its number, on one grid through all rounds, to
/// within a tick of rounding. A skipped picture leaves its place empty.
pub(crate) fn check_grid(units: &[Unit], film: &Film) {
    let number = |unit: &Unit| {
        let (station, number) = unit.picture.strip().expect("a strip");
        assert_eq!(station, film.station);
        i64::from(number)
    };
    let (first, (num, den)) = (&units[0], film.rate);
    for unit in units {
        let ticks = unit.timestamp.wrapping_sub(first.timestamp);
        let place = f64::from(ticks) * f64::from(num) / (90_000.0 * f64::from(den));
        assert!(
            (place - place.round()).abs() < 0.001,
            "a timestamp off the grid: {ticks} ticks, picture {place}"
        );
        let expected = (number(first) + place.round() as i64) % i64::from(film.pictures);
        assert_eq!(number(unit), expected, "{ticks} ticks after picture {}", number(first));
    }
}
