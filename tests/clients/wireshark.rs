//! Wireshark's dissectors read our packets.

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{head, station};
use crate::{Packets, Scenario};

/// Packets to capture.
const PACKETS: usize = 120;

pub(crate) fn tshark(scenario: &Scenario) {
    let film = pal(1);
    let lineup =
        head(scenario.listen, scenario.interface) + &station(1, &[&film.path], "239.77.0.1:5004", "");
    let _broadcaster = scenario.sender().on_air(&lineup);
    let pcap = scenario.lan.folder().join("station.pcap");
    let count = PACKETS.to_string();
    // Over Ethernet the capture is on the sender's side, where no program needs to join the group.
    let capture = ["-q", "-i", scenario.interface, "-f", "udp port 5004", "-c", &count, "-w", text(&pcap)];
    scenario.sender().run("tshark", &capture).succeed();

    let fields = [
        "rtp.version",
        "rtp.p_type",
        "rtp.seq",
        "rtp.timestamp",
        "rtp.marker",
        "rtp.ssrc",
        "jpeg.main_hdr.offset",
        "jpeg.main_hdr.type",
        "jpeg.main_hdr.q",
        "jpeg.main_hdr.width",
        "jpeg.main_hdr.height",
        "udp.length",
        "_ws.malformed",
        "_ws.expert.message",
    ];
    let mut args = vec!["-r", text(&pcap), "-d", "udp.port==5004,rtp", "-T", "fields"];
    args.extend(fields.iter().flat_map(|field| ["-e", field]));
    let table = scenario.sender().tool("tshark", &args);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), PACKETS);
    let number = |row: &[&str], field: &str| -> u64 {
        let text = row[fields.iter().position(|known| *known == field).expect("a field")];
        let hex = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
        hex.unwrap_or_else(|| text.parse()).unwrap_or_else(|_| panic!("{field} is {text:?} in {row:?}"))
    };
    for row in &rows {
        assert_eq!(row[fields.len() - 2..], ["", ""], "malformed, or an expert's remark: {row:?}");
        assert_eq!((number(row, "rtp.version"), number(row, "rtp.p_type")), (2, 26));
        assert_eq!((number(row, "jpeg.main_hdr.type"), number(row, "jpeg.main_hdr.q")), (1, 80));
        let eights = (number(row, "jpeg.main_hdr.width"), number(row, "jpeg.main_hdr.height"));
        assert!([(640, 368), (80, 46)].contains(&eights), "{eights:?}");
    }
    let mut pictures = 0;
    for pair in rows.windows(2) {
        let of = |field: &str| (number(&pair[0], field), number(&pair[1], field));
        let (sequence, next) = of("rtp.seq");
        assert_eq!(next, (sequence + 1) % 65_536);
        let (ssrc, same) = of("rtp.ssrc");
        assert_eq!(ssrc, same);
        let (timestamp, later) = of("rtp.timestamp");
        let (offset, next_offset) = of("jpeg.main_hdr.offset");
        let marker = ["1", "True"].contains(&pair[0][4]);
        if marker {
            let step = (later as u32).wrapping_sub(timestamp as u32);
            assert!(step > 0 && step.is_multiple_of(3600), "{step} ticks from picture to picture");
            assert_eq!(next_offset, 0);
            pictures += 1;
        } else {
            // UDP's length counts its own header, RTP's and RTP/JPEG's.
            assert_eq!(
                (later, next_offset),
                (timestamp, offset + number(&pair[0], "udp.length") - 8 - 12 - 8)
            );
        }
    }
    let single = pictures == PACKETS - 1;
    assert_eq!(single, scenario.packets == Packets::One, "{pictures} pictures in {PACKETS} packets");
    assert!(pictures > 3);
}
