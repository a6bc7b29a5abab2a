//! A day of a station in virtual time: the real task, content, reels, pacer, packetizer and sender, with a simulated network and
//! simulated films, into which a seeded generator injects mishaps. Time is virtual, and files on disk are real.

mod film_source;
mod mishaps;
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
use crate::content::worker::{STUCK_AFTER, Threads};
use crate::directory::StationTable;
use crate::headend::{Clients, StationOrder};
use crate::interface::Interface;
use crate::lineup::{LiveSource, NetworkSource, Spread, TimedMedia};
use crate::media::StationId;
use crate::wire::srtp::Profile;
use film_source::{ROUND, SIZE, SimulatedFilms};
use network::{EncryptedReceiver, SimulatedNetwork};

/// A station, and everything that it depends on.
struct Simulation {
    rng: Rng,
    begun: Instant,
    clocks: Clocks,
    network: Arc<Mutex<SimulatedNetwork>>,
    interfaces: watch::Sender<Arc<[Interface]>>,
    films: Arc<SimulatedFilms>,
    /// How long the next blocking work hangs.
    hang: Arc<Mutex<Duration>>,
    handle: Arc<StationHandle>,
    head_end: Arc<HeadEnd>,
    stop: watch::Sender<bool>,
    folder: TempDir,
}

impl Simulation {
    /// Starts a station whose interface has no address yet.
    fn begin(seed: u64) -> Simulation {
        Simulation::begin_encrypted(seed, None)
    }

    fn begin_encrypted(seed: u64, encrypt: Option<Profile>) -> Simulation {
        let folder = TempDir::new().unwrap();
        let clocks = Clocks::begin();
        let clock = clocks.air();
        let films = Arc::new(SimulatedFilms::new(folder.path()));
        let spec = StationSpec {
            media: vec![folder.path().join("films")].into(),
            width: SIZE.width,
            spread: Spread::DEFAULT,
            slide: crate::lineup::DEFAULT_SLIDE,
            encrypt,
            ..StationSpec::sample(network::GROUP)
        };
        let interface = Interface { up: false, v4: vec![], v6: vec![], ..Interface::sample() };
        let (interfaces, current) = watch::channel(Arc::from([interface]));
        let network =
            Arc::new(Mutex::new(SimulatedNetwork::new(clock.clone(), current.clone(), films.clone())));
        let hang = Arc::<Mutex<Duration>>::default();
        let next_hang = hang.clone();
        let reels = folder.path().join("reels");
        let store = Store::open(&reels, u64::MAX, clock.now()).unwrap();
        let catalogue = Catalogue::new(clock.clone(), Some((store, &reels))).with_opener({
            let films = films.clone();
            Arc::new(move |path| films.open(path))
        });
        let (stop, stopped) = watch::channel(false);
        let handle = Arc::new(StationHandle::new(spec));
        network.lock().unwrap().receiver = encrypt.map(|_| EncryptedReceiver::new(handle.clone()));
        let head_end = Arc::new(HeadEnd {
            air: Air::simulated(clock.clone()),
            table: StationTable::new(),
            clients: Clients::default(),
            since: clock.now(),
            gatekeeper: Arc::default(),
            signing_key: Arc::default(),
            rtsp_security: crate::tls::Security::Plain,
            catalogue: Arc::new(catalogue),
            stop: stopped,
            network: network::simulated(network.clone(), current),
            threads: Threads::Simulated(Arc::new(move || std::mem::take(&mut *next_hang.lock().unwrap()))),
            publishers: crate::headend::Publishers::default(),
            handles: watch::Sender::new(Arc::new(BTreeMap::from([(handle.spec().id, handle.clone())]))),
            clock: clock.clone(),
        });
        tokio::spawn(clock.keep_following());
        let runtime = tokio::runtime::Handle::current();
        tokio::spawn(supervise(head_end.clone(), runtime.clone(), runtime, WakeSlots::from_now()));
        let (rng, begun) = (Rng::with_seed(seed), Instant::now());
        Simulation { rng, begun, clocks, network, interfaces, films, hang, handle, head_end, stop, folder }
    }

    /// Gives the interface an address, and waits until both films are recorded.
    async fn go_on_air(&mut self) {
        // Without an address nothing can be sent.
        sleep(Duration::from_secs(20)).await;
        assert_eq!(self.network.lock().unwrap().pictures, 0);
        assert_eq!(self.handle.interface(), None);
        self.change(|interface| (interface.up, interface.v4) = (true, vec![Ipv4Addr::new(10, 0, 7, 1)]));
        // Both films are recorded while they are on air for the first time.
        sleep(2 * ROUND).await;
        self.recover(Duration::from_secs(1), "having no address").await;
    }

    /// Changes the interface, as the kernel's notices would.
    fn change(&self, change: impl FnOnce(&mut Interface)) {
        let mut interface = self.interfaces.borrow()[0].clone();
        change(&mut interface);
        self.replace(&[interface]);
    }

    fn replace(&self, interfaces: &[Interface]) {
        self.interfaces.send_replace(interfaces.into());
        self.network.lock().unwrap().interface_changed();
    }

    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from * 1000..to * 1000))
    }

    /// The paths of all reels.
    fn reels(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("reels")).unwrap();
        let mut reels: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        reels.retain(|path| path.extension().is_some_and(|ending| ending == "reel"));
        reels.sort();
        reels
    }

    /// Waits until the station has shown its films for a round without a missing picture. Asserts that this begins `within` a
    /// span from now.
    async fn recover(&mut self, within: Duration, what: &str) {
        let began = self.clocks.air().now();
        self.network.lock().unwrap().start_over();
        let deadline = Instant::now() + within + ROUND + Duration::from_secs(5);
        while self.network.lock().unwrap().recovered_at().is_none() {
            let network = self.network.lock().unwrap();
            assert!(
                Instant::now() < deadline,
                "no recovery from {what} {within:?} after {began:?}\n{network}"
            );
            drop(network);
            sleep(Duration::from_millis(400)).await;
        }
        let interface = self.interfaces.borrow()[0].clone();
        assert_eq!(self.handle.interface().as_ref(), Some(&interface), "after {what}");
        let origin = format!(" IN IP4 {}\r\n", interface.v4[0]);
        assert!(self.handle.sdp().contains(&origin), "after {what}: {}", self.handle.sdp());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_changes_of_the_key_cost_no_picture() {
    let mut simulation = Simulation::begin_encrypted(5, Some(Profile::Gcm));
    simulation.go_on_air().await;
    let since = simulation.network.lock().unwrap().recovered_at();
    let told = simulation.network.lock().unwrap().told;
    for _ in 0..100 {
        simulation.handle.keys.wish_for_others();
        let span = simulation.seconds(4, 8);
        sleep(span).await;
    }
    let network = simulation.network.lock().unwrap();
    assert_eq!(network.recovered_at(), since, "no picture was missing\n{network}");
    assert_eq!((network.told - told, &network.violations[..]), (100, &[][..]), "{network}");
    simulation.stop.send_replace(true);
}

/// FFmpeg 5.1 and players like it take the roll-over counter for 0 when they join.
#[tokio::test(start_paused = true)]
async fn streams_for_other_players_follow_each_other_before_their_numbers_wrap() {
    let mut simulation = Simulation::begin_encrypted(6, Some(Profile::CounterMode));
    simulation.go_on_air().await;
    let since = simulation.network.lock().unwrap().recovered_at();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 4 {
        sleep(Duration::from_secs(600)).await;
        let stream = simulation.handle.keys.stream(crate::media::Track::Picture).unwrap();
        assert!(stream.index < 1 << 16, "the roll-over counter is 0");
        // Otherwise the station would take its own packets for those of another sender.
        let known = simulation.handle.sync_source().borrow().as_ref().map(|source| source.ssrc);
        assert_eq!(known, Some(stream.ssrc));
        seen.insert(stream.ssrc);
    }
    let network = simulation.network.lock().unwrap();
    assert_eq!(network.recovered_at(), since, "no picture was missing\n{network}");
    assert_eq!(network.violations, [""; 0], "{network}");
    simulation.stop.send_replace(true);
}

#[tokio::test(start_paused = true)]
async fn a_station_that_gets_no_socket_for_a_while_is_on_air_as_soon_as_there_is_one() {
    let mut simulation = Simulation::begin(4);
    simulation.network.lock().unwrap().no_sockets = 5;
    simulation.go_on_air().await;
    assert_eq!(simulation.network.lock().unwrap().no_sockets, 0);
    simulation.stop.send_replace(true);
}

#[tokio::test(start_paused = true)]
async fn stations_come_change_and_go_while_another_loses_no_picture() {
    let mut simulation = Simulation::begin(3);
    simulation.go_on_air().await;
    let (head_end, network) = (simulation.head_end.clone(), simulation.network.clone());
    let undisturbed_since = network.lock().unwrap().recovered_at().unwrap();
    let listed = || -> Vec<(u16, String, State)> {
        let entries = head_end.table.line_up().1.into_iter();
        entries.map(|entry| (entry.id.0, entry.group.to_string(), entry.state)).collect()
    };
    let packets = |group: &str| {
        let elsewhere = &network.lock().unwrap().elsewhere;
        elsewhere.get(&group.parse().unwrap()).copied().unwrap_or_default()
    };
    let first = (simulation.handle.spec().id.0, network::GROUP.to_owned(), State::Film);
    assert_eq!(listed(), std::slice::from_ref(&first));

    let films = simulation.folder.path().join("films");
    let new = |group: &str| {
        let spec = StationSpec {
            id: crate::media::StationId(900),
            media: vec![films.clone()].into(),
            width: SIZE.width,
            ..StationSpec::sample(group)
        };
        Arc::new(StationHandle::new(spec))
    };
    let (one, other) = ("239.77.0.8:5004", "239.77.0.9:5004");
    let id = crate::media::StationId(900);
    head_end.change_stations(|stations| drop(stations.insert(id, new(one))));
    sleep(2 * ROUND).await;
    assert_eq!(listed(), [first.clone(), (900, one.into(), State::Film)]);
    assert!(packets(one) > 0);

    let audience = head_end.table.join_audience(id);
    let (mut units, old) = {
        let station = head_end.station(id).unwrap();
        (station.feed.subscribe(head_end.clock.now()), packets(one))
    };
    head_end.change_stations(|stations| drop(stations.insert(id, new(other))));
    while units.recv().await.is_ok() {}
    let at_the_end = packets(one);
    assert!(at_the_end <= old + 1, "what was handed over before is not sent");
    sleep(2 * ROUND).await;
    assert_eq!(listed(), [first.clone(), (900, other.into(), State::Film)]);
    assert_eq!((packets(one), packets(other) > 0), (at_the_end, true));
    assert_eq!(head_end.table.audience(id), 1, "viewers stay with the number");
    drop(audience);

    let removed = head_end.station(id).unwrap();
    head_end.change_stations(|stations| drop(stations.remove(&id)));
    sleep(Duration::from_secs(1)).await;
    let at_the_end = packets(other);
    // The same handle serves no second time.
    head_end.change_stations(|stations| drop(stations.insert(id, removed)));
    sleep(ROUND).await;
    assert_eq!((listed(), packets(other)), (vec![first], at_the_end));

    let network = network.lock().unwrap();
    assert!(network.violations.is_empty(), "{:#?}\n{network}", network.violations);
    assert_eq!(network.recovered_at(), Some(undisturbed_since), "{network}");
    simulation.stop.send_replace(true);
}

/// The place in a round of the picture that is on, in pictures, and when it was due.
fn place(simulation: &Simulation) -> Option<(u64, crate::media::AirTime)> {
    let network = simulation.network.lock().unwrap();
    let (film, n) = network.film?;
    Some((film as u64 * film_source::FILMS[0] + n, network.shown?.0))
}

#[tokio::test(start_paused = true)]
async fn whatever_is_ordered_it_is_one_stream_and_the_programme_goes_on_underneath() {
    let mut simulation = Simulation::begin(4);
    simulation.go_on_air().await;
    let (head_end, id) = (simulation.head_end.clone(), simulation.handle.spec().id);
    let ssrc = simulation.network.lock().unwrap().last.unwrap().0;
    let all = film_source::FILMS[0] + film_source::FILMS[1];
    let shown_after = crate::air::LEAD + Duration::from_millis(500);
    // A place of the programme, from which all others follow.
    let mut known = place(&simulation).unwrap();
    let mut obeyed = BTreeMap::<String, u64>::new();
    for n in 0..80 {
        let pause = simulation.seconds(0, 30);
        sleep(pause).await;
        // What is handed over is on air a moment later.
        let handed_over = simulation.handle.interlude();
        sleep(shown_after).await;
        let (interlude, before) = (simulation.handle.interlude(), place(&simulation));
        if handed_over.is_none() {
            // As if nothing had been ordered but to skip.
            let (place, due) = before.expect("a film is on");
            let pictures =
                due.since(known.1).as_millis() as u64 / film_source::RATE.interval().as_millis() as u64;
            let network = simulation.network.lock().unwrap();
            assert_eq!(place, (known.0 + pictures) % all, "order {n}\n{network}");
        }
        let film = simulation.rng.usize(..film_source::FILMS.len());
        let order = match simulation.rng.u8(..4) {
            0 => StationOrder::Skip,
            1 => StationOrder::Play(simulation.films.film(film)),
            2 => StationOrder::Hold(format!("back at {n}")),
            _ => StationOrder::Resume,
        };
        simulation.network.lock().unwrap().note(format!("{order:?} while {interlude:?}"));
        let result = head_end.order(id, order.clone()).await;
        let refused = matches!(
            (&order, &interlude),
            (StationOrder::Skip, Some(Interlude::Hold(_))) | (StationOrder::Resume, None)
        );
        assert_eq!(result.is_err(), refused, "order {n}, {order:?} while {interlude:?}: {result:?}");
        if refused {
            continue;
        }
        let kind = format!("{order:?} while {interlude:?}");
        *obeyed.entry(kind.chars().filter(|c| c.is_alphabetic()).take(24).collect()).or_default() += 1;
        sleep(shown_after).await;
        let (on, network) = (simulation.network.lock().unwrap().film, simulation.network.clone());
        let message = || format!("order {n}, {order:?} while {interlude:?}\n{}", network.lock().unwrap());
        match order {
            StationOrder::Hold(_) => assert_eq!(on, None, "{}", message()),
            StationOrder::Play(_) => {
                assert!(on.is_some_and(|(on, n)| on == film && n < 8), "{on:?}, {}", message());
            }
            StationOrder::Skip if interlude.is_none() => {
                let now = place(&simulation).unwrap();
                assert!(on.is_some_and(|(_, n)| n < 8), "{on:?}, {}", message());
                known = now;
            }
            StationOrder::Skip | StationOrder::Resume => assert!(on.is_some(), "{}", message()),
        }
    }
    assert!(obeyed.len() >= 8, "{obeyed:?}");
    let network = simulation.network.lock().unwrap();
    assert!(network.violations.is_empty(), "{:#?}\n{network}", network.violations);
    assert_eq!(network.last.unwrap().0, ssrc, "one stream");
    simulation.stop.send_replace(true);
}

#[tokio::test(start_paused = true)]
async fn media_change_by_the_time_of_day_and_a_fallback_stands_in_for_a_camera() {
    let mut simulation = Simulation::begin(4);
    simulation.go_on_air().await;
    let head_end = simulation.head_end.clone();
    let films = vec![simulation.folder.path().join("films")];
    let camera =
        || Media::Live(LiveSource::Network(NetworkSource::parse("http://127.0.0.1:9/none").unwrap()));
    let now = jiff::Timestamp::from_nanosecond(head_end.clock.now().0.into()).unwrap();
    let now = now.to_zoned(jiff::tz::TimeZone::system());
    let in_minutes = |n: u16| {
        (u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs()) + n) % (24 * 60)
    };
    let evening = TimedMedia { from: in_minutes(3), to: in_minutes(6), days: [true; 7], media: camera() };
    let new = |id: u16, group: &str, spec: StationSpec| {
        let spec = StationSpec { id: StationId(id), width: SIZE.width, ..spec };
        let spec = StationSpec { group: group.parse().unwrap(), ..spec };
        head_end.change_stations(|stations| {
            drop(stations.insert(StationId(id), Arc::new(StationHandle::new(spec))));
        });
    };
    let sample = || StationSpec::sample(network::GROUP);
    new(900, "239.77.0.8:5004", StationSpec { media: films.clone().into(), at: vec![evening], ..sample() });
    new(901, "239.77.0.9:5004", StationSpec { media: camera(), fallback: films, ..sample() });
    let state = |id: u16| {
        let entries = head_end.table.line_up().1;
        entries.into_iter().find(|entry| entry.id.0 == id).map(|entry| entry.state)
    };
    let begun = Instant::now();
    // Between full minutes, since the last one may be over by 59 s.
    for (minutes, expected) in
        [(1, "film"), (2, "film"), (4, "camera"), (5, "camera"), (7, "film"), (8, "film")]
    {
        tokio::time::sleep_until(begun + Duration::from_secs(60) * minutes).await;
        let found = match state(900) {
            Some(State::Film) => "film",
            Some(State::Slate { reason }) if reason.starts_with("no picture from the camera: ") => "camera",
            other => panic!("{other:?} after {minutes} minutes"),
        };
        assert_eq!(found, expected, "after {minutes} minutes");
        assert_eq!(state(901), Some(State::Film), "after {minutes} minutes");
    }
    let network = simulation.network.lock().unwrap();
    assert!(network.violations.is_empty(), "{:#?}\n{network}", network.violations);
    let packets = |group: &str| network.elsewhere.get(&group.parse().unwrap()).copied().unwrap_or_default();
    assert!(packets("239.77.0.9:5004") > packets("239.77.0.8:5004") / 2, "the fallback is on all the time");
    simulation.stop.send_replace(true);
}

/// Stations that come and go for ever leave nothing behind, neither by their numbers nor by their films.
#[tokio::test(start_paused = true)]
async fn a_thousand_reloads_leave_nothing_behind() {
    let mut simulation = Simulation::begin(1);
    simulation.go_on_air().await;
    let (head_end, folder) = (simulation.head_end.clone(), simulation.folder.path().to_owned());
    let kept = |head_end: &HeadEnd| {
        let catalogue = &head_end.catalogue;
        (catalogue.recordings().wishing(), catalogue.cached())
    };
    let (mut most, mut on_air) = ((0, [0; 3]), (0, [0; 3]));
    for n in 0..1000_u16 {
        let id = StationId(100 + n % 800);
        let films = folder.join(format!("films {n}"));
        fs::create_dir(&films).unwrap();
        for film in 0..2 {
            fs::write(films.join(format!("{n} {film}.mp4")), format!("film {film}")).unwrap();
        }
        let spec =
            StationSpec { id, media: vec![films].into(), ..StationSpec::clone(&simulation.handle.spec()) };
        let handle = Arc::new(StationHandle::new(spec));
        head_end.change_stations(|stations| drop(stations.insert(id, handle.clone())));
        // It has asked for its films, and made a wish.
        while head_end.entry(id).is_none_or(|entry| entry.state == State::Starting) {
            sleep(Duration::from_millis(10)).await;
        }
        on_air = on_air.max(kept(&head_end));
        head_end.change_stations(|stations| drop(stations.remove(&id)));
        while head_end.entry(id).is_some() {
            sleep(Duration::from_millis(10)).await;
        }
        let now = kept(&head_end);
        most.0 = most.0.max(now.0);
        for (most, now) in most.1.iter_mut().zip(now.1) {
            *most = now.max(*most);
        }
    }
    // Those of the station that stays, and of the few that were just removed.
    assert!(most.0 <= 10 && most.1.iter().all(|&films| films <= 20), "{most:?}");
    assert!(on_air.0 >= 2 && on_air.1[0] >= 1, "the stations were on air: {on_air:?}");
    simulation.stop.send_replace(true);
}
