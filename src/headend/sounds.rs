//! What the directory tells of the stations' sound: where it is sent, and its last packets.

use std::sync::Weak;
use std::time::Duration;

use super::HeadEnd;
use crate::directory::{MAX_SOUND_PACKETS, SoundPacket, Sounds, StationSound};
use crate::media::{Payload, StationId, Unit};
use crate::wire::rtp::sound_payload_type;
use crate::wire::sdp::sound_port;

/// Packets are kept for so long after they were due. A decoder of Opus converges in 80 ms (RFC 6716 section 2.1.7 has 80 ms
/// of pre-roll after a seek: RFC 7845 section 4.6).
pub(super) const KEPT: Duration = Duration::from_millis(100);

/// The packets due within this time are told too: a join may take so long in switches.
const AHEAD: Duration = Duration::from_millis(40);

/// The sound of the stations of a head-end.
pub(super) struct HeadEndSounds(pub(super) Weak<HeadEnd>);

impl Sounds for HeadEndSounds {
    fn sound(&self, id: StationId) -> Option<StationSound> {
        let station = self.0.upgrade()?.station(id)?;
        let codec = station.sound_codec()?;
        Some(StationSound {
            id,
            port: sound_port(station.spec().group.port()),
            payload_type: sound_payload_type(codec),
            codec: codec.encoding().into(),
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: the answer is of this moment")]
    fn now(&self, id: StationId) -> Vec<SoundPacket> {
        let Some(head_end) = self.0.upgrade() else { return Vec::new() };
        let Some(station) = head_end.station(id) else { return Vec::new() };
        let packet = |unit: Unit| match unit.payload {
            Payload::Opus(packet) => Some(SoundPacket { due: unit.due.at, packet: packet.to_vec() }),
            // Linear samples need none before them.
            Payload::Jpeg(_) | Payload::L16(_) => None,
        };
        let packets = station.sound_feed.recent(head_end.clock.now() + AHEAD);
        // A station that is late on a busy machine has more: the last ones count.
        let surplus = packets.len().saturating_sub(MAX_SOUND_PACKETS);
        packets.into_iter().skip(surplus).filter_map(packet).collect()
    }
}
