//! What the probe keeps of a stream: packets and access units, with the time of their arrival and the sender's time.

use std::num::NonZeroU32;

use crate::media::AirTime;

/// One received packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacketArrival {
    pub(super) arrival: AirTime,
    /// Unwrapped sequence number.
    pub(super) number: u64,
    /// Number of its unit, counted from the first one received.
    pub(super) unit: u64,
}

/// One access unit, as far as its packets have arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceivedUnit {
    /// Unwrapped timestamp.
    pub(super) ticks: u64,
    /// Arrival of the first packet.
    pub(super) first: AirTime,
    /// Arrival of the last packet.
    pub(super) last: AirTime,
    /// Zero of the sender's time and of ours.
    pub(super) origin: TimeOrigin,
    /// Number of packets received.
    pub(super) packets: u32,
    /// Lowest packet number.
    pub(super) lowest: u64,
    /// Number of the packet with the marker bit.
    pub(super) marker: Option<u64>,
    /// Bytes of UDP payload.
    pub(super) bytes: u32,
    /// Whether its beginning is known: the packet before the lowest one arrived too.
    pub(super) begins: bool,
}

/// The zero from which the sender's time and ours are counted. A jump of the timestamps begins a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeOrigin {
    /// Number of origins before this one.
    pub(super) segment: u32,
    pub(super) ticks: u64,
    pub(super) arrival: AirTime,
}

impl ReceivedUnit {
    /// Arrival less the sender's time, both from the origin, in nanoseconds.
    pub(super) fn transit(&self, clock: NonZeroU32) -> i64 {
        transit(self.origin, self.ticks, self.first, clock)
    }
}

/// Arrival less the sender's time of `ticks`, both from the origin, in nanoseconds.
pub(super) fn transit(origin: TimeOrigin, ticks: u64, arrival: AirTime, clock: NonZeroU32) -> i64 {
    let received = arrival.signed_since(origin.arrival);
    received.saturating_sub(sent(origin, ticks, clock))
}

/// The sender's time of `ticks`, in nanoseconds from the origin.
pub(super) fn sent(origin: TimeOrigin, ticks: u64, clock: NonZeroU32) -> i64 {
    let ticks = i128::from(ticks) - i128::from(origin.ticks);
    let nanos = (ticks * 1_000_000_000).div_euclid(i128::from(clock.get()));
    nanos.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}
