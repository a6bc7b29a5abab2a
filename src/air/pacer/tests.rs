//! The pacer in virtual time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use rtrb::{Producer, RingBuffer};

use super::*;
use crate::media::Due;

const START: AirTime = AirTime(1_790_000_000_000_000_123);
const INTERVAL: Duration = Duration::from_millis(40);

/// A burst that was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SentBurst {
    at: AirTime,
    /// Number of the flow, from 0.
    flow: usize,
    due: AirTime,
    burst: usize,
}

/// The clock and the network that all senders of a test share.
#[derive(Default)]
struct SharedState {
    now: AirTime,
    sent: Vec<SentBurst>,
    /// Due time and first burst of each unit that was given up.
    given_up: Vec<(AirTime, usize)>,
    /// Due time and number of each burst to refuse.
    refuse: Vec<(AirTime, usize)>,
    /// How long a send takes.
    cost: Duration,
}

/// A sender that sends each picture in `bursts` over `spread` of its interval.
struct RecordingSender {
    shared: Rc<RefCell<SharedState>>,
    flow: usize,
    bursts: usize,
    spread: f64,
}

impl Transmit for RecordingSender {
    fn plan(&self, _: &Unit, window: Duration) -> Plan {
        let step = window.mul_f64(self.spread / self.bursts as f64);
        Plan { bursts: self.bursts, size: 4, packets: 4 * self.bursts, step }
    }

    fn send(&mut self, unit: &Unit, _: Plan, burst: usize) -> io::Result<usize> {
        let mut shared = self.shared.borrow_mut();
        if shared.refuse.contains(&(unit.due.at, burst)) {
            return Err(io::Error::from_raw_os_error(nix::libc::ENETUNREACH));
        }
        let sent = SentBurst { at: shared.now, flow: self.flow, due: unit.due.at, burst };
        shared.sent.push(sent);
        shared.now = shared.now + shared.cost;
        Ok(5600)
    }

    fn give_up(&mut self, unit: &Unit, _: Plan, burst: usize) {
        self.shared.borrow_mut().given_up.push((unit.due.at, burst));
    }
}

/// A pacer and its clock.
struct PacerTest {
    pacer: Pacer<RecordingSender>,
    shared: Rc<RefCell<SharedState>>,
    /// Number of flows so far.
    flows: usize,
}

impl PacerTest {
    fn new() -> PacerTest {
        let shared = Rc::new(RefCell::new(SharedState { now: START, ..SharedState::default() }));
        PacerTest { pacer: Pacer::new(), shared, flows: 0 }
    }

    fn flow(&mut self, bursts: usize, spread: f64) -> (Producer<Unit>, Arc<AirCounters>) {
        self.flow_of(Class::Picture, bursts, spread)
    }

    fn flow_of(&mut self, class: Class, bursts: usize, spread: f64) -> (Producer<Unit>, Arc<AirCounters>) {
        let (ring, units) = RingBuffer::new(1000);
        let counters = Arc::<AirCounters>::default();
        let sender = RecordingSender { shared: self.shared.clone(), flow: self.flows, bursts, spread };
        self.flows += 1;
        self.pacer.add(FlowQueue::new(FlowId::next(), class, sender, units, counters.clone()));
        (ring, counters)
    }

    /// Steps until the next step is after `end`. A step that is due at `t` happens `delay(t)` later.
    fn run_until(&mut self, end: AirTime, mut delay: impl FnMut(AirTime) -> Duration) {
        loop {
            let now = self.shared.borrow().now;
            let next = self.pacer.step(now);
            if next > end {
                break;
            }
            if next > now {
                self.shared.borrow_mut().now = next + delay(next);
            }
        }
    }

    fn sent(&self) -> Vec<SentBurst> {
        self.shared.borrow().sent.clone()
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
fn the_earliest_burst_of_all_flows_is_sent_first() {
    let mut test = PacerTest::new();
    let mut rings = Vec::new();
    for station in 0..200u64 {
        let interval = Duration::from_micros(16_667 + 331 * (station % 97));
        let (mut ring, _) = test.flow(1, 0.0);
        let phase = Duration::from_nanos(station * 7_919_113 % 40_000_000);
        (0..50).for_each(|n| ring.push(unit(START + phase + interval * n, interval)).unwrap());
        rings.push(ring);
    }
    test.run_until(START + INTERVAL * 200, on_time);
    let sent = test.sent();
    assert_eq!(sent.len(), 200 * 50);
    assert!(sent.iter().all(|sent| sent.at == sent.due), "to the nanosecond");
    assert!(sent.is_sorted_by_key(|sent| sent.due));
}

/// Runs a station of 60 pictures through a stall of length `stall` that begins `offset` after picture 3 was due. Returns the
/// bursts that were sent, the number of pictures that were skipped, and the end of the stall.
fn stalled(bursts: usize, spread: f64, offset: Duration, stall: Duration) -> (Vec<SentBurst>, u64, AirTime) {
    let mut test = PacerTest::new();
    let (mut ring, counters) = test.flow(bursts, spread);
    (0..60).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    let (from, to) = (due(3) + offset, due(3) + offset + stall);
    let stall = |at: AirTime| if at >= from && at < to { to.since(at) } else { Duration::ZERO };
    test.run_until(due(60), stall);
    let skipped = counters.skipped.load(Relaxed);
    assert_eq!(counters.aired.load(Relaxed) + skipped, 60, "each is aired or counted");
    (test.sent(), skipped, to)
}

#[test]
fn after_a_stall_pictures_up_to_an_interval_late_are_sent_and_later_ones_skipped() {
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
            // A picture that follows a late one keeps its distance.
            let near = expected.map(|expected| expected + INTERVAL / SEPARATION);
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
        let least = if step.is_zero() { INTERVAL / SEPARATION } else { step / 2 };
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
fn small_delays_of_the_thread_do_not_add_up() {
    let mut test = PacerTest::new();
    let (mut ring, counters) = test.flow(10, 0.5);
    (0..100).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    let mut rng = fastrand::Rng::with_seed(1);
    test.run_until(due(100), |_| Duration::from_micros(rng.u64(5..900)));
    assert_eq!(counters.aired.load(Relaxed), 100);
    for sent in test.sent() {
        let planned = sent.due + Duration::from_millis(2) * sent.burst as u32;
        assert!(sent.at.since(planned) < Duration::from_micros(900), "{sent:?}");
    }
}

#[test]
fn small_delays_of_the_thread_do_not_add_up_for_sound_of_several_packets() {
    let mut test = PacerTest::new();
    let (mut ring, counters) = test.flow_of(Class::Sound, 4, 1.0);
    let (unit, late) = (Duration::from_millis(20), Duration::from_millis(3));
    for n in 0..200 {
        ring.push(Unit::linear(Due { at: START + unit * n, interval: unit }, vec![0; 3840].into())).unwrap();
    }
    test.run_until(START + unit * 201, |_| late);
    assert_eq!((test.sent().len(), counters.skipped.load(Relaxed)), (800, 0));
    for sent in test.sent() {
        let due = sent.due + unit / 4 * sent.burst as u32;
        assert!(sent.at.since(due) <= late + SOUND_SLACK, "{sent:?}");
    }
}

#[test]
fn an_empty_station_is_polled_while_the_others_go_on() {
    let mut test = PacerTest::new();
    assert_eq!(test.pacer.step(START), START + LONGEST_SLEEP.min(STATION_POLL * 5), "there are no flows");
    let (mut busy, _) = test.flow(1, 0.0);
    let (mut quiet, counters) = test.flow(1, 0.0);
    (0..10).for_each(|n| busy.push(unit(due(n), INTERVAL)).unwrap());
    test.run_until(due(5), on_time);
    assert_eq!(test.pacer.step(due(5)), due(5) + STATION_POLL);
    // Handed over a little too late, it is sent at the next poll.
    quiet.push(unit(due(5), INTERVAL)).unwrap();
    test.run_until(due(20), on_time);
    let sent = test.sent();
    assert_eq!(sent.len(), 11);
    let late = sent.iter().find(|sent| sent.flow == 1).unwrap();
    assert!(late.at.since(late.due) <= STATION_POLL, "{late:?}");
    assert!(sent.iter().all(|sent| sent.flow == 1 || sent.at == sent.due));
    assert_eq!(counters.aired.load(Relaxed), 1);
}

#[test]
fn a_client_that_is_paused_does_not_keep_the_thread_awake() {
    let mut test = PacerTest::new();
    let (_paused, _) = test.flow_of(Class::Unicast, 1, 0.0);
    let (mut station, _) = test.flow(1, 0.0);
    station.push(unit(due(10), INTERVAL)).unwrap();
    assert_eq!(test.pacer.step(START), START + UNICAST_POLL);
    let (_starved, _) = test.flow(1, 0.0);
    assert_eq!(test.pacer.step(START), START + STATION_POLL, "a station is polled more often");
}

#[test]
fn stations_wait_for_at_most_one_burst_of_a_client() {
    let cost = Duration::from_micros(10);
    for (bursts, spread) in [(1, 0.0), (4, 0.5)] {
        let mut test = PacerTest::new();
        test.shared.borrow_mut().cost = cost;
        // The clients' pictures are all due at the same moments.
        let clients: Vec<_> = (0..500)
            .map(|_| {
                let (mut ring, counters) = test.flow_of(Class::Unicast, bursts, spread);
                (1..20).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
                (ring, counters)
            })
            .collect();
        let first = test.flows;
        let stations: Vec<_> = (1..=100)
            .map(|station| {
                let (mut ring, counters) = test.flow(1, 0.0);
                let phase = Duration::from_micros(31) * station;
                (1..20).for_each(|n| ring.push(unit(due(n) + phase, INTERVAL)).unwrap());
                (ring, counters)
            })
            .collect();
        test.run_until(due(21), on_time);
        for sent in test.sent().iter().filter(|sent| sent.flow >= first) {
            assert!(sent.at.since(sent.due) <= cost, "{sent:?}");
        }
        for (_, counters) in clients.iter().chain(&stations) {
            assert_eq!(counters.aired.load(Relaxed), 19, "each flow sent all its pictures");
        }
    }
}

#[test]
fn sound_leaves_with_a_picture_and_has_a_wake_up_of_its_own_only_if_none_is_near() {
    let (near, far) = (SOUND_SLACK / 2, SOUND_SLACK * 3);
    for (picture_after, sound_waits) in [(near, near), (far, SOUND_SLACK), (Duration::ZERO, Duration::ZERO)] {
        let mut test = PacerTest::new();
        let (mut sound, _) = test.flow_of(Class::Sound, 1, 0.0);
        let (mut pictures, _) = test.flow(1, 0.0);
        for n in 1..21 {
            sound.push(unit(due(n), INTERVAL)).unwrap();
            pictures.push(unit(due(n) + picture_after, INTERVAL)).unwrap();
        }
        test.run_until(due(21), on_time);
        let sent = test.sent();
        assert_eq!(sent.len(), 40);
        for sent in sent {
            let waits = if sent.flow == 0 { sound_waits } else { Duration::ZERO };
            assert_eq!(sent.at.since(sent.due), waits, "{sent:?}");
        }
    }
}

#[test]
fn a_picture_waits_for_at_most_one_packet_of_sound() {
    let cost = Duration::from_micros(10);
    let mut test = PacerTest::new();
    test.shared.borrow_mut().cost = cost;
    let sounds: Vec<_> = (0..100)
        .map(|_| {
            let (mut ring, counters) = test.flow_of(Class::Sound, 1, 0.0);
            (1..20).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
            (ring, counters)
        })
        .collect();
    let pictures: Vec<_> = (1..=100)
        .map(|station| {
            let (mut ring, _) = test.flow(1, 0.0);
            let phase = Duration::from_micros(31) * station;
            (1..20).for_each(|n| ring.push(unit(due(n) + phase, INTERVAL)).unwrap());
            ring
        })
        .collect();
    test.run_until(due(21), on_time);
    for sent in test.sent().iter().filter(|sent| sent.flow >= sounds.len()) {
        assert!(sent.at.since(sent.due) <= cost, "{sent:?}");
    }
    for (_, counters) in &sounds {
        assert_eq!(counters.aired.load(Relaxed), 19, "each flow sent all its packets");
    }
    drop(pictures);
}

#[test]
fn a_client_is_polled_at_its_interval_however_often_the_pacer_steps() {
    let mut test = PacerTest::new();
    let (mut client, _) = test.flow_of(Class::Unicast, 1, 0.0);
    let (mut station, _) = test.flow(1, 0.0);
    (0..30).for_each(|n| station.push(unit(START + STATION_POLL * n, STATION_POLL)).unwrap());
    test.run_until(START + STATION_POLL * 5, on_time);
    client.push(unit(START + STATION_POLL * 6, INTERVAL)).unwrap();
    test.run_until(START + STATION_POLL * 30, on_time);
    let sent = test.sent();
    assert_eq!(sent.len(), 31);
    let first = sent.iter().find(|sent| sent.flow == 0).unwrap();
    assert_eq!(first.at, START + UNICAST_POLL, "not at each of the steps between");
}

#[test]
fn a_long_picture_does_not_delay_its_repetitions() {
    for (bursts, spread) in [(1, 0.0), (4, 0.5), (30, 0.95)] {
        let mut test = PacerTest::new();
        let (mut ring, counters) = test.flow(bursts, spread);
        // A picture of 10 s. The station repeats it meanwhile, and then the film goes on.
        let repeat = Duration::from_millis(200);
        ring.push(unit(due(0), repeat * 50)).unwrap();
        (1..50).for_each(|n| ring.push(unit(due(0) + repeat * n, repeat)).unwrap());
        (250..300).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
        test.run_until(due(301), on_time);
        assert_eq!((counters.aired.load(Relaxed), counters.skipped.load(Relaxed)), (100, 0));
        let firsts = test.sent();
        assert!(firsts.iter().filter(|sent| sent.burst == 0).all(|sent| sent.at == sent.due));
    }
}

#[test]
fn the_packets_of_a_skipped_picture_are_counted() {
    let mut test = PacerTest::new();
    let (mut ring, counters) = test.flow(3, 0.5);
    (0..3).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    test.shared.borrow_mut().now = due(2);
    test.run_until(due(4), on_time);
    assert_eq!((counters.skipped.load(Relaxed), counters.skipped_packets.load(Relaxed)), (1, 12));
}

#[test]
fn a_client_that_is_gone_is_sent_nothing_more() {
    let mut test = PacerTest::new();
    let (mut ring, counters) = test.flow_of(Class::Unicast, 4, 0.5);
    (0..3).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    test.run_until(due(0) + INTERVAL / 4, on_time);
    assert_eq!(test.sent().len(), 3, "in the middle of a picture");
    drop(ring);
    test.run_until(due(10), on_time);
    assert_eq!((test.sent().len(), Arc::strong_count(&counters)), (3, 1));
}

#[test]
fn while_every_flow_has_a_unit_the_thread_sleeps_until_the_next_is_due() {
    let mut test = PacerTest::new();
    let (mut ring, _) = test.flow(1, 0.0);
    ring.push(unit(due(2), INTERVAL)).unwrap();
    ring.push(unit(due(100), INTERVAL)).unwrap();
    assert_eq!(test.pacer.step(START), due(2));
    assert_eq!(test.pacer.step(due(2)), due(2), "a burst was sent: step again at once");
    assert_eq!(test.pacer.step(due(2)), due(2) + LONGEST_SLEEP);
}

#[test]
fn a_dropped_flow_sends_its_remaining_units_and_its_index_is_used_again() {
    let mut test = PacerTest::new();
    let (mut ring, counters) = test.flow(4, 0.5);
    (0..3).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    test.run_until(due(0) + INTERVAL / 4, on_time);
    assert_eq!((test.sent().len(), counters.aired.load(Relaxed)), (3, 0), "in the middle of a picture");
    drop(ring);
    test.run_until(due(10), on_time);
    assert_eq!((test.sent().len(), counters.aired.load(Relaxed)), (12, 3));
    assert_eq!(Arc::strong_count(&counters), 1, "the flow is gone");
    let (mut ring, _) = test.flow(1, 0.0);
    assert_eq!(test.pacer.flows.len(), 1);
    ring.push(unit(due(11), INTERVAL)).unwrap();
    test.run_until(due(12), on_time);
    assert_eq!(test.sent().last().map(|sent| sent.at), Some(due(11)));
}

#[test]
fn after_a_refused_burst_the_rest_of_the_picture_is_not_sent_and_the_next_one_is() {
    let mut test = PacerTest::new();
    let (mut ring, counters) = test.flow(4, 0.5);
    (0..3).for_each(|n| ring.push(unit(due(n), INTERVAL)).unwrap());
    test.shared.borrow_mut().refuse = vec![(due(1), 1)];
    test.run_until(due(5), on_time);
    let sent = test.sent();
    let bursts = |n| sent.iter().filter(|sent| sent.due == due(n)).count();
    assert_eq!([bursts(0), bursts(1), bursts(2)], [4, 1, 4]);
    assert_eq!(test.shared.borrow().given_up, [(due(1), 2)]);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    assert_eq!([count(&counters.aired), count(&counters.send_errors)], [2, 1]);
    assert_eq!(count(&counters.last_errno), nix::libc::ENETUNREACH as u64);
}
