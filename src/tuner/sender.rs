//! One sender on a group: its packets in order, its pictures, its losses. Pure.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::losses::{Losses, Place};
use super::{ReceivedPicture, TunerCounters};
use crate::media::AirTime;
use crate::wire::jitter::{BufferedPacket, JitterBuffer, PacketVerdict, Step};
use crate::wire::payload::jpeg::{self, Depacketizer, JpegPayloadError};
use crate::wire::rtp::{self, Unwrap};

/// Identity of a sender. A stranger that forges the SSRC has another address or port, unless the stranger forges these too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SenderId {
    /// Source of its datagrams; `None` in a connection.
    pub(super) from: Option<SocketAddr>,
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
}

/// A run of consecutive packets of one sender.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) id: SenderId,
    /// Arrival of its last packet.
    pub(super) last_heard: AirTime,
    /// When its last whole picture was complete.
    pub(super) last_picture: Option<AirTime>,
    /// Packets that were delivered in order.
    pub(super) progress: u64,
    pub(super) jitter: JitterBuffer,
    pub(super) losses: Losses,
    /// Those of its packets only.
    pub(super) counters: TunerCounters,
    /// Pictures that have not been fetched.
    pub(super) done: VecDeque<ReceivedPicture>,
    /// Sequence number and place of the first packet.
    first: Option<(u16, Place)>,
    depacketizer: Depacketizer,
    timestamps: Unwrap<32>,
    /// RTP timestamp of the picture being assembled, and the arrival of its first packet.
    begun: Option<(u32, AirTime)>,
}

impl Sender {
    pub(super) fn new(id: SenderId, now: AirTime) -> Sender {
        Sender {
            id,
            last_heard: now,
            last_picture: None,
            progress: 0,
            jitter: JitterBuffer::default(),
            losses: Losses::default(),
            counters: TunerCounters::default(),
            done: VecDeque::new(),
            first: None,
            depacketizer: Depacketizer::default(),
            timestamps: Unwrap::default(),
            begun: None,
        }
    }

    /// Another run of packets of the same sender: its tables and the count of its timestamps go on.
    pub(super) fn another_run(&self, now: AirTime) -> Sender {
        Sender {
            depacketizer: self.depacketizer.with_tables(),
            timestamps: self.timestamps.clone(),
            ..Sender::new(self.id, now)
        }
    }

    /// Goes on with the counts of the `earlier` run of the same sender. Returns whether its packets continue those: if not,
    /// the sender has started over.
    pub(super) fn continue_from(&mut self, earlier: &Sender, hint: Option<u64>) -> bool {
        let Some((sequence, place)) = self.first else { return false };
        let Some(lost) = earlier.jitter.lost_before(sequence) else { return false };
        self.losses.continue_from(earlier.losses.clone(), lost, place, hint);
        self.counters += earlier.counters;
        self.counters.packets_lost += lost;
        true
    }

    /// Takes a packet that arrived at `now`. Returns false if it does not continue this run of packets.
    pub(super) fn take(
        &mut self,
        now: AirTime,
        header: rtp::Header,
        payload: &[u8],
        hint: Option<u64>,
    ) -> Result<bool, JpegPayloadError> {
        let taken = match self.jitter.judge(header.sequence) {
            PacketVerdict::Next => self.deliver(now, header, payload, hint),
            PacketVerdict::Early => {
                self.counters.reordered += 1;
                self.jitter.hold(BufferedPacket { arrival: now, header, payload: payload.to_vec() });
                Ok(())
            }
            PacketVerdict::Late => {
                self.counters.late += 1;
                Ok(())
            }
            PacketVerdict::Duplicate => {
                self.counters.duplicates += 1;
                Ok(())
            }
            PacketVerdict::Restart => {
                self.counters.restarts += 1;
                self.depacketizer.gap();
                self.losses.start_over();
                self.deliver(now, header, payload, hint)
            }
            PacketVerdict::Stray => return Ok(false),
        };
        self.last_heard = now;
        self.release(now, hint);
        taken.map(|()| true)
    }

    /// Delivers the packets that the jitter buffer releases at `now`.
    pub(super) fn release(&mut self, now: AirTime, hint: Option<u64>) {
        while let Some(step) = self.jitter.poll(now) {
            match step {
                Step::Gap(packets) => {
                    self.counters.packets_lost += packets;
                    self.depacketizer.gap();
                    self.losses.gap(packets);
                }
                Step::Packet(packet) => {
                    if self.deliver(packet.arrival, packet.header, &packet.payload, hint).is_err() {
                        self.counters.malformed += 1;
                    }
                }
            }
        }
    }

    fn deliver(
        &mut self,
        arrival: AirTime,
        header: rtp::Header,
        payload: &[u8],
        hint: Option<u64>,
    ) -> Result<(), JpegPayloadError> {
        let first_arrival = match self.begun {
            Some((timestamp, at)) if timestamp == header.timestamp => at,
            _ => arrival,
        };
        self.begun = Some((header.timestamp, first_arrival));
        let ticks = self.timestamps.unwrap(header.timestamp);
        let place = Place { ticks, first: jpeg::is_first(payload), last: header.marker, arrival };
        self.first.get_or_insert((header.sequence, place));
        self.losses.packet(place, hint);
        let Some(jpeg) = self.depacketizer.push(&header, payload)? else {
            self.progress += 1;
            return Ok(());
        };
        self.progress += 1;
        self.losses.whole();
        self.last_picture = Some(arrival);
        self.counters.pictures += 1;
        let timestamp = header.timestamp;
        self.done.push_back(ReceivedPicture { jpeg, ticks, timestamp, first_arrival });
        Ok(())
    }
}
