//! A day of a station in virtual time: the real task, content, reels, pacer, packetizer and sender, against a network and films that
//! fail as seeds have it. Nothing waits for real; what is written to disk is real.

mod film;
mod network;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::*;
use crate::air::Air;
use crate::clock::simulated::Clocks;
use crate::content::catalogue::Catalogue;
use crate::content::reel::Store;
use crate::content::worker::{STUCK, Threads};
use crate::directory::StationTable;
use crate::headend::Clients;
use crate::interface::Interface;
use crate::lineup::{Spread, StationSpec};
use film::Studio;
use network::Ether;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Faults in a day.
const FAULTS: u64 = 100;

/// What goes wrong, each for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mishap {
    FilmMissing,
    FilmUndecodable,
    OneFilmUndecodable,
    ReelDamaged,
    ReelRemoved,
    WorkHangs,
    AddressLost,
    AddressChanged,
    InterfaceRemade,
    MtuShrinks,
    ClockSet,
}

const MISHAPS: [Mishap; 11] = [
    Mishap::FilmMissing,
    Mishap::FilmUndecodable,
    Mishap::OneFilmUndecodable,
    Mishap::ReelDamaged,
    Mishap::ReelRemoved,
    Mishap::WorkHangs,
    Mishap::AddressLost,
    Mishap::AddressChanged,
    Mishap::InterfaceRemade,
    Mishap::MtuShrinks,
    Mishap::ClockSet,
];

/// A station, and all that it depends on.
struct World {
    rng: Rng,
    begun: Instant,
    clocks: Clocks,
    ether: Arc<Mutex<Ether>>,
    interfaces: watch::Sender<Arc<[Interface]>>,
    studio: Arc<Studio>,
    /// How long the next piece of blocking work hangs.
    hang: Arc<Mutex<Duration>>,
    handle: Arc<StationHandle>,
    stop: watch::Sender<bool>,
    folder: TempDir,
}

impl World {
    /// A station that begins while its interface has no address.
    fn begin(seed: u64) -> World {
        let folder = TempDir::new().unwrap();
        let clocks = Clocks::begin();
        let clock = clocks.air();
        let studio = Arc::new(Studio::new(folder.path()));
        let spec = StationSpec {
            media: vec![folder.path().join("films")],
            width: film::SIZE.width,
            spread: Spread::DEFAULT,
            slide: crate::lineup::DEFAULT_SLIDE,
            ..StationSpec::sample("239.77.0.2:5004")
        };
        let interface = Interface { up: false, v4: vec![], v6: vec![], ..Interface::sample() };
        let (interfaces, current) = watch::channel(Arc::from([interface]));
        let ether = Arc::new(Mutex::new(Ether::new(clock.clone(), current.clone(), studio.clone())));
        let hang = Arc::<Mutex<Duration>>::default();
        let next_hang = hang.clone();
        let reels = folder.path().join("reels");
        let store = Store::open(&reels, u64::MAX, clock.now()).unwrap();
        let catalogue = Catalogue::new(clock.clone(), Some((store, &reels))).of_films({
            let studio = studio.clone();
            Arc::new(move |path| studio.open(path))
        });
        let (stop, stopped) = watch::channel(false);
        let handle = Arc::new(StationHandle::new(spec));
        let head_end = Arc::new(HeadEnd {
            air: Air::simulated(clock.clone()),
            table: StationTable::new(),
            clients: Clients::default(),
            since: clock.now(),
            catalogue: Arc::new(catalogue),
            stop: stopped,
            network: network::simulated(ether.clone(), current),
            threads: Threads::Simulated(Arc::new(move || std::mem::take(&mut *next_hang.lock().unwrap()))),
            handles: BTreeMap::from([(handle.spec.id, handle.clone())]),
            clock: clock.clone(),
        });
        tokio::spawn(clock.keep_following());
        tokio::spawn(keep_on_air(handle.clone(), head_end, WakeSlots::from_now()));
        let (rng, begun) = (Rng::with_seed(seed), Instant::now());
        World { rng, begun, clocks, ether, interfaces, studio, hang, handle, stop, folder }
    }

    /// Changes the interface, of which the kernel gives notice.
    fn change(&self, change: impl FnOnce(&mut Interface)) {
        let mut interface = self.interfaces.borrow()[0].clone();
        change(&mut interface);
        self.replace(&[interface]);
    }

    fn replace(&self, interfaces: &[Interface]) {
        self.interfaces.send_replace(interfaces.into());
        self.ether.lock().unwrap().interface_changed();
    }

    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from * 1000..to * 1000))
    }

    /// The files of all reels.
    fn reels(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("reels")).unwrap();
        let mut reels: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        reels.retain(|path| path.extension().is_some_and(|ending| ending == "reel"));
        reels.sort();
        reels
    }

    /// Lets a mishap happen, until it is over. Returns how long the station may then take to show its films as if nothing had been.
    async fn happen(&mut self, mishap: Mishap) -> Duration {
        let round = film::ROUND;
        match mishap {
            Mishap::FilmMissing => {
                let on_air = self.ether.lock().unwrap().film.map_or(0, |(film, _)| film);
                let (film, away) = (self.studio.film(on_air), self.folder.path().join("away"));
                fs::rename(&film, &away).unwrap();
                let span = if self.rng.bool() { self.seconds(3, 8) } else { self.seconds(8, 100) };
                sleep(span).await;
                fs::rename(&away, &film).unwrap();
                self.next_try().await;
                round
            }
            Mishap::FilmUndecodable => {
                self.reels().iter().for_each(|reel| fs::remove_file(reel).unwrap());
                self.studio.break_decoder(true);
                // The reels are on air to the end of the round.
                sleep(round + self.seconds(1, 100)).await;
                self.studio.break_decoder(false);
                self.next_try().await;
                2 * round
            }
            Mishap::OneFilmUndecodable => {
                self.reels().iter().for_each(|reel| fs::remove_file(reel).unwrap());
                let bad = self.rng.usize(..film::FILMS.len());
                self.studio.break_film(bad);
                // The reels are on air to the end of the round; in the next the waits could begin to grow.
                sleep(2 * round).await;
                let slates = |ether: &Ether| ether.pictures - ether.film_pictures;
                let before = slates(&self.ether.lock().unwrap());
                sleep(2 * round).await;
                let slates = slates(&self.ether.lock().unwrap()) - before;
                // The other film takes 20 s or 30 s, so that there are at most five slates of a second, of six pictures at most.
                assert!(
                    (5..=5 * 6).contains(&slates),
                    "{slates} pictures of slates in 100 s, film {bad} at fault"
                );
                self.studio.break_decoder(false);
                self.next_try().await;
                3 * round
            }
            Mishap::ReelDamaged => {
                let reel = self.rng.choice(self.reels()).expect("both films have reels by now");
                let mut bytes = fs::read(&reel).unwrap();
                let at = self.rng.usize(bytes.len() / 4..bytes.len() * 3 / 4);
                bytes[at] ^= 1 << self.rng.u32(0..8);
                film::rewrite(&reel, &bytes);
                // Found in this round, left out of the next, recorded in that.
                3 * round
            }
            Mishap::ReelRemoved => {
                fs::remove_file(self.rng.choice(self.reels()).unwrap()).unwrap();
                3 * round
            }
            Mishap::WorkHangs => {
                let span = self.seconds(1, 60);
                *self.hang.lock().unwrap() = span;
                sleep(span).await;
                RETRY.1 + STUCK + 2 * round
            }
            Mishap::AddressLost => {
                let before = self.interfaces.borrow()[0].clone();
                self.change(|interface| (interface.up, interface.v4) = (false, vec![]));
                sleep(self.seconds(1, 100)).await;
                self.change(|interface| *interface = before);
                Duration::from_secs(1)
            }
            Mishap::AddressChanged => {
                let host = self.rng.u8(1..=250);
                self.change(|interface| interface.v4 = vec![Ipv4Addr::new(10, 0, 7, host)]);
                Duration::from_secs(1)
            }
            Mishap::InterfaceRemade => {
                let before = self.interfaces.borrow()[0].clone();
                self.replace(&[]);
                sleep(self.seconds(1, 100)).await;
                let index = before.index + 1;
                self.replace(&[Interface { index, ..before }]);
                Duration::from_secs(1)
            }
            Mishap::MtuShrinks => {
                let mtu = self.rng.u32(600..1400);
                self.change(|interface| interface.mtu = mtu);
                self.recover(Duration::from_secs(1), "a smaller MTU").await;
                assert_eq!(self.ether.lock().unwrap().largest, mtu as usize - 28);
                self.change(|interface| interface.mtu = 1500);
                self.recover(Duration::from_secs(1), "a larger MTU").await;
                assert_eq!(self.ether.lock().unwrap().largest, 1472);
                Duration::ZERO
            }
            Mishap::ClockSet => {
                let millis = *self.rng.choice(&[-90_000, -800, -40, 40, 800, 2_000, 3_600_000]).unwrap();
                self.clocks.set_wall(millis * 1_000_000);
                // Looked at every 4 s; air time that jumps is caught up with by the programme at once.
                Duration::from_secs(5) + round
            }
        }
    }

    /// Waits for the next try of a station that shows a slate. What kept it from its films is over, so they are on air then. The wait
    /// is at most as long as all before it together, and 10 s.
    async fn next_try(&self) {
        let Some(failing) = self.ether.lock().unwrap().on_slate() else { return };
        sleep(failing.clamp(Duration::from_secs(1), Duration::from_secs(10)) + Duration::from_millis(1500))
            .await;
        let ether = self.ether.lock().unwrap();
        assert_eq!(ether.on_slate(), None, "not tried again after {failing:?} of failures\n{ether}");
    }

    /// Waits until the station has shown its films for a round, one picture after the other, as if nothing had been; that is to begin
    /// `within` this span.
    async fn recover(&mut self, within: Duration, what: &str) {
        let began = self.clocks.air().now();
        self.ether.lock().unwrap().expect_calm();
        let deadline = Instant::now() + within + film::ROUND + Duration::from_secs(5);
        while self.ether.lock().unwrap().calm_since().is_none() {
            let ether = self.ether.lock().unwrap();
            assert!(Instant::now() < deadline, "no recovery from {what} {within:?} after {began:?}\n{ether}");
            drop(ether);
            sleep(Duration::from_millis(400)).await;
        }
        let interface = self.interfaces.borrow()[0].clone();
        assert_eq!(self.handle.interface().as_ref(), Some(&interface), "after {what}");
        let origin = format!(" IN IP4 {}\r\n", interface.v4[0]);
        assert!(self.handle.sdp().contains(&origin), "after {what}: {}", self.handle.sdp());
    }
}

/// A day with its mishaps. Returns how many of each there were.
async fn day(seed: u64) -> BTreeMap<Mishap, u64> {
    let mut world = World::begin(seed);
    let mut happened = BTreeMap::new();
    // Nothing can be sent yet, and nothing is.
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.ether.lock().unwrap().pictures, 0);
    assert_eq!(world.handle.interface(), None);
    world.change(|interface| (interface.up, interface.v4) = (true, vec![Ipv4Addr::new(10, 0, 7, 1)]));
    // Both films are recorded once they have been on air.
    sleep(2 * film::ROUND).await;
    world.recover(Duration::from_secs(1), "having no address").await;

    for n in 0..FAULTS {
        let next = DAY * (n as u32 + 1) / (FAULTS as u32 + 2);
        sleep(next.saturating_sub(world.begun.elapsed())).await;
        let mishap = *world.rng.choice(&MISHAPS).unwrap();
        *happened.entry(mishap).or_default() += 1;
        world.ether.lock().unwrap().note(format!("{mishap:?}"));
        let within = world.happen(mishap).await;
        world.recover(within, &format!("mishap {n}, {mishap:?}, of seed {seed}")).await;
    }
    sleep(DAY.saturating_sub(world.begun.elapsed())).await;
    world.recover(Duration::ZERO, "the day").await;

    let ether = world.ether.lock().unwrap();
    assert!(ether.faults.is_empty(), "seed {seed}: {:#?}\n{ether}", ether.faults);
    // Two and a half pictures a second; what mishaps may cost is minutes.
    assert!(ether.pictures > DAY.as_secs() * 2, "{} pictures", ether.pictures);
    assert!(ether.film_pictures * 100 > ether.pictures * 97, "{} of {}", ether.film_pictures, ether.pictures);
    // Encoded once and then only sent: anew after a mishap, not in each of 1,700 rounds.
    let passes = world.studio.passes();
    assert!(passes < 4 * FAULTS, "{passes} passes were decoded");
    world.stop.send_replace(true);
    happened
}

#[tokio::test(start_paused = true)]
async fn a_day_with_a_hundred_mishaps() {
    let happened = day(1).await;
    assert_eq!(happened.values().sum::<u64>(), FAULTS);
    assert_eq!(happened.len(), MISHAPS.len(), "each kind: {happened:?}");
}

#[tokio::test(start_paused = true)]
async fn another_day() {
    day(2).await;
}
