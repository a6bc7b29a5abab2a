//! One station of a line-up, as other rooms see it: every key has its value, and no value can be wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Media, TimedMedia};
#[cfg(test)]
use super::{fields::Field, settings::Settings};
use crate::access::Grant;
use crate::interface::Choice;
use crate::media::{SoundCodec, StationId};
use crate::wire::srtp::Profile;
use crate::wire::{MAX_DATAGRAM, udp_headers};

/// One station as configured, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationSpec {
    /// The number that viewers type, 1..=999.
    pub id: StationId,
    /// The name that viewers see: 1..=63 characters, no control characters.
    pub name: String,
    /// Its films, its live source, or who publishes its content.
    pub media: Media,
    /// Films and folders of films that it shows while its live source is lost, in playing order; perhaps none.
    pub fallback: Vec<PathBuf>,
    /// Media that it shows instead at times of day. The first that is on counts.
    pub at: Vec<TimedMedia>,
    /// The multicast group, IPv4 or IPv6, and its port, which is not 0.
    pub group: SocketAddr,
    /// The interface that it is multicast on. Its properties are looked up when a socket is opened.
    pub interface: Choice,
    /// TTL of its packets: 0 stays on this machine, 1 on this network.
    pub ttl: u8,
    /// Width of its pictures in pixels, 16..=2040, before rounding to a multiple of 16.
    pub width: u16,
    /// JPEG quality, 1..=99: the Q of RFC 2435.
    pub quality: u8,
    /// Largest size of a datagram.
    pub datagram: Datagram,
    /// Whether its encoded pictures are kept in reels, if [`ReelSpec::dir`](super::ReelSpec::dir) names a folder.
    pub reel: bool,
    /// The share of a picture's interval over which its packets are sent.
    pub spread: Spread,
    /// How long each of its picture files is on: whole seconds, 1 s to a day.
    pub slide: Duration,
    /// How long pictures of a live source wait for those that are late: 0 to 2 s.
    pub buffer: Duration,
    /// Which sound it has.
    pub sound: SoundChoice,
    /// Bits a second of its sound, if that is Opus: 32,000..=510,000.
    pub sound_bitrate: u32,
    /// The codec of its sound.
    pub sound_codec: SoundCodec,
    /// Whether its films are brought to one loudness (EBU R 128).
    pub loudness: bool,
    /// Whether its pictures are signed.
    pub sign: bool,
    /// The names of the tokens and passwords that it lets in. Empty: it is open to all.
    pub access: Vec<String>,
    /// How the packets to its group are encrypted; `None`: not at all. If they are, only clients to which nobody can listen see it.
    pub encrypt: Option<Profile>,
    /// Whether it begins with its first film when it comes on air, and not where its programme is at this time of day.
    pub from_start: bool,
    /// The line of the file on which this station begins, from 1. For messages.
    pub line: usize,
}

/// Which sound a station has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SoundChoice {
    /// The default track of each film, if any of its films has sound.
    Auto,
    /// The default track of each film; silence if none has sound.
    On,
    /// None.
    Off,
    /// The track in this language (ISO 639-2, as in `eng`), or else the default one.
    Language(String),
    /// The sound track of this number, from 1, or else the default one.
    Track(u8),
}

/// The largest size of a station's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// As much as fits the interface's MTU, so that IP never fragments: one lost fragment loses the datagram, and its other
    /// fragments fill the receiver's reassembly memory.
    Auto,
    /// At most this many bytes of UDP payload, 576..=65,507. IP fragments datagrams that exceed the MTU.
    Limit(u16),
}

impl Datagram {
    /// The least limit, in bytes of UDP payload.
    pub const MIN: u16 = 576;
    /// The largest limit: what UDP carries.
    pub const MAX: u16 = MAX_DATAGRAM as u16;
}

/// The share of a picture's interval over which its packets are spread, if it has several: 0..=0.95, in thousandths.
/// Spread packets do not overrun a switch's queue, but the picture is complete that much later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    permille: u16,
}

impl Spread {
    /// All packets at once.
    pub const NONE: Spread = Spread { permille: 0 };
    /// The default of `spread`.
    pub const DEFAULT: Spread = Spread { permille: 500 };
    /// The greatest share. The rest of the interval is a reserve in case the last packet is late.
    pub const MAX: Spread = Spread { permille: 950 };

    /// From a share of 0..=0.95, which is rounded to a thousandth. `None` for any other number.
    pub fn new(share: f64) -> Option<Spread> {
        let right = (0.0..=Spread::MAX.as_f64()).contains(&share);
        right.then(|| Spread { permille: (share * 1000.0).round() as u16 })
    }

    /// The share in thousandths, 0..=950, for integer arithmetic.
    pub const fn permille(self) -> u16 {
        self.permille
    }

    /// The share, 0.0..=0.95.
    pub fn as_f64(self) -> f64 {
        f64::from(self.permille) / 1000.0
    }
}

impl StationSpec {
    /// Its lists of films: its own media, its fallback, and those at times of day, as far as these are films.
    pub fn film_lists(&self) -> impl Iterator<Item = &[PathBuf]> {
        let timed = self.at.iter().map(|timed| timed.media.films());
        [self.media.films(), &self.fallback[..]].into_iter().chain(timed).filter(|list| !list.is_empty())
    }

    /// The same station with this media and no other.
    pub fn with_media(&self, media: Media) -> StationSpec {
        StationSpec { media, at: Vec::new(), ..self.clone() }
    }

    /// Whether a client with this grant may see it.
    pub fn is_open_to(&self, grant: &Grant) -> bool {
        grant.allows(&self.access) && (self.encrypt.is_none() || grant.is_private())
    }

    /// Most bytes of UDP payload in one datagram on an interface of this `mtu`, RTP header included: 576..=65,507. If the MTU is
    /// too small for 576, IP fragments.
    pub fn datagram_limit(&self, mtu: u32) -> usize {
        match self.datagram {
            Datagram::Limit(bytes) => usize::from(bytes),
            Datagram::Auto => {
                let fits = mtu.saturating_sub(udp_headers(self.group.ip()) as u32);
                fits.clamp(u32::from(Datagram::MIN), u32::from(Datagram::MAX)) as usize
            }
        }
    }
}

#[cfg(test)]
impl StationSpec {
    /// Station 2, "Nature", on this group by `eth0`, of a film that is not there.
    pub(crate) fn sample(group: &str) -> StationSpec {
        let eth0 = Choice { name: "eth0".into(), address: None };
        let films = vec![PathBuf::from("none.mp4")].into();
        let settings = Settings::on(Field::Is(eth0));
        settings.station(StationId(2), "Nature".into(), films, group.parse().unwrap(), 1).unwrap()
    }
}
