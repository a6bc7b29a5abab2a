//! A film with a flash and a beep in each second: other programs record it, and the beep is where the flash is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Scenario;
use crate::common::harness::text;
use crate::common::lan::{Host, head, station};
use crate::common::process::Process;
use crate::matrix::AccessMethod;

/// How long a client records, in seconds.
const SECONDS: &str = "9";

/// When each track has had a report and the client has taken it, in seconds after the recording's beginning: the group has one at least
/// every 1.3 s, and RTSP every second.
const SETTLED: f64 = 3.0;

/// Most by which the beep may be beside the flash, in ms: of a client that takes the times of the reports, and of one that smooths them.
const EXACT: f64 = 5.0;
const SMOOTHED: f64 = 10.0;

/// A station with sound, and the files of a client.
struct Sounding {
    scenario: Scenario,
    _broadcaster: Process,
    sdp: PathBuf,
    rtsp: String,
    mkv: String,
    recording: PathBuf,
}

impl Sounding {
    /// A station whose sound has this codec.
    fn new(codec: &str) -> Sounding {
        let scenario = Scenario::ethernet();
        let film = scenario.lan.folder().join("flash.mp4");
        make(scenario.sender(), &film);
        let lineup = head(scenario.listen, scenario.interface)
            + "[rtsp]\nlisten = \"0.0.0.0:8554\"\n[http]\nlisten = \"0.0.0.0:8088\"\n"
            + &station(1, &[&film], "239.77.0.1:5004", &format!("width = 320\nsound_codec = \"{codec}\"\n"));
        let mut broadcaster = scenario.sender().on_air(&lineup);
        broadcaster.await_log("made the sound of ", 1);
        let config = scenario.sender().lineup(&lineup);
        let described = scenario
            .sender()
            .tool(env!("CARGO_BIN_EXE_broadcaster"), &["sdp", "1", "--config", text(&config)]);
        assert_eq!(described.matches("m=").count(), 2, "{described}");
        let sdp = scenario.lan.folder().join("station.sdp");
        fs::write(&sdp, described).unwrap();
        let address = scenario.sender().address();
        Sounding {
            rtsp: format!("rtsp://{address}:8554/1"),
            mkv: format!("http://{address}:8088/stations/1.mkv"),
            recording: scenario.lan.folder().join("recording.mkv"),
            sdp,
            _broadcaster: broadcaster,
            scenario,
        }
    }

    /// Checks that each beep of the recording is within `most` ms of its flash.
    fn check(&self, most: f64) {
        let (flashes, beeps) = flashes_and_beeps(self.scenario.receiver(), &self.recording);
        let settled: Vec<f64> = flashes.iter().copied().filter(|at| *at > SETTLED).collect();
        assert!(settled.len() >= 3, "flashes at {flashes:?}, beeps at {beeps:?}");
        for flash in settled {
            let beside = beeps.iter().map(|beep| 1000.0 * (beep - flash).abs()).fold(f64::INFINITY, f64::min);
            assert!(beside <= most, "{beside:.1} ms at {flash}: flashes at {flashes:?}, beeps at {beeps:?}");
        }
    }
}

/// Makes a film of ten seconds, each of which begins with 80 ms of white and of a tone: with B-frames, and AAC with its priming.
fn make(host: Host<'_>, film: &Path) {
    let picture = "color=black:s=320x240:r=25:d=10,drawbox=c=white:t=fill:enable='lt(mod(t\\,1)\\,0.08)'";
    let sound = "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.08)':s=48000:d=10";
    let inputs = ["-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound];
    let codecs =
        ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac"];
    host.tool("ffmpeg", &[&inputs[..], &codecs, &[text(film)]].concat());
}

/// When the pictures of a recording turn white, and when its sound begins, in seconds, each time.
fn flashes_and_beeps(host: Host<'_>, recording: &Path) -> (Vec<f64>, Vec<f64>) {
    let filters = ["-vf", "blackdetect=d=0.2", "-af", "silencedetect=noise=0.05:d=0.2", "-f", "null", "-"];
    let input = ["-nostdin", "-nostats", "-i", text(recording)];
    let said = host.run("ffmpeg", &[&input[..], &filters].concat()).succeed().stderr;
    let times = |name: &str| -> Vec<f64> {
        let values = said.split(name).skip(1).filter_map(|rest| rest.split([' ', '\n', '\r']).next());
        values.map(|value| value.parse().unwrap()).collect()
    };
    let mut flashes = times("black_end:");
    // The last one may be the recording's end.
    flashes.pop();
    (flashes, times("silence_end: "))
}

pub(crate) fn ffmpeg(method: AccessMethod, codec: &str) {
    let sounding = Sounding::new(codec);
    let rtsp = |transport| vec!["-rtsp_transport", transport, "-i", &sounding.rtsp];
    let input = match method {
        AccessMethod::Sdp => vec!["-protocol_whitelist", "file,udp,rtp", "-i", text(&sounding.sdp)],
        AccessMethod::RtspMulticast => rtsp("udp_multicast"),
        AccessMethod::RtspUdp => rtsp("udp"),
        AccessMethod::RtspTcp => rtsp("tcp"),
        AccessMethod::RtspHttp => rtsp("http"),
        AccessMethod::Matroska => vec!["-i", &sounding.mkv],
        AccessMethod::Mjpeg => panic!("MJPEG has no sound"),
    };
    let output = ["-t", SECONDS, "-c", "copy", text(&sounding.recording)];
    let args = [&["-v", "warning", "-nostdin"], &input[..], &output].concat();
    sounding.scenario.receiver().run("ffmpeg", &args).succeed();
    sounding.check(EXACT);
}

/// FFmpeg plays the programme from a position in the middle of a second.
pub(crate) fn ffmpeg_on_demand() {
    let sounding = Sounding::new("opus");
    let url = format!("{}/demand", sounding.rtsp);
    let input = ["-v", "warning", "-nostdin", "-rtsp_transport", "tcp", "-ss", "0.5", "-i", &url];
    let output = ["-t", SECONDS, "-c", "copy", text(&sounding.recording)];
    sounding.scenario.receiver().run("ffmpeg", &[&input[..], &output].concat()).succeed();
    sounding.check(EXACT);
}

pub(crate) fn gstreamer(method: AccessMethod, codec: &str) {
    let sounding = Sounding::new(codec);
    let rtsp = |transport: &str| format!("rtspsrc name=s location={} protocols={transport}", sounding.rtsp);
    let source = match method {
        AccessMethod::Sdp => format!("filesrc location={} ! sdpdemux name=s", text(&sounding.sdp)),
        AccessMethod::RtspMulticast => rtsp("udp-mcast"),
        AccessMethod::RtspUdp => rtsp("udp"),
        AccessMethod::RtspTcp => rtsp("tcp"),
        AccessMethod::RtspHttp => rtsp("tcp").replace("rtsp://", "rtsph://"),
        AccessMethod::Matroska => format!("souphttpsrc location={} ! matroskademux name=s", sounding.mkv),
        AccessMethod::Mjpeg => panic!("MJPEG has no sound"),
    };
    let (picture, sound) = match (method, codec) {
        (AccessMethod::Matroska, _) => ("image/jpeg", "audio/x-opus ! opusparse"),
        (_, "l16") => ("rtpjpegdepay", "rtpL16depay ! audioconvert ! audio/x-raw,format=S16LE"),
        _ => ("rtpjpegdepay", "rtpopusdepay ! opusparse"),
    };
    let pipeline = format!(
        "-s INT {SECONDS} gst-launch-1.0 -q -e {source} s. ! {picture} ! queue ! matroskamux name=m \
         ! filesink location={} s. ! {sound} ! queue ! m.",
        text(&sounding.recording)
    );
    let ended = sounding.scenario.receiver().run("timeout", &pipeline.split_whitespace().collect::<Vec<_>>());
    let ended = ended.finish();
    assert!(ended.code == Some(0) || ended.code == Some(124), "{pipeline}: {}", ended.stderr);
    sounding.check(SMOOTHED);
}

/// mpv, whose encoder writes both tracks.
pub(crate) fn mpv(method: AccessMethod) {
    let sounding = Sounding::new("opus");
    let rtsp = |transport: &str| (format!("--rtsp-transport={transport}"), sounding.rtsp.clone());
    let (option, url) = match method {
        AccessMethod::Sdp => {
            ("--demuxer-lavf-o=protocol_whitelist=[file,udp,rtp]".into(), text(&sounding.sdp).to_owned())
        }
        AccessMethod::RtspMulticast => rtsp("udp_multicast"),
        AccessMethod::RtspUdp => rtsp("udp"),
        AccessMethod::RtspTcp => rtsp("tcp"),
        AccessMethod::RtspHttp => rtsp("http"),
        AccessMethod::Matroska => ("--demuxer=mkv".into(), sounding.mkv.clone()),
        AccessMethod::Mjpeg => panic!("MJPEG has no sound"),
    };
    let output = format!("--o={}", text(&sounding.recording));
    let encode = ["--of=matroska", "--ovc=mjpeg", "--oac=pcm_s16le", "--no-config", "--frames=225"];
    let args = [&encode[..], &[&output, &option, &url]].concat();
    sounding.scenario.receiver().run("mpv", &args).succeed();
    sounding.check(SMOOTHED);
}

/// PyAV, as in people's scripts: both tracks are copied.
pub(crate) fn pyav(method: AccessMethod) {
    let sounding = Sounding::new("opus");
    let (url, options) = match method {
        AccessMethod::Sdp => (text(&sounding.sdp), "protocol_whitelist=file,udp,rtp"),
        AccessMethod::RtspMulticast => (sounding.rtsp.as_str(), "rtsp_transport=udp_multicast"),
        AccessMethod::RtspUdp => (sounding.rtsp.as_str(), "rtsp_transport=udp"),
        AccessMethod::RtspTcp => (sounding.rtsp.as_str(), "rtsp_transport=tcp"),
        AccessMethod::RtspHttp => (sounding.rtsp.as_str(), "rtsp_transport=http"),
        AccessMethod::Matroska => (sounding.mkv.as_str(), "fflags=nobuffer"),
        AccessMethod::Mjpeg => panic!("MJPEG has no sound"),
    };
    let script = "import sys, av\n\
                  url, options, seconds, recording = sys.argv[1:]\n\
                  source = av.open(url, options=dict([options.split('=', 1)]), timeout=20)\n\
                  target = av.open(recording, 'w')\n\
                  copy = getattr(target, 'add_stream_from_template', None) or (lambda s: target.add_stream(template=s))\n\
                  tracks = {s.index: copy(s) for s in source.streams}\n\
                  first = None\n\
                  for packet in source.demux():\n\
                  \x20   if packet.dts is None: continue\n\
                  \x20   at = float(packet.pts * packet.time_base)\n\
                  \x20   first = at if first is None else first\n\
                  \x20   if at - first > float(seconds): break\n\
                  \x20   packet.stream = tracks[packet.stream.index]\n\
                  \x20   target.mux(packet)\n\
                  target.close()\n";
    let python = std::env::var("STATIONCAST_PYTHON").unwrap_or_else(|_| "python3".into());
    let args = ["-c", script, url, options, SECONDS, text(&sounding.recording)];
    sounding.scenario.receiver().run(&python, &args).succeed();
    sounding.check(EXACT);
}
