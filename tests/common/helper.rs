//! Helpers that must run inside a namespace: this test program, started again there with a hidden argument.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use stationcast::directory::{Limits, State, StationInfo, StationTable, serve};
use stationcast::interface::{Interface, interfaces};
use stationcast::media::StationId;
use stationcast::net;
use stationcast::wire::rtp::{HEADER_LEN, Header};

/// The first argument that makes this program a helper; the second is its name.
pub(crate) const FLAG: &str = "--be-a-helper";

/// The suffix of the file that ends a capture, after the name of the file that the capture writes.
pub(crate) const ENOUGH: &str = ".enough";

/// Runs the helper that the arguments name, if they do.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [FLAG, "capture", group, interface, pictures, file] => capture(group, interface, pictures, file),
        [FLAG, "blast", group, interface, pictures] => blast(group, interface, pictures),
        [FLAG, "attack", group, interface, pictures] => attack(group, interface, pictures),
        [FLAG, "retina", url, transport, pictures, folder] => {
            play_by_retina(url, transport, pictures, Path::new(folder));
        }
        [FLAG, "directory", listen, group, interface] => directory(listen, group, interface),
        [FLAG, "overhear", listen, server] => overhear(listen, server),
        [FLAG, "ask", server, request] => ask(server, request),
        [FLAG, ..] => return Some(ExitCode::FAILURE),
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

fn interface(name: &str) -> Interface {
    interfaces().unwrap().into_iter().find(|interface| interface.name == name).expect("the interface")
}

/// Writes the datagrams of a group to a file, each after its length, until so many pictures have ended, or until one ends and
/// there is a file with the suffix [`ENOUGH`]. Prints `listening` once it has joined.
fn capture(group: &str, on: &str, pictures: &str, file: &str) {
    let socket = net::receiver(group.parse().unwrap(), &interface(on)).unwrap();
    socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
    println!("listening");
    let mut pictures: usize = pictures.parse().unwrap();
    let enough = format!("{file}{ENOUGH}");
    let mut file = BufWriter::new(File::create(file).unwrap());
    let mut buffer = vec![0; 65_536];
    while pictures > 0 {
        let length = socket.recv(&mut buffer).expect("the group is silent");
        file.write_all(&(length as u32).to_le_bytes()).unwrap();
        file.write_all(&buffer[..length]).unwrap();
        if buffer[1] & 0x80 != 0 {
            pictures = if Path::new(&enough).exists() { 0 } else { pictures - 1 };
        }
    }
    file.flush().unwrap();
}

/// Sends rubbish to a group during each of so many pictures of its station: random bytes, RTP of another payload type,
/// RTP/JPEG of another sender, and packets that pretend to be the station's: one with a sequence number that is far off, and one
/// with a number that was used already. None of it may cost a picture.
fn blast(group: &str, on: &str, pictures: &str) {
    let group: SocketAddr = group.parse().unwrap();
    let on = interface(on);
    let station = net::receiver(group, &on).unwrap();
    station.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let out: UdpSocket = net::sender(group, &on, 1).unwrap().into();
    out.set_nonblocking(false).unwrap();
    let mut random = fastrand::Rng::with_seed(2435);
    let mut noise = |header: Option<Header>| {
        let length = random.usize(0..1400);
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        if let Some(header) = header {
            bytes.splice(0..0, [0; HEADER_LEN]);
            header.emit((&mut bytes[..HEADER_LEN]).try_into().unwrap());
        }
        out.send_to(&bytes, group).unwrap();
    };
    let mut buffer = vec![0; 65_536];
    let forged = Header { marker: false, payload_type: 26, sequence: 0, timestamp: 0, ssrc: 0x0bad_cafe };
    let mut ssrc = None;
    let mut last = 0;
    for n in 0..pictures.parse().unwrap() {
        // At the first packet of a picture, before the rest of it. Our own rubbish arrives here, too, and is passed over.
        let own = loop {
            let length = station.recv(&mut buffer).unwrap();
            let Ok((header, _)) = Header::parse(&buffer[..length]) else { continue };
            let ours = header.payload_type == 26 && *ssrc.get_or_insert(header.ssrc) == header.ssrc;
            if ours && std::mem::replace(&mut last, header.timestamp) != header.timestamp {
                break header;
            }
        };
        noise(Some(Header { sequence: own.sequence.wrapping_add(20_000), marker: false, ..own }));
        noise(Some(Header { marker: false, ..own }));
        noise(None);
        noise(Some(Header { payload_type: 33, sequence: n, ..forged }));
        noise(Some(Header { sequence: n, ..forged }));
    }
    println!("blasted");
}

/// Sends to a group as a stranger, for `rounds` rounds of 40 ms. A round has an RTP header without a picture each millisecond, then
/// a small whole picture, then two pictures with the station's SSRC and consecutive sequence numbers. Prints `attacking` first.
#[expect(clippy::disallowed_methods, reason = "a shell: the attack has a pace")]
fn attack(group: &str, on: &str, rounds: &str) {
    let group: SocketAddr = group.parse().unwrap();
    let on = interface(on);
    let station = net::receiver(group, &on).unwrap();
    station.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let out: UdpSocket = net::sender(group, &on, 1).unwrap().into();
    out.set_nonblocking(false).unwrap();
    println!("attacking");
    let own = 0x0bad_cafe;
    let (mut buffer, mut ssrc) = (vec![0; 65_536], own);
    let send = |header: Header, payload: &[u8]| {
        let mut packet = [0; HEADER_LEN];
        header.emit(&mut packet);
        out.send_to(&[&packet[..], payload].concat(), group).unwrap();
    };
    // RTP/JPEG: 4:2:0, Q 80, 16 by 16 pixels.
    let picture = [0, 0, 0, 0, 1, 80, 2, 2, 0x28, 0xa2, 0x8a, 0x00];
    let forged = Header { marker: true, payload_type: 26, sequence: 0, timestamp: 0, ssrc: own };
    for round in 0..rounds.parse::<u16>().unwrap() {
        let timestamp = u32::from(round) * 3600;
        for n in 0..40 {
            send(
                Header {
                    sequence: round.wrapping_mul(40) + n,
                    marker: false,
                    timestamp: 1,
                    ssrc: 1,
                    ..forged
                },
                &[],
            );
            // Our own packets arrive here, too, and do not have the station's SSRC.
            if let Ok(length) = station.recv(&mut buffer)
                && let Ok((header, _)) = Header::parse(&buffer[..length])
                && ![own, 1].contains(&header.ssrc)
            {
                ssrc = header.ssrc;
            }
            thread::sleep(Duration::from_millis(1));
        }
        send(Header { sequence: round, timestamp, ..forged }, &picture);
        let far = round.wrapping_mul(7919);
        for sequence in [far, far.wrapping_add(1)] {
            send(Header { sequence, timestamp: timestamp + u32::from(sequence), ssrc, ..forged }, &picture);
        }
    }
}

/// A directory of one station, number 7, on `group`. Prints `serving` once it serves; runs until it is killed.
fn directory(listen: &str, group: &str, on: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let table = StationTable::new();
        let entry = StationInfo {
            state: State::Film,
            ..StationInfo::starting(StationId(7), "Seven", group.parse().unwrap(), on, 80)
        };
        table.enter(entry, || None).unwrap();
        let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
        println!("serving");
        serve(listener, table, Limits::default(), std::future::pending()).await;
    });
}

/// A proxy between one client and a server. Prints `listening` first, then the bytes of both directions as they pass. Ends when
/// the server closes the connection.
fn overhear(listen: &str, server: &str) {
    let listener = TcpListener::bind(listen).unwrap();
    println!("listening");
    let (client, _) = listener.accept().unwrap();
    let server = TcpStream::connect(server).unwrap();
    let pass_on = |mut from: &TcpStream, mut to: &TcpStream| {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let mut heard = std::io::stdout().lock();
            heard.write_all(&buffer[..length]).unwrap();
            heard.flush().unwrap();
            drop(heard);
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| pass_on(&client, &server));
        pass_on(&server, &client);
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// Sends a request of HTTP or RTSP and writes the response, head and body, to standard output.
fn ask(server: &str, request: &str) {
    let patience = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&server.parse().unwrap(), patience).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut response, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_whole(&response) {
        let length = stream.read(&mut buffer).unwrap();
        assert!(
            length > 0,
            "the server closed the connection after {:?}",
            String::from_utf8_lossy(&response)
        );
        response.extend(&buffer[..length]);
    }
    std::io::stdout().write_all(&response).unwrap();
}

/// Whether a response is there to its end, as its Content-Length says; without one it has no body.
fn is_whole(response: &[u8]) -> bool {
    let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    response.len() >= end + 4 + length.map_or(0, |length| length.trim().parse().unwrap())
}

/// Plays `url` by the retina crate, an RTSP client that is not ours, and saves the JPEG files as they come.
fn play_by_retina(url: &str, transport: &str, pictures: &str, folder: &Path) {
    use futures_util::StreamExt;
    use retina::client::{
        Demuxed, PlayOptions, Session, SessionOptions, SetupOptions, TcpTransportOptions, Transport,
        UdpTransportOptions,
    };
    use retina::codec::CodecItem;

    let transport = match transport {
        "tcp" => Transport::Tcp(TcpTransportOptions::default()),
        _ => Transport::Udp(UdpTransportOptions::default()),
    };
    fs::create_dir_all(folder).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = url.parse::<rtsp_types::Url>().unwrap();
        let mut session = Session::describe(url, SessionOptions::default()).await.unwrap();
        let options = SetupOptions::default().transport(transport);
        session.setup(0, options).await.unwrap();
        let playing = session.play(PlayOptions::default()).await.unwrap();
        let mut demuxed: std::pin::Pin<Box<Demuxed>> = Box::pin(playing.demuxed().unwrap());
        for n in 1..=pictures.parse::<usize>().unwrap() {
            loop {
                match demuxed.next().await.expect("the stream goes on").unwrap() {
                    CodecItem::VideoFrame(picture) => {
                        assert_eq!(picture.loss(), 0, "before picture {n}");
                        fs::write(folder.join(format!("frame-{n:06}.jpg")), picture.data()).unwrap();
                        break;
                    }
                    _ => continue,
                }
            }
        }
    });
}
