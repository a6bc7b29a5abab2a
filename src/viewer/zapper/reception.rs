//! How a station is received, and the receiver of the zapper's one.

#![expect(clippy::disallowed_methods, reason = "a shell: it times changes of station")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::queue::PictureQueue;
use super::{Zapper, ZapperInput};
use crate::directory::StationInfo;
use crate::media::{SoundCodec, StationId};
use crate::speaker::{SoundFrom, SoundReceiver, Speaker};
use crate::tuner::keyring::Opener;
use crate::tuner::receiver::{ReceiveFrom, Receiver};
use crate::tuner::rtsp_client::RtspServer;
use crate::tuner::signed::Requirement;
use crate::tuner::{Expected, join};
use crate::viewer::stream::Stream;

/// How stations are received.
#[derive(Debug, Clone)]
pub enum ReceiveVia {
    /// By multicast.
    Multicast {
        /// Name or address of the interface; `None`: it is [chosen](join::interface_for_station).
        interface: Option<String>,
        /// Whether pictures are shown only if they are signed, by the keys that the directory tells.
        require_signed: bool,
    },
    /// From this RTSP server, in the connection itself: every picture, in order.
    Tcp(Box<RtspServer>),
    /// A stream that no directory lists, as the only station.
    Stream(Box<Stream>),
}

/// How a station is received by more than one receiver.
pub(in crate::viewer) struct Reception {
    /// Where its pictures come from.
    pub(in crate::viewer) from: ReceiveFrom,
    /// The port of its sound on the group of its pictures, the RTP payload type and the codec; `None` if it has none there.
    pub(in crate::viewer) sound: Option<(u16, u8, SoundCodec)>,
    /// The stream that it should be sending.
    pub(in crate::viewer) expected: Expected,
}

/// A station being received.
pub(super) struct Tuned {
    /// Identifies the receiver in [`ZapperInput::Pictures`]: inputs of a dropped one may still be queued.
    pub(super) serial: u64,
    pub(super) station: StationInfo,
    /// Where its packets are from. If this changes, a new receiver is needed.
    pub(super) from: ReceiveFrom,
    /// When the change to it was requested; `None` once a picture of it has been shown.
    pub(super) requested: Option<Instant>,
    pub(super) receiver: Receiver,
    /// `None` if the station has no sound, or nobody wants it.
    pub(super) sound: Option<SoundReceiver>,
    pub(super) queue: Arc<PictureQueue>,
    /// When its last picture arrived; before the first, when it was tuned.
    pub(super) last_picture: Instant,
    /// Whether a picture has arrived.
    pub(super) heard: bool,
}

impl Zapper {
    pub(super) fn receive_from(&self, station: &StationInfo) -> ReceiveFrom {
        match &self.via {
            ReceiveVia::Multicast { interface, .. } => {
                let wanted = interface.as_deref();
                let (directory, local) = (self.directory.endpoint.address.ip(), self.directory.local());
                let interface = join::interface_for_station(station, wanted, directory, local);
                ReceiveFrom::Group(station.group, interface, self.directory.source_of(station))
            }
            ReceiveVia::Tcp(server) => ReceiveFrom::rtsp_station(server, station.id),
            ReceiveVia::Stream(stream) => stream.from.clone(),
        }
    }

    /// Whether pictures are shown only if they are signed.
    pub fn requires_signed(&self) -> bool {
        matches!(self.via, ReceiveVia::Multicast { require_signed: true, .. })
    }

    /// The requirement on a station's pictures; `None`: none.
    pub(super) fn requirement_of(&self, id: StationId) -> Option<Requirement> {
        self.requires_signed().then(|| self.directory.requirement_of(id))
    }

    /// How a station of the line-up is received, for a mosaic.
    pub(in crate::viewer) fn reception_of(&self, station: &StationInfo) -> Reception {
        let sound = match &self.via {
            ReceiveVia::Stream(stream) => stream
                .sound
                .as_ref()
                .filter(|sound| sound.group.ip() == station.group.ip())
                .map(|sound| (sound.group.port(), sound.payload_type, sound.codec)),
            _ => {
                let sound = self.directory.sound_of(station.id);
                sound.map(|(sound, codec)| (sound.port, sound.payload_type, codec))
            }
        };
        let expected = self.directory.expected_of(station.id);
        Reception { from: self.receive_from(station), sound, expected }
    }

    /// Where the sound of a station is received whose pictures are received from `from`, and who plays it; `None` if it has none,
    /// or if it comes with the pictures.
    pub(super) fn sound_from(&self, from: &ReceiveFrom, id: StationId) -> Option<(SoundFrom, Speaker)> {
        let speaker = self.speaker.clone()?;
        if let ReceiveVia::Stream(stream) = &self.via {
            return Some((stream.sound.clone()?, speaker));
        }
        let ReceiveFrom::Group(group, interface, source) = from else { return None };
        let (sound, codec) = self.directory.sound_of(id)?;
        let group = SocketAddr::new(group.ip(), sound.port);
        let from = SoundFrom {
            group,
            interface: interface.clone(),
            source: *source,
            payload_type: sound.payload_type,
            codec,
        };
        Some((from, speaker))
    }

    pub(super) fn receive(
        &mut self,
        station: StationInfo,
        from: ReceiveFrom,
        requested: Option<Instant>,
    ) -> io::Result<Tuned> {
        self.serial += 1;
        let (serial, sender) = (self.serial, self.sender.clone());
        let queue = Arc::new(PictureQueue::new(self.queue_policy));
        let put = queue.clone();
        let sink = move |picture| {
            if put.put(picture) {
                let _ = sender.send(ZapperInput::Pictures(serial));
            }
        };
        // By RTSP the sound comes in the same connection, if there is any.
        let sound = match (&from, &self.speaker) {
            (ReceiveFrom::Rtsp(server, _), Some(speaker)) => {
                Some(SoundReceiver::in_connection(server.address.ip(), serial, speaker.clone()))
            }
            _ => None,
        };
        let receiver = match &sound {
            Some(sound) => Receiver::start_with_sound(from.clone(), self.measured, sink, sound.sink())?,
            None => {
                let opener = Opener::new(self.keyring.clone(), station.id);
                let requirement = self.requirement_of(station.id);
                Receiver::start_protected(from.clone(), self.measured, sink, opener, requirement)?
            }
        };
        let now = Instant::now();
        Ok(Tuned {
            serial,
            station,
            from,
            requested,
            receiver,
            sound,
            queue,
            last_picture: now,
            heard: false,
        })
    }
}
