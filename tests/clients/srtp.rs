//! Encrypted stations, judged by libsrtp, FFmpeg and GStreamer.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use stationcast::wire::rtp::Header;
use stationcast::wire::srtp::{MasterKey, Profile, SessionKeys};

const SSRC: u32 = 0xfeed_f00d;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// libsrtp opens what we seal, and we open what it seals, whatever the roll-over counter.
pub(crate) fn libsrtp_and_we_open_each_others_packets() {
    let cases: Vec<_> = [Profile::Gcm, Profile::CounterMode]
        .into_iter()
        .flat_map(|profile| [0_u64, 1, 65_536].map(|roc| (profile, roc)))
        .collect();
    let master = MasterKey { key: *b"0123456789abcdef", salt: *b"a salty secret" };
    let header = Header { marker: true, payload_type: 26, sequence: 40_000, timestamp: 9, ssrc: SSRC };
    let mut plain = vec![0; 12];
    header.emit(plain.first_chunk_mut().unwrap());
    plain.extend((0..1200).map(|at| (at * 31) as u8));
    let report = [&[0x80, 200, 0, 6][..], &SSRC.to_be_bytes(), &[7; 20]].concat();

    let lines: String = cases
        .iter()
        .map(|&(profile, roc)| {
            let keys = SessionKeys::new(profile, &master);
            let (mut packet, mut sealed_report) = (plain.clone(), report.clone());
            keys.seal(&mut packet, roc << 16 | 40_000).unwrap();
            keys.seal_rtcp(&mut sealed_report, 5);
            let key = [&master.key[..], &master.salt[..profile.salt_len()]].concat();
            let packets = [&plain[..], &packet, &report, &sealed_report].map(hex).join(" ");
            format!("{} {} {roc} {packets}\n", profile.name(), hex(&key))
        })
        .collect();
    let mut python = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/libsrtp.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let output = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.lines().count(), cases.len(), "{output}");
    for ((profile, roc), line) in cases.into_iter().zip(output.lines()) {
        let (packet, sealed_report) = line.split_once(' ').unwrap();
        let keys = SessionKeys::new(profile, &master);
        let mut packet = bytes(packet);
        let length = keys
            .open(&mut packet, roc << 16 | 40_000)
            .unwrap_or_else(|error| panic!("{profile:?}, {roc}: {error}"));
        assert_eq!(packet[..length], plain, "{profile:?}, {roc}");
        assert_eq!(keys.open_rtcp(&bytes(sealed_report)).unwrap().0, report, "{profile:?}, {roc}");
    }
}
