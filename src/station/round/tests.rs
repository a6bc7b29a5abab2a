//! A station on the bench: how it airs reels, whatever disks do.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::content::reel::Encoding;
use crate::content::reel::Store;
use crate::headend::HeadEnd;
use crate::interface::interfaces;
use crate::lineup::StationSpec;
use crate::lineup::{Datagram, Spread};
use crate::media::Size;
use crate::media::jpeg::Chroma;
use crate::media::{FrameRate, StationId};
use crate::station::runtime::WakeSlots;

const PAL: FrameRate = FrameRate::new(25, 1).unwrap();
const SIZE: Size = Size { width: 16, height: 16 };

struct Bench {
    folder: TempDir,
    head_end: Arc<HeadEnd>,
    _stop: watch::Sender<bool>,
}

impl Bench {
    fn new() -> Bench {
        let folder = TempDir::new().unwrap();
        let spec = StationSpec {
            id: StationId(1),
            name: "Bench".into(),
            media: vec![folder.path().join("film.mp4")],
            group: "239.79.4.1:5004".parse().unwrap(),
            interface: interfaces().unwrap().into_iter().find(|interface| interface.loopback).unwrap(),
            ttl: 0,
            width: 16,
            quality: 80,
            datagram: Datagram::Auto,
            reel: true,
            spread: Spread::NONE,
            line: 1,
        };
        let (head_end, stop) = HeadEnd::on_the_bench(vec![spec], None);
        Bench { folder, head_end, _stop: stop }
    }

    fn station(&self) -> Station {
        let handle = self.head_end.stations().next().unwrap();
        Station::new(handle.clone(), self.head_end.clone(), WakeSlots::from_now()).unwrap()
    }

    fn film(&self) -> PathBuf {
        self.folder.path().join("film.mp4")
    }

    /// A reel of `count` pictures at quality `q`, and their film.
    fn reel(&self, count: u64, q: u8) -> Arc<Reel> {
        fs::write(self.film(), "a film").unwrap();
        let now = self.head_end.clock.now();
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
        recorder.finish(PAL, PAL.nth(count), now).unwrap()
    }
}

/// To open a pipe waits for somebody to write to it.
fn hang(film: &Path) {
    fs::remove_file(film).unwrap();
    mknodat(CWD, film, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_films_folder_does_not_answer_its_reel_is_on_air() {
    let bench = Bench::new();
    let reel = bench.reel(1000, 80);
    hang(&bench.film());
    let mut station = bench.station();
    let began = station.clock.now();
    let ended = station.play_reel(bench.film(), reel, None).await;
    let on_air = station.free_at.since(began);
    // Lets the thread go that looks for it.
    fs::File::options().write(true).open(bench.film()).unwrap();
    assert!(matches!(ended, Err(Fault::Stuck)));
    assert!(on_air > STUCK - LONGEST_PAUSE, "only {on_air:?}");
    assert_eq!(station.handle.task.skipped.load(Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_tried_again_until_the_slates_have_been_on_air() {
    let bench = Bench::new();
    let mut station = bench.station();
    station.slate("a test", RETRY.0).await.unwrap();
    let ahead = station.clock.until(station.free_at);
    assert!(ahead <= LEAST_LEAD, "{ahead:?} of slates are still to come");
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_were_squeezed_are_counted_from_the_reel_too() {
    let bench = Bench::new();
    let mut station = bench.station();
    for (q, squeezed) in [(80, 0), (35, 10)] {
        fs::remove_dir_all(bench.folder.path().join("reels")).ok();
        let reel = bench.reel(10, q);
        station.play_reel(bench.film(), reel, None).await.unwrap();
        assert_eq!(station.handle.task.squeezed.load(Relaxed), squeezed);
    }
}
