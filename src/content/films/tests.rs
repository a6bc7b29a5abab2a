//! Playing films from their reels, whatever disks do.

#![expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]

mod joining;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};

use tempfile::TempDir;

use super::*;
use crate::content::LONGEST_PAUSE;
use crate::content::reel::{Encoding, Store};
use crate::media::jpeg::{Chroma, Jpeg, Tables};
use crate::media::{AirTime, FrameRate, Unit};

const PAL: FrameRate = FrameRate::new(25, 1).unwrap();
const SIZE: Size = Size { width: 16, height: 16 };

/// A folder with one film, and the `Films` of a station that plays it.
struct FilmsFixture {
    folder: TempDir,
    clock: AirClock,
    films: Films,
    /// Checks of the film block until this is dropped.
    hang: Option<mpsc::Sender<()>>,
    hangs: Arc<AtomicBool>,
}

impl FilmsFixture {
    fn new() -> FilmsFixture {
        let folder = TempDir::new().unwrap();
        let media = vec![folder.path().join("film.mp4")];
        let spec = StationSpec { media: media.into(), width: 16, ..StationSpec::sample("239.79.4.1:5004") };
        let clock = AirClock::start();
        let (hang, wait) = mpsc::channel();
        let (wait, hangs) = (Mutex::new(wait), Arc::new(AtomicBool::new(false)));
        let checker = {
            let hangs = hangs.clone();
            move |_: &Path| {
                if hangs.load(Relaxed) {
                    let _ = wait.lock().unwrap().recv();
                }
                Ok(())
            }
        };
        let catalogue = Arc::new(Catalogue::new(clock.clone(), None).with_checker(Arc::new(checker)));
        let films = Films::new(Arc::new(spec), clock.clone(), catalogue, Threads::default());
        FilmsFixture { folder, clock, films, hang: Some(hang), hangs }
    }

    fn film(&self) -> PathBuf {
        self.folder.path().join("film.mp4")
    }

    /// Makes the film play next, from a reel of `count` pictures at quality `q`.
    fn play(&mut self, count: u64, q: u8) {
        self.play_at(PAL, None, count, q);
    }

    /// The same, of pictures at this `rate`, where the film began at `begin`.
    fn play_at(&mut self, rate: FrameRate, begin: Option<AirTime>, count: u64, q: u8) {
        fs::remove_dir_all(self.folder.path().join("reels")).ok();
        fs::write(self.film(), "a film").unwrap();
        let now = self.clock.now();
        let store = Store::open(&self.folder.path().join("reels"), u64::MAX, now).unwrap();
        let key = store.key(&self.film(), Encoding { size: SIZE, quality: 80 }, now).unwrap();
        let mut recorder = store.record(&key, &self.film()).unwrap().unwrap();
        let jpeg = Jpeg {
            size: SIZE,
            chroma: Chroma::Yuv420,
            tables: Tables::Standard(q),
            restart_interval: None,
            scan: vec![1, 2, 3].into(),
        };
        (0..count).for_each(|n| recorder.add(rate.nth(n), &jpeg).unwrap());
        let reel = recorder.finish(rate, rate.nth(count), now).unwrap();
        let item =
            PlaylistItem { path: self.film(), key: Some(key), file_key: None, reel: Some(reel), begin };
        self.films.playlist.push_back(item);
    }

    /// Asks for events and waits for due times as a station does, until the film ends or fails.
    #[expect(clippy::disallowed_methods, reason = "it waits as a station does")]
    async fn air(&mut self) -> (Vec<ContentEvent>, Option<Fault>) {
        let mut output = OutputState { free_at: self.clock.now() + START_LEAD, on_air: true };
        let mut events = Vec::new();
        loop {
            match self.films.next(output).await {
                Ok(Some(event @ ContentEvent::HoldUntil(_))) => {
                    events.push(event);
                    return (events, None);
                }
                Ok(None) => return (events, None),
                Ok(Some(event)) => {
                    if let ContentEvent::Unit { unit, .. } = &event {
                        output.free_at = unit.due.at + unit.due.interval;
                        let ahead = self.clock.until(unit.due.at).saturating_sub(Duration::from_millis(900));
                        tokio::time::sleep(ahead).await;
                    }
                    events.push(event);
                }
                Err(fault) => return (events, Some(fault)),
            }
        }
    }
}

fn units(events: &[ContentEvent]) -> Vec<(&Unit, bool)> {
    let unit = |event| match event {
        &ContentEvent::Unit { ref unit, squeezed } => Some((unit, squeezed)),
        _ => None,
    };
    events.iter().filter_map(unit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_films_folder_does_not_answer_its_reel_is_on_air() {
    let mut fixture = FilmsFixture::new();
    fixture.play(1000, 80);
    fixture.hangs.store(true, Relaxed);
    let began = fixture.clock.now();
    let (events, fault) = fixture.air().await;
    let units = units(&events);
    // Releases the thread that checks the film.
    drop(fixture.hang.take());
    assert!(matches!(fault, Some(Fault::Stuck)), "{fault:?}");
    let on_air = units.last().unwrap().0.due.at.since(began);
    assert!(on_air > STUCK_AFTER - LONGEST_PAUSE, "only {on_air:?}");
    assert!(!events.iter().any(|event| matches!(event, ContentEvent::Skipped(_))));
}

#[tokio::test]
async fn squeezed_pictures_are_counted_when_they_come_from_a_reel_too() {
    for (q, squeezed) in [(80, 0), (35, 10)] {
        let mut fixture = FilmsFixture::new();
        fixture.play(10, q);
        let (events, fault) = fixture.air().await;
        assert!(fault.is_none(), "{fault:?}");
        let units = units(&events);
        assert_eq!((units.len(), units.iter().filter(|(_, squeezed)| *squeezed).count()), (10, squeezed));
    }
}

#[tokio::test]
async fn a_slide_is_joined_in_its_middle() {
    let mut test = FilmsFixture::new();
    let slides = FrameRate::new(1, 40).unwrap();
    let begin = test.clock.now() - Duration::from_secs(50);
    test.play_at(slides, Some(begin), 3, 80);
    let joined = test.clock.now() + START_LEAD;
    let output = OutputState { free_at: joined, on_air: true };
    let unit = loop {
        match test.films.next(output).await.unwrap().unwrap() {
            ContentEvent::Unit { unit, .. } => break unit,
            ContentEvent::Skipped(pictures) => panic!("{pictures} skipped"),
            _ => {}
        }
    };
    assert_eq!(unit.due.at, joined, "the second slide is on until 80 s");
    assert_eq!(unit.due.at + unit.due.interval, begin + slides.nth(2));
}
