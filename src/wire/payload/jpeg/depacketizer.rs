//! Packets back to pictures.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Headers, JpegPayloadError, MAX_RECEIVED_SCAN, parse};
use crate::media::Size;
use crate::media::jpeg::{Chroma, Jpeg, Tables};
use crate::media::scan::{self, Sampling};
use crate::wire::rtp;

/// Reassembles pictures from packets that come in order. The caller reports missing packets
/// ([`gap`](Depacketizer::gap)); an incomplete picture is never returned.
#[derive(Debug, Default)]
pub struct Depacketizer {
    assembling: Option<Assembling>,
    /// The timestamp of a picture that was given up: its remaining packets are ignored.
    abandoned: Option<u32>,
    /// In-band tables by Q. Those of 128..=254 (at most 127) stay valid until others arrive (RFC 2435 section 4.2).
    known_tables: BTreeMap<u8, Tables>,
    /// Pictures that were given up.
    broken: u64,
    /// The headers of the last picture whose scan was compared with them, and its colours. A sender's pictures are all of a
    /// kind, and the comparison costs as much as half a decoding.
    compared: Option<(Said, Chroma)>,
}

/// What the headers say of a scan: type, size, restart interval.
type Said = (u8, Size, Option<u16>);

/// An incomplete picture.
#[derive(Debug)]
struct Assembling {
    timestamp: u32,
    kind: u8,
    q: u8,
    jpeg: Jpeg,
    scan: Vec<u8>,
}

impl Depacketizer {
    /// A depacketizer for another run of packets of the same sender, who may have sent the tables only once.
    pub fn with_tables(&self) -> Depacketizer {
        let (known_tables, compared) = (self.known_tables.clone(), self.compared);
        Depacketizer { known_tables, compared, ..Depacketizer::default() }
    }

    /// Takes the next packet. Returns the picture that it completes.
    ///
    /// # Errors
    /// The payload is not RTP/JPEG, or does not continue the picture. The picture is given up, and counted as broken.
    pub fn push(&mut self, header: &rtp::Header, payload: &[u8]) -> Result<Option<Jpeg>, JpegPayloadError> {
        if self.assembling.as_ref().is_some_and(|a| a.timestamp != header.timestamp) {
            // The picture ended without a marker.
            self.give_up();
        }
        match self.add(header, payload) {
            Ok(jpeg) => Ok(jpeg),
            Err(error) => {
                self.abandon(header.timestamp);
                Err(error)
            }
        }
    }

    /// Reports that packets are missing before the next one: gives up the incomplete picture.
    pub fn gap(&mut self) {
        self.give_up();
    }

    /// The number of pictures that were given up.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    fn give_up(&mut self) {
        if let Some(assembling) = self.assembling.take() {
            self.broken += 1;
            self.abandoned = Some(assembling.timestamp);
        }
    }

    fn abandon(&mut self, timestamp: u32) {
        self.assembling = None;
        if self.abandoned != Some(timestamp) {
            self.abandoned = Some(timestamp);
            self.broken += 1;
        }
    }

    fn add(&mut self, header: &rtp::Header, payload: &[u8]) -> Result<Option<Jpeg>, JpegPayloadError> {
        let (headers, data) = parse(payload)?;
        if headers.offset == 0 {
            // A second first packet with the same timestamp restarts the picture.
            self.give_up();
            self.abandoned = None;
            self.assembling = Some(Assembling {
                timestamp: header.timestamp,
                kind: headers.kind,
                q: headers.q,
                jpeg: Jpeg {
                    size: headers.size,
                    chroma: if headers.kind & 1 == 0 { Chroma::Yuv422 } else { Chroma::Yuv420 },
                    tables: self.tables(&headers)?,
                    restart_interval: headers.restart_interval,
                    scan: Bytes::new(),
                },
                scan: Vec::with_capacity(data.len()),
            });
        }
        let Some(assembling) = &mut self.assembling else {
            // The picture's first packet is lost: the picture counts as broken once.
            self.abandon(header.timestamp);
            return Ok(None);
        };
        let fits = headers.offset == assembling.scan.len()
            && headers.kind == assembling.kind
            && headers.q == assembling.q
            && headers.size == assembling.jpeg.size
            && headers.restart_interval == assembling.jpeg.restart_interval;
        if !fits {
            return Err(JpegPayloadError::Fragment);
        }
        if assembling.scan.len() + data.len() > MAX_RECEIVED_SCAN {
            return Err(JpegPayloadError::TooLong);
        }
        assembling.scan.extend_from_slice(data);
        if !header.marker {
            return Ok(None);
        }
        let Some(done) = self.assembling.take() else { return Ok(None) };
        let jpeg = Jpeg { scan: done.scan.into(), ..done.jpeg };
        let chroma = self.compare(done.kind, &jpeg)?;
        Ok(Some(Jpeg { chroma, ..jpeg }))
    }

    /// The colours of a whole picture. Compares the scan with what its headers say, which RFC 2435 cannot say of every
    /// JPEG: some senders send the others all the same.
    fn compare(&mut self, kind: u8, jpeg: &Jpeg) -> Result<Chroma, JpegPayloadError> {
        let said = (kind, jpeg.size, jpeg.restart_interval);
        if let Some((before, chroma)) = self.compared
            && before == said
        {
            return Ok(chroma);
        }
        let marked = || scan::restart_interval(&jpeg.scan, jpeg.size, Sampling::of(jpeg.chroma)).is_some();
        if jpeg.restart_interval.is_none() && marked() {
            return Err(JpegPayloadError::RestartHeader(kind));
        }
        let fits = |sampling: &Sampling| scan::fits(&jpeg.scan, jpeg.size, jpeg.restart_interval, *sampling);
        let shown = [Sampling::of(jpeg.chroma), Sampling::Yuv420, Sampling::Yuv422, Sampling::Grey];
        let refused = [Sampling::Full, Sampling::FullPairs, Sampling::Yuv440, Sampling::Yuv411];
        let chroma = match shown.into_iter().find(fits) {
            Some(Sampling::Yuv420) => Chroma::Yuv420,
            Some(Sampling::Yuv422) => Chroma::Yuv422,
            Some(Sampling::Grey) => Chroma::Grey,
            _ => match refused.into_iter().find(fits) {
                Some(sampling) => return Err(JpegPayloadError::Sampling(kind, sampling)),
                None => jpeg.chroma, // damaged on the way, say: the decoder does what it can
            },
        };
        self.compared = Some((said, chroma));
        Ok(chroma)
    }

    /// The tables of a picture that begins: standard, in band, or known from an earlier picture of the same Q.
    fn tables(&mut self, headers: &Headers<'_>) -> Result<Tables, JpegPayloadError> {
        if let Some(standard) = Tables::standard(headers.q) {
            return Ok(standard);
        }
        let Some((luma, rest)) = headers.tables.and_then(|bytes| bytes.split_first_chunk::<64>()) else {
            return self.known_tables.get(&headers.q).cloned().ok_or(JpegPayloadError::Tables(0));
        };
        // One table is for all components. A third one would be for the second colour plane, but types 0 and 1 have one
        // table for both (RFC 2435 section 4.1).
        let tables = Tables::in_band(*luma, *rest.first_chunk::<64>().unwrap_or(luma));
        if headers.q != 255 {
            self.known_tables.insert(headers.q, tables.clone());
        }
        Ok(tables)
    }
}
