//! The stations of a line-up, each from its table.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::camera::CAMERA_KEYS;
use super::fields::{Field, NAME_FIX, Section, group_fault, interface, kind, located, name_fault};
use super::films::no_films;
use super::report::{Report, short};
use super::sections::SETTINGS;
use super::settings::{LOOPBACK, Settings};
use super::{
    CameraDevice, LiveSource, Media, MediaKind, NetworkSource, PasswordPlace, SoundChoice, StationSpec,
    TimedMedia, World, access, live, mosaic, ports, publish, publish_name, timed,
};
use crate::interface::Choice;
use crate::media::StationId;

/// The keys of a station that have no default; the others are the [`SETTINGS`].
const STATION: [&str; 8] = ["id", "name", "media", "publish", "fallback", "at", "group", "access"];

/// The keys of a live source.
const SOURCE: [&str; 6] = ["password_file", "password_env", "size", "rate", "camera_format", "microphone"];

/// The keys of a live source's password.
const PASSWORD_KEYS: [&str; 2] = ["password_file", "password_env"];

/// The keys of `[[station.at]]`.
const AT: [&str; 10] = [
    "from",
    "to",
    "days",
    "media",
    "password_file",
    "password_env",
    "size",
    "rate",
    "camera_format",
    "microphone",
];

/// The values of a station that must be unique, and what its ports depend on; `None` if a value is missing or wrong.
pub(super) struct UniqueValues {
    pub(super) place: String,
    pub(super) line: usize,
    pub(super) id: Option<StationId>,
    name: Option<String>,
    pub(super) group: Option<SocketAddr>,
    pub(super) media: Media,
    pub(super) sound: Option<SoundChoice>,
    /// Whether its pictures are signed.
    pub(super) sign: bool,
}

pub(super) struct StationParser<'a> {
    pub(super) report: Report<'a>,
    pub(super) world: &'a World,
    pub(super) folder: &'a Path,
    pub(super) defaults: Settings,
    pub(super) known: Vec<UniqueValues>,
    /// Whether RTSP is served beyond this machine; `None` if it is not served.
    pub(super) open: Option<bool>,
}

impl StationParser<'_> {
    /// The stations without faults. The faults of the others are in the report.
    pub(super) fn stations(&mut self, root: &DeTable<'_>) -> Vec<StationSpec> {
        let none = "no station; add a [[station]] with id, name, media and group";
        let Some((key, value)) = root.get_key_value("station") else {
            // Publishers make stations, too.
            if !root.contains_key("publish") {
                self.report.fault_of_file(none);
            }
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
        section.unknown_keys(&mut self.report, &[&STATION[..], &SETTINGS, &SOURCE].concat(), "a station");

        let id = self.id(&section);
        let name = self.name(&section);
        let group = self.group(&section);
        let media = self.media(&section);
        let fallback = self.fallback(&section, &media);
        let access = access::names(&section, &mut self.report);
        let settings = Settings::read(&section, &mut self.report, self.world).or(&self.defaults);
        if let Field::Absent = settings.interface {
            let default = interface(LOOPBACK, self.world).err().unwrap_or_default();
            let sentence = format!("interface = \"{LOOPBACK}\", the default, {default}");
            section.fault(&mut self.report, at, sentence);
        }
        // A wrong value of `sound` is reported already.
        let is_silent =
            matches!(settings.sound, Field::Absent | Field::Is(SoundChoice::Auto | SoundChoice::Off));
        self.unheard_microphone(&section, is_silent);
        let at_times = self.at(&section, is_silent);
        let interface = settings.interface.clone().value();
        if let (Some(group), Some(interface)) = (group, &interface) {
            self.family(&section, group, interface);
        }
        let line = self.report.line(at);
        let sound = settings.sound.clone().value();
        let place = section.place.clone();
        let own_media = media.clone().unwrap_or_else(|| Media::Films(Vec::new()));
        if let (Some(Media::Published(_)), Some(name)) = (&media, &name) {
            self.unique_publish_name(&section, name);
        }
        let sign = settings.sign.clone().value().unwrap_or(false);
        let own = UniqueValues { place, line, id, name: name.clone(), group, media: own_media, sound, sign };
        if let Some(fault) = ports::fault(&own, &self.known, self.world) {
            section.wrong::<()>(&mut self.report, "group", fault);
        }
        self.known.push(own);
        let own = settings.station(id?, name?, media?, group?, line)?;
        Some(StationSpec { fallback: fallback?, at: at_times?, access, ..own })
    }

    /// Reports a fault if the section names a microphone, and the station has no sound.
    fn unheard_microphone(&mut self, section: &Section<'_, '_>, is_silent: bool) {
        let is_camera = |text: &str| CameraDevice::of_argument(text).is_some();
        let media = section.get("media").and_then(|value| value.get_ref().as_str());
        if is_silent && section.get("microphone").is_some() && media.is_some_and(is_camera) {
            let sentence =
                "has no effect on a station without sound; write sound = true beside it, or remove it";
            section.wrong::<()>(&mut self.report, "microphone", sentence);
        }
    }

    /// Reports a fault if an earlier station is published to under the same name.
    fn unique_publish_name(&mut self, section: &Section<'_, '_>, name: &str) {
        let own = publish_name(name);
        let is_taken = |taken: &&UniqueValues| {
            taken.media.published().is_some()
                && taken.name.as_deref().map(publish_name).as_ref() == Some(&own)
        };
        if let Some(first) = self.known.iter().find(is_taken) {
            let (line, place) = (first.line, &first.place);
            let sentence =
                format!("is /publish/{own} in the URL, as that of {place} on line {line}; choose another");
            section.wrong::<()>(&mut self.report, "name", sentence);
        }
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
        if let Some(value) = section.get("publish") {
            if section.get("media").is_some() {
                let sentence = "has both media and publish; keep one of them";
                section.fault(&mut self.report, value.span().start, sentence);
                return None;
            }
            return publish::rule(section, &mut self.report, self.open).map(Media::Published);
        }
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
        let has_password =
            |entry: &&&Spanned<DeValue<'_>>| entry.get_ref().as_str().is_some_and(live::has_password);
        if let Some(entry) = entries.iter().find(has_password) {
            // Not shown as it was typed, since reloads log the sentence.
            let sentence = "media has a password in its address; write the user alone, as in \"rtsp://user@192.0.2.21/\", and set password_file or password_env";
            section.fault(&mut self.report, entry.span().start, sentence);
            return None;
        }
        if let DeValue::String(text) = value.get_ref()
            && let Some(path) = CameraDevice::device(text)
        {
            let camera = CameraDevice::read(path, section, &mut self.report)?;
            return Some(Media::Live(LiveSource::Camera(camera)));
        }
        if let Some(key) = CAMERA_KEYS.iter().find(|key| section.get(key).is_some()) {
            let sentence = "is for a camera of this machine, as in media = \"/dev/video0\"; remove it";
            section.wrong::<()>(&mut self.report, key, sentence);
            return None;
        }
        let is_network = value.get_ref().as_str().is_some_and(live::is_address);
        if !is_network && let Some(key) = PASSWORD_KEYS.iter().find(|key| section.get(key).is_some()) {
            let sentence =
                "is for a live source that has a user, as in media = \"rtsp://user@192.0.2.21/\"; remove it";
            section.wrong::<()>(&mut self.report, key, sentence);
            return None;
        }
        if let DeValue::String(text) = value.get_ref()
            && live::is_address(text)
        {
            return match NetworkSource::parse(text) {
                Ok(source) => {
                    let password = self.password(section, &source)?;
                    Some(Media::Live(LiveSource::Network(source.with_password(password))))
                }
                Err(sentence) => {
                    section.wrong::<()>(&mut self.report, "media", sentence);
                    None
                }
            };
        }
        if let Some(mosaic) = value.get_ref().as_str().and_then(mosaic::parse) {
            return match mosaic {
                Ok(stations) => Some(Media::Mosaic(stations)),
                Err(sentence) => {
                    section.wrong::<()>(&mut self.report, "media", sentence);
                    None
                }
            };
        }
        Some(Media::Films(self.films(section, "media", entries, fix)))
    }

    /// The paths of `key`, without the wrong ones; but then `finish` returns no line-up.
    fn films(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        entries: Vec<&Spanned<DeValue<'_>>>,
        fix: &str,
    ) -> Vec<PathBuf> {
        let mut films = Vec::new();
        for entry in entries {
            let found = match entry.get_ref() {
                DeValue::String(text) if live::is_address(text) && key == "media" => {
                    Err("is a live source; write it alone, not in a list".into())
                }
                DeValue::String(text) if mosaic::parse(text).is_some() => {
                    Err("is a mosaic; write it alone, not in a list".into())
                }
                DeValue::String(text) if live::is_address(text) => Err("is a live source; name films".into()),
                DeValue::String(text) => self.film(text),
                other => Err(format!("is {}; {fix}", kind(other))),
            };
            match found {
                Ok(path) => films.push(path),
                Err(sentence) => {
                    let typed = self.report.typed(entry.span());
                    let sentence = format!("{key} = {typed} {sentence}");
                    section.fault(&mut self.report, entry.span().start, sentence);
                }
            }
        }
        films
    }

    /// The films that are shown while the live source is lost.
    fn fallback(&mut self, section: &Section<'_, '_>, media: &Option<Media>) -> Option<Vec<PathBuf>> {
        let Some(value) = section.get("fallback") else { return Some(Vec::new()) };
        if media.as_ref().is_some_and(Media::is_films) {
            let sentence = "is for a live source, and media are films; remove it";
            section.wrong::<()>(&mut self.report, "fallback", sentence);
            return None;
        }
        let fix = "name a film, a folder of films or a list of them, as in \"films/pause.mp4\"";
        let entries: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                section.wrong::<()>(&mut self.report, "fallback", format_args!("is an empty list; {fix}"));
                return None;
            }
            DeValue::Array(list) => list.iter().collect(),
            _ => vec![value],
        };
        Some(self.films(section, "fallback", entries, fix))
    }

    /// The media at times of day; `is_silent` is a station without sound.
    fn at(&mut self, station: &Section<'_, '_>, is_silent: bool) -> Option<Vec<TimedMedia>> {
        let Some(value) = station.get("at") else { return Some(Vec::new()) };
        let DeValue::Array(list) = value.get_ref() else {
            let sentence =
                "is no list of tables; write [[station.at]], once for each time, below the station's keys";
            station.wrong::<()>(&mut self.report, "at", sentence);
            return None;
        };
        let mut all = Some(Vec::new());
        for (n, entry) in (1..).zip(list) {
            let DeValue::Table(table) = entry.get_ref() else {
                station.wrong::<()>(
                    &mut self.report,
                    "at",
                    "has entries that are no tables; write [[station.at]]",
                );
                return None;
            };
            let place = format!("{}, at #{n}", station.place);
            let section = Section { table, at: entry.span().start, place };
            section.unknown_keys(&mut self.report, &AT, "[[station.at]]");
            let span = timed::span(&section, &mut self.report);
            let media = self.media(&section);
            self.unheard_microphone(&section, is_silent);
            match (span, media, &mut all) {
                (Some((from, to, days)), Some(media), Some(all)) => {
                    all.push(TimedMedia { from, to, days, media });
                }
                _ => all = None,
            }
        }
        all
    }

    /// Where the password of a live source is; `None` if a key is wrong.
    fn password(
        &mut self,
        section: &Section<'_, '_>,
        source: &NetworkSource,
    ) -> Option<Option<PasswordPlace>> {
        let fix = "name a file whose first line is the password, as in \"camera.password\"";
        let file = section.text(&mut self.report, "password_file", fix);
        let variable_fix =
            "name a variable of the environment that holds the password, as in \"CAMERA_PASSWORD\"";
        let variable = section.text(&mut self.report, "password_env", variable_fix);
        let key = match (&file, &variable) {
            (Field::Is(_), Field::Is(_)) => {
                let sentence = "is there beside password_file; keep one of them";
                section.wrong::<()>(&mut self.report, "password_env", sentence);
                return None;
            }
            (Field::Wrong, _) | (_, Field::Wrong) => return None,
            (Field::Is(_), _) => "password_file",
            (_, Field::Is(_)) => "password_env",
            _ => return Some(None),
        };
        if source.user().is_none() {
            let sentence =
                "is a password without a user; write the user into media, as in \"rtsp://user@192.0.2.21/\"";
            section.wrong::<()>(&mut self.report, key, sentence);
            return None;
        }
        if let Field::Is(text) = file {
            if text.is_empty() {
                section.wrong::<()>(&mut self.report, key, format_args!("is empty; {fix}"));
                return None;
            }
            return match located(text, self.folder, self.world) {
                Ok(path) => Some(Some(PasswordPlace::File(path))),
                Err(sentence) => {
                    section.wrong::<()>(&mut self.report, key, sentence);
                    None
                }
            };
        }
        let name = variable.value().unwrap_or_default();
        if name.is_empty() || name.contains(['=', '\0']) {
            section.wrong::<()>(
                &mut self.report,
                key,
                format_args!("is no name of a variable; {variable_fix}"),
            );
            return None;
        }
        Some(Some(PasswordPlace::Variable(name.to_owned())))
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
