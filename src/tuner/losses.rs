//! How many pictures a sender has sent that were not received whole. Pure.
//!
//! What the wire tells, in this order of trust: a timestamp of which any packet arrived is a picture that was sent. Sequence
//! numbers tell how many packets are missing between two packets, so at most as many pictures; without a missing packet
//! none is lost, however far apart the timestamps are (a skip, a pause, another rate). How many pictures hide behind
//! missing packets, the timestamps and the interval of the pictures tell.

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::{AirTime, RTP_CLOCK};

/// Intervals of which the median is taken: one skipped picture must not double the interval, and a slate's five pictures a
/// second are learned within 0.6 s.
const REMEMBERED: usize = 5;

/// A longer step between two pictures is not an interval but a broadcaster that stood still, in ticks.
const LONGEST_STEP: u64 = 2 * RTP_CLOCK as u64;

/// How long after its expected beginning a picture that has not begun counts as lost, at least: no network that can show
/// television delays a packet by more.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where in its picture and in its stream a packet is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The RTP timestamp, unwrapped.
    pub(super) ticks: u64,
    /// Whether it is the first packet of its picture.
    pub(super) first: bool,
    /// Whether it is the last packet of its picture.
    pub(super) last: bool,
    /// When it arrived.
    pub(super) arrival: AirTime,
}

/// The picture of the last packet.
#[derive(Debug, Clone, Copy)]
struct Current {
    ticks: u64,
    /// Arrival of the first of its packets that arrived.
    since: AirTime,
    /// Its packets that arrived.
    packets: u64,
    /// Whether its last packet has arrived.
    ended: bool,
    whole: bool,
    /// Whether we joined in its middle, so that its beginning is not lost but missed.
    joined: bool,
}

/// Counts the lost pictures of one run of a sender. Its packets are given in the order of their sequence numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    current: Option<Current>,
    /// Packets lost since the last packet.
    gap: u64,
    /// Ticks between the last pictures between which nothing was lost.
    steps: VecDeque<u64>,
    /// Most packets of a whole picture.
    widest: u64,
    /// Whole pictures, and their packets.
    whole: (u64, u64),
    /// Lost pictures before the current one.
    lost: u64,
}

impl Losses {
    /// `packets` packets are missing before the next one.
    pub(super) fn gap(&mut self, packets: u64) {
        self.gap += packets;
    }

    /// The next packet. `hint` is the interval of the pictures as the directory tells it, in ticks.
    pub(super) fn packet(&mut self, place: Place, hint: Option<u64>) {
        let gap = std::mem::take(&mut self.gap);
        if let Some(current) = &mut self.current
            && current.ticks == place.ticks
        {
            current.packets += 1;
            current.ended |= place.last;
            return;
        }
        let joined = self.current.is_none() && !place.first && gap == 0;
        if let Some(before) = self.current.take() {
            self.lost += u64::from(before.is_lost());
            self.lost += self.unseen(&before, place, gap, hint);
        }
        let (ticks, since) = (place.ticks, place.arrival);
        self.current = Some(Current { ticks, since, packets: 1, ended: place.last, whole: false, joined });
    }

    /// The sequence numbers start over: whatever lies between is unknown.
    pub(super) fn start_over(&mut self) {
        *self = Losses { lost: self.lost, widest: self.widest, whole: self.whole, ..Losses::default() };
    }

    /// The picture of the last packet is whole.
    pub(super) fn whole(&mut self) {
        if let Some(current) = &mut self.current {
            current.whole = true;
            self.widest = self.widest.max(current.packets);
            self.whole = (self.whole.0 + 1, self.whole.1 + current.packets);
        }
    }

    /// Number of pictures of which no packet arrived, between the picture `before` and a packet behind a `gap`.
    fn unseen(&mut self, before: &Current, place: Place, gap: u64, hint: Option<u64>) -> u64 {
        let step = place.ticks.saturating_sub(before.ticks);
        if gap == 0 {
            if (1..LONGEST_STEP).contains(&step) {
                self.steps.truncate(REMEMBERED - 1);
                self.steps.push_front(step);
            }
            return 0;
        }
        // The two pictures that are seen have lost at least these.
        let most = gap.saturating_sub(u64::from(!before.ended) + u64::from(!place.first));
        if self.widest == 1 {
            return most; // each packet is a picture
        }
        let widest = self.widest.max(1);
        let least = gap.saturating_sub(2 * (widest - 1)) / widest;
        let by_time = match self.interval(hint) {
            Some(interval) if step > 0 => ((step + interval / 2) / interval).saturating_sub(1),
            _ => least,
        };
        // Between a slate and a film, or in a pause, time tells nothing. Then pictures have about as many packets as others.
        let by_packets = (2 * most * self.whole.0).div_ceil(self.whole.1.max(1));
        let most = if self.whole.0 > 0 { most.min(by_packets) } else { most };
        by_time.clamp(least.min(most), most)
    }

    /// Ticks from picture to picture: as the last ones were, else as the directory says.
    fn interval(&self, hint: Option<u64>) -> Option<u64> {
        let mut steps: Vec<u64> = self.steps.iter().copied().collect();
        steps.sort_unstable();
        match steps.len() {
            // One or two may be skips.
            0..3 => hint.or(steps.first().copied()),
            some => steps.get(some / 2).copied(),
        }
        .filter(|&interval| interval > 0)
    }

    /// The interval of the pictures, if it is known.
    pub(super) fn period(&self, hint: Option<u64>) -> Option<Duration> {
        self.interval(hint).map(ticks_as_time)
    }

    /// Lost pictures of which the wire tells by now.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Lost pictures if no more comes: those, and the incomplete one.
    pub(super) fn lost_in_all(&self) -> u64 {
        self.lost + self.current.map_or(0, |current| u64::from(current.is_lost()))
    }

    /// When the last picture began to arrive; `None` before the first packet.
    pub(super) fn last_began(&self) -> Option<AirTime> {
        self.current.map(|current| current.since)
    }

    /// Continues the count of the same sender's earlier run after an outage of `gap` packets. `first` is the first packet of
    /// this run.
    pub(super) fn continue_from(&mut self, mut earlier: Losses, gap: u64, first: Place, hint: Option<u64>) {
        earlier.gap(gap);
        earlier.packet(first, hint);
        self.lost += earlier.lost;
        // This run took its incomplete first picture for one that was joined in its middle. It was not.
        self.lost += u64::from(!first.first);
        self.steps.extend(earlier.steps);
        self.steps.truncate(REMEMBERED);
        self.widest = self.widest.max(earlier.widest);
        self.whole = (self.whole.0 + earlier.whole.0, self.whole.1 + earlier.whole.1);
    }
}

impl Current {
    fn is_lost(&self) -> bool {
        !self.whole && !self.joined
    }
}

pub(super) fn ticks_as_time(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000) / u64::from(RTP_CLOCK))
}

/// Pictures that were due and have not begun to arrive, while the directory says that the station sends. This is an
/// estimate, for the time until the next packet: then its sequence number tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    /// When the last picture began to arrive.
    pub(super) since: AirTime,
    /// From picture to picture.
    pub(super) period: Duration,
}

impl Silence {
    fn patience(&self) -> Duration {
        PATIENCE.max(self.period / 2)
    }

    /// Number of missing pictures at `now`.
    pub(super) fn missing(&self, now: AirTime) -> u64 {
        let silent = now.since(self.since).saturating_sub(self.patience());
        (silent.as_nanos() / self.period.as_nanos().max(1)) as u64
    }

    /// When there is one more than `missing`.
    pub(super) fn next(&self, missing: u64) -> AirTime {
        let nanos = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX).saturating_mul(missing + 1);
        self.since + self.patience() + Duration::from_nanos(nanos)
    }
}
