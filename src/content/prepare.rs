//! Makes the reels of a line-up beforehand, on all cores. Finished reels stay, so that an interrupted preparation
//! continues with the missing ones when it is started again.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::decode::{self, SourceError};
use super::encode::{EncodeError, Encoder, station_size};
use super::lock;
use super::reel::{Encoding, RecordError, ReelKey, Store};
use super::timeline::Timeline;
use crate::clock::wall_clock;
use crate::lineup::{self, Lineup, StationSpec};
use crate::media::Size;
use crate::text_table::three_digits;

/// The result of a preparation.
#[derive(Debug, Default)]
pub struct PrepareSummary {
    /// The number of reels that were made.
    pub made: usize,
    /// The number of reels that existed before.
    pub found: usize,
    /// For each reel that could not be made, a sentence that says why.
    pub failed: Vec<String>,
    /// Whether the preparation was stopped before its end.
    pub stopped: bool,
}

/// Why a reel cannot be made.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("another program is recording it, or its reel alone is larger than [reel] bytes allows")]
    Refused,
}

/// A reel to be made.
struct ReelJob {
    film: PathBuf,
    encoding: Encoding,
    /// How long it is on, if it is a picture.
    slide: Duration,
}

/// Makes the reels of all stations that keep reels, until `stop` is true. Shows its progress on a terminal.
pub fn prepare(lineup: &Lineup, store: &Store, stop: &AtomicBool) -> PrepareSummary {
    let summary = Mutex::new(PrepareSummary::default());
    let jobs = Mutex::new(jobs(lineup, &summary));
    let keys = Mutex::new(HashSet::new());
    let bars = MultiProgress::new();
    let work = || {
        while let Some(job) = { lock(&jobs).pop_front() } {
            if stop.load(Relaxed) {
                lock(&summary).stopped = true;
                return;
            }
            let outcome = make_reel(&job, store, &keys, &bars, stop);
            let mut summary = lock(&summary);
            match outcome {
                Ok(ReelOutcome::Made) => summary.made += 1,
                Ok(ReelOutcome::Found) => summary.found += 1,
                Ok(ReelOutcome::Duplicate) => {}
                Ok(ReelOutcome::Stopped) => summary.stopped = true,
                // It names the film.
                Err(PrepareError::Source(error)) => summary.failed.push(error.to_string()),
                Err(error) => summary.failed.push(format!("{}: {error}", job.film.display())),
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A job for every film of every station, with the size that the station will have.
fn jobs(lineup: &Lineup, summary: &Mutex<PrepareSummary>) -> VecDeque<ReelJob> {
    let mut jobs = VecDeque::new();
    for station in lineup.stations.iter().filter(|station| station.reel && station.media.is_films()) {
        match lineup::films(station.media.films()) {
            Ok(films) => match size_of(station, &films) {
                Ok(size) => jobs.extend(films.into_iter().map(|film| {
                    let encoding = Encoding { size, quality: station.quality };
                    ReelJob { film, encoding, slide: station.slide }
                })),
                Err(error) => lock(summary).failed.push(format!("station {}: {error}", station.id)),
            },
            Err(error) => lock(summary).failed.push(format!("station {}: {error}", station.id)),
        }
    }
    jobs
}

/// The size of a station, by the first film that opens, as on air.
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

/// The result of a [`ReelJob`].
enum ReelOutcome {
    /// The reel was made.
    Made,
    /// The reel existed before.
    Found,
    /// Another job has the same film in the same encoding.
    Duplicate,
    /// The preparation was stopped.
    Stopped,
}

#[expect(clippy::disallowed_methods, reason = "a shell: it notes when reels were used")]
fn make_reel(
    job: &ReelJob,
    store: &Store,
    keys: &Mutex<HashSet<ReelKey>>,
    bars: &MultiProgress,
    stop: &AtomicBool,
) -> Result<ReelOutcome, PrepareError> {
    let key = store.key(&job.film, job.encoding, wall_clock())?;
    let key = if decode::is_slide(&job.film) { key.of_slide(job.slide) } else { key };
    if !lock(keys).insert(key) {
        return Ok(ReelOutcome::Duplicate);
    }
    if store.find(&key, wall_clock()).is_some() {
        return Ok(ReelOutcome::Found);
    }
    let mut recorder = store.record(&key, &job.film)?.ok_or(PrepareError::Refused)?;
    let mut source = decode::open(&job.film)?;
    source.show_for(job.slide);
    source.make_for(job.encoding.size);
    recorder.expect(source.announced());
    let mut encoder = Encoder::new(job.encoding.size, job.encoding.quality)?;
    // The time line that a recording on air has, so that the reels are equal.
    let mut timeline = Timeline::new(Default::default(), source.rate());
    timeline.begin_film(source.rate(), Default::default());
    let bar = bars.add(progress_bar(&job.film, source.announced()));
    while let Some(picture) = source.next_picture()? {
        if stop.load(Relaxed) {
            bar.abandon_with_message("stopped");
            return Ok(ReelOutcome::Stopped);
        }
        timeline.next(picture.stamp);
        timeline.lasts(picture.lasts);
        let encoded = encoder.encode(&picture.pixels)?;
        recorder.add(timeline.film_offset(), &encoded.jpeg)?;
        bar.inc(1);
    }
    recorder.finish(timeline.rate(), timeline.film_length(), wall_clock())?;
    bar.finish();
    Ok(ReelOutcome::Made)
}

fn progress_bar(film: &Path, pictures: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:30!} {bar:30} {percent:>3} %  {rate:>10}  {eta:>4} left",
    )
    .map(|style| {
        style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
            // Written to memory.
            let _ = write!(out, "{}/s", three_digits(state.per_sec()));
        })
    });
    let name = film.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bar = ProgressBar::new(pictures).with_prefix(name);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
