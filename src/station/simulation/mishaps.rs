//! Days with mishaps: faults that a seeded generator injects, each of which the station has to recover from.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::sleep;

use super::film_source::{self, ROUND};
use super::network::SimulatedNetwork;
use super::{RETRY, STUCK_AFTER, Simulation};
use crate::interface::Interface;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Mishaps in a day.
const MISHAPS_A_DAY: u64 = 100;

/// An injected fault.
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

impl Simulation {
    /// Injects a mishap, and waits until it is over. Returns how long the station may then take to recover.
    async fn inject(&mut self, mishap: Mishap) -> Duration {
        match mishap {
            Mishap::FilmMissing => {
                let on_air = self.network.lock().unwrap().film.map_or(0, |(film, _)| film);
                let (film, away) = (self.films.film(on_air), self.folder.path().join("away"));
                fs::rename(&film, &away).unwrap();
                let span = if self.rng.bool() { self.seconds(3, 8) } else { self.seconds(8, 100) };
                sleep(span).await;
                fs::rename(&away, &film).unwrap();
                self.await_retry().await;
                ROUND
            }
            Mishap::FilmUndecodable => {
                self.reels().iter().for_each(|reel| fs::remove_file(reel).unwrap());
                self.films.break_decoder(true);
                // The open reels stay on air until the end of the round.
                sleep(ROUND + self.seconds(1, 100)).await;
                self.films.break_decoder(false);
                self.await_retry().await;
                2 * ROUND
            }
            Mishap::OneFilmUndecodable => {
                self.reels().iter().for_each(|reel| fs::remove_file(reel).unwrap());
                let bad = self.rng.usize(..film_source::FILMS.len());
                self.films.break_film(bad);
                // The open reels stay on air until the end of the round. In the next one the waits could begin to grow.
                sleep(2 * ROUND).await;
                let slates = |network: &SimulatedNetwork| network.pictures - network.film_pictures;
                let before = slates(&self.network.lock().unwrap());
                sleep(2 * ROUND).await;
                let slates = slates(&self.network.lock().unwrap()) - before;
                // The other film takes 20 s or 30 s, so that there are at most five slates of a second, of six pictures at most.
                assert!(
                    (5..=5 * 6).contains(&slates),
                    "{slates} pictures of slates in 100 s, film {bad} at fault"
                );
                self.films.break_decoder(false);
                self.await_retry().await;
                3 * ROUND
            }
            Mishap::ReelDamaged => {
                let reel = self.rng.choice(self.reels()).expect("both films have reels by now");
                let mut bytes = fs::read(&reel).unwrap();
                let at = self.rng.usize(bytes.len() / 4..bytes.len() * 3 / 4);
                bytes[at] ^= 1 << self.rng.u32(0..8);
                film_source::overwrite(&reel, &bytes);
                // The damage is found in this round; in the next one the film plays without a reel, and is recorded.
                3 * ROUND
            }
            Mishap::ReelRemoved => {
                fs::remove_file(self.rng.choice(self.reels()).unwrap()).unwrap();
                3 * ROUND
            }
            Mishap::WorkHangs => {
                let span = self.seconds(1, 60);
                *self.hang.lock().unwrap() = span;
                sleep(span).await;
                RETRY.1 + STUCK_AFTER + 2 * ROUND
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
                assert_eq!(self.network.lock().unwrap().largest, mtu as usize - 28);
                self.change(|interface| interface.mtu = 1500);
                self.recover(Duration::from_secs(1), "a larger MTU").await;
                assert_eq!(self.network.lock().unwrap().largest, 1472);
                Duration::ZERO
            }
            Mishap::ClockSet => {
                let millis = *self.rng.choice(&[-90_000, -800, -40, 40, 800, 2_000, 3_600_000]).unwrap();
                self.clocks.set_wall(millis * 1_000_000);
                // The clock is compared every 4 s. If air time jumps, the programme follows at once.
                Duration::from_secs(5) + ROUND
            }
        }
    }

    /// If the station shows its slate, waits for its next retry, and asserts that the films are then on air, since the mishap is
    /// over. The pause before a retry is at most as long as all pauses before it together, and at most 10 s.
    async fn await_retry(&self) {
        let Some(failing) = self.network.lock().unwrap().on_slate() else { return };
        sleep(failing.clamp(Duration::from_secs(1), Duration::from_secs(10)) + Duration::from_millis(1500))
            .await;
        let network = self.network.lock().unwrap();
        assert_eq!(network.on_slate(), None, "no retry after {failing:?} of failures\n{network}");
    }
}

/// Simulates a day with its mishaps. Returns the number of each.
async fn day(seed: u64) -> BTreeMap<Mishap, u64> {
    let mut simulation = Simulation::begin(seed);
    let mut happened = BTreeMap::new();
    simulation.go_on_air().await;

    for n in 0..MISHAPS_A_DAY {
        let next = DAY * (n as u32 + 1) / (MISHAPS_A_DAY as u32 + 2);
        sleep(next.saturating_sub(simulation.begun.elapsed())).await;
        let mishap = *simulation.rng.choice(&MISHAPS).unwrap();
        *happened.entry(mishap).or_default() += 1;
        simulation.network.lock().unwrap().note(format!("{mishap:?}"));
        let within = simulation.inject(mishap).await;
        simulation.recover(within, &format!("mishap {n}, {mishap:?}, of seed {seed}")).await;
    }
    sleep(DAY.saturating_sub(simulation.begun.elapsed())).await;
    simulation.recover(Duration::ZERO, "the day").await;

    let network = simulation.network.lock().unwrap();
    assert!(network.violations.is_empty(), "seed {seed}: {:#?}\n{network}", network.violations);
    // Two and a half pictures a second, less some minutes for mishaps.
    assert!(network.pictures > DAY.as_secs() * 2, "{} pictures", network.pictures);
    assert!(
        network.film_pictures * 100 > network.pictures * 97,
        "{} of {}",
        network.film_pictures,
        network.pictures
    );
    // Films are decoded once, and again after some mishaps, but not in each of 1,700 rounds.
    let passes = simulation.films.passes();
    assert!(passes < 4 * MISHAPS_A_DAY, "{passes} passes were decoded");
    simulation.stop.send_replace(true);
    happened
}

#[tokio::test(start_paused = true)]
async fn a_day_with_a_hundred_mishaps() {
    let happened = day(1).await;
    assert_eq!(happened.values().sum::<u64>(), MISHAPS_A_DAY);
    assert_eq!(happened.len(), MISHAPS.len(), "each kind: {happened:?}");
}

#[tokio::test(start_paused = true)]
async fn another_day() {
    day(2).await;
}
