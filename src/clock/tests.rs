use std::cell::Cell;

use super::slew::CONVERGED;
use super::*;

const WALL: AirTime = AirTime(1_790_000_000_000_000_123);
const MONOTONIC: u64 = 345_678_901_234_567;
const HOUR: i64 = 3_600_000_000_000;
const INTERVAL: u64 = 40_000_000;

/// Airs pictures at 25 a second for `seconds`, while the wall clock is set by `step` nanoseconds after one second. Calls
/// `each` with the monotonic time at which each picture is sent. Returns how far air time is behind the wall clock at the
/// end, in nanoseconds.
fn air(step: i64, seconds: u64, mut each: impl FnMut(u64)) -> i64 {
    let clock = AirClock::set(WALL, MONOTONIC);
    let wall = |monotonic: u64| {
        let since = monotonic - MONOTONIC;
        AirTime((WALL.0 + since).wrapping_add_signed(if since > 1_000_000_000 { step } else { 0 }))
    };
    let mut look = MONOTONIC;
    for n in 0..seconds * 25 {
        let due = AirTime(WALL.0 + n * INTERVAL);
        // The task that follows the wall clock looks every 100 ms or every four seconds. The air thread sleeps again if it
        // woke up early.
        while clock.monotonic(due) > look {
            let slewing = clock.follow_to(wall(look), look) != Adjustment::None;
            look += if slewing { 100_000_000 } else { 4_000_000_000 };
        }
        let at = clock.monotonic(due);
        assert!((0..=2).contains(&clock.at(at).signed_since(due)), "picture {n} is sent when it is due");
        each(at);
    }
    wall(look).signed_since(clock.at(look))
}

#[test]
fn no_interval_changes_by_more_than_500_ppm_when_the_wall_clock_is_set() {
    for step in [MAX_SLEW, -HOUR, 2_000_000, -2_000_000, 0] {
        let (mut last, mut changed) = (None, 0u64);
        air(step, 120, |at| {
            if let Some(last) = last.replace(at) {
                let by = (at - last).abs_diff(INTERVAL);
                // Two nanoseconds of rounding at each end.
                assert!(by <= INTERVAL / 2000 + 4, "{step}: an interval changes by {by} ns");
                changed += u64::from(by > 4);
            }
        });
        let expected = match step.unsigned_abs() {
            0 => 0..1,
            2_000_000 => 80..120,
            _ => 2850..3000,
        };
        assert!(expected.contains(&changed), "{step}: {changed} intervals changed");
    }
}

#[test]
fn slewing_reaches_the_wall_clock_and_ends() {
    for step in [50_000_000, -50_000_000, 1_100_000, -1_100_000] {
        let ahead = air(step, 120, |_| {});
        assert!(ahead.unsigned_abs() <= CONVERGED, "{ahead} ns ahead after {step}");
    }
    assert_eq!(air(900_000, 120, |_| {}), 900_000, "too small a step to follow");
}

#[test]
fn a_change_of_pace_is_no_jump_and_fits_into_a_word() {
    let mut slew = Slew { at_zero: 0, pace: Pace::Even };
    let mut monotonic = MONOTONIC;
    for ahead in [MAX_SLEW, -HOUR, MAX_SLEW, 50_000, -2_000_000, 0, MAX_SLEW, i64::MIN] {
        let before = slew.at(monotonic);
        slew = slew.follow(monotonic, ahead);
        assert_eq!(slew.at(monotonic), before);
        assert_eq!(Slew::unpack(slew.pack()), slew);
        monotonic += 3 * HOUR.unsigned_abs();
    }
}

#[test]
fn clones_tell_the_same_time() {
    let clock = AirClock::start();
    let twin = clock.clone();
    clock.slew.store(Slew { at_zero: 5_000_000_000, pace: Pace::Even }.pack(), Relaxed);
    assert!(twin.now().signed_since(clock.now()).abs() < 1_000_000_000);
    assert!(
        matches!(clock.follow(), Adjustment::Slewing(..-4_000_000_000)),
        "the wall clock is behind by 5 s"
    );
    assert_eq!(twin.slew().pace, Pace::Slower);
}

#[test]
fn air_time_jumps_to_a_wall_clock_that_is_far_ahead() {
    let clock = AirClock::set(WALL, MONOTONIC);
    let mut wall = WALL;
    // Twice: a machine may be suspended each night.
    for night in 1..=2 {
        let monotonic = MONOTONIC + night * 1_000_000_000;
        wall = wall + Duration::from_secs(8 * 3600);
        let Adjustment::Jumped(ahead) = clock.follow_to(wall, monotonic) else { panic!("air time jumps") };
        assert!(ahead > 7 * HOUR);
        assert_eq!(clock.at(monotonic), wall);
        assert_eq!(clock.follow_to(wall, monotonic), Adjustment::None);
    }
}

#[test]
fn a_preemption_between_the_readings_is_not_taken_for_a_step() {
    let calls = Cell::new(0);
    // At the first two attempts, 4 ms pass after the first reading.
    let monotonic = || {
        calls.set(calls.get() + 1);
        let preempted = calls.get().min(4) / 2;
        MONOTONIC + calls.get() * 30 + preempted * 4_000_000
    };
    let wall = || WALL + Duration::from_nanos(monotonic() - MONOTONIC);
    let (wall, monotonic) = read_both(wall, monotonic);
    assert!(wall.since(WALL).as_nanos().abs_diff(u128::from(monotonic - MONOTONIC)) < 100);
}
