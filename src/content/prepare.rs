//! Makes the reels of a line-up beforehand, with all the cores there are. What is made stays: interrupted and
//! started again, it goes on with the films that are missing.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::decode::{self, SourceError};
use super::encode::{EncodeError, Encoder, station_size};
use super::reel::{Encoding, RecordError, ReelKey, Store};
use super::timeline::Timeline;
use crate::clock::wall_clock;
use crate::lineup::{self, Lineup, StationSpec};
use crate::media::Size;

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Reels made now.
    pub made: usize,
    /// Reels that were there.
    pub found: usize,
    /// What could not be made, and why: one sentence each.
    pub failed: Vec<String>,
    /// It was told to stop before the end.
    pub stopped: bool,
}

/// Why there is no reel of a film.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it is being recorded, or its reel alone is larger than [reel] bytes allows")]
    Refused,
}

struct Job {
    film: PathBuf,
    encoding: Encoding,
    /// How long it is on, if it is a picture.
    slide: Duration,
}

/// Makes the reels of all stations that keep them, until `stop` is true. Shows its progress on a terminal.
pub fn prepare(lineup: &Lineup, store: &Store, stop: &AtomicBool) -> Outcome {
    let outcome = Mutex::new(Outcome::default());
    let jobs = Mutex::new(jobs(lineup, &outcome));
    let seen = Mutex::new(HashSet::new());
    let bars = MultiProgress::new();
    let work = || {
        while let Some(job) = { lock(&jobs).pop_front() } {
            if stop.load(Relaxed) {
                lock(&outcome).stopped = true;
                return;
            }
            let made = one(&job, store, &seen, &bars, stop);
            let mut outcome = lock(&outcome);
            match made {
                Ok(Made::Now) => outcome.made += 1,
                Ok(Made::Before) => outcome.found += 1,
                Ok(Made::Twice) => {}
                Ok(Made::Stopped) => outcome.stopped = true,
                Err(error) => outcome.failed.push(format!("{}: {error}", job.film.display())),
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every film of every station, in the size that the station will have.
fn jobs(lineup: &Lineup, outcome: &Mutex<Outcome>) -> VecDeque<Job> {
    let mut jobs = VecDeque::new();
    for station in lineup.stations.iter().filter(|station| station.reel) {
        match lineup::films(&station.media) {
            Ok(films) => match size_of(station, &films) {
                Ok(size) => jobs.extend(films.into_iter().map(|film| {
                    let encoding = Encoding { size, quality: station.quality };
                    Job { film, encoding, slide: station.slide }
                })),
                Err(error) => lock(outcome).failed.push(format!("station {}: {error}", station.id)),
            },
            Err(error) => lock(outcome).failed.push(format!("station {}: {error}", station.id)),
        }
    }
    jobs
}

/// As on air: by the first film that opens.
fn size_of(station: &StationSpec, films: &[PathBuf]) -> Result<Size, SourceError> {
    let mut result = Err(SourceError::NotAFilm { path: "its programme".into() });
    for film in films {
        result = decode::open(film).map(|s| station_size(s.size(), s.pixel_aspect(), station.width));
        if result.is_ok() {
            break;
        }
    }
    result
}

enum Made {
    Now,
    Before,
    /// Another station has the same film in the same encoding.
    Twice,
    Stopped,
}

fn one(
    job: &Job,
    store: &Store,
    seen: &Mutex<HashSet<ReelKey>>,
    bars: &MultiProgress,
    stop: &AtomicBool,
) -> Result<Made, Error> {
    let key = store.key(&job.film, job.encoding, wall_clock())?;
    let key = if decode::is_slide(&job.film) { key.of_slide(job.slide) } else { key };
    if !lock(seen).insert(key) {
        return Ok(Made::Twice);
    }
    if store.find(&key, wall_clock()).is_some() {
        return Ok(Made::Before);
    }
    let mut recorder = store.record(&key, &job.film)?.ok_or(Error::Refused)?;
    let mut source = decode::open(&job.film)?;
    source.show_for(job.slide);
    recorder.expect(source.announced());
    let mut encoder = Encoder::new(job.encoding.size, job.encoding.quality)?;
    // The same time line as on air, from the beginning of time.
    let mut timeline = Timeline::new(Default::default(), source.rate());
    timeline.begin_film(source.rate(), Default::default());
    let bar = bars.add(bar(&job.film, source.announced()));
    while let Some(picture) = source.next_picture()? {
        if stop.load(Relaxed) {
            bar.abandon_with_message("stopped");
            return Ok(Made::Stopped);
        }
        timeline.next(picture.stamp);
        timeline.lasts(picture.lasts);
        let encoded = encoder.encode(&picture.pixels, source.pixel_aspect())?;
        recorder.add(timeline.film_offset(), &encoded.jpeg)?;
        bar.inc(1);
    }
    recorder.finish(timeline.rate(), timeline.film_length(), wall_clock())?;
    bar.finish();
    Ok(Made::Now)
}

fn bar(film: &Path, pictures: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{prefix:30!} {bar:30} {percent:>3} %  {per_sec:>14}  {eta:>4} left");
    let name = film.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bar = ProgressBar::new(pictures).with_prefix(name);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
