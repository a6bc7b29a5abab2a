//! The air thread in virtual time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use rtrb::{Producer, RingBuffer};

use super::*;

const START: AirTime = AirTime(1_790_000_000_000_000_123);
const INTERVAL: Duration = Duration::from_millis(40);

/// A burst that left.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sent {
    at: AirTime,
    station: usize,
    due: AirTime,
    burst: usize,
}

/// What all outlets of a test share.
#[derive(Default)]
struct Studio {
    now: AirTime,
    sent: Vec<Sent>,
    /// Bursts that were given up, by what was to be the first of them.
    given_up: Vec<(AirTime, usize)>,
    /// Bursts to refuse.
    refuse: Vec<(AirTime, usize)>,
    /// How long a send takes.
    cost: Duration,
}

/// An sender that sends a picture in `bursts` over `spread` of its interval.
struct Camera {
    studio: Rc<RefCell<Studio>>,
    station: usize,
    bursts: usize,
    spread: f64,
}

impl Transmit for Camera {
    fn plan(&self, _: &Unit, room: Duration) -> Plan {
        let step = room.mul_f64(self.spread / self.bursts as f64);
        Plan { bursts: self.bursts, size: 4, packets: 4 * self.bursts, step }
    }

    fn send(&mut self, unit: &Unit, _: Plan, burst: usize) -> io::Result<usize> {
        let mut studio = self.studio.borrow_mut();
        if studio.refuse.contains(&(unit.due.at, burst)) {
            return Err(io::Error::from_raw_os_error(nix::libc::ENETUNREACH));
        }
        let sent = Sent { at: studio.now, station: self.station, due: unit.due.at, burst };
        studio.sent.push(sent);
        studio.now = studio.now + studio.cost;
        Ok(5600)
    }

    fn give_up(&mut self, unit: &Unit, _: Plan, burst: usize) {
        self.studio.borrow_mut().given_up.push((unit.due.at, burst));
    }
}

/// A pacer and its clock.
struct Scene {
    pacer: Pacer<Camera>,
    studio: Rc<RefCell<Studio>>,
    stations: usize,
}

impl Scene {
    fn new() -> Scene {
        let studio = Rc::new(RefCell::new(Studio { now: START, ..Studio::default() }));
        Scene { pacer: Pacer::new(), studio, stations: 0 }
    }

    fn flow(&mut self, bursts: usize, spread: f64) -> (Producer<Unit>, Arc<AirCounters>) {
        self.flow_of(Class::Station, bursts, spread)
    }

    fn flow_of(&mut self, class: Class, bursts: usize, spread: f64) -> (Producer<Unit>, Arc<AirCounters>) {
        let (ring, units) = RingBuffer::new(1000);
        let counters = Arc::<AirCounters>::default();
        let camera = Camera { studio: self.studio.clone(), station: self.stations, bursts, spread };
        self.stations += 1;
        self.pacer.add(FlowQueue::new(FlowId::next(), class, camera, units, counters.clone()));
        (ring, counters)
    }

    /// Steps until the next one would be after `end`; each wakes up as late as `delay` says of its time.
    fn run_until(&mut self, end: AirTime, mut delay: impl FnMut(AirTime) -> Duration) {
        loop {
            let now = self.studio.borrow().now;
            let next = self.pacer.step(now);
            if next > end {
                break;
            }
            if next > now {
                self.studio.borrow_mut().now = next + delay(next);
            }
        }
    }

    fn sent(&self) -> Vec<Sent> {
        self.studio.borrow().sent.clone()
    }
}

fn unit(at: AirTime, interval: Duration) -> Unit {
    Unit::blank(at, interval, &b"a picture"[..])
}

fn due(n: u32) -> AirTime {
    START + INTERVAL * n
}

fn on_time(_: AirTime) -> Duration {
    Duration::ZERO
}

#[test]
fn the_earliest_goes_first_whoever_it_is_of() {
    let mut scene = Scene::new();
    let mut rings = Vec::new();
    for station in 0..200u64 {
        let interval = Duration::from_micros(16_667 + 331 * (station % 97));
        let (mut ring, _) = scene.flow(1, 0.0);
        let phase = Duration::from_nanos(station * 7_919_113 % 40_000_000);
        (0..50).for_each(|n| ring.push(unit(START + phase + interval * n, interval)).unwrap());
        rings.push(ring);
    }
    scene.run_until(START + INTERVAL * 200, on_time);
    let sent = scene.sent();
    assert_eq!(sent.len(), 200 * 50);
    assert!(sent.iter().all(|sent| sent.at == sent.due), "to the nanosecond");
    assert!(sent.is_sorted_by_key(|sent| sent.due));
}

/// Runs a station of 60 pictures through a stall of `stall` that begins `offset` after picture 3 was due. Returns what was
/// sent, how many were skipped, and when the stall was over.
fn stalled(bursts: usize, spread: f64, offset: Duration, stall: Duration) -> (Vec<Sent>, u64, AirTime) {
    let mut scene = Scene::new();
    let (mut ring, counters) = scene.flow(bursts, spread);
    (0..60).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    let (from, to) = (due(3) + offset, due(3) + offset + stall);
    let stall = |at: AirTime| if at >= from && at < to { to.since(at) } else { Duration::ZERO };
    scene.run_until(due(60), stall);
    let skipped = counters.skipped.load(Relaxed);
    assert_eq!(counters.aired.load(Relaxed) + skipped, 60, "each is aired or counted");
    (scene.sent(), skipped, to)
}

#[test]
fn after_a_stall_of_any_length_what_is_up_to_an_interval_late_is_sent_and_the_rest_skipped() {
    for twentieths in 0..=160 {
        let stall = INTERVAL * twentieths / 20;
        let (sent, skipped, over) = stalled(1, 0.0, Duration::ZERO, stall);
        for n in 3..60 {
            let expected = if due(n) >= over {
                Some(due(n))
            } else if over.since(due(n)) <= INTERVAL {
                Some(over)
            } else {
                None
            };
            let at = sent.iter().find(|sent| sent.due == due(n)).map(|sent| sent.at);
            // One that follows a late one at once is kept away from it.
            let near = expected.map(|expected| expected + INTERVAL / APART);
            assert!(
                at == expected || (at > expected && at <= near),
                "picture {n}, stall {twentieths}/20: {at:?}"
            );
        }
        let late = |n: &u32| over.signed_since(due(*n)) > INTERVAL.as_nanos() as i64;
        assert_eq!(skipped, (3..60).filter(late).count() as u64, "stall {twentieths}/20");
    }
}

#[test]
fn after_a_stall_there_is_no_burst() {
    for (bursts, spread) in [(1, 0.0), (2, 0.5), (4, 0.5), (12, 0.5), (30, 0.95)] {
        let step = INTERVAL.mul_f64(spread / bursts as f64);
        let least = if step.is_zero() { INTERVAL / APART } else { step / 2 };
        for (twentieths, offset) in (0..=160).flat_map(|stall| (0..20).map(move |offset| (stall, offset))) {
            let what = format!("{bursts} bursts, spread {spread}, stall {twentieths}/20, offset {offset}/20");
            let (sent, skipped, _) =
                stalled(bursts, spread, INTERVAL * offset / 20, INTERVAL * twentieths / 20);
            for pair in sent.windows(2) {
                assert!(pair[1].at.since(pair[0].at) >= least, "{what}: {pair:?}");
            }
            for first in sent.iter().filter(|sent| sent.burst == 0) {
                assert!(first.at.since(first.due) <= INTERVAL, "{what}: {first:?}");
            }
            assert!(skipped <= u64::from(twentieths).div_ceil(20), "{what}: {skipped} skipped");
            let last = sent[sent.len() - bursts];
            assert_eq!(last.at, last.due, "{what}: it is on time again");
        }
    }
}

#[test]
fn waking_up_late_by_a_little_does_not_add_up() {
    let mut scene = Scene::new();
    let (mut ring, counters) = scene.flow(10, 0.5);
    (0..100).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    let mut rng = fastrand::Rng::with_seed(1);
    scene.run_until(due(100), |_| Duration::from_micros(rng.u64(5..900)));
    assert_eq!(counters.aired.load(Relaxed), 100);
    for sent in scene.sent() {
        let planned = sent.due + Duration::from_millis(2) * sent.burst as u32;
        assert!(sent.at.since(planned) < Duration::from_micros(900), "{sent:?}");
    }
}

#[test]
fn a_station_that_has_nothing_is_looked_in_on_and_the_others_go_on() {
    let mut scene = Scene::new();
    assert_eq!(scene.pacer.step(START), START + LONGEST_SLEEP.min(NAP * 5), "nobody is there");
    let (mut busy, _) = scene.flow(1, 0.0);
    let (mut quiet, counters) = scene.flow(1, 0.0);
    (0..10).for_each(|n| busy.push(unit(due(n), INTERVAL)).unwrap());
    scene.run_until(due(5), on_time);
    assert_eq!(scene.pacer.step(due(5)), due(5) + NAP);
    // Handed over a little too late, it leaves with the next look.
    quiet.push(unit(due(5), INTERVAL)).unwrap();
    scene.run_until(due(20), on_time);
    let sent = scene.sent();
    assert_eq!(sent.len(), 11);
    let late = sent.iter().find(|sent| sent.station == 1).unwrap();
    assert!(late.at.since(late.due) <= NAP, "{late:?}");
    assert!(sent.iter().all(|sent| sent.station == 1 || sent.at == sent.due));
    assert_eq!(counters.aired.load(Relaxed), 1);
}

#[test]
fn a_client_that_is_paused_does_not_keep_the_thread_awake() {
    let mut scene = Scene::new();
    let (_paused, _) = scene.flow_of(Class::Unicast, 1, 0.0);
    let (mut station, _) = scene.flow(1, 0.0);
    station.push(unit(due(10), INTERVAL)).unwrap();
    assert_eq!(scene.pacer.step(START), START + UNICAST_NAP);
    let (_starved, _) = scene.flow(1, 0.0);
    assert_eq!(scene.pacer.step(START), START + NAP, "a station is looked in on more often");
}

#[test]
fn stations_wait_for_one_burst_of_a_client_at_most() {
    let cost = Duration::from_micros(10);
    for (bursts, spread) in [(1, 0.0), (4, 0.5)] {
        let mut scene = Scene::new();
        scene.studio.borrow_mut().cost = cost;
        // All of what they get is due at once, with that of the station that they watch.
        let guests: Vec<_> = (0..500)
            .map(|_| {
                let (mut ring, counters) = scene.flow_of(Class::Unicast, bursts, spread);
                (1..20).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
                (ring, counters)
            })
            .collect();
        let first = scene.stations;
        let stations: Vec<_> = (1..=100)
            .map(|station| {
                let (mut ring, counters) = scene.flow(1, 0.0);
                let phase = Duration::from_micros(31) * station;
                (1..20).for_each(|n| ring.push(unit(due(n) + phase, INTERVAL)).unwrap());
                (ring, counters)
            })
            .collect();
        scene.run_until(due(21), on_time);
        for sent in scene.sent().iter().filter(|sent| sent.station >= first) {
            assert!(sent.at.since(sent.due) <= cost, "{sent:?}");
        }
        for (_, counters) in guests.iter().chain(&stations) {
            assert_eq!(counters.aired.load(Relaxed), 19, "and they have all of it");
        }
    }
}

#[test]
fn a_client_is_looked_in_on_every_so_often_however_much_is_on_air() {
    let mut scene = Scene::new();
    let (mut guest, _) = scene.flow_of(Class::Unicast, 1, 0.0);
    let (mut station, _) = scene.flow(1, 0.0);
    (0..30).for_each(|n| station.push(unit(START + NAP * n, NAP)).unwrap());
    scene.run_until(START + NAP * 5, on_time);
    guest.push(unit(START + NAP * 6, INTERVAL)).unwrap();
    scene.run_until(START + NAP * 30, on_time);
    let sent = scene.sent();
    assert_eq!(sent.len(), 31);
    let first = sent.iter().find(|sent| sent.station == 0).unwrap();
    assert_eq!(first.at, START + UNICAST_NAP, "not at each of the steps between");
}

#[test]
fn a_picture_that_lasts_long_does_not_take_the_air_from_those_behind_it() {
    for (bursts, spread) in [(1, 0.0), (4, 0.5), (30, 0.95)] {
        let mut scene = Scene::new();
        let (mut ring, counters) = scene.flow(bursts, spread);
        // It lasts for 10 s; its station repeats it meanwhile, and then the film goes on.
        let repeat = Duration::from_millis(200);
        ring.push(unit(due(0), repeat * 50)).unwrap();
        (1..50).for_each(|n| ring.push(unit(due(0) + repeat * n, repeat)).unwrap());
        (250..300).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
        scene.run_until(due(301), on_time);
        assert_eq!((counters.aired.load(Relaxed), counters.skipped.load(Relaxed)), (100, 0));
        let firsts = scene.sent();
        assert!(firsts.iter().filter(|sent| sent.burst == 0).all(|sent| sent.at == sent.due));
    }
}

#[test]
fn who_skips_a_picture_counts_its_packets() {
    let mut scene = Scene::new();
    let (mut ring, counters) = scene.flow(3, 0.5);
    (0..3).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    scene.studio.borrow_mut().now = due(2);
    scene.run_until(due(4), on_time);
    assert_eq!((counters.skipped.load(Relaxed), counters.skipped_packets.load(Relaxed)), (1, 12));
}

#[test]
fn a_client_that_is_gone_gets_nothing_more() {
    let mut scene = Scene::new();
    let (mut ring, counters) = scene.flow_of(Class::Unicast, 4, 0.5);
    (0..3).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    scene.run_until(due(0) + INTERVAL / 4, on_time);
    assert_eq!(scene.sent().len(), 3, "in the middle of a picture");
    drop(ring);
    scene.run_until(due(10), on_time);
    assert_eq!((scene.sent().len(), Arc::strong_count(&counters)), (3, 1));
}

#[test]
fn with_all_flows_supplied_it_sleeps_right_up_to_the_next() {
    let mut scene = Scene::new();
    let (mut ring, _) = scene.flow(1, 0.0);
    ring.push(unit(due(2), INTERVAL)).unwrap();
    ring.push(unit(due(100), INTERVAL)).unwrap();
    assert_eq!(scene.pacer.step(START), due(2));
    assert_eq!(scene.pacer.step(due(2)), due(2), "sent: look again at once");
    assert_eq!(scene.pacer.step(due(2)), due(2) + LONGEST_SLEEP);
}

#[test]
fn a_flow_that_is_dropped_airs_what_it_had_and_its_place_is_taken_again() {
    let mut scene = Scene::new();
    let (mut ring, counters) = scene.flow(4, 0.5);
    (0..3).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    scene.run_until(due(0) + INTERVAL / 4, on_time);
    assert_eq!((scene.sent().len(), counters.aired.load(Relaxed)), (3, 0), "in the middle of a picture");
    drop(ring);
    scene.run_until(due(10), on_time);
    assert_eq!((scene.sent().len(), counters.aired.load(Relaxed)), (12, 3));
    assert_eq!(Arc::strong_count(&counters), 1, "the sender is gone");
    let (mut ring, _) = scene.flow(1, 0.0);
    assert_eq!(scene.pacer.flows.len(), 1);
    ring.push(unit(due(11), INTERVAL)).unwrap();
    scene.run_until(due(12), on_time);
    assert_eq!(scene.sent().last().map(|sent| sent.at), Some(due(11)));
}

#[test]
fn a_picture_with_a_hole_is_not_finished_and_the_next_one_is_sent() {
    let mut scene = Scene::new();
    let (mut ring, counters) = scene.flow(4, 0.5);
    (0..3).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    scene.studio.borrow_mut().refuse = vec![(due(1), 1)];
    scene.run_until(due(5), on_time);
    let sent = scene.sent();
    let bursts = |n| sent.iter().filter(|sent| sent.due == due(n)).count();
    assert_eq!([bursts(0), bursts(1), bursts(2)], [4, 1, 4]);
    assert_eq!(scene.studio.borrow().given_up, [(due(1), 2)]);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    assert_eq!([count(&counters.aired), count(&counters.send_errors)], [2, 1]);
    assert_eq!(count(&counters.last_errno), nix::libc::ENETUNREACH as u64);
}
