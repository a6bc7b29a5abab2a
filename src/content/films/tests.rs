//! How films are played from their reels, whatever disks do.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};

use tempfile::TempDir;

use super::*;
use crate::content::reel::{Encoding, Store};
use crate::media::jpeg::Chroma;

const PAL: FrameRate = FrameRate::new(25, 1).unwrap();
const SIZE: Size = Size { width: 16, height: 16 };

/// A folder with one film, and the films of a station that plays it.
struct Bench {
    folder: TempDir,
    clock: AirClock,
    films: Films,
    /// Looking for the film takes until this is dropped.
    hang: Option<mpsc::Sender<()>>,
    hangs: Arc<AtomicBool>,
}

impl Bench {
    fn new() -> Bench {
        let folder = TempDir::new().unwrap();
        let media = vec![folder.path().join("film.mp4")];
        let spec = StationSpec { media, width: 16, ..StationSpec::sample("239.79.4.1:5004") };
        let clock = AirClock::start();
        let (hang, wait) = mpsc::channel();
        let (wait, hangs) = (Mutex::new(wait), Arc::new(AtomicBool::new(false)));
        let looker = {
            let hangs = hangs.clone();
            move |_: &Path| {
                if hangs.load(Relaxed) {
                    let _ = wait.lock().unwrap().recv();
                }
                Ok(())
            }
        };
        let catalogue = Arc::new(Catalogue::new(clock.clone(), None).looked_for_by(Arc::new(looker)));
        let films = Films::new(Arc::new(spec), clock.clone(), catalogue, Threads::default());
        Bench { folder, clock, films, hang: Some(hang), hangs }
    }

    fn film(&self) -> PathBuf {
        self.folder.path().join("film.mp4")
    }

    /// Has the film play next, from a reel of `count` pictures at quality `q`.
    fn play(&mut self, count: u64, q: u8) {
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
        (0..count).for_each(|n| recorder.add(PAL.nth(n), &jpeg).unwrap());
        let reel = recorder.finish(PAL, PAL.nth(count), now).unwrap();
        let item = PlaylistItem { path: self.film(), key: Some(key), reel: Some(reel), begin: None };
        self.films.round.push_back(item);
    }

    /// Takes what comes next, and waits until it is due, as a station does; until the film is over or fails.
    #[expect(clippy::disallowed_methods, reason = "it waits as a station does")]
    async fn air(&mut self) -> (Vec<Event>, Option<Fault>) {
        let mut at = Position { free_at: self.clock.now() + START_LEAD, on_air: true };
        let mut events = Vec::new();
        loop {
            match self.films.next(at).await {
                Ok(event @ Event::Until(_)) => {
                    events.push(event);
                    return (events, None);
                }
                Ok(event) => {
                    if let Event::Unit { unit, .. } = &event {
                        at.free_at = unit.due.at + unit.due.interval;
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

fn units(events: &[Event]) -> Vec<(&Unit, bool)> {
    let unit =
        |event| if let &Event::Unit { ref unit, squeezed } = event { Some((unit, squeezed)) } else { None };
    events.iter().filter_map(unit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_films_folder_does_not_answer_its_reel_is_on_air() {
    let mut bench = Bench::new();
    bench.play(1000, 80);
    bench.hangs.store(true, Relaxed);
    let began = bench.clock.now();
    let (events, fault) = bench.air().await;
    let units = units(&events);
    // Lets the thread go that looks for it.
    drop(bench.hang.take());
    assert!(matches!(fault, Some(Fault::Stuck)), "{fault:?}");
    let on_air = units.last().unwrap().0.due.at.since(began);
    assert!(on_air > STUCK - LONGEST_PAUSE, "only {on_air:?}");
    assert!(!events.iter().any(|event| matches!(event, Event::Skipped(_))));
}

#[tokio::test]
async fn pictures_that_were_squeezed_are_told_of_from_the_reel_too() {
    for (q, squeezed) in [(80, 0), (35, 10)] {
        let mut bench = Bench::new();
        bench.play(10, q);
        let (events, fault) = bench.air().await;
        assert!(fault.is_none(), "{fault:?}");
        let units = units(&events);
        assert_eq!((units.len(), units.iter().filter(|(_, squeezed)| *squeezed).count()), (10, squeezed));
    }
}
