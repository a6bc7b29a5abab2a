//! The film's coded pictures for the bare sender: encoded once, with the library's encoder, and read into memory before the
//! first is due.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use stationcast::content::decode;
use stationcast::content::encode::{Encoder, station_size};
use stationcast::media::FrameRate;
use stationcast::wire::MAX_DATAGRAM;
use stationcast::wire::rtp;

/// Width of all senders' pictures, in pixels.
pub(crate) const WIDTH: u16 = 640;

/// Height of all senders' pictures, in pixels: 360, rounded to whole blocks.
pub(crate) const HEIGHT: u16 = 368;

pub(crate) const QUALITY: u8 = 80;

pub(crate) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("media/ocean.mp4")
}

/// Writes the film with its pictures at another rate to `file`, by ffmpeg. It is encoded again: if its stamps were only scaled,
/// they would be rounded, and the rate would be off by a ten-thousandth.
pub(crate) fn retime(rate: FrameRate, file: &Path) -> anyhow::Result<()> {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-i"])
        .arg(path())
        .args(["-an", "-vf", &format!("setpts=N/({rate}*TB)"), "-r", &rate.to_string()])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-crf", "14"])
        .arg(file)
        .status()
        .context("cannot start ffmpeg, which changes the film's rate")?;
    anyhow::ensure!(status.success(), "ffmpeg could not change the film's rate");
    let found = decode::open(file)?.rate();
    anyhow::ensure!(found == rate, "the film has {found} pictures a second, not {rate}");
    Ok(())
}

/// The pictures, each as the payload of one RTP packet, and their rate.
pub(crate) struct Pictures {
    pub(crate) rate: FrameRate,
    pub(crate) payloads: Vec<Vec<u8>>,
}

impl Pictures {
    pub(crate) fn encode() -> anyhow::Result<Pictures> {
        let mut film = decode::open(&path())?;
        let size = station_size(film.size(), film.pixel_aspect(), WIDTH);
        anyhow::ensure!(size.height == HEIGHT, "the film is {size}, not {WIDTH}x{HEIGHT}");
        let mut encoder = Encoder::new(size, QUALITY)?;
        let (rate, mut payloads) = (film.rate(), Vec::new());
        while let Some(picture) = film.next_picture()? {
            let jpeg = encoder.encode(&picture.pixels)?.jpeg;
            let fragment = jpeg.fragments(MAX_DATAGRAM).next().context("a picture of no bytes")?;
            let rtp = rtp::Header {
                marker: true,
                payload_type: rtp::PAYLOAD_TYPE_JPEG,
                sequence: 0,
                timestamp: 0,
                ssrc: 0,
            };
            let header = jpeg.packet_header(rtp, fragment);
            payloads.push([&header[rtp::HEADER_LEN..], &jpeg.scan].concat());
        }
        Ok(Pictures { rate, payloads })
    }

    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut bytes = [self.rate.num().to_le_bytes(), self.rate.den().to_le_bytes()].concat();
        for payload in &self.payloads {
            bytes.extend((payload.len() as u32).to_le_bytes());
            bytes.extend(payload);
        }
        fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
    }

    pub(crate) fn read(file: &Path) -> anyhow::Result<Pictures> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut rest = &bytes[..];
        let number = |rest: &mut &[u8]| {
            let (head, tail) = rest.split_first_chunk::<4>().context("the pictures end early")?;
            *rest = tail;
            anyhow::Ok(u32::from_le_bytes(*head))
        };
        let rate = FrameRate::new(number(&mut rest)?, number(&mut rest)?).context("no frame rate")?;
        let mut payloads = Vec::new();
        while !rest.is_empty() {
            let length = number(&mut rest)? as usize;
            let (payload, tail) = rest.split_at_checked(length).context("the pictures end early")?;
            payloads.push(payload.to_vec());
            rest = tail;
        }
        anyhow::ensure!(!payloads.is_empty(), "no pictures");
        Ok(Pictures { rate, payloads })
    }
}
