//! The line-up: parses `stations.toml` into types that cannot hold a wrong value, and reports every fault at once.
//!
//! Every room of the broadcaster may import it. It imports `directory` (its port), `interface`, `media`, `wire`, `tls`, `access`
//! (the rule for names), `paint` (how many tiles a mosaic has) and `text_table`.
//!
//! Parsing is pure: from the text, and from the [`World`] of interfaces and films, to a [`Lineup`] or every fault of the
//! file. Only [`Lineup::load`], [`World::of_this_machine`], [`films()`] and [`has_sound`] ask the system.

mod access;
mod camera;
mod difference;
mod fields;
mod films;
mod hosts;
mod listing;
mod live;
mod mosaic;
mod outputs;
mod parse;
mod password;
mod play;
mod ports;
mod publish;
mod reel;
mod report;
mod sections;
mod security;
mod settings;
mod station;
#[cfg(test)]
mod tests;
mod timed;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::Grant;
use crate::directory::PORT;
use crate::interface::{Choice, Interface, interfaces};
use crate::media::{SoundCodec, StationId};
use crate::tls::Security;
use crate::wire::sdp::is_source_specific;
use crate::wire::srtp::Profile;
use crate::wire::{MAX_DATAGRAM, udp_headers};

pub use camera::{CameraDevice, DEFAULT_MICROPHONE, is_microphone, size as camera_size};
pub use difference::{ChangeKind, Difference, ListenerChange, StationChange};
pub(crate) use fields::name_fault;
pub(crate) use films::film_among;
use films::has_sound_by;
pub use films::{EXTENSIONS, MediaKind, PICTURES, films, has_sound};
pub use live::{LiveSource, Media, NetworkSource, Scheme};
pub(crate) use outputs::collide;
pub use password::PasswordPlace;
pub use play::PlayOptions;
pub use publish::{PublishRule, PublishSpec, PublishToken, publish_name};
pub use timed::TimedMedia;

/// The default of `[directory] listen`: reachable from this machine only.
pub const DIRECTORY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

/// The default of `sound_bitrate`, in bits a second: transparent for stereo by most listening tests of Opus.
pub const DEFAULT_SOUND_BITRATE: u32 = 128_000;

/// The default of `buffer`.
pub const DEFAULT_BUFFER: Duration = Duration::from_millis(80);

/// The default of `slide`.
pub const DEFAULT_SLIDE: Duration = Duration::from_secs(10);

/// The stations of a broadcaster, and the addresses on which it serves them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineup {
    /// The TCP address on which the directory listens. Its port is not 0.
    pub directory: SocketAddr,
    /// The store of encoded pictures.
    pub reel: ReelSpec,
    /// The TCP address on which stations are served by RTSP. Its port is not 0. `None`: not served.
    pub rtsp: Option<SocketAddr>,
    /// The TCP address of the web pages, the API and the metrics. Its port is not 0. `None`: not served.
    pub http: Option<SocketAddr>,
    /// Host names and addresses by which clients may address the web, besides this machine's own. In lower case, without
    /// a port, brackets, or a dot at the end.
    pub hosts: Vec<String>,
    /// How stations and the directory are announced.
    pub announce: Announce,
    /// Which connections are TLS.
    pub security: SecuritySpec,
    /// The file of tokens and passwords, which need not exist yet. `None`: every station is open to all.
    pub access: Option<PathBuf>,
    /// Whether the file is followed: a running broadcaster adapts to it whenever it has changed.
    pub watch: bool,
    /// The stations, in the order of the file. At least one, or there is `publish`; ids, names and groups are unique.
    pub stations: Vec<StationSpec>,
    /// The stations that are made by publishing; `None`: none are.
    pub publish: Option<PublishSpec>,
    /// This machine's interfaces when the file was read: for what [`table`](Self::table) and [`notes`](Self::notes) say of it.
    pub interfaces: Vec<Interface>,
}

/// Which connections of clients are TLS, and the certificate that they show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecuritySpec {
    /// The connections that the directory takes.
    pub directory: Security,
    /// What RTSP takes.
    pub rtsp: Security,
    /// The connections that the web takes.
    pub http: Security,
    /// The certificate.
    pub certificate: CertificateSpec,
}

impl SecuritySpec {
    /// Whether any of them takes TLS.
    pub fn is_on(&self) -> bool {
        [self.directory, self.rtsp, self.http].into_iter().any(Security::has_tls)
    }
}

/// Plain connections only.
impl Default for SecuritySpec {
    fn default() -> SecuritySpec {
        let certificate = CertificateSpec::Made { folder: None };
        SecuritySpec { directory: Security::Plain, rtsp: Security::Plain, http: Security::Plain, certificate }
    }
}

/// The certificate of a broadcaster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSpec {
    /// In files of PEM.
    Files {
        /// The certificate, and those between it and its root.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Made at the first start, and kept.
    Made {
        /// The folder. `None`: no connection is TLS.
        folder: Option<PathBuf>,
    },
}

/// Which announcements are sent to the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Announce {
    /// Each station to players, by SAP (RFC 2974).
    pub sap: bool,
    /// The directory to viewers, by multicast DNS (RFC 6762, RFC 6763).
    pub mdns: bool,
}

/// The store of reels: the encoded pictures of films, so that a film is encoded once and then only sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReelSpec {
    /// The folder, which need not exist yet. It is relative to the current folder if the line-up's path was. `None` if
    /// none is configured and the user has no cache folder: then no station keeps a reel.
    pub dir: Option<PathBuf>,
    /// Most bytes of all reels together, [`ReelSpec::MIN`]`..=i64::MAX`.
    pub bytes: u64,
}

impl ReelSpec {
    /// The default of `[reel] bytes`.
    pub const BYTES: u64 = 20_000_000_000;
    /// The least value of `bytes`: some twenty pictures of 47 kB. With less, no useful reel would fit.
    pub const MIN: u64 = 1_000_000;
}

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
    /// Whether its encoded pictures are kept in reels, if [`ReelSpec::dir`] names a folder.
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
    /// What fits the interface's MTU, so that IP never fragments: one lost fragment loses the datagram, and its other
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
        StationSpec {
            id: StationId(2),
            name: "Nature".into(),
            media: vec![PathBuf::from("none.mp4")].into(),
            fallback: Vec::new(),
            at: Vec::new(),
            group: group.parse().unwrap(),
            interface: Choice { name: "eth0".into(), address: None },
            ttl: 1,
            width: 640,
            quality: 80,
            datagram: Datagram::Auto,
            reel: true,
            spread: Spread::DEFAULT,
            slide: DEFAULT_SLIDE,
            buffer: DEFAULT_BUFFER,
            sound: SoundChoice::Auto,
            sound_bitrate: DEFAULT_SOUND_BITRATE,
            sound_codec: SoundCodec::Opus,
            loudness: true,
            sign: false,
            access: Vec::new(),
            encrypt: None,
            from_start: false,
            line: 1,
        }
    }
}

/// Tells whether a station of this choice and programme has sound.
pub type HasSound = dyn Fn(&SoundChoice, &[PathBuf]) -> bool;

/// The surroundings against which a line-up is checked: those of this machine, or of a test.
pub struct World {
    /// The network interfaces.
    pub interfaces: Vec<Interface>,
    /// The meaning of `~/`; `None` if the user has no home folder.
    pub home: Option<PathBuf>,
    /// The user's cache folder; `None` if the user has no home folder.
    pub cache: Option<PathBuf>,
    /// The folder in which a broadcaster keeps what it has to remember; `None` if the user has no home folder.
    pub state: Option<PathBuf>,
    /// Tells what is at a path.
    pub media: Box<dyn Fn(&Path) -> MediaKind>,
    /// Tells whether a station has sound. Asked only of stations whose ports may overlap.
    pub sound: Box<HasSound>,
}

#[cfg(test)]
impl World {
    /// The interfaces of this machine, and any film there may be, without sound.
    pub(crate) fn for_tests() -> World {
        World {
            interfaces: interfaces().unwrap(),
            home: None,
            cache: None,
            state: None,
            media: Box::new(|_| MediaKind::File),
            sound: Box::new(|_, _| false),
        }
    }
}

impl World {
    /// The surroundings on this machine.
    ///
    /// # Errors
    ///
    /// The system's, if it cannot list its network interfaces.
    pub fn of_this_machine() -> io::Result<World> {
        let interfaces = interfaces()?;
        // An empty HOME means no home folder, not the current folder.
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let cache = cache(std::env::var_os("XDG_CACHE_HOME"), home.as_deref());
        let state =
            state(std::env::var_os("STATE_DIRECTORY"), std::env::var_os("XDG_STATE_HOME"), home.as_deref());
        Ok(World {
            interfaces,
            home,
            cache,
            state,
            media: Box::new(films::kind),
            sound: Box::new(films::have_sound),
        })
    }
}

/// The user's cache folder by the XDG Base Directory Specification: the value of `XDG_CACHE_HOME`, unless it is empty or
/// relative ("consider the path invalid and ignore it"); else `~/.cache`.
fn cache(set: Option<OsString>, home: Option<&Path>) -> Option<PathBuf> {
    let set = set.map(PathBuf::from).filter(|path| path.is_absolute());
    set.or_else(|| home.map(|home| home.join(".cache")))
}

/// The folder that systemd made for a service (`STATE_DIRECTORY`), or else one in the user's state folder by the XDG Base Directory
/// Specification.
fn state(service: Option<OsString>, set: Option<OsString>, home: Option<&Path>) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(service).or_else(|| {
        let state = absolute(set).or_else(|| home.map(|home| home.join(".local/state")));
        state.map(|state| state.join("stationcast"))
    })
}

/// All faults of a line-up, in the order of the file: one sentence each, with the place, the rule and the fix. `Display`
/// prints one sentence a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", sentences.join("\n"))]
pub struct ConfigError {
    sentences: Vec<String>,
}

impl ConfigError {
    /// The sentences, at least one. None has a line break.
    pub fn sentences(&self) -> &[String] {
        &self.sentences
    }
}

impl Lineup {
    /// Whether a broadcaster of it has keys, tokens or passwords in its memory.
    pub(crate) fn has_secrets(&self) -> bool {
        let is_secret = |station: &StationSpec| {
            let is_live = |media: &Media| matches!(media, Media::Live(_) | Media::Published(_));
            station.encrypt.is_some()
                || station.sign
                || station.at.iter().map(|timed| &timed.media).chain([&station.media]).any(is_live)
        };
        self.security.is_on()
            || self.access.is_some()
            || self.publish.is_some()
            || self.stations.iter().any(is_secret)
    }

    /// Parses the text of a line-up. `file` is its path as the user gave it: messages name it, and relative paths start
    /// at its folder.
    ///
    /// # Errors
    ///
    /// Every fault. If the text is not TOML, only the faults of its syntax.
    pub fn parse(text: &str, file: &Path, world: &World) -> Result<Lineup, ConfigError> {
        parse::lineup(text, file, world)
    }

    /// Loads a line-up from a file, for this machine.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), or the file cannot be read.
    pub fn load(file: &Path) -> Result<Lineup, ConfigError> {
        let name = report::printable(&file.display().to_string());
        let fault = |sentence: String| ConfigError { sentences: vec![format!("{name}{sentence}")] };
        let bytes = fs::read(file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => fault(" does not exist; name the line-up with --config FILE, or put a film on air without one: broadcaster play FILM".into()),
            io::ErrorKind::IsADirectory => {
                fault(format!(" is a folder; give a file in it, such as {}", report::printable(&file.join("stations.toml").display().to_string())))
            }
            _ => fault(format!(" cannot be read: {error}")),
        })?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let at = error.valid_up_to();
            let line = 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
            fault(format!(":{line}: byte 0x{:02x} is not UTF-8; save the file as UTF-8", bytes[at]))
        })?;
        let world = World::of_this_machine()
            .map_err(|error| fault(format!(": cannot list this machine's network interfaces: {error}")))?;
        Lineup::parse(text, file, &world)
    }

    /// A line-up of one station that plays films from the command line.
    ///
    /// # Errors
    ///
    /// Every fault of the command line.
    pub fn of_films(options: &PlayOptions, world: &World) -> Result<Lineup, ConfigError> {
        play::lineup(options, world)
    }

    /// The station with the number `id`.
    ///
    /// # Errors
    ///
    /// There is none. The sentence lists the stations of the line-up.
    pub fn station(&self, id: StationId) -> Result<&StationSpec, String> {
        self.stations.iter().find(|station| station.id == id).ok_or_else(|| {
            let all: Vec<String> =
                self.stations.iter().map(|station| format!("{} \"{}\"", station.id, station.name)).collect();
            format!("there is no station {id}; choose one of {}", all.join(", "))
        })
    }

    /// A station's interface as it was when the file was read.
    fn interface_of(&self, station: &StationSpec) -> Option<Interface> {
        station.interface.find(&self.interfaces)
    }

    /// The address that a station is sent from, if its interface has one.
    pub fn source(&self, station: &StationSpec) -> Option<IpAddr> {
        self.interface_of(station)?.source(station.group.ip())
    }

    /// Whether what a station sends does not leave this machine.
    fn stays_here(&self, station: &StationSpec) -> bool {
        self.interface_of(station).is_some_and(|interface| interface.loopback)
    }

    /// Settings that are allowed but may surprise, one sentence each. For the log.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (n, station) in self.stations.iter().enumerate() {
            let name = &station.name;
            let interface = self.interface_of(station);
            let (shown, group_is_v4) = (&station.interface.name, station.group.is_ipv4());
            if !interface.as_ref().is_some_and(|interface| interface.up) {
                notes.push(format!("station \"{name}\" goes on air when interface {shown} comes up"));
            } else if interface.is_none_or(|interface| interface.source(station.group.ip()).is_none()) {
                let family = if group_is_v4 { "IPv4" } else { "IPv6" };
                notes.push(format!(
                    "station \"{name}\" goes on air when interface {shown} has an {family} address"
                ));
            }
            let group = station.group.ip();
            if let Some(first) = self.stations[..n].iter().find(|other| other.group.ip() == group) {
                notes.push(format!(
                    "stations \"{}\" and \"{name}\" share group address {group}: viewers of one are sent both",
                    first.name
                ));
            }
            if is_source_specific(group) {
                notes.push(format!(
                    "station \"{name}\" has a source-specific group (RFC 4607): a player must name the sender \
                     when it joins, as our viewer does and SDP tells, or routers pass nothing; choose one in {} for \
                     players that cannot",
                    if group.is_ipv4() { "239.0.0.0/8" } else { "ff15::/16" }
                ));
            }
        }
        if self.reel.dir.is_none() && self.stations.iter().any(|station| station.reel) {
            notes.push("no reels are kept: this user has no home folder, so set `dir` under [reel]".into());
        }
        if let Some(away) =
            self.stations.iter().find(|station| !station.access.is_empty() && !self.stays_here(station))
        {
            notes.push(format!(
                "station \"{}\" lets in only some, but anybody on its network can join its group {}, which is not encrypted",
                away.name, away.group
            ));
        }
        let listeners = [
            (Some(self.directory), self.security.directory),
            (self.rtsp, self.security.rtsp),
            (self.http, self.security.http),
        ];
        let takes_tokens = |(listen, security): (Option<SocketAddr>, Security)| {
            listen.is_some_and(|listen| listen.ip().is_loopback() || security.has_tls())
        };
        if self.access.is_some() && !listeners.into_iter().any(takes_tokens) {
            notes.push("tokens are taken by TLS only, which no section turns on: write tls = true under [directory], [rtsp] or [http]".into());
        }
        let local = self.directory.ip().is_loopback();
        let has_safe_directory = local || self.security.directory.has_tls();
        if let Some(signed) = self.stations.iter().find(|station| station.sign && !has_safe_directory) {
            notes.push(format!(
                "station \"{}\" is signed, but viewers believe the keys by TLS only: write tls = true under [directory]",
                signed.name
            ));
        }
        if let Some(away) = self.stations.iter().find(|station| local && !self.stays_here(station)) {
            notes.push(format!(
                "station \"{}\" leaves this machine, but the directory on {} does not: viewers on other machines \
                 cannot reach it",
                away.name, self.directory
            ));
            if self.announce.mdns {
                notes.push(
                    "the directory is not announced by mDNS while it listens on loopback, where no other machine can reach it"
                        .into(),
                );
            }
        }
        for (section, listen) in [("rtsp", self.rtsp), ("http", self.http)] {
            if let Some(listen) = listen.filter(|listen| !local && listen.ip().is_loopback()) {
                notes.push(format!(
                    "[{section}] listens on {listen}, where other machines cannot reach it, though the directory \
                     on {} can be",
                    self.directory
                ));
            }
        }
        notes
    }

    /// The line-up as `broadcaster check` prints it: aligned columns, a line for each station, and a last line with their
    /// number and the addresses on which the outputs listen. Ends without a line break. Asks films whether they have sound.
    pub fn table(&self) -> String {
        listing::table(self)
    }
}
