//! The sound of a station on its way to the [speaker](super::service): a thread drains its socket, or it comes in the connection of
//! the pictures.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use tracing::debug;

use super::buffer::MAX_PACKET;
use super::service::{Speaker, SpeakerInput};
use crate::interface::named;
use crate::media::SoundCodec;
use crate::tuner::keyring::Opener;
use crate::tuner::receiver::SoundSink;
use crate::tuner::source::{DatagramSource, MOST_AT_ONCE, wait};
use crate::wire::rtp::Header;

/// Pause before another attempt to join the group.
const REJOIN: Duration = Duration::from_millis(500);

/// Where a station's sound is received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SoundFrom {
    /// The group, and the port of the sound.
    pub(crate) group: SocketAddr,
    /// Name or address of the interface.
    pub(crate) interface: String,
    /// The only source whose packets are taken; `None`: any.
    pub(crate) source: Option<IpAddr>,
    /// The RTP payload type.
    pub(crate) payload_type: u8,
    /// The codec of its packets.
    pub(crate) codec: SoundCodec,
}

/// Receives the sound of one station until it is dropped.
pub(crate) struct SoundReceiver {
    /// Identifies it at the speaker.
    serial: u64,
    speaker: Speaker,
    /// Ends the thread; `None` without one.
    stop: Option<OwnedFd>,
}

impl SoundReceiver {
    /// Has the thread of `speaker` start another one, which joins the group and passes the packets on. A thread takes a while to
    /// start on a busy machine, and the caller has pictures to show.
    ///
    /// # Errors
    /// The system refuses an eventfd.
    pub(crate) fn start(
        from: SoundFrom,
        opener: Opener,
        serial: u64,
        speaker: Speaker,
    ) -> io::Result<SoundReceiver> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let work = ReceiverThread { from, opener, serial, speaker: speaker.clone(), stop: stop.try_clone()? };
        let source = work.from.source;
        speaker.send(SpeakerInput::Tune { serial, source, work: Some(Box::new(work)) });
        Ok(SoundReceiver { serial, speaker, stop: Some(stop) })
    }

    /// The sound that comes in the connection of the pictures, from `source`, by the [sink](Self::sink).
    pub(crate) fn in_connection(source: IpAddr, serial: u64, speaker: Speaker) -> SoundReceiver {
        speaker.send(SpeakerInput::Tune { serial, source: Some(source), work: None });
        SoundReceiver { serial, speaker, stop: None }
    }

    /// Passes packets on.
    pub(crate) fn sink(&self) -> SoundSink {
        let (serial, speaker) = (self.serial, self.speaker.clone());
        Box::new(move |arrival, codec, header, packet| {
            if packet.len() <= MAX_PACKET {
                let packet = packet.to_vec();
                speaker.send(SpeakerInput::Packet { serial, arrival, codec, header, packet });
            }
        })
    }
}

/// What the thread of a receiver needs.
pub(crate) struct ReceiverThread {
    from: SoundFrom,
    opener: Opener,
    serial: u64,
    speaker: Speaker,
    stop: OwnedFd,
}

impl ReceiverThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(mut self) -> io::Result<()> {
        let run = move || {
            loop {
                match receive(&self.from, &mut self.opener, self.serial, &self.speaker, &self.stop) {
                    Ok(()) => return,
                    Err(error) => debug!("sound of {}: {error}", self.from.group),
                }
                if wait(None, Some(self.stop.as_fd()), Some(REJOIN)).is_ok_and(|ready| ready.stop) {
                    return;
                }
            }
        };
        thread::Builder::new().name("sound receiver".into()).spawn(run).map(drop)
    }
}

impl Drop for SoundReceiver {
    fn drop(&mut self) {
        self.speaker.send(SpeakerInput::Forget { serial: self.serial });
        if let Some(stop) = &self.stop {
            // A write fails only if the eventfd is already signalled.
            let _ = rustix::io::write(stop, &1u64.to_ne_bytes());
        }
    }
}

/// Receives until the owner stops it (`Ok`), or the socket fails.
fn receive(
    from: &SoundFrom,
    opener: &mut Opener,
    serial: u64,
    speaker: &Speaker,
    stop: &OwnedFd,
) -> io::Result<()> {
    let mut socket = DatagramSource::join(from.group, &named(&from.interface)?, from.source)?;
    let source = from.source.map(|source| source.to_canonical());
    loop {
        let ready = wait(Some(socket.as_fd()), Some(stop.as_fd()), None)?;
        if ready.stop {
            return Ok(());
        }
        for _ in 0..MOST_AT_ONCE {
            let Some(datagram) = socket.read()? else { break };
            let sender = datagram.from.map(|from| from.ip().to_canonical());
            if source.is_some() && sender != source {
                continue;
            }
            let Ok(packet) = opener.open(datagram.bytes) else { continue };
            let Ok((header, packet)) = Header::parse(packet) else { continue };
            if header.payload_type == from.payload_type && packet.len() <= MAX_PACKET {
                let packet = packet.to_vec();
                let (arrival, codec) = (datagram.arrival, from.codec);
                speaker.send(SpeakerInput::Packet { serial, arrival, codec, header, packet });
            }
        }
    }
}
