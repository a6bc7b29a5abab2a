//! Other programs play our stations.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::common::film::{self, Film};
use crate::common::harness::text;
use crate::common::lan::{head, station};
use crate::common::picture::Picture;
use crate::common::process::Process;
use crate::common::watch::watch;
use crate::{FAITHFUL, Scenario};

/// Least PSNR of the same picture from two decoders, in dB. They round differently: FFmpeg reaches 64, GStreamer 51.
const ALIKE: f64 = 40.0;

/// How many pictures the other program decodes.
const PICTURES: &str = "50";

fn on_air(scenario: &Scenario, film: &Film) -> Process {
    let lineup =
        head(scenario.listen, scenario.interface) + &station(1, &[&film.path], "239.77.0.1:5004", "");
    scenario.sender().on_air(&lineup)
}

/// A film of the station's own size, so that no picture is resized.
fn numbered() -> Film {
    film::numbered(1, (640, 368), (30_000, 1001), 60)
}

pub(crate) fn ffmpeg(scenario: &Scenario) {
    let film = numbered();
    let _broadcaster = on_air(scenario, &film);
    let (sdp, planes) = (scenario.lan.folder().join("station.sdp"), scenario.lan.folder().join("planes"));
    let session = "v=0\r\no=- 1 1 IN IP4 10.77.0.1\r\ns=Station 1\r\nc=IN IP4 239.77.0.1/1\r\nt=0 0\r\n\
                   m=video 5004 RTP/AVP 26\r\n";
    fs::write(&sdp, session).unwrap();
    let input = ["-v", "warning", "-nostdin", "-protocol_whitelist", "file,udp,rtp", "-i", text(&sdp)];
    let output = ["-vsync", "passthrough", "-frames:v", PICTURES, "-f", "rawvideo", "-pix_fmt", "yuvj420p"];
    let other = scenario.receiver().run("ffmpeg", &[&input[..], &output[..], &[text(&planes)]].concat());
    compare(scenario, &film, other, &planes);
}

pub(crate) fn gstreamer(scenario: &Scenario) {
    let film = numbered();
    let _broadcaster = on_air(scenario, &film);
    let planes = scenario.lan.folder().join("planes");
    let pipeline = format!(
        "-q udpsrc address=239.77.0.1 port=5004 multicast-iface={} buffer-size=4000000 \
         caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=JPEG,payload=26 \
         ! rtpjpegdepay ! jpegdec ! video/x-raw,format=I420 ! identity eos-after={PICTURES} \
         ! filesink location={}",
        scenario.interface,
        text(&planes)
    );
    let other = scenario.receiver().run("gst-launch-1.0", &pipeline.split_whitespace().collect::<Vec<_>>());
    compare(scenario, &film, other, &planes);
}

/// Compares the pictures that `other` decodes into `planes` with those that our viewer saves meanwhile.
fn compare(scenario: &Scenario, film: &Film, other: Process, planes: &Path) {
    let seen = watch(&scenario.lan, scenario.receiver, scenario.directory, 1, 90).done();
    seen.check_whole(film);
    other.succeed();
    let ours: HashMap<u16, &Picture> =
        seen.pictures.iter().map(|picture| (picture.strip().expect("a strip").1, picture)).collect();

    let source = film.decoded(scenario.lan.folder(), (640, 368));
    let theirs = Picture::all_of_i420(planes, 640, 368);
    let missing = film.check_order(&theirs);
    assert!(missing <= 5, "{missing} pictures did not get through");
    let (mut matched, mut alike, mut faithful) = (0, f64::INFINITY, f64::INFINITY);
    for picture in &theirs {
        let (_, number) = picture.strip().expect("a strip");
        let Some(own) = ours.get(&number) else { continue };
        matched += 1;
        alike = picture.psnr(own).into_iter().fold(alike, f64::min);
        assert!(alike > ALIKE, "picture {number} differs from our viewer's: {alike:.1} dB");
        faithful = picture.psnr(&source[usize::from(number)]).into_iter().fold(faithful, f64::min);
        assert!(faithful > FAITHFUL, "picture {number} differs from the film's: {faithful:.1} dB");
    }
    assert!(matched >= 20, "{matched} pictures to compare");
    eprintln!(
        "{matched} pictures: at worst {alike:.1} dB from our viewer's, {faithful:.1} dB from the film's"
    );
}
