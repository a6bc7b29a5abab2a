//! Parses the text of a line-up into a [`Lineup`], or into every fault of the text.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{Field, NAME_FIX, Section, group_fault, interface, kind, located, name_fault};
use super::films::no_films;
use super::outputs::Outputs;
use super::report::{Report, short};
use super::sections::{SETTINGS, section, unknown_sections};
use super::{
    Announce, ConfigError, DEFAULT_BUFFER, DEFAULT_SLIDE, DEFAULT_SOUND_BITRATE, DIRECTORY, Datagram, Lineup,
    LiveSource, Media, MediaKind, SecuritySpec, SoundChoice, Spread, StationSpec, World, access, live,
    outputs, ports, reel,
};
use crate::interface::Choice;
use crate::media::{SoundCodec, StationId};
use crate::tls::Security;

/// The keys of a station that have no default; the others are the [`SETTINGS`].
const STATION: [&str; 5] = ["id", "name", "media", "group", "access"];

/// The interface of a station that names none and has no default: nothing leaves this machine.
pub(super) const LOOPBACK: &str = "127.0.0.1";

pub(super) fn lineup(text: &str, file: &Path, world: &World) -> Result<Lineup, ConfigError> {
    let mut report = Report::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        report.syntax(errors);
        return report.finish(Lineup {
            directory: DIRECTORY,
            reel: reel::default(world),
            rtsp: None,
            http: None,
            hosts: Vec::new(),
            announce: Announce::default(),
            security: SecuritySpec::default(),
            access: None,
            stations: Vec::new(),
            interfaces: Vec::new(),
        });
    }
    let root = document.get_ref();
    unknown_sections(root, &mut report);

    let (directory, directory_security) = match section(root, "directory", &mut report) {
        None => (Field::Absent, Security::Plain),
        Some(section) => {
            section.unknown_keys(&mut report, &["listen", "tls"], "[directory]");
            let listen = section.socket(&mut report, "listen", &DIRECTORY.to_string());
            (listen, section.security(&mut report))
        }
    };
    let mut defaults = Settings {
        interface: interface(LOOPBACK, world).map_or(Field::Absent, Field::Is),
        ttl: Field::Is(1),
        width: Field::Is(640),
        quality: Field::Is(80),
        datagram: Field::Is(Datagram::Auto),
        reel: Field::Is(true),
        spread: Field::Is(Spread::DEFAULT),
        slide: Field::Is(DEFAULT_SLIDE.as_secs() as u32),
        buffer: Field::Is(DEFAULT_BUFFER.as_millis() as u32),
        sound: Field::Is(SoundChoice::Auto),
        sound_bitrate: Field::Is(DEFAULT_SOUND_BITRATE),
        sound_codec: Field::Is(SoundCodec::Opus),
        loudness: Field::Is(true),
    };
    if let Some(section) = section(root, "defaults", &mut report) {
        section.unknown_keys(&mut report, &SETTINGS, "[defaults]");
        defaults = Settings::read(&section, &mut report, world).or(&defaults);
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    let reel = match section(root, "reel", &mut report) {
        None => reel::default(world),
        Some(section) => reel::read(&section, &mut report, folder, world),
    };
    let directory = directory.or(Field::Is(DIRECTORY)).value().unwrap_or(DIRECTORY);
    let outputs = outputs::read(root, &mut report, (directory, directory_security), folder, world);
    let Outputs { rtsp, http, hosts, announce, security } = outputs;
    let access = access::file(root, &mut report, folder, world);
    let mut parser = StationParser { report, world, folder, defaults, known: Vec::new() };
    let stations = parser.stations(root);
    access::refuse_without_file(&stations, access.as_deref(), &mut parser.report);
    live::refuse_loops(&stations, http, &hosts, world, &mut parser.report);
    let interfaces = world.interfaces.clone();
    parser.report.finish(Lineup {
        directory,
        reel,
        rtsp,
        http,
        hosts,
        announce,
        security,
        access,
        stations,
        interfaces,
    })
}

/// The keys that `[defaults]` and every station may have.
#[derive(Clone)]
struct Settings {
    interface: Field<Choice>,
    ttl: Field<u8>,
    width: Field<u16>,
    quality: Field<u8>,
    datagram: Field<Datagram>,
    reel: Field<bool>,
    spread: Field<Spread>,
    /// In seconds.
    slide: Field<u32>,
    /// In milliseconds.
    buffer: Field<u32>,
    sound: Field<SoundChoice>,
    sound_bitrate: Field<u32>,
    sound_codec: Field<SoundCodec>,
    loudness: Field<bool>,
}

impl Settings {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>, world: &World) -> Settings {
        let ttl = "choose a whole number from 0 to 255 (0 stays on this machine, 1 on this network)";
        let width = "choose a whole number from 16 to 2040 (pixels; RTP/JPEG carries no more)";
        let quality = "choose a whole number from 1 to 99 (JPEG quality, the Q of RTP/JPEG)";
        let slide = "choose a whole number from 1 to 86400 (seconds for which a picture file is on)";
        let buffer =
            "choose a whole number from 0 to 2000 (milliseconds for which pictures of a live source wait)";
        let bitrate = "choose a whole number from 32000 to 510000 (bits a second of sound)";
        let loudness = "choose true or false (whether films are brought to one loudness)";
        let reel = "choose true or false (whether encoded pictures are kept, to be sent again)";
        Settings {
            interface: section.interface(report, world),
            ttl: section.number(report, "ttl", 0..=255, ttl),
            width: section.number(report, "width", 16..=2040, width),
            quality: section.number(report, "quality", 1..=99, quality),
            datagram: section.datagram(report),
            reel: section.flag(report, "reel", reel),
            spread: section.spread(report),
            slide: section.number(report, "slide", 1..=86_400, slide),
            buffer: section.number(report, "buffer", 0..=2000, buffer),
            sound: section.sound(report),
            sound_bitrate: section.number(report, "sound_bitrate", 32_000..=510_000, bitrate),
            sound_codec: section.sound_codec(report),
            loudness: section.flag(report, "loudness", loudness),
        }
    }

    fn or(self, other: &Settings) -> Settings {
        let other = other.clone();
        Settings {
            interface: self.interface.or(other.interface),
            ttl: self.ttl.or(other.ttl),
            width: self.width.or(other.width),
            quality: self.quality.or(other.quality),
            datagram: self.datagram.or(other.datagram),
            reel: self.reel.or(other.reel),
            spread: self.spread.or(other.spread),
            slide: self.slide.or(other.slide),
            buffer: self.buffer.or(other.buffer),
            sound: self.sound.or(other.sound),
            sound_bitrate: self.sound_bitrate.or(other.sound_bitrate),
            sound_codec: self.sound_codec.or(other.sound_codec),
            loudness: self.loudness.or(other.loudness),
        }
    }
}

/// The values of a station that must be unique, and what its ports depend on; `None` if a value is missing or wrong.
pub(super) struct UniqueValues {
    pub(super) place: String,
    pub(super) line: usize,
    id: Option<StationId>,
    name: Option<String>,
    pub(super) group: Option<SocketAddr>,
    pub(super) media: Media,
    pub(super) sound: Option<SoundChoice>,
}

struct StationParser<'a> {
    report: Report<'a>,
    world: &'a World,
    folder: &'a Path,
    defaults: Settings,
    known: Vec<UniqueValues>,
}

impl StationParser<'_> {
    /// The stations without faults. The faults of the others are in the report.
    fn stations(&mut self, root: &DeTable<'_>) -> Vec<StationSpec> {
        let none = "no station; add a [[station]] with id, name, media and group";
        let Some((key, value)) = root.get_key_value("station") else {
            self.report.fault_of_file(none);
            return Vec::new();
        };
        let at = key.span().start;
        let list = match value.get_ref() {
            DeValue::Array(list) => list,
            DeValue::Table(_) => {
                let sentence = "[station] is a single table; write [[station]], once for each station";
                self.report.fault(at, sentence);
                return Vec::new();
            }
            other => {
                let kind = kind(other);
                let sentence = format!("station is {kind}; write [[station]], once for each station");
                self.report.fault(at, sentence);
                return Vec::new();
            }
        };
        if list.is_empty() {
            self.report.fault(at, none);
        }
        let numbered = list.iter().enumerate();
        numbered.filter_map(|(n, entry)| self.station(n + 1, entry)).collect()
    }

    fn station(&mut self, n: usize, entry: &Spanned<DeValue<'_>>) -> Option<StationSpec> {
        let at = entry.span().start;
        let DeValue::Table(table) = entry.get_ref() else {
            let typed = self.report.typed(entry.span());
            let sentence =
                format!("station #{n}: {typed} is not a table; write [[station]] and its keys below");
            self.report.fault(at, sentence);
            return None;
        };
        let name = table.get("name").and_then(|value| value.get_ref().as_str());
        let place = match name.filter(|name| name_fault(name).is_none()) {
            Some(name) => format!("station \"{name}\""),
            None => format!("station #{n}"),
        };
        let section = Section { table, at, place };
        section.unknown_keys(&mut self.report, &[&STATION[..], &SETTINGS].concat(), "a station");

        let id = self.id(&section);
        let name = self.name(&section);
        let group = self.group(&section);
        let media = self.media(&section);
        let access = access::names(&section, &mut self.report);
        let settings = Settings::read(&section, &mut self.report, self.world).or(&self.defaults);
        if let Field::Absent = settings.interface {
            let default = interface(LOOPBACK, self.world).err().unwrap_or_default();
            let sentence = format!("interface = \"{LOOPBACK}\", the default, {default}");
            section.fault(&mut self.report, at, sentence);
        }
        let interface = settings.interface.value();
        if let (Some(group), Some(interface)) = (group, &interface) {
            self.family(&section, group, interface);
        }
        let line = self.report.line(at);
        let sound = settings.sound.clone().value();
        let place = section.place.clone();
        let own_media = media.clone().unwrap_or_else(|| Media::Films(Vec::new()));
        let own = UniqueValues { place, line, id, name: name.clone(), group, media: own_media, sound };
        if let Some(fault) = ports::fault(&own, &self.known, self.world) {
            section.wrong::<()>(&mut self.report, "group", fault);
        }
        self.known.push(own);
        Some(StationSpec {
            id: id?,
            name: name?,
            media: media?,
            group: group?,
            interface: interface?,
            ttl: settings.ttl.value()?,
            width: settings.width.value()?,
            quality: settings.quality.value()?,
            datagram: settings.datagram.value()?,
            reel: settings.reel.value()?,
            spread: settings.spread.value()?,
            slide: Duration::from_secs(settings.slide.value()?.into()),
            buffer: Duration::from_millis(settings.buffer.value()?.into()),
            sound: settings.sound.value()?,
            sound_bitrate: settings.sound_bitrate.value()?,
            sound_codec: settings.sound_codec.value()?,
            loudness: settings.loudness.value()?,
            access,
            from_start: false,
            line,
        })
    }

    /// Reports a fault if an earlier station has the same value under `key`.
    fn unique(&mut self, section: &Section<'_, '_>, key: &str, same: impl Fn(&UniqueValues) -> bool) {
        if let Some(first) = self.known.iter().find(|taken| same(taken)) {
            let (line, place) = (first.line, &first.place);
            let sentence = format!("is taken by {place} on line {line}; give each station its own");
            section.wrong::<()>(&mut self.report, key, sentence);
        }
    }

    fn id(&mut self, section: &Section<'_, '_>) -> Option<StationId> {
        let fix = "choose a whole number from 1 to 999 (the number that viewers type)";
        let id = section.number(&mut self.report, "id", 1..=999, fix);
        if let Field::Absent = id {
            section.missing(&mut self.report, "id", fix);
        }
        let id = StationId(id.value()?);
        self.unique(section, "id", |taken| taken.id == Some(id));
        Some(id)
    }

    fn name(&mut self, section: &Section<'_, '_>) -> Option<String> {
        let name = section.text(&mut self.report, "name", NAME_FIX);
        if let Field::Absent = name {
            section.missing(&mut self.report, "name", NAME_FIX);
        }
        let name = name.value()?;
        if let Some(fault) = name_fault(name) {
            section.wrong::<()>(&mut self.report, "name", fault);
            return None;
        }
        self.unique(section, "name", |taken| taken.name.as_deref() == Some(name));
        Some(name.to_owned())
    }

    fn group(&mut self, section: &Section<'_, '_>) -> Option<SocketAddr> {
        let group = section.socket(&mut self.report, "group", "239.77.0.1:5004");
        if let Field::Absent = group {
            let fix = "choose a multicast address and a port, as in \"239.77.0.1:5004\"";
            section.missing(&mut self.report, "group", fix);
        }
        let group = group.value()?;
        if let Some(fault) = group_fault(group) {
            section.wrong::<()>(&mut self.report, "group", fault);
            return None;
        }
        self.unique(section, "group", |taken| taken.group == Some(group));
        Some(group)
    }

    /// Reports a fault if the interface has addresses, but none of the group's IP version. An interface without any address may
    /// be waiting for one.
    fn family(&mut self, section: &Section<'_, '_>, group: SocketAddr, interface: &Choice) {
        let Some(interface) = interface.find(&self.world.interfaces) else { return };
        let (own, others, family, other) = match group.ip() {
            IpAddr::V4(_) => {
                let global = interface.v6.iter().filter(|own| !own.is_unicast_link_local()).count();
                (interface.v4.len(), global, "IPv4", "IPv6")
            }
            IpAddr::V6(_) => (interface.v6.len(), interface.v4.len(), "IPv6", "IPv4"),
        };
        if own == 0 && others > 0 {
            let sentence = format!(
                "is {family}, but interface {interface} has no {family} address; choose an {other} group or \
                 another interface"
            );
            section.wrong::<()>(&mut self.report, "group", sentence);
        }
    }

    fn media(&mut self, section: &Section<'_, '_>) -> Option<Media> {
        let fix = "name a film, a folder of films or a list of them, as in \"media/ocean.mp4\"";
        let Some(value) = section.get("media") else {
            section.missing(&mut self.report, "media", fix);
            return None;
        };
        let entries: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                section.wrong::<()>(&mut self.report, "media", format_args!("is an empty list; {fix}"));
                return None;
            }
            DeValue::Array(list) => list.iter().collect(),
            _ => vec![value],
        };
        let has_user = |entry: &&&Spanned<DeValue<'_>>| entry.get_ref().as_str().is_some_and(live::has_user);
        if let Some(entry) = entries.iter().find(has_user) {
            // Not shown as it was typed, since reloads log the sentence.
            let sentence = "media has a user in its address, which is not supported yet; name a source that needs no password";
            section.fault(&mut self.report, entry.span().start, sentence);
            return None;
        }
        if let DeValue::String(text) = value.get_ref()
            && live::is_address(text)
        {
            return match LiveSource::parse(text) {
                Ok(source) => Some(Media::Live(source)),
                Err(sentence) => {
                    section.wrong::<()>(&mut self.report, "media", sentence);
                    None
                }
            };
        }
        let mut media = Vec::new();
        for entry in entries {
            let found = match entry.get_ref() {
                DeValue::String(text) if live::is_address(text) => {
                    Err("is a live source; write it alone, not in a list".into())
                }
                DeValue::String(text) => self.film(text),
                other => Err(format!("is {}; {fix}", kind(other))),
            };
            match found {
                Ok(path) => media.push(path),
                Err(sentence) => {
                    let typed = self.report.typed(entry.span());
                    let sentence = format!("media = {typed} {sentence}");
                    section.fault(&mut self.report, entry.span().start, sentence);
                }
            }
        }
        Some(Media::Films(media)) // without the wrong entries, but then `finish` returns no line-up
    }

    /// The path of one entry of `media`, or what is wrong with it.
    fn film(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("is empty; name a film or a folder of films".into());
        }
        let path = located(text, self.folder, self.world)?;
        let shown = short(&path.display().to_string());
        match (self.world.media)(&path) {
            MediaKind::File => Ok(path),
            MediaKind::Folder { films } if films > 0 => Ok(path),
            MediaKind::Folder { .. } => Err(no_films()),
            MediaKind::Missing if text.starts_with('/') => {
                Err("does not exist; name a film or a folder that does".into())
            }
            MediaKind::Missing if text.starts_with('~') => {
                Err(format!("does not exist; it would be {shown}: name a film or a folder that does"))
            }
            MediaKind::Missing => Err(format!(
                "does not exist; it would be {shown}, since a relative path starts at the folder of {}",
                self.report.file()
            )),
            MediaKind::Unreadable(why) => {
                Err(format!("cannot be read: {}; check {shown} and its permissions", short(&why)))
            }
        }
    }
}
