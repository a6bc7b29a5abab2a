//! Our viewer plays the streams of other programs. A helper serves a directory that names them.

use std::fs;

use crate::Scenario;
use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::picture::Picture;
use crate::common::process::Process;
use crate::common::watch::watch;

const GROUP: &str = "239.77.0.7:5004";

fn directory(scenario: &Scenario) -> Process {
    let mut directory = scenario.sender().helper("directory", &[scenario.listen, GROUP, scenario.interface]);
    directory.await_output("serving");
    directory
}

/// Colour bars, each in its place. GStreamer's payloader sends its quantization tables in band.
pub(crate) fn gstreamer() {
    let scenario = Scenario::ethernet();
    let _directory = directory(&scenario);
    let shape = "video/x-raw,format=I420,width=640,height=368,framerate=25/1";
    let launch = |pipeline: &str| {
        scenario.sender().run("gst-launch-1.0", &pipeline.split_whitespace().collect::<Vec<_>>())
    };
    let _sender = launch(&format!(
        "-q videotestsrc is-live=true ! {shape} ! jpegenc ! rtpjpegpay mtu=1400 \
         ! udpsink host=239.77.0.7 port=5004 multicast-iface=eth0 auto-multicast=true ttl-mc=1"
    ));
    let raw = scenario.lan.folder().join("raw");
    launch(&format!("-q videotestsrc num-buffers=1 ! {shape} ! filesink location={}", text(&raw))).succeed();
    let bars = Picture::of_i420(&fs::read(&raw).unwrap(), 640, 368);

    let seen = watch(&scenario.lan, "one", scenario.directory, 7, 60).done();
    assert_eq!((seen.count("frames"), seen.count("frames_lost")), (60, 0), "{}", seen.summary);
    seen.check_size((640, 368));
    let colours: Vec<[u8; 3]> = (0..7).map(|bar| bars.colour_at(1000 * (2 * bar + 1) / 14, 300)).collect();
    assert!((0..7).all(|n| !colours[n + 1..].contains(&colours[n])), "seven colours: {colours:?}");
    for picture in &seen.pictures {
        for (bar, expected) in colours.iter().enumerate() {
            let found = picture.colour_at(1000 * (2 * bar + 1) / 14, 300);
            let apart = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(apart <= Some(2), "bar {bar} is {found:?}, not {expected:?}");
        }
    }
}

/// A film with numbered pictures, in their order. FFmpeg is told to use the standard Huffman tables, the only ones that RTP/JPEG
/// can have.
pub(crate) fn ffmpeg() {
    let scenario = Scenario::ethernet();
    let film = pal(1);
    let _directory = directory(&scenario);
    let input = ["-v", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", text(&film.path), "-an"];
    let codec =
        "-vf scale=640:368 -c:v mjpeg -pix_fmt yuvj420p -q:v 3 -huffman default -force_duplicated_matrix 1";
    let output = ["-f", "rtp", "rtp://239.77.0.7:5004?ttl=1&pkt_size=1400"];
    let args: Vec<&str> = input.into_iter().chain(codec.split_whitespace()).chain(output).collect();
    let _sender = scenario.sender().run("ffmpeg", &args);
    let seen = watch(&scenario.lan, "one", scenario.directory, 7, 60).done();
    assert_eq!((seen.count("frames"), seen.count("frames_lost")), (60, 0), "{}", seen.summary);
    seen.check_size((640, 368));
    assert_eq!(film.check_order(&seen.pictures), 0, "FFmpeg skips none");
}
