//! Other people's programs as judges. FFmpeg and GStreamer play our stations, and each picture that they decode is compared with
//! the one that our own viewer saved. tshark dissects the packets. Our viewer plays the streams of GStreamer and FFmpeg.
//!
//! All of them run in network namespaces, on loopback (one datagram a picture) and over Ethernet (packets of 1,500 bytes).

#[path = "../common/mod.rs"]
mod common;

mod matrix;
mod publish;
mod receivers;
mod senders;
mod sound;
mod srtp;
mod wireshark;

use std::process::ExitCode;

use common::harness::{Test, main as run};
use common::lan::{Host, Lan};

/// Least PSNR of a picture against the film's, in dB. JPEG at quality 80 and two conversions of colour leave 38.
const FAITHFUL: f64 = 36.0;

/// The network on which a station is played, and what differs between networks.
struct Scenario {
    lan: Lan,
    sender: &'static str,
    receiver: &'static str,
    interface: &'static str,
    listen: &'static str,
    directory: &'static str,
    packets: Packets,
}

/// How many datagrams a picture takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packets {
    /// One datagram.
    One,
    /// Several, each of which fits the link's MTU.
    Several,
}

impl Scenario {
    fn loopback() -> Scenario {
        Scenario {
            lan: Lan::alone(),
            sender: "alone",
            receiver: "alone",
            interface: "lo",
            listen: "127.0.0.1:9688",
            directory: "127.0.0.1:9688",
            packets: Packets::One,
        }
    }

    fn ethernet() -> Scenario {
        Scenario {
            lan: Lan::new(&["sender", "one"]),
            sender: "sender",
            receiver: "one",
            interface: "eth0",
            listen: "0.0.0.0:9688",
            directory: "10.77.0.1:9688",
            packets: Packets::Several,
        }
    }

    fn sender(&self) -> Host<'_> {
        self.lan.host(self.sender)
    }

    fn receiver(&self) -> Host<'_> {
        self.lan.host(self.receiver)
    }
}

fn main() -> ExitCode {
    let test = |name, tools, run| Test { name, tools, run };
    const GSTREAMER: &[&str] = &["gst-launch-1.0"];
    const MPV: &[&str] = &["mpv"];
    const PYTHON: &[&str] = &["python3"];
    use matrix::AccessMethod::{Matroska, Mjpeg, RtspHttp, RtspMulticast, RtspTcp, RtspUdp, Sdp};
    let mut tests = vec![
        test("matrix_ffmpeg_sdp", &[], || matrix::ffmpeg(Sdp)),
        test("matrix_ffmpeg_rtsp_multicast", &[], || matrix::ffmpeg(RtspMulticast)),
        test("matrix_ffmpeg_rtsp_udp", &[], || matrix::ffmpeg(RtspUdp)),
        test("matrix_ffmpeg_rtsp_tcp", &[], || matrix::ffmpeg(RtspTcp)),
        test("matrix_ffmpeg_rtsp_http", &[], || matrix::ffmpeg(RtspHttp)),
        test("matrix_ffmpeg_mjpeg", &[], || matrix::ffmpeg(Mjpeg)),
        test("matrix_ffmpeg_mkv", &[], || matrix::ffmpeg(Matroska)),
        test("matrix_gstreamer_sdp", &["gst-launch-1.0", "gst:sdpdemux"], || matrix::gstreamer(Sdp)),
        test("matrix_gstreamer_rtsp_multicast", GSTREAMER, || matrix::gstreamer(RtspMulticast)),
        test("matrix_gstreamer_rtsp_udp", GSTREAMER, || matrix::gstreamer(RtspUdp)),
        test("matrix_gstreamer_rtsp_tcp", GSTREAMER, || matrix::gstreamer(RtspTcp)),
        test("matrix_gstreamer_rtsp_http", GSTREAMER, || matrix::gstreamer(RtspHttp)),
        test("matrix_gstreamer_mjpeg", GSTREAMER, || matrix::gstreamer(Mjpeg)),
        test("matrix_gstreamer_mkv", GSTREAMER, || matrix::gstreamer(Matroska)),
        test("sound_ffmpeg_sdp", &[], || sound::ffmpeg(Sdp, "opus")),
        test("sound_ffmpeg_rtsp_multicast", &[], || sound::ffmpeg(RtspMulticast, "opus")),
        test("sound_ffmpeg_rtsp_udp", &[], || sound::ffmpeg(RtspUdp, "opus")),
        test("sound_ffmpeg_rtsp_tcp", &[], || sound::ffmpeg(RtspTcp, "opus")),
        test("sound_ffmpeg_rtsp_http", &[], || sound::ffmpeg(RtspHttp, "opus")),
        test("sound_ffmpeg_mkv", &[], || sound::ffmpeg(Matroska, "opus")),
        test("sound_ffmpeg_on_demand", &[], sound::ffmpeg_on_demand),
        test("sound_l16_ffmpeg_sdp", &[], || sound::ffmpeg(Sdp, "l16")),
        test("sound_l16_ffmpeg_rtsp_tcp", &[], || sound::ffmpeg(RtspTcp, "l16")),
        test("sound_l16_ffmpeg_mkv", &[], || sound::ffmpeg(Matroska, "l16")),
        test("sound_l16_gstreamer_rtsp_udp", GSTREAMER, || sound::gstreamer(RtspUdp, "l16")),
        test("sound_gstreamer_sdp", &["gst-launch-1.0", "gst:sdpdemux"], || sound::gstreamer(Sdp, "opus")),
        test("sound_gstreamer_rtsp_multicast", GSTREAMER, || sound::gstreamer(RtspMulticast, "opus")),
        test("sound_gstreamer_rtsp_udp", GSTREAMER, || sound::gstreamer(RtspUdp, "opus")),
        test("sound_gstreamer_rtsp_tcp", GSTREAMER, || sound::gstreamer(RtspTcp, "opus")),
        test("sound_gstreamer_mkv", GSTREAMER, || sound::gstreamer(Matroska, "opus")),
        test("matrix_retina_rtsp_udp", &[], || matrix::retina(RtspUdp)),
        test("matrix_retina_rtsp_tcp", &[], || matrix::retina(RtspTcp)),
        test("matrix_tshark_rtsp_udp", &["tshark"], || matrix::tshark(RtspUdp)),
        test("matrix_tshark_rtsp_tcp", &["tshark"], || matrix::tshark(RtspTcp)),
        test("matrix_ffplay_pauses", &["Xvfb", "xdotool", "ffplay"], matrix::ffplay_pauses),
        test("matrix_ffmpeg_goes_to_a_position", &[], matrix::ffmpeg_goes_to_a_position),
        test("matrix_viewer_tcp", &[], matrix::viewer),
        test("ffmpeg_plays_a_station_on_loopback", &[], || receivers::ffmpeg(&Scenario::loopback())),
        test("ffmpeg_plays_a_station_over_ethernet", &[], || receivers::ffmpeg(&Scenario::ethernet())),
        test("gstreamer_plays_a_station_on_loopback", GSTREAMER, || {
            receivers::gstreamer(&Scenario::loopback())
        }),
        test("gstreamer_plays_a_station_over_ethernet", GSTREAMER, || {
            receivers::gstreamer(&Scenario::ethernet())
        }),
        test(
            "libsrtp_and_we_open_each_others_packets",
            &["python3"],
            srtp::libsrtp_and_we_open_each_others_packets,
        ),
        test("tshark_finds_no_fault_on_loopback", &["tshark"], || wireshark::tshark(&Scenario::loopback())),
        test("tshark_finds_no_fault_over_ethernet", &["tshark"], || wireshark::tshark(&Scenario::ethernet())),
        test("ffmpeg_publishes_over_tcp", &[], publish::ffmpeg_publishes_over_tcp),
        test("ffmpeg_publishes_over_udp_and_in_h264", &[], publish::ffmpeg_publishes_over_udp_and_in_h264),
        test("gstreamer_publishes", &["gst-launch-1.0", "gst:rtspclientsink"], publish::gstreamer_publishes),
        test("our_viewer_plays_gstreamer", GSTREAMER, senders::gstreamer),
        test("our_viewer_plays_ffmpeg", &[], senders::ffmpeg),
    ];
    if matrix::has_all_clients() {
        tests.extend([
            test("matrix_mpv_sdp", MPV, || matrix::mpv(Sdp)),
            test("matrix_mpv_rtsp_multicast", MPV, || matrix::mpv(RtspMulticast)),
            test("matrix_mpv_rtsp_udp", MPV, || matrix::mpv(RtspUdp)),
            test("matrix_mpv_rtsp_tcp", MPV, || matrix::mpv(RtspTcp)),
            test("matrix_mpv_rtsp_http", MPV, || matrix::mpv(RtspHttp)),
            test("matrix_mpv_mjpeg", MPV, || matrix::mpv(Mjpeg)),
            test("matrix_mpv_mkv", MPV, || matrix::mpv(Matroska)),
            test("sound_mpv_sdp", MPV, || sound::mpv(Sdp)),
            test("sound_mpv_rtsp_multicast", MPV, || sound::mpv(RtspMulticast)),
            test("sound_mpv_rtsp_udp", MPV, || sound::mpv(RtspUdp)),
            test("sound_mpv_rtsp_tcp", MPV, || sound::mpv(RtspTcp)),
            test("sound_mpv_mkv", MPV, || sound::mpv(Matroska)),
            test("matrix_pyav_sdp", PYTHON, || matrix::pyav(Sdp)),
            test("matrix_pyav_rtsp_multicast", PYTHON, || matrix::pyav(RtspMulticast)),
            test("matrix_pyav_rtsp_udp", PYTHON, || matrix::pyav(RtspUdp)),
            test("matrix_pyav_rtsp_tcp", PYTHON, || matrix::pyav(RtspTcp)),
            test("matrix_pyav_rtsp_http", PYTHON, || matrix::pyav(RtspHttp)),
            test("matrix_pyav_mjpeg", PYTHON, || matrix::pyav(Mjpeg)),
            test("matrix_pyav_mkv", PYTHON, || matrix::pyav(Matroska)),
            test("pyav_publishes", PYTHON, publish::pyav_publishes),
            test("sound_pyav_sdp", PYTHON, || sound::pyav(Sdp)),
            test("sound_pyav_rtsp_multicast", PYTHON, || sound::pyav(RtspMulticast)),
            test("sound_pyav_rtsp_udp", PYTHON, || sound::pyav(RtspUdp)),
            test("sound_pyav_rtsp_tcp", PYTHON, || sound::pyav(RtspTcp)),
            test("sound_pyav_mkv", PYTHON, || sound::pyav(Matroska)),
        ]);
    }
    run(tests)
}
