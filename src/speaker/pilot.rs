//! Keeps what is heard at the place where it should be: slowly, by resampling, or in one jump. Pure.

/// Most that the speed is changed by, in parts per million: 500 ppm is less than a hundredth of a semitone.
const MOST: f64 = 500.0;

/// Speed per millisecond of error, in ppm: an error decays with a time constant of 20 s, and 1 ms of jitter in a device's
/// report changes the speed by 50 ppm for a moment, which nobody hears.
const PROPORTIONAL: f64 = 50.0;

/// Speed per millisecond and second: critically damped with the above. A device that is off by 100 ppm makes an error of at
/// most 1.5 ms in the first minute, and then none.
const INTEGRAL: f64 = 0.625;

/// Errors are averaged over this long, in seconds: devices report in steps of their period.
const SMOOTH: f64 = 0.5;

/// An error beyond this, in milliseconds, is corrected in one jump: at 500 ppm it would take over 80 s.
const JUMP: f64 = 40.0;

/// After a disturbance, which is a gap in the sound already, an error beyond this, in milliseconds, is corrected in one jump
/// too: below what ATSC IS-191 allows for sound that is early.
const JUMP_DISTURBED: f64 = 10.0;

/// How long that holds, in seconds, and the part of it in which the device's reports settle.
const DISTURBED: f64 = 1.5;
const SETTLING: f64 = 0.3;

/// A loop that turns errors of position into a speed.
#[derive(Debug, Clone)]
pub(super) struct Pilot {
    /// The average error, in milliseconds.
    error: f64,
    /// The part of the speed that has been learnt, in ppm.
    learnt: f64,
    speed: f64,
    /// For how long small errors are still corrected by a jump, in seconds.
    disturbed: f64,
}

impl Default for Pilot {
    fn default() -> Pilot {
        Pilot { error: 0.0, learnt: 0.0, speed: 1.0, disturbed: 0.0 }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Steer {
    /// Go on at this many source samples for one at the nominal rate: 1 ± 0.0005.
    Speed(f64),
    /// Jump to the right place.
    Jump,
}

impl Pilot {
    /// `error` is by how much the position is ahead of where it should be, in seconds; `span` is the time since the last call.
    pub(super) fn steer(&mut self, error: f64, span: f64) -> Steer {
        let weight = (span / SMOOTH).min(1.0);
        self.error += (error * 1e3 - self.error) * weight;
        self.disturbed = (self.disturbed - span).max(0.0);
        let settled = self.disturbed > 0.0 && self.disturbed < DISTURBED - SETTLING;
        if self.error.abs() > if settled { JUMP_DISTURBED } else { JUMP } {
            (self.error, self.disturbed) = (0.0, 0.0);
            return Steer::Jump;
        }
        let learnt = self.learnt - INTEGRAL * self.error * span;
        let speed = learnt - PROPORTIONAL * self.error;
        // What cannot be applied is not learnt.
        if speed.abs() <= MOST {
            self.learnt = learnt;
        }
        self.speed = 1.0 + speed.clamp(-MOST, MOST) * 1e-6;
        Steer::Speed(self.speed)
    }

    /// The device has played something else, or nothing, for a moment.
    pub(super) fn disturb(&mut self) {
        self.disturbed = DISTURBED;
    }

    /// The speed: source samples for one at the nominal rate.
    pub(super) fn speed(&self) -> f64 {
        self.speed
    }

    /// The position is right now. What has been learnt of the device's clock stays.
    pub(super) fn arrived(&mut self) {
        self.error = 0.0;
    }

    /// The average error, in seconds; positive if the sound is early.
    pub(super) fn error(&self) -> f64 {
        self.error * 1e-3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a device that is off by `ppm` play for `seconds`, with reports that are off by up to `jitter` seconds. Returns the
    /// jumps, the largest error after the first ten minutes, and the largest of all, in milliseconds.
    fn play(ppm: f64, offset: f64, jitter: f64, seconds: u32) -> (u32, f64, f64) {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut pilot, mut ahead, mut jumps) = (Pilot::default(), offset, 0);
        let (mut steady, mut worst) = (0.0f64, 0.0f64);
        let span = 0.005;
        for step in 0..seconds * 200 {
            let seen = ahead + jitter * (random.f64() * 2.0 - 1.0);
            match pilot.steer(seen, span) {
                Steer::Jump => {
                    (ahead, jumps) = (0.0, jumps + 1);
                    pilot.arrived();
                }
                Steer::Speed(speed) => ahead += span * ((1.0 + ppm * 1e-6) * speed - 1.0),
            }
            worst = worst.max(ahead.abs() * 1e3);
            if step > 120_000 {
                steady = steady.max(ahead.abs() * 1e3);
            }
        }
        (jumps, steady, worst)
    }

    #[test]
    fn an_hour_on_a_device_that_is_off_by_100_ppm_needs_no_jump() {
        for ppm in [-100.0, 0.0, 100.0] {
            let (jumps, steady, worst) = play(ppm, 0.0, 0.002, 3600);
            assert_eq!(jumps, 0, "{ppm} ppm");
            assert!(steady < 0.5 && worst < 3.0, "{ppm} ppm: {steady} ms, at first {worst} ms");
        }
    }

    #[test]
    fn an_error_of_less_than_40_ms_is_corrected_without_a_jump_and_a_larger_one_by_one() {
        assert_eq!(play(100.0, 0.035, 0.0, 900).0, 0);
        let (jumps, steady, _) = play(-100.0, -0.2, 0.001, 900);
        assert_eq!(jumps, 1);
        assert!(steady < 0.5, "{steady} ms");
    }

    #[test]
    fn after_a_disturbance_an_error_of_more_than_10_ms_is_corrected_by_a_jump() {
        let jumps = |error: f64, disturbed: bool| {
            let mut pilot = Pilot::default();
            if disturbed {
                pilot.disturb();
            }
            (0..1000).filter(|_| pilot.steer(error, 0.005) == Steer::Jump).count()
        };
        assert_eq!([jumps(0.030, false), jumps(0.030, true), jumps(0.008, true)], [0, 1, 0]);
    }

    #[test]
    fn the_speed_is_never_off_by_more_than_500_ppm() {
        let mut pilot = Pilot::default();
        for step in 0..10_000 {
            let error = if step < 5000 { 0.039 } else { -0.039 };
            match pilot.steer(error, 0.005) {
                Steer::Speed(speed) => assert!((speed - 1.0).abs() <= 500.1e-6),
                Steer::Jump => panic!("at step {step}"),
            }
        }
    }
}
