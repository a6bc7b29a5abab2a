//! Recordings that several stations play, and those that none plays yet.

#![expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;

use opencv::core::{Mat, Scalar};
use tempfile::TempDir;

use super::*;
use crate::content::decode::{PictureSource, SourceError, SourcePicture};
use crate::content::recording::RecordingEnd;
use crate::content::reel::{Encoding, Store};
use crate::media::{FrameRate, Size};

const PAL: FrameRate = FrameRate::new(25, 1).unwrap();
const ENCODING: Encoding = Encoding { size: Size { width: 32, height: 16 }, quality: 80 };

/// Pictures of each film.
const PICTURES: u64 = 100;

/// A film of grey pictures. It breaks off after `good` of them, and waits for a word before each if there is a `gate`.
struct GreyFilm {
    path: PathBuf,
    next: u64,
    good: u64,
    gate: Option<Arc<Mutex<mpsc::Receiver<()>>>>,
}

impl PictureSource for GreyFilm {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> (u32, u32) {
        (32, 16)
    }

    fn pixel_aspect(&self) -> f64 {
        1.0
    }

    fn rate(&self) -> FrameRate {
        PAL
    }

    fn announced(&self) -> u64 {
        PICTURES
    }

    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError> {
        if let Some(gate) = &self.gate {
            let _ = lock(gate).recv();
        }
        if self.next == self.good && self.good < PICTURES {
            return Err(SourceError::Decoder { path: "film".into(), reason: "as the test wants".into() });
        }
        if self.next == PICTURES {
            return Ok(None);
        }
        let grey = Scalar::all(self.next as f64 * 2.0);
        let pixels = Mat::new_rows_cols_with_default(16, 32, opencv::core::CV_8UC3, grey).unwrap();
        self.next += 1;
        Ok(Some(SourcePicture { pixels: pixels.into(), stamp: PAL.nth(self.next - 1), lasts: None }))
    }

    fn seek(&mut self, position: Duration) -> Result<(), SourceError> {
        self.next = PAL.nearest(position).min(PICTURES);
        Ok(())
    }
}

/// A catalogue of films in a folder.
struct Scene {
    folder: TempDir,
    catalogue: Arc<Catalogue>,
    /// How often a film was opened.
    opened: Arc<AtomicUsize>,
}

impl Scene {
    fn new(good: u64, gate: Option<mpsc::Receiver<()>>) -> Scene {
        let folder = TempDir::new().unwrap();
        let clock = AirClock::start();
        let reels = folder.path().join("reels");
        let store = Store::open(&reels, u64::MAX, clock.now()).unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let (count, gate) = (opened.clone(), gate.map(|gate| Arc::new(Mutex::new(gate))));
        let opener = move |path: &Path| -> Result<Box<dyn PictureSource>, SourceError> {
            count.fetch_add(1, Relaxed);
            Ok(Box::new(GreyFilm { path: path.to_owned(), next: 0, good, gate: gate.clone() }))
        };
        let catalogue = Catalogue::new(clock, Some((store, &reels))).with_opener(Arc::new(opener));
        Scene { folder, catalogue: Arc::new(catalogue), opened }
    }

    fn film(&self, name: &str) -> (PathBuf, ReelKey) {
        let path = self.folder.path().join(name);
        fs::write(&path, name).unwrap();
        let key = self.catalogue.key(&path, ENCODING, Duration::ZERO).unwrap();
        (path, key)
    }

    fn join(&self, (path, key): &(PathBuf, ReelKey)) -> RecordingReader {
        let key = (RecordingKey::Film(*key), None);
        let queue = self.catalogue.recordings();
        let joined =
            queue.join(&self.catalogue, &Threads::default(), key, (path, Duration::ZERO), None).unwrap();
        assert!(!joined.1, "no place was asked for");
        joined.0
    }

    fn wish(&self, station: u16, films: &[&(PathBuf, ReelKey)]) {
        let wish = |(films_before, (path, key)): (usize, &&(PathBuf, ReelKey))| Wish {
            key: RecordingKey::Film(*key),
            file_key: None,
            path: path.clone(),
            slide: Duration::ZERO,
            films_before,
        };
        let wishes = films.iter().enumerate().map(wish).collect();
        self.catalogue.recordings().wish(&self.catalogue, &Threads::default(), StationId(station), wishes);
    }

    /// Waits until there is a reel.
    async fn await_reel(&self, key: &ReelKey) {
        while self.catalogue.reel(key).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits for the end of a recording. Returns it, and the number of pictures.
async fn end_of(reader: &mut RecordingReader) -> (RecordingEnd, usize) {
    loop {
        let progress = reader.progress();
        if let Some(end) = progress.end {
            return (end, progress.len);
        }
        reader.changed().await;
    }
}

#[tokio::test]
async fn twenty_stations_play_one_decoding_of_a_film() {
    let (go_on, gate) = mpsc::channel();
    let scene = Scene::new(PICTURES, Some(gate));
    let film = scene.film("a");
    let mut readers: Vec<_> = (0..10).map(|_| scene.join(&film)).collect();
    (0..PICTURES / 2).for_each(|_| go_on.send(()).unwrap());
    while readers[0].progress().len < 40 {
        readers[0].changed().await;
    }
    // Stations that begin the film later have it from its beginning too.
    readers.extend((0..10).map(|_| scene.join(&film)));
    assert!(scene.catalogue.reel(&film.1).is_none());
    let reel = readers[19].progress().reel.unwrap().0;
    let early = reel.picture(0).unwrap();
    drop(go_on);
    for reader in &mut readers {
        let (end, pictures) = end_of(reader).await;
        assert!(matches!(end, RecordingEnd::Complete(length) if length == PAL.nth(PICTURES)), "{end:?}");
        assert_eq!(pictures as u64, PICTURES);
    }
    scene.await_reel(&film.1).await;
    let finished = scene.catalogue.reel(&film.1).unwrap();
    assert_eq!(finished.picture(0).unwrap(), early);
    for n in 0..PICTURES as usize {
        assert_eq!(reel.picture(n).unwrap(), finished.picture(n).unwrap(), "picture {n}");
        assert_eq!((reel.stamp(n), finished.stamp(n)), (PAL.nth(n as u64), PAL.nth(n as u64)));
    }
    assert_eq!(scene.opened.load(Relaxed), 1);
}

/// All pictures of a place and of the sections behind it.
async fn pictures_from(reader: &mut RecordingReader) -> Vec<(Duration, crate::media::jpeg::Jpeg)> {
    let mut pictures = Vec::new();
    loop {
        let (end, count) = end_of(reader).await;
        let (reel, _) = reader.progress().reel.unwrap();
        pictures.extend((0..count).map(|n| (reel.stamp(n), reel.picture(n).unwrap())));
        match end {
            RecordingEnd::Continued(_) => assert!(reader.go_on()),
            RecordingEnd::Complete(length) => {
                assert_eq!(length, PAL.nth(PICTURES));
                return pictures;
            }
            RecordingEnd::NoReel | RecordingEnd::Failed(_) => panic!("{end:?}"),
        }
    }
}

#[tokio::test]
async fn a_film_is_recorded_from_the_places_where_stations_join_it_and_once() {
    // The places in seconds, and where their sections begin.
    for places in [vec![3.0], vec![3.0, 0.0], vec![3.7, 1.0, 2.2, 2.25], vec![0.0, 3.7], vec![9.0, 3.0]] {
        let (go_on, gate) = mpsc::channel();
        let scene = Scene::new(PICTURES, Some(gate));
        let film = scene.film("a");
        let queue = scene.catalogue.recordings();
        let mut readers = Vec::new();
        for &place in &places {
            let place = Duration::from_secs_f64(place);
            let at = Some((place, scene.catalogue.recordings().clock.now() - place));
            let key = (RecordingKey::Film(film.1), None);
            let joined =
                queue.join(&scene.catalogue, &Threads::default(), key, (&film.0, Duration::ZERO), at);
            let (reader, is_there) = joined.unwrap();
            assert!(is_there);
            readers.push(reader);
        }
        drop(go_on);
        let mut of_place = Vec::new();
        for (reader, place) in readers.iter_mut().zip(&places) {
            if *place < 4.0 {
                let pictures = pictures_from(reader).await;
                let first = pictures[0].0.as_secs_f64();
                assert!((place - 2.1..=*place).contains(&first), "{first} s for {place} s of {places:?}");
                of_place.push(pictures);
            }
        }
        scene.await_reel(&film.1).await;
        let reel = scene.catalogue.reel(&film.1).unwrap();
        assert_eq!(reel.len() as u64, PICTURES, "{places:?}");
        let whole: Vec<_> = (0..reel.len()).map(|n| (reel.stamp(n), reel.picture(n).unwrap())).collect();
        assert!((0..reel.len()).all(|n| whole[n].0 == PAL.nth(n as u64)));
        assert!(of_place.iter().all(|pictures| whole.ends_with(pictures)), "{places:?}");
        // A reel that is opened anew is checked.
        let now = AirTime::default();
        let again = Store::open(&scene.folder.path().join("reels"), u64::MAX, now).unwrap();
        assert_eq!(again.find(&film.1, now).unwrap().len(), reel.len());
        // One decoder for each section, and none for stations at the same place.
        let sections = scene.opened.load(Relaxed);
        assert!(sections <= places.len() + 1, "{sections} for {places:?}");
    }
}

#[tokio::test]
async fn places_beyond_the_bound_are_at_the_beginning_of_the_film() {
    let (_go_on, gate) = mpsc::channel();
    let scene = Scene::new(PICTURES, Some(gate));
    let queue = scene.catalogue.recordings();
    let mut readers = Vec::new();
    let most = SECTIONS_A_CORE * queue.cores;
    for n in 0..most + 3 {
        let film = scene.film(&format!("{n}"));
        let at = Some((Duration::from_secs(3), queue.clock.now() - Duration::from_secs(3)));
        let key = (RecordingKey::Film(film.1), None);
        let joined = queue.join(&scene.catalogue, &Threads::default(), key, (&film.0, Duration::ZERO), at);
        let (reader, is_there) = joined.unwrap();
        assert_eq!(is_there, n < most);
        readers.push(reader);
    }
}

#[tokio::test]
async fn a_recording_goes_on_to_its_end_without_its_stations() {
    let (go_on, gate) = mpsc::channel();
    let scene = Scene::new(PICTURES, Some(gate));
    let film = scene.film("a");
    let mut reader = scene.join(&film);
    (0..20).for_each(|_| go_on.send(()).unwrap());
    while reader.progress().len < 10 {
        reader.changed().await;
    }
    drop((reader, go_on));
    scene.await_reel(&film.1).await;
    assert_eq!(scene.opened.load(Relaxed), 1);
}

#[tokio::test]
async fn a_film_that_breaks_off_gives_its_pictures_and_then_its_fault() {
    let scene = Scene::new(37, None);
    let film = scene.film("a");
    for pass in 1..=2 {
        let mut readers = [scene.join(&film), scene.join(&film)];
        for reader in &mut readers {
            let (end, pictures) = end_of(reader).await;
            let RecordingEnd::Failed(fault) = end else { panic!("{end:?}") };
            assert_eq!((fault.to_string().as_str(), pictures), ("cannot decode film: as the test wants", 37));
            assert!(reader.progress().reel.unwrap().0.picture(36).is_ok());
        }
        // The next pass tries the film again.
        assert!(scene.opened.load(Relaxed) >= pass);
        while !lock(&scene.catalogue.recordings().state).recordings.iter().all(|one| one.has_ended()) {
            tokio::task::yield_now().await;
        }
    }
    assert!(scene.catalogue.reel(&film.1).is_none());
    assert!(
        fs::read_dir(scene.folder.path().join("reels"))
            .unwrap()
            .all(|file| { !file.unwrap().file_name().to_string_lossy().ends_with(".part") })
    );
}

#[tokio::test]
async fn a_film_without_a_place_for_its_reel_is_left_to_each_station() {
    let scene = Scene::new(PICTURES, None);
    let film = scene.film("a");
    let reels = scene.folder.path().join("reels");
    fs::remove_dir_all(&reels).unwrap();
    fs::write(&reels, "in the way").unwrap();
    let (end, pictures) = end_of(&mut scene.join(&film)).await;
    assert!(matches!(end, RecordingEnd::NoReel), "{end:?}");
    assert_eq!((pictures, scene.opened.load(Relaxed)), (0, 0));
}

#[tokio::test]
async fn a_film_that_was_not_hashed_yet_gets_the_reel_of_its_hash() {
    let scene = Scene::new(PICTURES, None);
    let (path, key) = scene.film("a");
    let day = Duration::from_secs(86_400);
    let settled = std::time::SystemTime::now() + day;
    let store_time = AirTime(settled.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64);
    let store = Store::open(&scene.folder.path().join("reels"), u64::MAX, store_time).unwrap();
    let (file_key, _) = store.glance(&path, ENCODING, store_time).unwrap();
    let file_key = file_key.expect("the film was not changed just now");
    assert_ne!(file_key, key);
    let mut recorder = store.record_file(&file_key, &path, None).unwrap().unwrap();
    assert!(store.record_file(&file_key, &path, None).unwrap().is_none(), "one recorder at a time");
    let jpeg = crate::media::jpeg::Jpeg {
        size: ENCODING.size,
        chroma: crate::media::jpeg::Chroma::Yuv420,
        tables: crate::media::jpeg::Tables::Standard(80),
        restart_interval: None,
        scan: vec![1, 2, 3].into(),
    };
    recorder.add(Duration::ZERO, &jpeg).unwrap();
    let reel = recorder.finish(PAL, PAL.interval(), store_time).unwrap();
    assert_eq!(*reel.key(), key);

    // A film that changes meanwhile is noticed without a hash of what it was.
    let mut recorder = store.record_file(&file_key, &path, None).unwrap().unwrap();
    recorder.add(Duration::ZERO, &jpeg).unwrap();
    fs::write(&path, "another film").unwrap();
    assert!(recorder.finish(PAL, PAL.interval(), store_time).is_err());
}

#[tokio::test]
async fn reels_are_made_beforehand_without_a_station_that_plays_them() {
    let scene = Scene::new(PICTURES, None);
    let films = ["a", "b", "c", "d", "e"].map(|name| scene.film(name));
    scene.wish(1, &films.each_ref());
    for (_, key) in &films {
        scene.await_reel(key).await;
    }
    assert_eq!(scene.opened.load(Relaxed), films.len());
    // A film that was recorded, or failed, is not tried again and again.
    scene.wish(1, &films.each_ref());
    assert!(lock(&scene.catalogue.recordings().state).most_wanted(9).is_none());
}

#[test]
fn the_film_that_most_stations_wish_for_comes_first_and_then_the_one_that_is_on_air_soonest() {
    let scene = Scene::new(PICTURES, None);
    let [a, b, c] = ["a", "b", "c"].map(|name| scene.film(name));
    let wish = |(path, key): &(PathBuf, ReelKey), films_before| Wish {
        key: RecordingKey::Film(*key),
        file_key: None,
        path: path.clone(),
        slide: Duration::ZERO,
        films_before,
    };
    let mut state = QueueState::default();
    state.wishes.insert(StationId(1), vec![wish(&a, 1), wish(&b, 2)]);
    state.wishes.insert(StationId(2), vec![wish(&c, 1), wish(&b, 5)]);
    state.wishes.insert(StationId(3), vec![wish(&a, 3)]);
    let mut order = Vec::new();
    while let Some(wish) = state.most_wanted(1) {
        state.ended.insert(wish.key);
        order.push(wish.path);
    }
    assert_eq!(order, [a.0, b.0, c.0]);
    assert!(state.most_wanted(0).is_none(), "a core's films are recorded beforehand already");
}
