//! Other people's programs as judges. FFmpeg and GStreamer play our stations, and each picture they decode is
//! compared with the one our own viewer saved; tshark dissects the packets; our viewer plays what
//! GStreamer and FFmpeg send.
//!
//! In network namespaces, on loopback (one datagram a picture) and over Ethernet (packets of 1,500 bytes).

#[path = "../common/mod.rs"]
mod common;

mod receivers;
mod senders;
mod wireshark;

use std::process::ExitCode;

use common::harness::{Test, main as run};
use common::lan::{Host, Lan};

/// Where a station is played: the network, and what is different on it.
struct Place {
    lan: Lan,
    tower: &'static str,
    receiver: &'static str,
    interface: &'static str,
    listen: &'static str,
    directory: &'static str,
    packets: Packets,
}

/// What a picture travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packets {
    /// One datagram.
    One,
    /// Several, each of which fits the link.
    Several,
}

impl Place {
    fn loopback() -> Place {
        Place {
            lan: Lan::alone(),
            tower: "alone",
            receiver: "alone",
            interface: "lo",
            listen: "127.0.0.1:9688",
            directory: "127.0.0.1:9688",
            packets: Packets::One,
        }
    }

    fn ethernet() -> Place {
        Place {
            lan: Lan::new(&["tower", "one"]),
            tower: "tower",
            receiver: "one",
            interface: "eth0",
            listen: "0.0.0.0:9688",
            directory: "10.77.0.1:9688",
            packets: Packets::Several,
        }
    }

    fn tower(&self) -> Host<'_> {
        self.lan.host(self.tower)
    }

    fn receiver(&self) -> Host<'_> {
        self.lan.host(self.receiver)
    }
}

fn main() -> ExitCode {
    let test = |name, tools, run| Test { name, tools, run };
    const GSTREAMER: &[&str] = &["gst-launch-1.0"];
    run(vec![
        test("ffmpeg_plays_a_station_on_loopback", &[], || receivers::ffmpeg(&Place::loopback())),
        test("ffmpeg_plays_a_station_over_ethernet", &[], || receivers::ffmpeg(&Place::ethernet())),
        test("gstreamer_plays_a_station_on_loopback", GSTREAMER, || receivers::gstreamer(&Place::loopback())),
        test("gstreamer_plays_a_station_over_ethernet", GSTREAMER, || {
            receivers::gstreamer(&Place::ethernet())
        }),
        test("tshark_finds_no_fault_on_loopback", &["tshark"], || wireshark::tshark(&Place::loopback())),
        test("tshark_finds_no_fault_over_ethernet", &["tshark"], || wireshark::tshark(&Place::ethernet())),
        test("our_viewer_plays_gstreamer", GSTREAMER, senders::gstreamer),
        test("our_viewer_plays_ffmpeg", &[], senders::ffmpeg),
    ])
}
