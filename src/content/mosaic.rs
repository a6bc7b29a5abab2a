//! A mosaic: the pictures of other stations of this broadcaster as one, for a screen with a plain player.
//!
//! The pictures come from the other stations' feeds and not from the network. Each is decoded at the size of its tile, and only if it
//! has changed; then the whole is encoded once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::encode::{Encoded, Encoder, station_size};
use super::timeline::Timeline;
use super::worker::{BlockingWorker, STUCK_AFTER, Threads};
use super::{ContentEvent, ContentKind, Fault, OutputState, earliest_due};
use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, FrameRate, Policy, Size, StationId, Unit};
use crate::paint::Canvas;
use crate::paint::decode::{DecodedPicture, Decoder, Shrink};
use crate::paint::tiles::{Tile, TileLayout, TilePainter};

/// Pictures a second: the rate of most films here.
const RATE: FrameRate = match FrameRate::new(25, 1) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// How long before it is due a picture is composed, of what is on air at that moment: this at least, and twice what the last one took.
/// Sixteen tiles take 15 ms; the rest is for a busy machine.
const AHEAD: Duration = Duration::from_millis(150);

/// That time at most.
const MOST_AHEAD: Duration = Duration::from_secs(1);

/// A mosaic's view of the other stations.
pub(crate) trait OtherStations: Send + Sync {
    /// The name of a station, and the picture that is on air at `at` with its number; `None` if there is no such station.
    fn look(&self, id: StationId, at: AirTime) -> Option<(String, Option<(u64, Jpeg)>)>;
}

/// The content of a station that shows others.
pub(crate) struct Mosaic {
    spec: Arc<StationSpec>,
    ids: Vec<StationId>,
    others: Arc<dyn OtherStations>,
    clock: AirClock,
    worker: BlockingWorker,
    /// `None` before the first picture, while a blocking thread has it, or after it crashed or hung there.
    mixer: Option<Box<Mixer>>,
    timeline: Timeline,
    size: Size,
    /// How long before it is due the next picture is composed.
    ahead: Duration,
    /// The number of the next picture; `None` before [`ContentEvent::Begin`] was given.
    next: Option<u64>,
    played: bool,
}

impl Mosaic {
    /// A mosaic of the stations `ids`.
    pub(crate) fn new(
        spec: Arc<StationSpec>,
        ids: Vec<StationId>,
        others: Arc<dyn OtherStations>,
        clock: AirClock,
        threads: Threads,
    ) -> Mosaic {
        let size = station_size((1920, 1080), 1.0, spec.width);
        let worker = BlockingWorker::new(threads);
        let timeline = Timeline::new(AirTime::default(), RATE);
        let (mixer, ahead, next, played) = (None, AHEAD, None, false);
        Mosaic { spec, ids, others, clock, worker, mixer, timeline, size, ahead, next, played }
    }

    /// From the next picture on, this configuration of the same station holds.
    pub(crate) fn set_spec(&mut self, spec: Arc<StationSpec>) {
        self.spec = spec;
    }

    /// The next event begins anew.
    pub(crate) fn rejoin(&mut self) {
        self.next = None;
    }

    /// The size of all pictures.
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Whether a picture was on air since this was asked last.
    pub(crate) fn take_played(&mut self) -> bool {
        std::mem::take(&mut self.played)
    }

    /// The next event. There always is one, or a fault.
    ///
    /// # Errors
    /// A picture cannot be composed.
    #[expect(clippy::disallowed_methods, reason = "a shell: a picture is composed a little before it is due")]
    pub(crate) async fn next(&mut self, output: OutputState) -> Result<ContentEvent, Fault> {
        let Some(n) = self.next else {
            self.next = Some(0);
            self.timeline.begin_film(RATE, earliest_due(&self.clock, &self.spec, output) + self.ahead);
            return Ok(ContentEvent::Begin { kind: ContentKind::Film, size: self.size, rate: RATE });
        };
        self.next = Some(n + 1);
        let due = self.timeline.next(RATE.nth(n));
        let begin = due.at - self.ahead;
        sleep_until(Instant::now() + self.clock.until(begin)).await;
        let now = self.clock.now();
        if due.policy(now) == Policy::Reanchor {
            self.timeline.reanchor(now + self.ahead);
            return Ok(ContentEvent::Reanchored(now.since(due.at)));
        }
        // A picture that is begun too late would be done too late, and so would all that follow.
        if now.since(begin) > due.interval {
            return Ok(ContentEvent::Skipped(1));
        }
        let composed = self.compose(begin, now).await;
        self.ahead = (self.clock.now().since(now) * 2).clamp(AHEAD, MOST_AHEAD);
        if composed.is_err() {
            self.next = None;
        }
        let Encoded { jpeg, squeezed } = composed?;
        self.played = true;
        Ok(ContentEvent::Unit { unit: Unit::picture(due, jpeg), squeezed })
    }

    /// The picture of what is on air at `at`, or for a station whose feed has forgotten that moment, `now`.
    async fn compose(&mut self, at: AirTime, now: AirTime) -> Result<Encoded, Fault> {
        let seen: Vec<Seen> = self
            .ids
            .iter()
            .map(|&id| {
                let look = |at| self.others.look(id, at).unwrap_or_default();
                let (name, picture) = look(at);
                Seen { id, name, picture: picture.or_else(|| look(now).1) }
            })
            .collect();
        let (mixer, size, quality) = (self.mixer.take(), self.size, self.spec.quality);
        let mix = move || {
            let mut mixer = match mixer {
                Some(mixer) => mixer,
                None => Box::new(Mixer::new(size, quality)?),
            };
            let encoded = mixer.mix(seen)?;
            Ok::<_, Fault>((mixer, encoded))
        };
        let (mixer, encoded) = self.worker.call(STUCK_AFTER, mix).await??;
        self.mixer = Some(mixer);
        Ok(encoded)
    }
}

/// The tile of a station at a moment.
#[derive(Debug, Clone)]
struct Seen {
    id: StationId,
    name: String,
    picture: Option<(u64, Jpeg)>,
}

/// Decodes, paints and encodes. All of it takes a core.
struct Mixer {
    decoder: Decoder,
    pictures: BTreeMap<StationId, (u64, DecodedPicture)>,
    painter: TilePainter,
    canvas: Canvas,
    encoder: Encoder,
    /// The tiles of the last picture: of each station the name, and the number of its picture.
    last: Vec<(String, Option<u64>)>,
    encoded: Option<Encoded>,
}

impl Mixer {
    fn new(size: Size, quality: u8) -> Result<Mixer, Fault> {
        let decoder = Decoder::new().map_err(|error| Fault::Mosaic(error.to_string()))?;
        Ok(Mixer {
            decoder,
            pictures: BTreeMap::new(),
            painter: TilePainter::default(),
            canvas: Canvas::of(size),
            encoder: Encoder::new(size, quality)?,
            last: Vec::new(),
            encoded: None,
        })
    }

    fn mix(&mut self, seen: Vec<Seen>) -> Result<Encoded, Fault> {
        let now: Vec<_> =
            seen.iter().map(|seen| (seen.name.clone(), seen.picture.as_ref().map(|(n, _)| *n))).collect();
        // Slates and still pictures: what is the same need not be encoded again.
        if let Some(encoded) = self.encoded.as_ref().filter(|_| self.last == now) {
            return Ok(encoded.clone());
        }
        let layout = TileLayout::new(seen.len(), self.canvas.width, self.canvas.height);
        for Seen { id, picture, .. } in &seen {
            let Some((number, jpeg)) = picture else {
                self.pictures.remove(id);
                continue;
            };
            let (shown, decoded) = self.pictures.entry(*id).or_insert((u64::MAX, DecodedPicture::empty()));
            if shown == number {
                continue;
            }
            let shrink = Shrink::for_place(jpeg.size, layout.seen(jpeg.size));
            match self.decoder.decode_smaller_into(&jpeg.to_jfif(), shrink, decoded) {
                Ok(()) => *shown = *number,
                // Our own encoder made it, or a camera whose pictures are passed on.
                Err(error) => {
                    debug!("mosaic: a picture of station {id} is not shown: {error}");
                    self.pictures.remove(id);
                }
            }
        }
        let tile = |seen: &'_ Seen| {
            let picture = self.pictures.get(&seen.id).map(|(number, picture)| (picture, *number));
            let alarm = picture.is_none().then_some("No signal");
            (seen.id, picture, alarm)
        };
        let tiles: Vec<Tile<'_>> = seen
            .iter()
            .map(|seen| {
                let (id, picture, alarm) = tile(seen);
                Tile { id, name: &seen.name, picture, loss: "", level: None, alarm, selected: false }
            })
            .collect();
        self.painter.paint(&tiles, &mut self.canvas);
        let encoded = self.encoder.encode_rgb32(&self.canvas.pixels)?;
        (self.last, self.encoded) = (now, Some(encoded.clone()));
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 320, height: 176 };

    /// A picture of one colour.
    fn plain(colour: u32) -> Jpeg {
        let size = Size { width: 160, height: 96 };
        Encoder::new(size, 90).unwrap().encode_rgb32(&[colour; 160 * 96]).unwrap().jpeg
    }

    fn seen(id: u16, picture: Option<(u64, Jpeg)>) -> Seen {
        Seen { id: StationId(id), name: format!("S{id}"), picture }
    }

    /// Whether the middle of the upper part of a tile of four has about this colour.
    fn shows(encoded: &Encoded, tile: usize, colour: u32) -> bool {
        let picture = Decoder::new().unwrap().decode(&encoded.jpeg.to_jfif()).unwrap();
        assert_eq!(picture.size, SIZE);
        let (x, y) = (80 + 160 * (tile % 2), 50 + 88 * (tile / 2));
        let found = picture.pixels[y * 320 + x].to_be_bytes();
        found.iter().zip(colour.to_be_bytes()).all(|(found, wanted)| found.abs_diff(wanted) < 12)
    }

    #[test]
    fn each_station_is_in_its_tile_and_what_changes_is_painted() {
        let mut mixer = Mixer::new(SIZE, 80).unwrap();
        let (red, green) = (plain(0xc0_2020), plain(0x20_c020));
        let all = vec![seen(1, Some((7, red.clone()))), seen(2, Some((9, green.clone()))), seen(3, None)];
        let first = mixer.mix(all.clone()).unwrap();
        assert!(shows(&first, 0, 0xc0_2020) && shows(&first, 1, 0x20_c020) && shows(&first, 2, 0));
        let again = mixer.mix(all).unwrap();
        assert_eq!(again.jpeg.scan.as_ptr(), first.jpeg.scan.as_ptr(), "the same is not encoded again");
        let changed = vec![seen(1, Some((8, green))), seen(2, None), seen(3, Some((1, red)))];
        let second = mixer.mix(changed).unwrap();
        assert!(shows(&second, 0, 0x20_c020) && shows(&second, 1, 0) && shows(&second, 2, 0xc0_2020));
    }

    #[test]
    fn a_damaged_picture_is_no_picture() {
        let mut mixer = Mixer::new(SIZE, 80).unwrap();
        let good = plain(0xc0_2020);
        let bad = Jpeg { scan: good.scan.slice(..good.scan.len() / 2), ..good.clone() };
        for (number, jpeg, colour) in [(1, good.clone(), 0xc0_2020), (2, bad, 0), (3, good, 0xc0_2020)] {
            let encoded = mixer.mix(vec![seen(1, Some((number, jpeg)))]).unwrap();
            let picture = Decoder::new().unwrap().decode(&encoded.jpeg.to_jfif()).unwrap();
            let found = picture.pixels[80 * 320 + 160].to_be_bytes();
            assert!(found[1].abs_diff((colour >> 16) as u8) < 12, "picture {number}");
        }
    }
}
