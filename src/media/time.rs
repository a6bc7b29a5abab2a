//! Moments on air and frame rates: exact, and typed, so that no bare number for media time crosses a module boundary.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

const NANOS: u128 = 1_000_000_000;

/// A moment on air: nanoseconds since the Unix epoch (1970-01-01T00:00:00Z). Overflows in 2554.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AirTime(pub u64);

impl AirTime {
    /// The RTP timestamp of this moment: 90 kHz ticks since the Unix epoch, modulo 2^32, without a random offset, as in SMPTE
    /// ST 2110-10 (which counts TAI where we count UTC). Rounded to the nearest tick, so that the grid of a film stays a grid
    /// in ticks.
    pub fn rtp_timestamp(self) -> u32 {
        self.ticks(RTP_CLOCK) as u32 // the cast is modulo 2^32, as on the wire
    }

    /// This moment in ticks of a clock of `rate` ticks a second that counts from the Unix epoch, rounded to the nearest tick.
    pub(crate) fn ticks(self, rate: u32) -> u128 {
        (u128::from(self.0) * u128::from(rate) + NANOS / 2) / NANOS
    }

    /// How much later this moment is than `earlier`; zero if it is not later.
    pub fn since(self, earlier: AirTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds from `earlier` to this moment; negative if this moment is the earlier one.
    pub fn signed_since(self, earlier: AirTime) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }
}

impl Add<Duration> for AirTime {
    type Output = AirTime;
    fn add(self, span: Duration) -> AirTime {
        AirTime(self.0.saturating_add(span.as_nanos() as u64))
    }
}

impl Sub<Duration> for AirTime {
    type Output = AirTime;
    fn sub(self, span: Duration) -> AirTime {
        AirTime(self.0.saturating_sub(span.as_nanos() as u64))
    }
}

/// The clock of RTP/JPEG, ticks a second (RFC 2435 section 3).
pub const RTP_CLOCK: u32 = 90_000;

/// Pictures a second, as an exact fraction: 24000/1001, never 23.976. Both terms are positive, also after deserialization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Terms")]
pub struct FrameRate {
    num: u32,
    den: u32,
}

/// A [`FrameRate`] as deserialized, not checked yet.
#[derive(Deserialize)]
struct Terms {
    num: u32,
    den: u32,
}

impl TryFrom<Terms> for FrameRate {
    type Error = &'static str;
    fn try_from(Terms { num, den }: Terms) -> Result<FrameRate, Self::Error> {
        FrameRate::new(num, den).ok_or("a frame rate has no term of 0")
    }
}

impl FrameRate {
    /// `num / den` pictures a second; `None` if a term is zero.
    pub const fn new(num: u32, den: u32) -> Option<FrameRate> {
        if num == 0 || den == 0 { None } else { Some(FrameRate { num, den }) }
    }

    /// The rate that a container's floating-point number means. Broadcast rates (n x 1000/1001 and whole numbers) are recognised
    /// within 50 ppm. Any other number becomes the closest fraction over 1000. `None` if it is not finite or outside 0.1..=1000.
    pub fn from_f64(fps: f64) -> Option<FrameRate> {
        if !fps.is_finite() || !(0.1..=1000.0).contains(&fps) {
            return None;
        }
        let near = |num: f64, den: f64| ((num / den) / fps - 1.0).abs() < 50e-6;
        let whole = fps.round();
        if whole >= 1.0 && near(whole, 1.0) {
            return FrameRate::new(whole as u32, 1);
        }
        let ntsc = (fps * 1.001).round();
        if ntsc >= 1.0 && near(ntsc * 1000.0, 1001.0) {
            return FrameRate::new(ntsc as u32 * 1000, 1001);
        }
        FrameRate::new((fps * 1000.0).round() as u32, 1000)
    }

    /// The numerator: pictures in [`den`](Self::den) seconds.
    pub fn num(self) -> u32 {
        self.num
    }

    /// The denominator, in seconds.
    pub fn den(self) -> u32 {
        self.den
    }

    /// The rate as a decimal number, for display.
    pub fn as_f64(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }

    /// The rate for people, `25`, `29.97`, `0.0333`: two decimals at most, or three digits of a rate below 1.
    pub fn decimal(self) -> String {
        let rate = self.as_f64();
        // The decimals that leave three digits after the zeros of a rate below 1.
        let decimals = if rate < 1.0 { (2.0 - rate.log10().floor()) as usize } else { 2 };
        let text = format!("{rate:.decimals$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    /// Time from picture 0 to picture `n`, rounded down to a nanosecond. Computed from `n` each time, so no error accumulates.
    pub fn nth(self, n: u64) -> Duration {
        let nanos = u128::from(n) * u128::from(self.den) * NANOS / u128::from(self.num);
        Duration::from_nanos(nanos as u64)
    }

    /// Time between two pictures, rounded down to a nanosecond. For bounds and waits: due times come from [`nth`](Self::nth).
    pub fn interval(self) -> Duration {
        self.nth(1)
    }

    /// The number of the picture whose time is nearest to `offset` after picture 0.
    pub fn nearest(self, offset: Duration) -> u64 {
        let den = u128::from(self.den) * NANOS;
        ((offset.as_nanos() * u128::from(self.num) + den / 2) / den) as u64
    }
}

/// `25`, `30000/1001`; a rate that is no broadcast rate as a decimal number, `12.893`.
impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.den {
            1 => write!(f, "{}", self.num),
            1001 => write!(f, "{}/1001", self.num),
            _ => write!(f, "{:.3}", self.as_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_number_becomes_a_broadcast_rate() {
        for (fps, text) in [
            (23.976023976, "24000/1001"),
            (23.976, "24000/1001"),
            (29.97, "30000/1001"),
            (59.94005994, "60000/1001"),
            (25.0, "25"),
            (24.99999, "25"),
            (50.0, "50"),
            (12.5, "12.500"),
            (0.5, "0.500"),
        ] {
            assert_eq!(FrameRate::from_f64(fps).expect("a rate").to_string(), text, "{fps}");
        }
        for fps in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert_eq!(FrameRate::from_f64(fps), None, "{fps}");
        }
    }

    #[test]
    fn people_read_a_rate_as_a_short_decimal_number() {
        for (num, den, text) in [
            (25, 1, "25"),
            (100, 1, "100"),
            (30_000, 1001, "29.97"),
            (24_000, 1001, "23.98"),
            (120_000, 1001, "119.88"),
            (12_500, 1000, "12.5"),
            (1, 10, "0.1"),
            (1, 30, "0.0333"),
            (1, 86_400, "0.0000116"),
        ] {
            assert_eq!(FrameRate::new(num, den).unwrap().decimal(), text, "{num}/{den}");
        }
    }

    #[test]
    fn a_rate_of_zero_is_not_deserialized() {
        let read = serde_json::from_str::<FrameRate>;
        assert_eq!(read(r#"{"num":30000,"den":1001}"#).unwrap(), FrameRate::new(30_000, 1001).unwrap());
        for zero in [r#"{"num":0,"den":1}"#, r#"{"num":25,"den":0}"#] {
            assert!(read(zero).unwrap_err().to_string().contains("no term of 0"), "{zero}");
        }
    }

    #[test]
    fn a_day_of_pictures_has_no_rounding_error() {
        let ntsc = FrameRate::new(24_000, 1001).unwrap();
        // 24000/1001 x 86,486.4 s is a whole number of pictures: 24 h and a thousandth.
        assert_eq!(ntsc.nth(2_073_600), Duration::from_millis(86_486_400));
        assert_eq!(ntsc.nearest(Duration::from_millis(86_486_400)), 2_073_600);
    }

    #[test]
    fn the_timestamp_is_the_wall_clock_modulo_32_bits() {
        assert_eq!(AirTime(0).rtp_timestamp(), 0);
        assert_eq!(AirTime(1_000_000_000).rtp_timestamp(), 90_000);
        // 2^32 ticks are 47,721.858844... s
        assert_eq!(AirTime(47_721_858_844_445).rtp_timestamp(), 0);
        let grid = FrameRate::new(30_000, 1001).unwrap();
        let start = AirTime(1_790_000_000_000_000_000);
        for n in 0..10_000u64 {
            let ticks = (start + grid.nth(n)).rtp_timestamp().wrapping_sub(start.rtp_timestamp());
            assert!(u64::from(ticks).abs_diff(n * 3003) <= 1, "picture {n}: {ticks}");
        }
    }
}
