//! Both directions, against golden bytes and against each other.

use proptest::prelude::*;

use super::*;
use crate::media::jpeg::tests::jpeg;
use crate::media::scan::Sampling;
use crate::media::scan::tests::flat;

fn header(timestamp: u32, marker: bool) -> rtp::Header {
    rtp::Header { marker, payload_type: 26, sequence: 7, timestamp, ssrc: 0x0102_0304 }
}

fn packets(jpeg: &Jpeg, datagram: usize, timestamp: u32) -> Vec<(rtp::Header, Vec<u8>)> {
    jpeg.fragments(datagram)
        .map(|fragment| {
            let rtp = header(timestamp, fragment.last);
            let mut packet = jpeg.packet_header(rtp, fragment).to_vec();
            packet.extend_from_slice(jpeg.tables_of(fragment));
            packet.extend_from_slice(&jpeg.scan[fragment.start..fragment.end]);
            assert!(packet.len() <= datagram);
            let (rtp, payload) = rtp::Header::parse(&packet).unwrap();
            (rtp, payload.to_vec())
        })
        .collect()
}

#[test]
fn golden_packet_both_ways() {
    #[rustfmt::skip]
    let golden = [
        0x80, 0x9a, 0x00, 0x07, 0x00, 0x00, 0x0e, 0x10, 0x01, 0x02, 0x03, 0x04, // RTP
        0x00, 0x00, 0x00, 0x00, 0x01, 0x50, 0x50, 0x2e, // offset 0, type 1, Q 80, 80 x 46 eights
        0xaa, 0xbb, 0xcc,
    ];
    let jpeg = jpeg(vec![0xaa, 0xbb, 0xcc]);
    let fragments: Vec<_> = jpeg.fragments(576).collect();
    assert_eq!(fragments, [Fragment { start: 0, end: 3, last: true }]);
    let mut packet = jpeg.packet_header(header(3600, true), fragments[0]).to_vec();
    packet.extend_from_slice(&jpeg.scan);
    assert_eq!(packet, golden);
    let (rtp, payload) = rtp::Header::parse(&golden).unwrap();
    assert_eq!(Depacketizer::default().push(&rtp, payload), Ok(Some(jpeg)));
}

#[test]
fn golden_packets_with_tables_and_restart_markers() {
    let jpeg = Jpeg {
        tables: Tables::in_band([5; 64], [6; 64]),
        restart_interval: Some(0x0102),
        ..jpeg(vec![0xda; 600])
    };
    let packets = packets(&jpeg, 576, 1);
    // Offset 0, type 65, Q 255; the interval, all of the picture; no precision, 128 bytes of tables.
    let head = [0, 0, 0, 0, 65, 255, 80, 46, 1, 2, 0xff, 0xff, 0, 0, 0, 128, 5, 5];
    assert_eq!((packets[0].1[..18] == head, packets[0].1.len()), (true, 576 - 12));
    assert_eq!(packets[0].1[16 + 63..16 + 65], [5, 6]);
    // Behind 420 bytes of scan: the offset, and no tables.
    let scan = 576 - 12 - 16 - 128;
    let second = [0, 0, (scan >> 8) as u8, scan as u8, 65, 255, 80, 46, 1, 2, 0xff, 0xff, 0xda];
    assert_eq!(packets[1].1[..13], second);
    assert_eq!(packets.len(), 2);
}

#[test]
fn pictures_of_every_kind_come_back_from_packets_of_every_size() {
    let tables = [Tables::Standard(80), Tables::in_band([5; 64], [6; 64])];
    for (tables, restart_interval) in tables.iter().flat_map(|tables| [(tables, None), (tables, Some(3))]) {
        for length in [0, 1, 416, 417, 419, 420, 421, 424, 552, 556, 557, 5000] {
            for datagram in [576, 1472, MAX_DATAGRAM] {
                let scan = vec![0x5a; length];
                let jpeg = Jpeg { tables: tables.clone(), restart_interval, ..jpeg(scan) };
                let mut depacketizer = Depacketizer::default();
                let packets = packets(&jpeg, datagram, 1);
                assert_eq!(packets.len() == 1, jpeg.fragments(datagram).len() == 1);
                let whole =
                    packets.iter().map(|(rtp, payload)| depacketizer.push(rtp, payload).unwrap()).last();
                assert_eq!(whole.flatten(), Some(jpeg), "{length} bytes in packets of {datagram}");
            }
        }
    }
}

#[test]
fn the_offset_is_24_bits_big_endian() {
    let jpeg = jpeg(vec![1; 2000]);
    let second = jpeg.fragments(1472).nth(1).unwrap();
    assert_eq!(second, Fragment { start: 1452, end: 2000, last: true });
    assert_eq!(jpeg.packet_header(header(0, true), second)[13..16], [0x00, 0x05, 0xac]);
}

#[test]
fn an_incomplete_picture_is_never_returned() {
    let jpeg = jpeg((0..=255).cycle().take(5000).collect());
    for lost in 0..4 {
        let mut depacketizer = Depacketizer::default();
        for (n, (rtp, payload)) in packets(&jpeg, 1472, 1).iter().enumerate() {
            if n == lost {
                depacketizer.gap();
            } else {
                assert_eq!(depacketizer.push(rtp, payload), Ok(None), "without packet {lost}, at {n}");
            }
        }
        let (rtp, payload) = &packets(&jpeg, 65_507, 2)[0];
        assert_eq!(depacketizer.push(rtp, payload), Ok(Some(jpeg.clone())), "the next one is whole");
        assert_eq!(depacketizer.broken(), 1);
    }
}

#[test]
fn wrong_headers_are_errors() {
    let jpeg = jpeg(vec![9; 3000]);
    let all = packets(&jpeg, 1472, 1);
    // Byte of the payload to change, its new value.
    for (at, value) in [(3, 0x11), (4, 0), (5, 81), (6, 79), (7, 47)] {
        let mut depacketizer = Depacketizer::default();
        assert_eq!(depacketizer.push(&all[0].0, &all[0].1), Ok(None));
        let mut wrong = all[1].1.clone();
        wrong[at] = value;
        assert_eq!(depacketizer.push(&all[1].0, &wrong), Err(JpegPayloadError::Fragment), "byte {at}");
        assert_eq!(depacketizer.push(&all[2].0, &all[2].1), Ok(None), "the rest of the picture is ignored");
        assert_eq!(depacketizer.broken(), 1);
    }
    for (at, value, error) in [
        (0, 1, JpegPayloadError::Interlaced(1)),
        (4, 2, JpegPayloadError::Type(2)),
        (5, 0, JpegPayloadError::Q(0)),
        (5, 100, JpegPayloadError::Q(100)),
        (6, 0, JpegPayloadError::Size),
        (7, 0, JpegPayloadError::Size),
    ] {
        let mut wrong = all[0].1.clone();
        wrong[at] = value;
        assert_eq!(Depacketizer::default().push(&all[0].0, &wrong), Err(error), "byte {at} = {value}");
    }
}

#[test]
fn in_band_tables_and_restart_markers_are_received() {
    let mut first = vec![0, 0, 0, 0, 65, 200, 2, 2, 0, 4, 0xff, 0xff, 0, 0, 0, 128];
    first.extend([5; 64]);
    first.extend([6; 64]);
    first.extend([0xda, 0xda]);
    let mut depacketizer = Depacketizer::default();
    let jpeg = depacketizer.push(&header(1, true), &first).unwrap().unwrap();
    assert_eq!(jpeg.tables, Tables::in_band([5; 64], [6; 64]));
    assert_eq!(jpeg.restart_interval, Some(4));
    assert_eq!(jpeg.scan[..], [0xda, 0xda]);
    for cut in 0..first.len() - 2 {
        assert_eq!(
            Depacketizer::default().push(&header(1, true), &first[..cut]),
            Err(JpegPayloadError::Truncated),
            "{cut} bytes"
        );
    }
    for (at, value, error) in [(13, 1, JpegPayloadError::Precision), (15, 65, JpegPayloadError::Tables(65))] {
        let mut wrong = first.clone();
        wrong[at] = value;
        assert_eq!(Depacketizer::default().push(&header(1, true), &wrong), Err(error), "byte {at}");
    }
    // A Q of 128..=254 without tables means the last tables of that Q. 255 always needs tables of its own.
    let bare = |q| [0, 0, 0, 0, 65, q, 2, 2, 0, 4, 0xff, 0xff, 0, 0, 0, 0, 1];
    let mut tables =
        |payload: &[u8]| depacketizer.push(&header(2, true), payload).map(|jpeg| jpeg.unwrap().tables);
    assert_eq!(tables(&bare(200)), Ok(jpeg.tables.clone()));
    assert_eq!(tables(&bare(201)), Err(JpegPayloadError::Tables(0)));
    for (q, value) in [(201, 7), (255, 8)] {
        let mut other = first.clone();
        other[5] = q;
        other[16..144].fill(value);
        assert_eq!(tables(&other), Ok(Tables::in_band([value; 64], [value; 64])));
    }
    assert_eq!(tables(&bare(200)), Ok(jpeg.tables));
    assert_eq!(tables(&bare(201)), Ok(Tables::in_band([7; 64], [7; 64])));
    assert_eq!(tables(&bare(255)), Err(JpegPayloadError::Tables(0)));
}

/// The payload of a picture in one packet: with `tables` if there are any, else at Q 80.
fn payload(kind: u8, size: Size, tables: &[u8], restart: &[u8], scan: &[u8]) -> Vec<u8> {
    let q = if tables.is_empty() { 80 } else { 255 };
    let mut payload = vec![0, 0, 0, 0, kind, q, (size.width / 8) as u8, (size.height / 8) as u8];
    payload.extend(restart);
    if !tables.is_empty() {
        payload.extend([0, 0]);
        payload.extend((tables.len() as u16).to_be_bytes());
        payload.extend(tables);
    }
    payload.extend(scan);
    payload
}

const SIZE: Size = Size { width: 64, height: 48 };

#[test]
fn one_table_is_for_all_components_and_a_third_one_is_not_used() {
    let scan = flat(SIZE, Sampling::Yuv420, None);
    let table = |value| [value; 64];
    for (tables, expected) in [
        ([5; 64].to_vec(), Tables::in_band(table(5), table(5))),
        ([[5; 64], [6; 64]].concat(), Tables::in_band(table(5), table(6))),
        ([[5; 64], [6; 64], [7; 64]].concat(), Tables::in_band(table(5), table(6))),
    ] {
        let payload = payload(1, SIZE, &tables, &[], &scan);
        let jpeg = Depacketizer::default().push(&header(1, true), &payload).unwrap().unwrap();
        assert_eq!((jpeg.tables, &jpeg.scan[..]), (expected, &scan[..]), "{} bytes", tables.len());
    }
}

#[test]
fn a_scan_of_luma_alone_is_a_grey_picture() {
    for (kind, interval) in [(0, None), (1, None), (64, Some(5)), (65, Some(5))] {
        let scan = flat(SIZE, Sampling::Grey, interval);
        let restart: &[u8] = if interval.is_some() { &[0, 5, 0xff, 0xff] } else { &[] };
        let payload = payload(kind, SIZE, &[9; 64], restart, &scan);
        let jpeg = Depacketizer::default().push(&header(1, true), &payload).unwrap().unwrap();
        assert_eq!((jpeg.chroma, jpeg.restart_interval), (Chroma::Grey, interval), "type {kind}");
        #[cfg(feature = "viewer")]
        {
            let shown = crate::screen::Decoder::new().unwrap().decode(&jpeg.to_jfif()).unwrap();
            assert_eq!(shown.size, SIZE);
        }
    }
}

#[test]
fn a_scan_that_is_not_what_its_type_says_is_refused_with_a_sentence() {
    for (kind, sampling, interval, error, sentence) in [
        (
            0,
            Sampling::Full,
            None,
            JpegPayloadError::Sampling(0, Sampling::Full),
            "RTP/JPEG type 0 means 4:2:2, but the scan is 4:4:4",
        ),
        (
            1,
            Sampling::Full,
            None,
            JpegPayloadError::Sampling(1, Sampling::Full),
            "RTP/JPEG type 1 means 4:2:0, but the scan is 4:4:4",
        ),
        (
            1,
            Sampling::FullPairs,
            None,
            JpegPayloadError::Sampling(1, Sampling::FullPairs),
            "RTP/JPEG type 1 means 4:2:0, but the scan is 4:4:4",
        ),
        (
            1,
            Sampling::Yuv420,
            Some(4),
            JpegPayloadError::RestartHeader(1),
            "RTP/JPEG type 1 has no restart marker header, but the scan has restart markers",
        ),
        (
            0,
            Sampling::Yuv422,
            Some(4),
            JpegPayloadError::RestartHeader(0),
            "RTP/JPEG type 0 has no restart marker header, but the scan has restart markers",
        ),
    ] {
        let mut depacketizer = Depacketizer::default();
        for timestamp in 0..3 {
            let payload = payload(kind, SIZE, &[], &[], &flat(SIZE, sampling, interval));
            assert_eq!(depacketizer.push(&header(timestamp, true), &payload), Err(error), "each of them");
        }
        assert_eq!(error.to_string(), sentence);
        assert!(error.is_of_the_sender());
    }
}

#[test]
fn samplings_without_a_type_are_refused_where_their_units_can_be_counted() {
    let size = Size { width: 72, height: 48 };
    for (kind, sampling, sentence) in [
        (0, Sampling::Yuv440, "RTP/JPEG type 0 means 4:2:2, but the scan is 4:4:0"),
        (1, Sampling::Yuv411, "RTP/JPEG type 1 means 4:2:0, but the scan is 4:1:1"),
    ] {
        let payload = payload(kind, size, &[], &[], &flat(size, sampling, None));
        let refused = Depacketizer::default().push(&header(0, true), &payload).unwrap_err();
        assert_eq!(refused, JpegPayloadError::Sampling(kind, sampling));
        assert_eq!(refused.to_string(), sentence);
    }
}

/// No header of RTP/JPEG says that a scan has Huffman tables of its own. With the standard ones its codes make no picture.
#[test]
#[cfg(feature = "viewer")]
fn a_scan_with_huffman_tables_of_its_own_is_never_shown() {
    let (width, height) = (320, 240);
    for (step, subsamp, kind) in [
        (1, turbojpeg::Subsamp::Sub2x2, 1),
        (3, turbojpeg::Subsamp::Sub2x1, 0),
        (7, turbojpeg::Subsamp::Sub2x2, 1),
    ] {
        let pixels: Vec<u8> = (0..width * height)
            .flat_map(|n| [(n % width * step) as u8, (n / width * step) as u8, (n % 91) as u8])
            .collect();
        let shown = |optimize| {
            let mut compressor = turbojpeg::Compressor::new().unwrap();
            compressor.set_quality(80).unwrap();
            compressor.set_subsamp(subsamp).unwrap();
            compressor.set_optimize(optimize).unwrap();
            let format = turbojpeg::PixelFormat::RGB;
            let image = turbojpeg::Image { pixels: &pixels[..], width, pitch: width * 3, height, format };
            let file = compressor.compress_to_vec(image).unwrap();
            let sos = file.windows(2).rposition(|marker| marker == [0xff, 0xda]).unwrap();
            let size = Size { width: width as u16, height: height as u16 };
            let mut payload = payload(kind, size, &[], &[], &file[sos + 14..]);
            payload[5] = 80;
            let jpeg = Depacketizer::default().push(&header(1, true), &payload).unwrap().unwrap();
            crate::screen::Decoder::new().unwrap().decode(&jpeg.to_jfif()).is_ok()
        };
        assert_eq!((shown(false), shown(true)), (true, false), "{step}");
    }
}

#[test]
fn a_scan_of_the_other_type_is_shown_as_what_it_is() {
    for (kind, sampling, chroma) in
        [(0, Sampling::Yuv420, Chroma::Yuv420), (1, Sampling::Yuv422, Chroma::Yuv422)]
    {
        let payload = payload(kind, SIZE, &[], &[], &flat(SIZE, sampling, None));
        let jpeg = Depacketizer::default().push(&header(0, true), &payload).unwrap().unwrap();
        assert_eq!(jpeg.chroma, chroma);
    }
}

#[test]
fn the_length_of_a_scan_is_bounded() {
    let mut depacketizer = Depacketizer::default();
    let mut sent = 0usize;
    let refused = loop {
        let mut payload = vec![0; HEADER_LEN + 60_000];
        payload[1..4].copy_from_slice(&(sent as u32).to_be_bytes()[1..]);
        payload[4..8].copy_from_slice(&[1, 80, 80, 46]);
        sent += 60_000;
        if let Err(error) = depacketizer.push(&header(1, false), &payload) {
            break error;
        }
        assert!(sent < 2 * MAX_RECEIVED_SCAN);
    };
    assert_eq!(refused, JpegPayloadError::TooLong);
}

proptest! {
    #[test]
    fn round_trip_for_any_picture_and_datagram(
        scan in proptest::collection::vec(any::<u8>(), 0..=20_000),
        datagram in 576usize..=65_507,
        q in 1u8..=99,
        (w, h) in (1u16..=255, 1u16..=255),
    ) {
        let jpeg = Jpeg {
            size: Size { width: w * 8, height: h * 8 },
            tables: Tables::Standard(q),
            ..jpeg(scan)
        };
        let mut depacketizer = Depacketizer::default();
        let mut got = None;
        for (rtp, payload) in packets(&jpeg, datagram, 42) {
            prop_assert!(got.is_none());
            got = depacketizer.push(&rtp, &payload).unwrap();
        }
        prop_assert_eq!(got, Some(jpeg));
    }

    #[test]
    fn no_bytes_make_it_panic(
        payloads in proptest::collection::vec((any::<bool>(), 0u32..3, proptest::collection::vec(any::<u8>(), 0..200)), 0..8)
    ) {
        let mut depacketizer = Depacketizer::default();
        for (marker, timestamp, payload) in payloads {
            if let Ok(Some(jpeg)) = depacketizer.push(&header(timestamp, marker), &payload) {
                prop_assert!(jpeg.to_jfif().len() < 2000);
            }
        }
    }
}
