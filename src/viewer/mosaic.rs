//! The mosaic: all stations in one window, the newest picture of each. The chosen one is the zapper's, which plays its sound.

#![expect(clippy::disallowed_methods, reason = "a shell: it paces what is decoded")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::signal_log::LOST_AFTER;
use super::zapper::Zapper;
use crate::clock::wall_clock;
use crate::log::RateLimit;
use crate::media::{AirTime, StationId};
use crate::paint::decode::{DecodeError, DecodedPicture, Decoder, Shrink};
use crate::paint::tiles::{MOST_TILES, Tile, TileLayout};
use crate::speaker::LevelMeter;
use crate::tuner::ReceivedPicture;
use crate::tuner::many::{Arrival, ManyReceiver, OneOfMany};
use crate::tuner::receiver::{ReceiveFrom, Receiver};

/// Least time between two looks at what has come: 30 a second, so that a picture of a film is seldom left out. A machine that takes
/// longer than half of that looks less often, so that half of a core is left for keys and sound.
const REFRESH: Duration = Duration::from_millis(33);

/// Pictures that are not decoded in so long wait for the next look, so that keys are obeyed on a busy machine too.
const DECODING: Duration = Duration::from_millis(50);

/// A level without a packet for so long is none.
const SILENT: Duration = Duration::from_millis(300);

/// The pictures that the receiving threads have for the decoding thread: of each station the newest.
type Inbox = Arc<Mutex<BTreeMap<StationId, Newest>>>;

#[derive(Default)]
struct Newest {
    picture: Option<ReceivedPicture>,
    /// Made with the first packet of sound.
    meter: Option<LevelMeter>,
    /// The level, and when the last packet came.
    level: Option<(f32, AirTime)>,
}

/// A station of the mosaic.
struct MosaicTile {
    id: StationId,
    name: String,
    picture: DecodedPicture,
    /// Changes with the picture; 0 before the first.
    number: u64,
    /// The coded picture.
    coded: Option<ReceivedPicture>,
    /// Since when it is received.
    since: Instant,
    /// The losses, in words.
    loss: String,
    level: Option<f32>,
    has_signal: bool,
}

/// All stations, or those that the user has named. Of more than [`MOST_TILES`], those around the chosen one are seen.
pub(super) struct Mosaic {
    /// The named ones, in their order; empty: all.
    named: Vec<StationId>,
    /// The numbers of all of its stations, those without a tile included.
    ids: Vec<StationId>,
    receiver: ManyReceiver,
    /// Those that are received by TCP, each in its connection.
    connections: BTreeMap<StationId, Receiver>,
    inbox: Inbox,
    tiles: Vec<MosaicTile>,
    decoder: Decoder,
    spare: DecodedPicture,
    /// Limits the log lines about damaged pictures.
    damaged: RateLimit,
    next_at: Instant,
    /// The tile that is looked at first.
    first: usize,
}

// A poisoned lock is usable: its holders only assign fields.
fn lock(inbox: &Inbox) -> MutexGuard<'_, BTreeMap<StationId, Newest>> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mosaic {
    /// A mosaic of the stations `named`, or of all if none is named.
    ///
    /// # Errors
    /// The system refuses a thread, or memory.
    pub(super) fn open(zapper: &Zapper, mut named: Vec<StationId>) -> anyhow::Result<Mosaic> {
        let mut seen = BTreeSet::new();
        named.retain(|id| seen.insert(*id));
        let inbox = Inbox::default();
        let newest = inbox.clone();
        // What arrives for a station that has just left the mosaic is ignored.
        let sink = move |id, arrival: Arrival<'_>| {
            if let Some(newest) = lock(&newest).get_mut(&id) {
                newest.take(arrival);
            }
        };
        let mut mosaic = Mosaic {
            named,
            ids: Vec::new(),
            receiver: ManyReceiver::start(zapper.keyring().clone(), sink)?,
            connections: BTreeMap::new(),
            inbox,
            tiles: Vec::new(),
            decoder: Decoder::new()?,
            spare: DecodedPicture::empty(),
            damaged: RateLimit::default(),
            next_at: Instant::now(),
            first: 0,
        };
        mosaic.follow(zapper)?;
        Ok(mosaic)
    }

    /// Whether it shows this station of the line-up as it is now.
    pub(super) fn would_show(&self, id: StationId, zapper: &Zapper) -> bool {
        self.shown(zapper).contains(&id)
    }

    /// The stations that it shows of the line-up.
    fn shown(&self, zapper: &Zapper) -> Vec<StationId> {
        let all: Vec<StationId> = zapper.line_up().iter().map(|station| station.id).collect();
        if self.named.is_empty() {
            return all;
        }
        self.named.iter().copied().filter(|id| all.contains(id)).collect()
    }

    /// Shows the line-up as it is now, around the station that is chosen now.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn follow(&mut self, zapper: &Zapper) -> io::Result<()> {
        self.ids = self.shown(zapper);
        let page = self.place(zapper.wanted()).unwrap_or(0) / MOST_TILES;
        let ids = self.ids.iter().skip(page * MOST_TILES).take(MOST_TILES);
        let stations: Vec<_> =
            ids.filter_map(|id| zapper.line_up().iter().find(|station| station.id == *id)).collect();
        let mut before: BTreeMap<StationId, MosaicTile> =
            std::mem::take(&mut self.tiles).into_iter().map(|tile| (tile.id, tile)).collect();
        let (mut many, mut connections) = (Vec::new(), BTreeMap::new());
        {
            let mut inbox = lock(&self.inbox);
            inbox.retain(|id, _| stations.iter().any(|station| station.id == *id));
            for station in &stations {
                inbox.entry(station.id).or_default();
            }
        }
        for station in stations {
            let id = station.id;
            let mut tile = before.remove(&id).unwrap_or_else(|| MosaicTile::new(id));
            tile.name.clone_from(&station.name);
            self.tiles.push(tile);
            let reception = zapper.reception_of(station);
            match reception.from {
                ReceiveFrom::Group(group, interface, source) => many.push(OneOfMany {
                    id,
                    group,
                    interface,
                    source,
                    sound: reception.sound,
                    expected: reception.expected,
                }),
                from @ ReceiveFrom::Rtsp(..) => {
                    let receiver = match self.connections.remove(&id) {
                        Some(receiver) => receiver,
                        None => {
                            let inbox = self.inbox.clone();
                            Receiver::start(from, 2, move |picture| {
                                if let Some(newest) = lock(&inbox).get_mut(&id) {
                                    newest.take(Arrival::Picture(picture));
                                }
                            })?
                        }
                    };
                    connections.insert(id, receiver);
                }
            }
        }
        self.receiver.receive(many);
        self.connections = connections;
        Ok(())
    }

    /// Decodes what has come for a window of this size, if it is time. Returns whether there may be something new to see.
    pub(super) fn refresh(&mut self, (width, height): (usize, usize)) -> bool {
        let began = Instant::now();
        if began < self.next_at {
            return false;
        }
        let now = wall_clock();
        let layout = TileLayout::new(self.tiles.len(), width, height);
        for _ in 0..self.tiles.len() {
            if began.elapsed() > DECODING {
                break;
            }
            let n = self.first % self.tiles.len();
            self.first = n + 1;
            let picture =
                lock(&self.inbox).get_mut(&self.tiles[n].id).and_then(|newest| newest.picture.take());
            if let Some(picture) = picture {
                let seen = layout.seen(picture.jpeg.size);
                self.decode(n, picture, seen);
            }
        }
        for tile in &mut self.tiles {
            let id = tile.id;
            let level = lock(&self.inbox).get(&id).and_then(|newest| newest.level);
            let (counters, last_picture) = match self.connections.get(&id) {
                Some(receiver) => (receiver.status().counters, None),
                None => {
                    let status = self.receiver.status(id);
                    (status.counters, status.last_picture)
                }
            };
            let arrived = last_picture.or(tile.coded.as_ref().map(|picture| picture.first_arrival));
            tile.has_signal = match arrived {
                Some(arrived) => now.since(arrived) <= LOST_AFTER,
                None => tile.since.elapsed() <= LOST_AFTER,
            };
            tile.level = level.map(|(level, at)| if now.since(at) <= SILENT { level } else { 0.0 });
            tile.loss = match counters.pictures_lost {
                0 => String::new(),
                lost => format!("{lost} lost"),
            };
        }
        self.next_at = began + REFRESH.max(2 * began.elapsed());
        true
    }

    fn decode(&mut self, n: usize, picture: ReceivedPicture, seen: (u32, u32)) {
        let shrink = Shrink::for_place(picture.jpeg.size, seen);
        match self.decoder.decode_smaller_into(&picture.jpeg.to_jfif(), shrink, &mut self.spare) {
            Ok(()) => {
                let tile = &mut self.tiles[n];
                std::mem::swap(&mut tile.picture, &mut self.spare);
                tile.number += 1;
                tile.coded = Some(picture);
            }
            Err(error) => {
                if let Some(count) = self.damaged.note(Instant::now().into()) {
                    let id = self.tiles[n].id;
                    warn!("station {id}: {count} damaged pictures not shown, the last one: {error}");
                }
            }
        }
    }

    /// The tiles as they are seen.
    pub(super) fn view(&self, selected: Option<StationId>) -> Vec<Tile<'_>> {
        let tiles = self.tiles.iter();
        let tiles = tiles.map(|tile| Tile {
            id: tile.id,
            name: &tile.name,
            picture: (tile.number > 0).then_some((&tile.picture, tile.number)),
            loss: &tile.loss,
            level: tile.level,
            alarm: (!tile.has_signal).then_some("No signal"),
            selected: selected == Some(tile.id),
        });
        tiles.collect()
    }

    /// Whether a station is one of its own.
    pub(super) fn has(&self, id: StationId) -> bool {
        self.ids.contains(&id)
    }

    /// The numbers of its stations, in their order.
    pub(super) fn ids(&self) -> &[StationId] {
        &self.ids
    }

    fn place(&self, id: Option<StationId>) -> Option<usize> {
        self.ids.iter().position(|other| Some(*other) == id)
    }

    /// The station at a place of a window of this size.
    pub(super) fn at(&self, at: (i32, i32), (width, height): (usize, usize)) -> Option<StationId> {
        let index = TileLayout::new(self.tiles.len(), width, height).at(at)?;
        Some(self.tiles.get(index)?.id)
    }

    /// The station that lies so many tiles to the right and so many further down than `id`; that at the edge, if there is none.
    pub(super) fn beside(&self, id: Option<StationId>, across: i32, down: i32) -> Option<StationId> {
        let columns = TileLayout::new(self.tiles.len(), 0, 0).columns() as i64;
        let last = self.ids.len().checked_sub(1)? as i64;
        let Some(at) = self.place(id) else { return self.ids.first().copied() };
        let steps = i64::from(across) + i64::from(down) * columns;
        self.ids.get((at as i64).saturating_add(steps).clamp(0, last) as usize).copied()
    }

    /// The last picture of a station, as it came.
    ///
    /// # Errors
    /// It is damaged.
    pub(super) fn whole_picture(&mut self, id: StationId) -> Option<Result<DecodedPicture, DecodeError>> {
        let tile = self.tiles.iter().find(|tile| tile.id == id)?;
        let file = tile.coded.as_ref()?.jpeg.to_jfif();
        Some(self.decoder.decode(&file))
    }
}

impl Newest {
    fn take(&mut self, arrival: Arrival<'_>) {
        match arrival {
            Arrival::Picture(picture) => self.picture = Some(picture),
            Arrival::Sound(codec, packet) => {
                if self.meter.is_none() {
                    self.meter = LevelMeter::new();
                }
                self.level = self.meter.as_mut().map(|meter| (meter.hear(codec, packet), wall_clock()));
            }
        }
    }
}

impl MosaicTile {
    fn new(id: StationId) -> MosaicTile {
        MosaicTile {
            id,
            name: String::new(),
            picture: DecodedPicture::empty(),
            number: 0,
            coded: None,
            since: Instant::now(),
            loss: String::new(),
            level: None,
            has_signal: true,
        }
    }
}
