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
mod station_spec;
#[cfg(test)]
mod tests;
mod timed;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::directory::PORT;
use crate::interface::{Interface, interfaces};
use crate::media::StationId;
use crate::tls::Security;
use crate::wire::sdp::is_source_specific;

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
pub use station_spec::{Datagram, SoundChoice, Spread, StationSpec};
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
