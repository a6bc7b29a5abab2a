//! Films without reels on demand: films of grey pictures whose number is in their shade, in virtual time, and a real one.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::mpsc;

use opencv::core::{CV_8UC3, Mat, Scalar};
use tokio::task::yield_now;

use super::*;
use crate::clock::AirClock;
use crate::content::Fault;
use crate::content::catalogue::Catalogue;
use crate::content::decode::{PictureSource, SourceError, SourcePicture};
use crate::content::pass::EncodingPlace;
use crate::lineup::{LiveSource, Media, NetworkSource};
use crate::media::Track;
use crate::rtsp::playback::PlaybackEvent;
use crate::rtsp::vod::{VodError, VodPlayback, VodProgramme};

const NOW: AirTime = AirTime(1_790_000_000_000_000_000);

/// From PLAY to the first picture.
const DELAY: Duration = Duration::from_millis(120);

/// Shades from one picture to the next.
const SHADES: usize = 6;

/// Films by their names, and what they do.
#[derive(Default)]
struct Films {
    /// How many are open.
    open: AtomicI64,
    opened: AtomicUsize,
    decoded: AtomicUsize,
    /// Opening waits for this, once.
    hang: Mutex<Option<mpsc::Receiver<()>>>,
}

/// A film that is named by the number of its first picture, and by how many it has: `20-30`, or `20-30-fails-at-5`.
struct GreyFilm {
    path: PathBuf,
    films: Arc<Films>,
    first: usize,
    count: usize,
    fails_at: usize,
    next: usize,
}

impl GreyFilm {
    fn open(path: &Path, films: &Arc<Films>) -> Result<Box<dyn PictureSource>, SourceError> {
        films.opened.fetch_add(1, Relaxed);
        let hang = films.hang.lock().unwrap().take();
        if let Some(hang) = hang {
            let _ = hang.recv();
        }
        films.open.fetch_add(1, Relaxed);
        let name = path.to_str().unwrap();
        let numbers: Vec<usize> = name.split('-').filter_map(|word| word.parse().ok()).collect();
        Ok(Box::new(GreyFilm {
            path: path.to_owned(),
            films: films.clone(),
            first: numbers[0],
            count: numbers[1],
            fails_at: numbers.get(2).copied().unwrap_or(usize::MAX),
            next: 0,
        }))
    }
}

impl Drop for GreyFilm {
    fn drop(&mut self) {
        self.films.open.fetch_sub(1, Relaxed);
    }
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
        RATE
    }

    fn announced(&self) -> u64 {
        self.count as u64
    }

    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError> {
        if self.next >= self.fails_at {
            return Err(SourceError::NoPictures { path: "it".into() });
        }
        if self.next >= self.count {
            return Ok(None);
        }
        self.films.decoded.fetch_add(1, Relaxed);
        let shade = Scalar::all((SHADES * (self.first + self.next)) as f64);
        let pixels = Mat::new_rows_cols_with_default(16, 32, CV_8UC3, shade).unwrap();
        let stamp = RATE.nth(self.next as u64);
        self.next += 1;
        Ok(Some(SourcePicture { pixels: pixels.into(), stamp, lasts: None }))
    }

    fn seek(&mut self, position: Duration) -> Result<(), SourceError> {
        self.next = (position.as_micros() / 10_000) as usize;
        Ok(())
    }
}

/// The number of a picture, by its shade.
fn number(jpeg: &Jpeg) -> usize {
    let shown: turbojpeg::Image<Vec<u8>> =
        turbojpeg::decompress(&jpeg.to_jfif(), turbojpeg::PixelFormat::GRAY).unwrap();
    (usize::from(shown.pixels[100]) + SHADES / 2) / SHADES
}

/// A programme, and its films.
struct Station {
    films: Arc<Films>,
    places: Arc<Semaphore>,
    vod: Arc<VodProgramme>,
}

impl Station {
    /// A programme of films without reels, each with as many pictures as it claims.
    fn of(names: &[(&str, u64)]) -> Station {
        let films = names.iter().map(|(name, claimed)| (PathBuf::from(name), RATE, RATE.nth(*claimed), None));
        Station::with(films.collect(), None)
    }

    fn with(
        films: Vec<(PathBuf, FrameRate, Duration, Option<Arc<Reel>>)>,
        store: Option<(Store, &Path)>,
    ) -> Station {
        let counted = Arc::new(Films::default());
        let own = counted.clone();
        let catalogue = Catalogue::new(AirClock::start(), store)
            .with_opener(Arc::new(move |path: &Path| GreyFilm::open(path, &own)));
        let places = Arc::new(Semaphore::new(1));
        let vod = VodProgramme {
            programme: Arc::new(Programme::of(films, ENCODING)),
            catalogue: Arc::new(catalogue),
            place: EncodingPlace::take(&places),
            reads: Arc::new(Semaphore::new(1)),
        };
        Station { films: counted, places, vod: Arc::new(vod) }
    }

    fn play(&self, from: u64, to: u64, scale: f64) -> VodPlayback {
        let span = (Duration::from_millis(from), Duration::from_millis(to));
        VodPlayback::new(self.vod.clone(), span, scale, NOW, None)
    }
}

/// When each picture is due, its interval, both in milliseconds, and its number; at last, the end.
async fn pictures(mut vod: VodPlayback) -> Result<Vec<(u64, u64, usize)>, VodError> {
    let mut pictures = Vec::new();
    loop {
        match vod.next().await? {
            PlaybackEvent::Unit(unit) => {
                let at = unit.due.at.since(NOW + DELAY);
                let jpeg = unit.jpeg().expect("a picture");
                pictures.push((at.as_millis() as u64, unit.due.interval.as_millis() as u64, number(jpeg)));
            }
            PlaybackEvent::End(at) => {
                pictures.push((at.since(NOW + DELAY).as_millis() as u64, 0, usize::MAX));
                return Ok(pictures);
            }
            _ => panic!("not on demand"),
        }
        vod.advance(Track::Picture);
    }
}

/// What is due every `step` ms from 0, with the pictures `numbers`, until an end at `end`.
fn due_every(step: u64, numbers: impl IntoIterator<Item = usize>, end: u64) -> Vec<(u64, u64, usize)> {
    let pictures = numbers.into_iter().zip(0..).map(|(number, n)| (step * n, step, number));
    pictures.chain([(end, 0, usize::MAX)]).collect()
}

#[tokio::test(start_paused = true)]
async fn films_without_reels_are_due_as_those_with_reels_are() {
    let station = Station::of(&[("0-20", 20), ("20-20", 20)]);
    let play = |from, to, scale| pictures(station.play(from, to, scale));
    assert_eq!(play(0, 400, 1.0).await.unwrap(), due_every(10, 0..40, 400));
    assert_eq!(play(0, 400, 0.5).await.unwrap(), due_every(20, 0..40, 800));
    assert_eq!(play(0, 400, 2.0).await.unwrap(), due_every(10, (0..40).step_by(2), 200));
    // From the middle of a picture, which is shown for the rest of its interval, to the middle of another, across the end of a film.
    let across = [(0, 5, 19), (5, 10, 20), (15, 5, 21), (20, 0, usize::MAX)];
    assert_eq!(play(195, 215, 1.0).await.unwrap(), across);
    assert_eq!(play(330, 400, 1.0).await.unwrap(), due_every(10, 33..40, 70));
}

#[tokio::test(start_paused = true)]
async fn a_programme_mixes_films_with_reels_and_without() {
    let folder = TempDir::new().unwrap();
    let reel = record(&folder.path().join("reels"), &folder.path().join("a.mp4"), 0, 20);
    let films = vec![
        (PathBuf::from("0-10"), RATE, RATE.nth(10), None),
        (PathBuf::new(), RATE, reel.length(), Some(reel)),
        (PathBuf::from("30-10"), RATE, RATE.nth(10), None),
    ];
    let mut vod = Station::with(films, None).play(0, 400, 1.0);
    for n in 0..40 {
        let Ok(PlaybackEvent::Unit(unit)) = vod.next().await else { panic!("picture {n}") };
        let jpeg = unit.jpeg().expect("a picture");
        let shown = match n {
            10..30 => 10 + jpeg.scan.first_chunk().map_or(99, |bytes| u64::from_le_bytes(*bytes) as usize),
            _ => number(jpeg),
        };
        assert_eq!((shown, unit.due.at), (n, NOW + DELAY + RATE.nth(n as u64)));
        vod.advance(Track::Picture);
    }
}

#[tokio::test(start_paused = true)]
async fn a_film_that_is_shorter_than_it_claims_is_followed_without_a_gap() {
    let station = Station::of(&[("0-10", 25), ("10-30", 20)]);
    let played = pictures(station.play(0, 450, 1.0)).await.unwrap();
    assert_eq!(played, due_every(10, 0..30, 300), "and a longer one ends where it claims to end");
}

#[tokio::test(start_paused = true)]
async fn a_film_that_fails_ends_the_programme_after_its_last_picture() {
    let station = Station::of(&[("0-20-fails-at-7", 20)]);
    let mut vod = station.play(0, 200, 1.0);
    for _ in 0..7 {
        assert!(matches!(vod.next().await, Ok(PlaybackEvent::Unit(_))));
        vod.advance(Track::Picture);
    }
    let error = vod.next().await.err().unwrap();
    assert_eq!(error.to_string(), "it has no pictures");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_two_batches_are_made_ahead() {
    let station = Station::of(&[("0-40", 40)]);
    let mut vod = station.play(0, 400, 1.0);
    for shown in 1..30 {
        assert!(matches!(vod.next().await, Ok(PlaybackEvent::Unit(_))));
        // A paused clock goes on when no thread works any more.
        tokio::time::advance(Duration::from_millis(10)).await;
        tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_err();
        let ahead = station.films.decoded.load(Relaxed) - shown;
        assert!(ahead <= 9, "{ahead} pictures ahead, with the one that tells when the last one ends");
        vod.advance(Track::Picture);
    }
}

#[tokio::test]
async fn the_film_is_closed_and_the_place_free_when_the_client_goes() {
    let station = Station::of(&[("0-40", 40)]);
    let mut vod = station.play(0, 400, 1.0);
    assert!(matches!(vod.next().await, Ok(PlaybackEvent::Unit(_))));
    assert_eq!(station.films.open.load(Relaxed), 1);
    let Station { films, places, vod: programme } = station;
    assert!(EncodingPlace::take(&places).is_none(), "it is taken");
    drop((vod, programme));
    let _place = timeout(PATIENCE, places.acquire()).await.unwrap().unwrap();
    assert_eq!(films.open.load(Relaxed), 0);
}

/// The next event, if it is ready.
async fn poll(vod: &mut VodPlayback) -> Option<Result<PlaybackEvent, VodError>> {
    tokio::select! {
        biased;
        next = vod.next() => Some(next),
        () = yield_now() => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_film_that_hangs_ends_the_programme_and_takes_one_thread_however_often_the_client_plays() {
    let station = Station::of(&[("0-40", 40)]);
    let (release, hang) = mpsc::channel();
    *station.films.hang.lock().unwrap() = Some(hang);
    for _ in 0..3 {
        let mut vod = station.play(0, 400, 1.0);
        assert!(poll(&mut vod).await.is_none());
        tokio::time::advance(Duration::from_millis(14_999)).await;
        assert!(poll(&mut vod).await.is_none());
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(matches!(poll(&mut vod).await, Some(Err(VodError::Film(Fault::Stuck)))));
    }
    drop(release);
    assert!(matches!(station.play(0, 400, 1.0).next().await, Ok(PlaybackEvent::Unit(_))));
    assert_eq!(station.films.opened.load(Relaxed), 2, "one thread has waited, not three");
}

#[tokio::test(start_paused = true)]
async fn a_reel_that_appears_is_played_from_the_next_play_on() {
    let folder = TempDir::new().unwrap();
    let (reels, film) = (folder.path().join("reels"), folder.path().join("0-20"));
    std::fs::write(&film, film.as_os_str().as_encoded_bytes()).unwrap();
    let store = Store::open(&reels, u64::MAX, crate::clock::wall_clock()).unwrap();
    // The folder's name may have a number.
    let station = Station::with(vec![(film.clone(), RATE, RATE.nth(20), None)], Some((store, &reels)));
    record(&reels, &film, 0, 20);
    let mut vod = station.play(50, 200, 1.0);
    let Ok(PlaybackEvent::Unit(unit)) = vod.next().await else { panic!("a picture") };
    let jpeg = unit.jpeg().expect("a picture");
    assert_eq!(u64::from_le_bytes(*jpeg.scan.first_chunk().unwrap()), 5);
    assert_eq!(station.films.opened.load(Relaxed), 0, "the film is not opened");
}

#[tokio::test(start_paused = true)]
async fn pictures_that_are_too_late_are_skipped() {
    let station = Station::of(&[("0-40", 40)]);
    let mut vod = station.play(0, 400, 1.0);
    assert!(matches!(vod.next().await, Ok(PlaybackEvent::Unit(_))));
    vod.advance(Track::Picture);
    assert_eq!(vod.skip(NOW + DELAY + RATE.nth(30)).picture, Some(29));
    let rest = pictures(vod).await.unwrap();
    assert_eq!((rest[0], rest.len()), ((300, 10, 30), 11));
}

/// A station that shows a real film and keeps no reels.
async fn without_reels() -> TestRtspServer {
    let film = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/nature.mp4");
    TestRtspServer::with(|spec| (spec.media, spec.reel) = (vec![film].into(), false)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_station_is_not_played_on_demand() {
    let source = NetworkSource::parse("http://192.0.2.20:8080/stream.mjpg").unwrap();
    let source = LiveSource::Network(source);
    let server = TestRtspServer::with(|spec| spec.media = Media::Live(source)).await;
    let mut client = server.connect().await;
    let response = client.request("DESCRIBE rtsp://h/2/demand", "").await;
    assert_eq!(u16::from(response.status()), 503);
    let why = "the station is live, and has no films to play on demand";
    assert!(response.reason_phrase().contains(why), "{}", response.reason_phrase());
    assert_eq!(client.status("DESCRIBE rtsp://h/2", "").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_without_reels_is_played_at_once() {
    let server = without_reels().await;
    let mut client = server.connect().await;
    let described = client.request("DESCRIBE rtsp://h/2/demand", "").await;
    let sdp = String::from_utf8(described.into_body()).unwrap();
    assert!(sdp.contains("a=range:npt=0-24.02") && sdp.contains("a=framerate:29.97"), "{sdp}");
    client.status("SETUP rtsp://h/2/demand/video", TCP).await;
    for header in ["", "Range: npt=20-"] {
        let (sequence, timestamp) = client.play("PLAY rtsp://h/2/demand", header).await;
        let (first, at, _) = client.picture().await;
        assert_eq!(Some(first), sequence);
        assert!(at.wrapping_sub(timestamp.unwrap()).wrapping_add(1) <= 2);
    }
    assert_eq!(client.status("PAUSE rtsp://h/2/demand", "").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_beyond_the_bound_are_told_to_come_again_and_find_a_place_when_another_has_gone() {
    let server = without_reels().await;
    let places = ENCODINGS_PER_CORE * std::thread::available_parallelism().unwrap().get();
    let mut clients = Vec::new();
    for _ in 0..places {
        let mut client = server.connect().await;
        assert_eq!(client.status("SETUP rtsp://h/2/demand/video", TCP).await, 200);
        client.play("PLAY rtsp://h/2/demand", "").await;
        clients.push(client);
    }
    let mut late = server.connect().await;
    let response = late.request("SETUP rtsp://h/2/demand/video", TCP).await;
    assert_eq!(u16::from(response.status()), 503);
    assert_eq!(response.header(&headers::RETRY_AFTER).unwrap().as_str(), "30");
    let why = format!("films without reels are being encoded for {places} clients");
    assert!(response.reason_phrase().contains(&why), "{}", response.reason_phrase());
    assert_eq!(late.status("DESCRIBE rtsp://h/2/demand", "").await, 200, "it takes no place");
    assert_eq!(late.status("SETUP rtsp://h/2/video", TCP).await, 200, "nor does a live station");
    late.session = None;

    drop(clients.pop());
    let found = async { while late.status("SETUP rtsp://h/2/demand/video", TCP).await != 200 {} };
    timeout(PATIENCE, found).await.unwrap();
    assert_eq!(clients[0].status("TEARDOWN rtsp://h/2/demand", "").await, 200);
    let mut another = server.connect().await;
    let found = async { while another.status("SETUP rtsp://h/2/demand/video", TCP).await != 200 {} };
    timeout(PATIENCE, found).await.unwrap();
}
