//! Every client by every access method that it has. The pictures that it decodes are compared with the film's, one by one.
//!
//! Clients that need much installed (mpv, PyAV) take part only with `STATIONCAST_MATRIX=1`, as in `make matrix`.

use std::fs;
use std::path::PathBuf;

use crate::common::display::Display;
use crate::common::film::{self, Film};
use crate::common::harness::text;
use crate::common::lan::{head, station};
use crate::common::picture::{Picture, saved};
use crate::common::process::Process;
use crate::common::until;
use crate::{FAITHFUL, Scenario};

/// How many pictures each client decodes.
const PICTURES: usize = 50;

/// The most pictures that may be missing in between: a client is busy while it starts.
const MISSED: u64 = 5;

/// The most that may be missing over HTTP, where the server sends fewer pictures to a busy client.
const LEFT_OUT: u64 = PICTURES as u64;

/// How a client gets a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessMethod {
    /// From its group, by the SDP that `broadcaster sdp` prints.
    Sdp,
    /// From its group, set up by RTSP.
    RtspMulticast,
    /// Set up by RTSP, to the client's own UDP ports.
    RtspUdp,
    /// Interleaved in the RTSP connection.
    RtspTcp,
    /// By RTSP, tunnelled through HTTP.
    RtspHttp,
    /// As `multipart/x-mixed-replace`.
    Mjpeg,
    /// As live Matroska over HTTP.
    Matroska,
}

/// A station that is served by all access methods, and the files of a client.
struct Served {
    scenario: Scenario,
    _broadcaster: Process,
    film: Film,
    /// The file with the SDP.
    sdp: PathBuf,
    rtsp: String,
    mjpeg: String,
    mkv: String,
    /// The file for decoded planes, 4:2:0.
    planes: PathBuf,
}

impl Served {
    fn new() -> Served {
        let scenario = Scenario::ethernet();
        // Of the station's own size, so that no picture is resized.
        let film = film::numbered(1, (640, 368), (30_000, 1001), 60);
        let servers = "[rtsp]\nlisten = \"0.0.0.0:8554\"\n[http]\nlisten = \"0.0.0.0:8088\"\n";
        let lineup = head(scenario.listen, scenario.interface)
            + servers
            + &station(1, &[&film.path], "239.77.0.1:5004", "");
        let broadcaster = scenario.sender().on_air(&lineup);
        let config = scenario.sender().lineup(&lineup);
        let described = scenario
            .sender()
            .tool(env!("CARGO_BIN_EXE_broadcaster"), &["sdp", "1", "--config", text(&config)]);
        let sdp = scenario.lan.folder().join("station.sdp");
        fs::write(&sdp, described).unwrap();
        let address = scenario.sender().address();
        Served {
            rtsp: format!("rtsp://{address}:8554/1"),
            mjpeg: format!("http://{address}:8088/stations/1.mjpeg"),
            mkv: format!("http://{address}:8088/stations/1.mkv"),
            planes: scenario.lan.folder().join("planes"),
            sdp,
            film,
            _broadcaster: broadcaster,
            scenario,
        }
    }

    fn run(&self, program: &str, args: &[&str]) -> Process {
        self.scenario.receiver().run(program, args)
    }

    /// The pictures that a client has decoded.
    fn decoded(&self) -> Vec<Picture> {
        Picture::all_of_i420(&self.planes, 640, 368)
    }

    /// Checks that `pictures` are the film's, in their order, with hardly any missing.
    fn check(&self, method: AccessMethod, pictures: &[Picture]) {
        let source = self.film.decoded(self.scenario.lan.folder(), (640, 368));
        assert!(pictures.len() >= PICTURES - 2, "{} pictures", pictures.len());
        let missing = self.film.check_order(pictures);
        let most =
            if matches!(method, AccessMethod::Mjpeg | AccessMethod::Matroska) { LEFT_OUT } else { MISSED };
        assert!(missing <= most, "{missing} pictures are missing");
        for picture in pictures {
            let (_, number) = picture.strip().expect("a strip");
            let worst = picture.psnr(&source[usize::from(number)]).into_iter().fold(f64::INFINITY, f64::min);
            assert!(worst > FAITHFUL, "picture {number} is {worst:.1} dB from the film's");
        }
    }
}

pub(crate) fn ffmpeg(method: AccessMethod) {
    let served = Served::new();
    let rtsp = |transport| vec!["-rtsp_transport", transport, "-i", &served.rtsp];
    let input = match method {
        AccessMethod::Sdp => vec!["-protocol_whitelist", "file,udp,rtp", "-i", text(&served.sdp)],
        AccessMethod::RtspMulticast => rtsp("udp_multicast"),
        AccessMethod::RtspUdp => rtsp("udp"),
        AccessMethod::RtspTcp => rtsp("tcp"),
        AccessMethod::RtspHttp => rtsp("http"),
        AccessMethod::Mjpeg => vec!["-f", "mpjpeg", "-i", &served.mjpeg],
        AccessMethod::Matroska => vec!["-i", &served.mkv],
    };
    let frames = PICTURES.to_string();
    let output = ["-vsync", "passthrough", "-frames:v", &frames, "-pix_fmt", "yuvj420p", "-f", "rawvideo"];
    let args = [&["-v", "warning", "-nostdin"], &input[..], &output, &[text(&served.planes)]].concat();
    served.run("ffmpeg", &args).succeed();
    served.check(method, &served.decoded());
}

pub(crate) fn gstreamer(method: AccessMethod) {
    let served = Served::new();
    let rtsp = |transport: &str| {
        format!("rtspsrc location={} protocols={transport} latency=200 ! rtpjpegdepay", served.rtsp)
    };
    let source = match method {
        AccessMethod::Sdp => format!("filesrc location={} ! sdpdemux ! rtpjpegdepay", text(&served.sdp)),
        AccessMethod::RtspMulticast => rtsp("udp-mcast"),
        AccessMethod::RtspUdp => rtsp("udp"),
        AccessMethod::RtspTcp => rtsp("tcp"),
        // rtspsrc tunnels through HTTP if the scheme is `rtsph`.
        AccessMethod::RtspHttp => rtsp("tcp").replace("rtsp://", "rtsph://"),
        AccessMethod::Mjpeg => format!("souphttpsrc location={} ! multipartdemux", served.mjpeg),
        AccessMethod::Matroska => format!("souphttpsrc location={} ! matroskademux", served.mkv),
    };
    let pipeline = format!(
        "-q {source} ! jpegdec ! video/x-raw,format=I420 ! identity eos-after={PICTURES} ! filesink location={}",
        text(&served.planes)
    );
    let args: Vec<&str> = pipeline.split_whitespace().collect();
    let ended = if method == AccessMethod::Matroska {
        // matroskademux 1.22 goes on reading when it is told that nothing more is wanted.
        served.run("timeout", &[&["-s", "INT", "9", "gst-launch-1.0"], &args[..]].concat()).finish()
    } else {
        served.run("gst-launch-1.0", &args).finish()
    };
    // After the last picture rtspsrc 1.22 sends PAUSE in one thread while another closes the connection. On a busy machine the
    // close is sometimes first (2 of 75 runs beside five busy loops), and rtspsrc reports that it cannot send. Its pictures
    // are complete by then, and those are compared.
    let closed_before_pause = ended.stderr.contains("gst_rtspsrc_pause ()");
    let is_stopped = method == AccessMethod::Matroska && ended.code == Some(124);
    assert!(ended.code == Some(0) || is_stopped || closed_before_pause, "{pipeline}: {}", ended.stderr);
    served.check(method, &served.decoded());
}

/// mpv, whose encoder writes the decoded pictures.
pub(crate) fn mpv(method: AccessMethod) {
    let served = Served::new();
    let rtsp = |transport: &str| (format!("--rtsp-transport={transport}"), served.rtsp.clone());
    let (option, url) = match method {
        AccessMethod::Sdp => {
            ("--demuxer-lavf-o=protocol_whitelist=[file,udp,rtp]".into(), text(&served.sdp).to_owned())
        }
        AccessMethod::RtspMulticast => rtsp("udp_multicast"),
        AccessMethod::RtspUdp => rtsp("udp"),
        AccessMethod::RtspTcp => rtsp("tcp"),
        AccessMethod::RtspHttp => rtsp("http"),
        AccessMethod::Mjpeg => ("--demuxer-lavf-format=mpjpeg".into(), served.mjpeg.clone()),
        AccessMethod::Matroska => ("--demuxer=mkv".into(), served.mkv.clone()),
    };
    let output = format!("--o={}", text(&served.planes));
    let frames = format!("--frames={PICTURES}");
    let encode = ["--of=rawvideo", "--ovc=rawvideo", "--vf=format=yuvj420p", "--no-audio", "--no-config"];
    let args = [&encode[..], &[&output, &frames, &option, &url]].concat();
    served.run("mpv", &args).succeed();
    served.check(method, &served.decoded());
}

/// PyAV, as in people's scripts.
pub(crate) fn pyav(method: AccessMethod) {
    let served = Served::new();
    let (url, options) = match method {
        AccessMethod::Sdp => (text(&served.sdp), "protocol_whitelist=file,udp,rtp"),
        AccessMethod::RtspMulticast => (served.rtsp.as_str(), "rtsp_transport=udp_multicast"),
        AccessMethod::RtspUdp => (served.rtsp.as_str(), "rtsp_transport=udp"),
        AccessMethod::RtspTcp => (served.rtsp.as_str(), "rtsp_transport=tcp"),
        AccessMethod::RtspHttp => (served.rtsp.as_str(), "rtsp_transport=http"),
        AccessMethod::Mjpeg => (served.mjpeg.as_str(), "format=mpjpeg"),
        AccessMethod::Matroska => (served.mkv.as_str(), "format=matroska"),
    };
    let script = "import sys, av\n\
                  url, options, pictures, planes = sys.argv[1:]\n\
                  options = dict([options.split('=', 1)])\n\
                  source = av.open(url, format=options.pop('format', None), options=options, timeout=20)\n\
                  with open(planes, 'wb') as out:\n\
                  \x20   for n, frame in enumerate(source.decode(video=0)):\n\
                  \x20       out.write(frame.to_ndarray(format='yuvj420p').tobytes())\n\
                  \x20       if n + 1 == int(pictures): break\n";
    let pictures = PICTURES.to_string();
    let python = std::env::var("STATIONCAST_PYTHON").unwrap_or_else(|_| "python3".into());
    served.run(&python, &["-c", script, url, options, &pictures, text(&served.planes)]).succeed();
    served.check(method, &served.decoded());
}

/// The retina crate, an RTSP client that is not ours, in a helper.
pub(crate) fn retina(method: AccessMethod) {
    let served = Served::new();
    let transport = if method == AccessMethod::RtspTcp { "tcp" } else { "udp" };
    let folder = served.scenario.lan.folder().join("retina");
    let args = [served.rtsp.as_str(), transport, &PICTURES.to_string(), text(&folder)];
    served.scenario.receiver().helper("retina", &args).succeed();
    served.check(method, &saved(&folder));
}

/// Our own viewer.
pub(crate) fn viewer() {
    let served = Served::new();
    let folder = served.scenario.lan.folder().join("viewer");
    let frames = PICTURES.to_string();
    let args = ["--directory", "10.77.0.1:9688", "--station", "1", "--headless", "--tcp", "--json"];
    let saving = ["--frames", &frames, "--save-frames", text(&folder)];
    let summary = served.scenario.receiver().viewer(&[&args[..], &saving].concat()).json();
    assert_eq!((&summary["frames"], &summary["frames_lost"]), (&50.into(), &0.into()), "{summary}");
    served.check(AccessMethod::RtspTcp, &saved(&folder));
}

/// Wireshark dissects a session from its description to its packets, by UDP and in the connection.
pub(crate) fn tshark(method: AccessMethod) {
    let served = Served::new();
    let pcap = served.scenario.lan.folder().join("rtsp.pcap");
    let capture = served.run("tshark", &["-q", "-i", "eth0", "-w", text(&pcap)]);
    until("a capture", || fs::metadata(&pcap).ok().filter(|file| file.len() > 0));
    let transport = if method == AccessMethod::RtspTcp { "tcp" } else { "udp" };
    let input = ["-v", "warning", "-nostdin", "-rtsp_transport", transport, "-i", &served.rtsp];
    let end = ["-t", "7", "-f", "null", "-"]; // the second report comes after five seconds
    served.run("ffmpeg", &[&input[..], &end].concat()).succeed();
    capture.signal("INT");
    capture.succeed();

    let read = |filter: &str, fields: &[&str]| -> Vec<Vec<String>> {
        let mut args = vec!["-r", text(&pcap), "-d", "tcp.port==8554,rtsp", "-Y", filter, "-T", "fields"];
        args.extend(fields.iter().flat_map(|field| ["-e", field]));
        let table = served.scenario.receiver().tool("tshark", &args);
        table.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    };
    let methods: Vec<String> =
        read("rtsp.method", &["rtsp.method"]).into_iter().map(|mut row| row.remove(0)).collect();
    // FFmpeg's last request may come after the end of the capture.
    for method in ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"] {
        assert!(methods.iter().any(|known| known.contains(method)), "{method} in {methods:?}");
    }
    let statuses = read("rtsp.status", &["rtsp.status"]);
    assert!(statuses.iter().all(|row| row[0] == "200"), "{statuses:?}");
    let described = read("sdp", &["sdp.media.media", "sdp.media.format", "sdp.owner"]);
    assert!(!described.is_empty() && described[0][0] == "video", "{described:?}");
    assert!(read("rtp && jpeg", &["rtp.seq"]).len() > 100, "pictures");
    let reports = read("rtcp.pt == 200", &["rtcp.timestamp.ntp.msw", "rtcp.sender.packetcount"]);
    assert!(reports.len() >= 2, "a report at once, and another: {reports:?}");
    // TCP's retransmissions on a busy machine, and segments that the capture missed, are not our faults. Wireshark also calls
    // a retransmission malformed, since it overlaps.
    let remarks = read(
        "!tcp.analysis.flags && (_ws.malformed || (rtsp || rtp || rtcp || sdp) && _ws.expert.severity >= 6291456)",
        &["frame.number", "_ws.expert.message"],
    );
    // Behind a segment that the capture has missed, Wireshark takes the middle of a picture for headers.
    let missed = read("tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment", &["frame.number"]);
    let number = |row: &[String]| row[0].parse::<u64>().expect("a number");
    let judged = missed.iter().map(|row| number(row)).min().unwrap_or(u64::MAX);
    let faults: Vec<_> =
        remarks.iter().filter(|row| !row[1].contains("segment") && number(row) < judged).take(9).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

/// FFmpeg goes to a position in a programme whose films have no reels, and its pictures tell where they are from.
pub(crate) fn ffmpeg_goes_to_a_position() {
    let scenario = Scenario::loopback();
    let machine = scenario.lan.machine();
    let films = [1, 2].map(|station| film::numbered(station, (320, 240), (25, 1), 500));
    let lineup = head(scenario.listen, scenario.interface)
        + "[rtsp]\nlisten = \"127.0.0.1:8554\"\n"
        + &station(1, &films.each_ref().map(|film| film.path.as_path()), "239.77.0.1:5004", "reel = false\n");
    let _broadcaster = machine.on_air(&lineup);
    for (transport, position, film, first) in
        [("tcp", "0", 0, 0), ("tcp", "7.2", 0, 180), ("udp", "29", 1, 225), ("tcp", "19.6", 0, 490)]
    {
        let planes = scenario.lan.folder().join(format!("planes-{position}"));
        let input = ["-rtsp_transport", transport, "-ss", position, "-i", "rtsp://127.0.0.1:8554/1/demand"];
        let output = ["-vsync", "passthrough", "-frames:v", "25", "-pix_fmt", "yuvj420p", "-f", "rawvideo"];
        let args = [&["-v", "warning", "-nostdin"], &input[..], &output, &[text(&planes)]].concat();
        machine.run("ffmpeg", &args).succeed();
        let shown: Vec<_> = Picture::all_of_i420(&planes, 320, 240).iter().map(Picture::strip).collect();
        assert_eq!(shown.len(), 25, "{position}");
        let mut expected = (film, first);
        for (n, strip) in shown.into_iter().enumerate() {
            let (station, number) = strip.unwrap_or_else(|| panic!("{position}: no strip in picture {n}"));
            if n == 0 {
                // FFmpeg leaves out what comes before the position by its own clock.
                assert!((first..first + 3).contains(&number), "{position}: it begins with {number}");
                expected.1 = number;
            }
            assert_eq!((station, number), (films[expected.0].station, expected.1), "{position}, picture {n}");
            expected = if number == 499 { (1 - expected.0, 0) } else { (expected.0, number + 1) };
        }
    }
}

/// ffplay's pause key pauses a programme at the server, and the same key resumes it where it was.
pub(crate) fn ffplay_pauses() {
    let scenario = Scenario::loopback();
    let machine = scenario.lan.machine();
    let film = film::numbered(1, (320, 240), (25, 1), 500);
    let lineup = head(scenario.listen, scenario.interface)
        + "[rtsp]\nlisten = \"127.0.0.1:8554\"\n"
        + &station(1, &[&film.path], "239.77.0.1:5004", "");
    let config = machine.lineup(&lineup);
    machine.tool(env!("CARGO_BIN_EXE_broadcaster"), &["prepare", "--config", text(&config)]);
    let _broadcaster = machine.on_air(&lineup);
    let mut proxy = machine.helper("overhear", &["127.0.0.1:8555", "127.0.0.1:8554"]);
    proxy.await_output("listening\n");
    let display = Display::new(machine, "640x480");
    // Named, since SDL would otherwise go on without a window if it found no display.
    let settings = ["SDL_VIDEODRIVER=x11", "SDL_AUDIODRIVER=dummy"];
    let url = "rtsp://127.0.0.1:8555/1/demand";
    let args = ["-v", "warning", "-rtsp_transport", "tcp", "-i", url];
    let mut player = display.run(&settings, "ffplay", &args);
    let window = display.window(&mut player, "rtsp:");
    // The same key pauses and resumes, so it is pressed only once for each, before its request is awaited.
    let press = |request: &str, times| {
        display.tool("xdotool", &["key", "--window", &window, "p"]);
        until(request, || (proxy.stdout().matches(request).count() >= times).then_some(()));
    };
    press("PAUSE rtsp://", 1);
    press("PLAY rtsp://", 2);
    // Two PLAY requests, and two responses with the position from which the server plays.
    let positions = until("two positions", || {
        let said = proxy.stdout();
        let answers =
            said.split("RTSP/1.0 200 OK\r\n").skip(1).filter_map(|rest| rest.split("\r\n\r\n").next());
        let position = |answer: &str| answer.split("Range: npt=").nth(1)?.split('-').next()?.parse().ok();
        let positions: Vec<f64> = answers.filter_map(position).collect();
        (positions.len() == 2).then_some(positions)
    });
    assert!(positions[0] == 0.0 && positions[1] > 0.0 && positions[1] < 20.0, "it resumes: {positions:?}");
}

/// Whether the clients that need much installed take part, too.
pub(crate) fn has_all_clients() -> bool {
    std::env::var_os("STATIONCAST_MATRIX").is_some_and(|value| value == "1")
}
