//! A station that begins shows the picture of this time of day, before a film is recorded. Time is virtual; films, decoders
//! and reels are real.

use std::process::Command;

use super::*;
use crate::clock::simulated::Clocks;
use crate::content::worker::Threads;

/// The length of the first film, and the place in the second one at which stations begin, in seconds.
const FIRST: u64 = 4;
const PLACE: u64 = 4;

/// The length of the second film, in seconds.
const SECOND: u64 = 12;

/// Black and white bars that are the number of each picture, in binary.
const NUMBERED: &str = "geq=lum='if(mod(floor(N/pow(2,floor(X/16))),2),235,16)':cb=128:cr=128";

fn make(folder: &Path, seconds: u64, args: &str, name: &str) -> PathBuf {
    let path = folder.join(name);
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg(format!("color=s=160x128:r=25:d={seconds},{NUMBERED}"))
        .args(args.split(' ').filter(|arg| !arg.is_empty()))
        .arg(&path)
        .status();
    assert!(status.unwrap().success(), "ffmpeg {args}");
    path
}

/// The number of a picture.
fn number(unit: &Unit) -> u64 {
    let jfif = unit.jpeg().unwrap().to_jfif();
    let yuv = turbojpeg::decompress_to_yuv(&jfif).unwrap();
    (0..10).map(|bit| u64::from(yuv.pixels[64 * yuv.width + 16 * bit + 8] > 128) << bit).sum()
}

/// A station with its catalogue, as it is after a restart.
struct Restarted {
    films: Films,
    catalogue: Arc<Catalogue>,
    clock: AirClock,
    output: OutputState,
}

impl Restarted {
    fn new(spec: &Arc<StationSpec>, clock: &AirClock, reels: Option<&Path>) -> Restarted {
        let now = clock.now();
        let store = reels.map(|dir| (Store::open(dir, u64::MAX, now).unwrap(), dir));
        let catalogue = Arc::new(Catalogue::new(clock.clone(), store));
        let threads = Threads::Simulated(Arc::new(|| Duration::ZERO));
        let films = Films::new(spec.clone(), clock.clone(), catalogue.clone(), threads);
        let output = OutputState { free_at: now, on_air: false };
        Restarted { films, catalogue, clock: clock.clone(), output }
    }

    /// The length of the round, as far as the containers tell.
    fn round(&self, films: &[PathBuf]) -> Duration {
        let length = |film: &PathBuf| self.catalogue.outline(film, Duration::ZERO).unwrap().round().unwrap();
        films.iter().map(length).sum()
    }

    /// The next unit, when a station would ask for it.
    async fn unit(&mut self) -> Unit {
        loop {
            match self.films.next(self.output).await.unwrap().unwrap() {
                ContentEvent::Unit { unit, .. } => {
                    self.output = OutputState { free_at: unit.due.at + unit.due.interval, on_air: true };
                    let ahead = self.clock.until(unit.due.at).saturating_sub(Duration::from_millis(900));
                    tokio::time::sleep(ahead).await;
                    return unit;
                }
                ContentEvent::HoldUntil(moment) => {
                    self.output.free_at = self.output.free_at.max(moment);
                }
                ContentEvent::Skipped(pictures) => panic!("{pictures} skipped"),
                _ => {}
            }
        }
    }
}

/// The programme of `second` after a first film, from each kind of start.
async fn joins_at_the_time_of_day(folder: &Path, first: &Path, second: PathBuf, keeps_reels: bool) {
    let name = second.display().to_string();
    let media = vec![first.to_owned(), second.clone()];
    let spec =
        StationSpec { media: media.clone().into(), width: 160, ..StationSpec::sample("239.79.4.1:5004") };
    let (spec, clocks) = (Arc::new(spec), Clocks::begin());
    let clock = clocks.air();
    let dir = folder.join(format!("reels of {}", second.file_name().unwrap().to_string_lossy()));
    let reels = keeps_reels.then_some(dir.as_path());
    let round = Restarted::new(&spec, &clock, reels).round(&media);
    assert!(
        round.abs_diff(Duration::from_secs(FIRST + SECOND)) < Duration::from_millis(100),
        "{name}: {round:?}"
    );

    // The round began so long ago that the second film is at its place.
    let place = Duration::from_secs(FIRST + PLACE);
    let now = clock.now() - default_phase(spec.id);
    let to_wait =
        (place.as_nanos() + round.as_nanos() - u128::from(now.0) % round.as_nanos()) % round.as_nanos();
    tokio::time::sleep(Duration::from_nanos(to_wait as u64)).await;

    let origin = clock.now() - place;
    let offset = |unit: &Unit| {
        let since = unit.due.at.since(origin).as_nanos() % round.as_nanos();
        Duration::from_nanos(since as u64).as_secs_f64()
    };
    let expected = |unit: &Unit| match offset(unit) {
        first if first < FIRST as f64 - 0.02 => first * 25.0,
        second => (second - FIRST as f64) * 25.0,
    };
    for restart in 0..3 {
        let mut station = Restarted::new(&spec, &clock, reels);
        for n in 0..20 {
            let unit = station.unit().await;
            let (number, expected) = (number(&unit) as f64, expected(&unit));
            assert!(
                (number - expected).abs() < 1.1,
                "{name}: restart {restart}, picture {n} has number {number}, not {expected}"
            );
            if n == 0 {
                assert!(
                    unit.due.at.since(clock.now()) < Duration::from_millis(400),
                    "{name}: it begins at once"
                );
            }
        }
        drop(station);
        // Half of the restarts come before there are reels.
        if restart == 0 && keeps_reels {
            for file in fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()) {
                if file.extension().is_some_and(|ending| ending == "reel") {
                    fs::remove_file(file).unwrap();
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }

    // Into the next round without a jump, and to reels of both films, which are whole.
    let mut station = Restarted::new(&spec, &clock, reels);
    let mut last = station.unit().await;
    let mut films_begun = 0;
    while films_begun < 3 {
        let unit = station.unit().await;
        assert!(unit.due.at.since(last.due.at) < Duration::from_millis(400), "{name}: a gap");
        films_begun += u64::from(number(&unit) < number(&last));
        last = unit;
    }
    if keeps_reels {
        let size = station.films.size().unwrap();
        for film in &media {
            let encoding = Encoding { size, quality: spec.quality };
            let key = station.catalogue.key(film, encoding, Duration::ZERO).unwrap();
            let reel = station.catalogue.reel(&key).expect("both films are recorded by now");
            let outline = station.catalogue.outline(film, Duration::ZERO).unwrap();
            assert!(reel.length().abs_diff(outline.length.unwrap()) < Duration::from_millis(50), "{name}");
            let mut last = None;
            for n in 0..reel.len() {
                let due = crate::media::Due { at: AirTime::default(), interval: Duration::ZERO };
                let number = number(&Unit::picture(due, reel.picture(n).unwrap()));
                assert!(last.is_none_or(|last| number > last), "{name}: {number} after {last:?}");
                assert!((reel.stamp(n).as_secs_f64() * 25.0 - number as f64).abs() < 0.1, "{name}: {number}");
                last = Some(number);
            }
        }
    }
}

const H264: &str = "-c:v libx264 -preset ultrafast -bf 2 -g 250 -crf 10 -pix_fmt yuv420p";

#[tokio::test(start_paused = true)]
async fn a_station_begins_at_the_time_of_day_before_its_films_are_recorded() {
    let folder = TempDir::new().unwrap();
    let first = make(folder.path(), FIRST, H264, "first.mp4");
    for (args, name) in [
        (H264.to_owned(), "film.mp4"),
        (H264.to_owned(), "film.mkv"),
        (H264.to_owned(), "film.ts"),
        ("-c:v mpeg4 -q:v 2 -bf 2 -g 100".to_owned(), "film.avi"),
        ("-c:v libvpx -deadline realtime -cpu-used 8 -b:v 2M -g 120".to_owned(), "film.webm"),
        (format!("-vf select='lt(mod(n\\,9)\\,5)' -vsync vfr {H264}"), "varies.mp4"),
        (format!("{H264} -movflags +frag_keyframe+empty_moov"), "fragments.mp4"),
    ] {
        let second = make(folder.path(), SECOND, &args, name);
        joins_at_the_time_of_day(folder.path(), &first, second, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_station_without_a_place_for_reels_begins_at_the_time_of_day_too() {
    let folder = TempDir::new().unwrap();
    let first = make(folder.path(), FIRST, H264, "first.mp4");
    for name in ["film.mp4", "film.ts"] {
        let second = make(folder.path(), SECOND, H264, name);
        joins_at_the_time_of_day(folder.path(), &first, second, false).await;
    }
}
