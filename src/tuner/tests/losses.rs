//! How many pictures are lost, against the truth.

use super::*;

/// What a tuner counts, and the truth.
#[derive(Debug)]
struct Outcome {
    counted: u64,
    /// Pictures from the first whole one on that were sent and not received whole.
    lost: u64,
}

/// A station that sends as a test says, over a network that loses IP packets.
struct Run {
    rng: fastrand::Rng,
    sender: Transmitter,
    tuner: Tuner,
    /// Thousandths of IP packets that are lost.
    lost: u32,
    now: AirTime,
    n: u64,
    sent: u64,
    whole: u64,
}

impl Run {
    fn new(datagram: usize, bytes: usize, lost: u32, seed: u64) -> Run {
        let sender = Transmitter::new(datagram, bytes);
        let mut tuner = Tuner::new();
        tuner.expect(START, Expected::Pictures(Some(sender.rate)));
        Run { rng: fastrand::Rng::with_seed(seed), sender, tuner, lost, now: START, n: 0, sent: 0, whole: 0 }
    }

    fn advance(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(deadline) = self.tuner.poll_timeout().filter(|&deadline| deadline < until) {
            self.tuner.handle_timeout(deadline);
        }
        self.now = until;
    }

    /// Sends pictures, `apart` from each other. A datagram is lost with any of its fragments.
    fn send(&mut self, pictures: u64, apart: Duration, lost: u32) {
        for _ in 0..pictures {
            for packet in self.sender.send_at(self.n, self.now) {
                let fragments = packet.len().div_ceil(1480);
                if (0..fragments).any(|_| self.rng.u32(..1000) < lost) {
                    continue;
                }
                self.tuner.handle_datagram(self.now, &packet).unwrap();
            }
            self.n += 1;
            let whole = std::iter::from_fn(|| self.tuner.poll_picture()).count() as u64;
            self.whole += whole;
            self.advance(apart);
            let whole = whole + std::iter::from_fn(|| self.tuner.poll_picture()).count() as u64;
            self.sent += u64::from(self.whole + whole > 0);
        }
    }

    fn film(&mut self, pictures: u64) {
        self.send(pictures, self.sender.rate.interval(), self.lost);
    }

    fn outcome(&self) -> Outcome {
        let c = self.tuner.counters();
        Outcome { counted: c.pictures_lost, lost: self.sent - c.pictures }
    }
}

#[test]
fn the_count_is_within_one_percent_of_the_truth() {
    for datagram in [1472, 65_507] {
        for lost in [1, 2, 5, 10, 20, 30, 50] {
            for seed in 0..2 {
                let mut run = Run::new(datagram, 22_000, lost, seed);
                run.film(1500);
                let Outcome { counted, lost: truth } = run.outcome();
                let tolerance = (truth / 100).max(2);
                let case = format!("{datagram} bytes, {lost} in a thousand, seed {seed}");
                assert!(counted.abs_diff(truth) <= tolerance, "{case}: {counted} counted, {truth} lost");
            }
        }
    }
}

#[test]
fn total_silence_to_the_end_of_the_run_is_counted() {
    for datagram in [1472, 65_507] {
        for before in [0, 1, 2, 500] {
            let mut run = Run::new(datagram, 47_000, 0, 1);
            run.film(before);
            let interval = run.sender.rate.interval();
            run.send(300, interval, 1000);
            let counted = run.outcome().counted;
            assert!((297..=300).contains(&counted), "{datagram}, after {before}: {counted} of 300");
            // The next packet tells exactly, and that there was a picture whose packets all came.
            run.film(1);
            if before > 2 {
                assert_eq!(run.outcome().counted, 300, "{datagram}, after {before}");
            }
        }
    }
}

#[test]
fn what_was_not_sent_is_not_lost() {
    let slate = Duration::from_millis(200);
    let slower = Duration::from_millis(40);
    for datagram in [1472, 65_507] {
        for lost in [0, 1000] {
            let mut run = Run::new(datagram, 22_000, 0, 1);
            // Another picture is lost at each change, so that the sequence numbers have a gap there.
            let extra = u64::from(lost > 0);
            run.film(100);
            run.send(extra, slate, lost);
            run.send(20, slate, 0);
            run.send(extra, slower, lost);
            run.send(100, slower, 0);
            run.send(extra, slower, lost);
            run.advance(Duration::from_secs(3));
            run.send(100, slower, 0);
            run.film(100);
            let Outcome { counted, lost: truth } = run.outcome();
            assert_eq!(truth, 3 * extra);
            assert!(
                counted >= truth && counted <= truth + if datagram == 1472 { 3 } else { 0 },
                "{datagram}: {counted} counted, {truth} lost"
            );
        }
    }
}

#[test]
fn a_silence_without_a_directory_is_not_a_loss() {
    let mut run = Run::new(1472, 22_000, 0, 1);
    run.tuner.expect(START, Expected::Unknown);
    run.film(100);
    run.advance(Duration::from_secs(60));
    assert_eq!(run.outcome().counted, 0);
    assert_eq!(run.tuner.poll_timeout(), None);
}

#[test]
fn an_absurd_rate_costs_no_time_and_no_memory() {
    for (num, den) in [(u32::MAX, 1), (1, u32::MAX), (90_000, 1)] {
        let mut run = Run::new(1472, 300, 0, 1);
        run.tuner.expect(START, Expected::Pictures(FrameRate::new(num, den)));
        let mut looks = 0;
        let end = START + Duration::from_secs(60);
        while let Some(deadline) = run.tuner.poll_timeout().filter(|&deadline| deadline < end) {
            run.tuner.handle_timeout(deadline);
            looks += 1;
        }
        assert!(looks <= 600, "{looks} looks in a minute");
    }
}
