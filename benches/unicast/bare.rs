//! The bare writer, the limit of what is possible: one thread that wakes up for each picture and writes it to one socket
//! after the other, framed as in RTSP. It has no sessions, and no provision for slow readers.

use std::io::{IoSlice, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use stationcast::clock::AirClock;
use stationcast::wire::rtp;

use crate::addresses::RTSP;
use crate::film::Pictures;

/// Serves `viewers` for `seconds`, once all of them have connected.
pub(crate) fn write(film: &str, viewers: &str, seconds: &str) -> anyhow::Result<()> {
    let Pictures { rate, payloads } = Pictures::read(Path::new(film))?;
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let listener = TcpListener::bind(RTSP)?;
    println!("listening");
    let mut sockets = Vec::new();
    for _ in 0..viewers.parse::<usize>()? {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        // SETUP and PLAY. A reader needs no more of the answers.
        for _ in 0..2 {
            let mut request = [0; 1024];
            let read = socket.read(&mut request)?;
            anyhow::ensure!(read > 0, "a reader went away");
            socket.write_all(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nSession: 1\r\n\r\n")?;
        }
        sockets.push(socket);
    }
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let clock = AirClock::start();
    let began = clock.now();
    for n in 0.. {
        let due = began + rate.nth(n);
        if due.since(began) > seconds {
            break;
        }
        while clock.now() < due {
            clock.sleep_until(due);
        }
        let payload = &payloads[n as usize % payloads.len()];
        let header = rtp::Header {
            marker: true,
            payload_type: rtp::PAYLOAD_TYPE_JPEG,
            sequence: n as u16,
            timestamp: due.rtp_timestamp(),
            ssrc: 1,
        };
        let mut head = [0; 4 + rtp::HEADER_LEN];
        head[0] = b'$';
        let length = u16::try_from(rtp::HEADER_LEN + payload.len()).context("a picture fits a packet")?;
        head[2..4].copy_from_slice(&length.to_be_bytes());
        header.emit((&mut head[4..]).try_into().context("as long as a header")?);
        for socket in &mut sockets {
            let whole = head.len() + payload.len();
            let written = socket.write_vectored(&[IoSlice::new(&head), IoSlice::new(payload)])?;
            if written < whole {
                // The socket's buffer is full: this blocks.
                socket.write_all(&[&head[..], payload].concat()[written..])?;
            }
        }
    }
    Ok(())
}
