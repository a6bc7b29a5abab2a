//! One table of the file: turns the TOML value of a key into a value that keeps the key's rule, or into a fault.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Report, listed, nearest, short};
use super::{Datagram, SoundChoice, Spread, World};
use crate::interface::{Choice, Interface};
use crate::media::SoundCodec;

type TomlValue<'i> = Spanned<DeValue<'i>>;

/// The value of a key.
#[derive(Debug, Clone)]
pub(super) enum Field<T> {
    /// The table does not have the key.
    Absent,
    /// The value breaks the key's rule. The fault is reported.
    Wrong,
    /// A value that keeps the rule.
    Is(T),
}

impl<T> Field<T> {
    /// This, or `other` if this is absent.
    pub(super) fn or(self, other: Field<T>) -> Field<T> {
        if let Field::Absent = self { other } else { self }
    }

    /// The value, if it keeps the rule.
    pub(super) fn value(self) -> Option<T> {
        if let Field::Is(value) = self { Some(value) } else { None }
    }

    pub(super) fn and_then<U>(self, next: impl FnOnce(T) -> Field<U>) -> Field<U> {
        match self {
            Field::Absent => Field::Absent,
            Field::Wrong => Field::Wrong,
            Field::Is(value) => next(value),
        }
    }
}

/// One table of the file.
pub(super) struct Section<'s, 'i> {
    pub(super) table: &'s DeTable<'i>,
    /// The byte at which it begins.
    pub(super) at: usize,
    /// Its name in messages: `station "Nature"`, `[defaults]`.
    pub(super) place: String,
}

impl<'s, 'i> Section<'s, 'i> {
    pub(super) fn get(&self, key: &str) -> Option<&'s TomlValue<'i>> {
        self.table.get(key)
    }

    /// Reports a fault of this table at byte `at`.
    pub(super) fn fault(&self, report: &mut Report<'_>, at: usize, sentence: impl Display) {
        report.fault(at, format_args!("{}: {sentence}", self.place));
    }

    /// Reports that the value of `key` breaks its rule.
    pub(super) fn wrong<T>(&self, report: &mut Report<'_>, key: &str, sentence: impl Display) -> Field<T> {
        if let Some(value) = self.get(key) {
            let typed = report.typed(value.span());
            self.fault(report, value.span().start, format_args!("{key} = {typed} {sentence}"));
        }
        Field::Wrong
    }

    /// Reports that a required key is missing.
    pub(super) fn missing(&self, report: &mut Report<'_>, key: &str, fix: &str) {
        self.fault(report, self.at, format_args!("`{key}` is missing; {fix}"));
    }

    /// Reports every key that is not in `known`, with the name that was probably meant.
    pub(super) fn unknown_keys(&self, report: &mut Report<'_>, known: &[&str], whose: &str) {
        for key in self.table.keys() {
            let typed = key.get_ref().as_ref();
            if known.contains(&typed) {
                continue;
            }
            let meant = nearest(typed, known).map(|name| format!("; did you mean `{name}`?"));
            let sentence = format!(
                "unknown key `{}`; {whose} {} {}{}",
                short(typed),
                if known.len() == 1 { "has only the key" } else { "has the keys" },
                listed(known),
                meant.unwrap_or_default()
            );
            self.fault(report, key.span().start, sentence);
        }
    }

    pub(super) fn text(&self, report: &mut Report<'_>, key: &str, fix: &str) -> Field<&'s str> {
        match self.get(key).map(Spanned::get_ref) {
            None => Field::Absent,
            Some(DeValue::String(text)) => Field::Is(text.as_ref()),
            Some(other) => self.wrong(report, key, format_args!("is {}; {fix}", kind(other))),
        }
    }

    /// The texts of a list that is the value of `key`, as `read` understands them. Those that are wrong are reported, with the
    /// sentence of `read`, which begins with a space or a colon; `fix` is for an entry that is no text.
    pub(super) fn texts<'e>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        entries: impl IntoIterator<Item = &'e TomlValue<'i>>,
        fix: &str,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Vec<String>
    where
        'i: 'e,
    {
        let mut texts = Vec::new();
        for entry in entries {
            let read = match entry.get_ref() {
                DeValue::String(text) => read(text),
                other => Err(format!(" is {}; {fix}", kind(other))),
            };
            match read {
                Ok(text) => texts.push(text),
                Err(sentence) => {
                    let typed = report.typed(entry.span());
                    self.fault(report, entry.span().start, format_args!("{key} = {typed}{sentence}"));
                }
            }
        }
        texts
    }

    pub(super) fn number<T>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        range: RangeInclusive<T>,
        fix: &str,
    ) -> Field<T>
    where
        T: TryFrom<i64> + PartialOrd,
    {
        match self.get(key).map(Spanned::get_ref) {
            None => Field::Absent,
            Some(DeValue::Integer(digits)) => {
                // A number that does not fit the type is out of range too.
                let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
                match number.and_then(|number| T::try_from(number).ok()) {
                    Some(number) if range.contains(&number) => Field::Is(number),
                    _ => self.wrong(report, key, format_args!("is out of range; {fix}")),
                }
            }
            Some(other) => self.wrong(report, key, format_args!("is {}; {fix}", kind(other))),
        }
    }

    pub(super) fn flag(&self, report: &mut Report<'_>, key: &str, fix: &str) -> Field<bool> {
        match self.get(key).map(Spanned::get_ref) {
            None => Field::Absent,
            Some(DeValue::Boolean(flag)) => Field::Is(*flag),
            Some(other) => self.wrong(report, key, format_args!("is {}; {fix}", kind(other))),
        }
    }

    pub(super) fn spread(&self, report: &mut Report<'_>) -> Field<Spread> {
        let fix = "choose a number from 0 to 0.95 (the share of a picture's interval over which its packets \
                   are spread; 0 sends them at once)";
        let share = match self.get("spread").map(Spanned::get_ref) {
            None => return Field::Absent,
            Some(DeValue::Float(digits)) => digits.as_str().parse().ok(),
            Some(DeValue::Integer(digits)) => {
                i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(|whole| whole as f64)
            }
            Some(other) => {
                return self.wrong(report, "spread", format_args!("is {}; {fix}", kind(other)));
            }
        };
        match share.and_then(Spread::new) {
            Some(spread) => Field::Is(spread),
            None => self.wrong(report, "spread", format_args!("is out of range; {fix}")),
        }
    }

    /// An address with a port, which is not 0. `example` is one for messages.
    pub(super) fn socket(&self, report: &mut Report<'_>, key: &str, example: &str) -> Field<SocketAddr> {
        let fix = format!("write an address and a port, as in \"{example}\"");
        self.text(report, key, &fix).and_then(|text| {
            let (address, port) = match text.rsplit_once(':') {
                Some((address, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
                    (address, port)
                }
                _ => ("", ""),
            };
            let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
            if let Ok(socket) = text.parse::<SocketAddr>()
                && socket.port() != 0
            {
                Field::Is(socket)
            } else if let Some(ip) = bare(text) {
                // "ff15::77:5004" is an address without a port: only brackets would tell where the address ends.
                let whole = example.rsplit_once(':').map_or("", |(_, port)| port);
                let socket = SocketAddr::new(ip, whole.parse().unwrap_or_default());
                self.wrong(report, key, format_args!("has no port; write it as in \"{socket}\""))
            } else if bare(address).is_some_and(|ip| ip.is_ipv4() || address.starts_with('['))
                && !port.parse::<u16>().is_ok_and(|port| port > 0)
            {
                let port = short(port);
                self.wrong(report, key, format_args!("has port {port}; choose one from 1 to 65535"))
            } else {
                self.wrong(report, key, format_args!("is not an address with a port; {fix}"))
            }
        })
    }

    pub(super) fn datagram(&self, report: &mut Report<'_>) -> Field<Datagram> {
        let fix = "choose \"auto\" or a whole number from 576 to 65507 (bytes of UDP payload)";
        match self.get("datagram").map(Spanned::get_ref) {
            Some(DeValue::String(text)) if text == "auto" => Field::Is(Datagram::Auto),
            Some(DeValue::String(_)) => {
                self.wrong(report, "datagram", format_args!("is not a valid value; {fix}"))
            }
            _ => {
                let range = Datagram::MIN..=Datagram::MAX;
                self.number(report, "datagram", range, fix)
                    .and_then(|bytes| Field::Is(Datagram::Limit(bytes)))
            }
        }
    }

    pub(super) fn sound(&self, report: &mut Report<'_>) -> Field<SoundChoice> {
        let fix = "choose true, false, a language as in \"eng\", or the number of a sound track from 1";
        match self.get("sound").map(Spanned::get_ref) {
            Some(DeValue::Boolean(true)) => Field::Is(SoundChoice::On),
            Some(DeValue::Boolean(false)) => Field::Is(SoundChoice::Off),
            Some(DeValue::String(text)) => {
                let is_language =
                    (2..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic());
                if is_language {
                    Field::Is(SoundChoice::Language(text.to_ascii_lowercase()))
                } else {
                    self.wrong(report, "sound", format_args!("is not a language; {fix}"))
                }
            }
            _ => self.number(report, "sound", 1..=64, fix).and_then(|n| Field::Is(SoundChoice::Track(n))),
        }
    }

    pub(super) fn sound_codec(&self, report: &mut Report<'_>) -> Field<SoundCodec> {
        let fix = "choose \"opus\" or \"l16\" (linear samples, for players that do not decode Opus)";
        self.text(report, "sound_codec", fix).and_then(|text| {
            let known = [SoundCodec::Opus, SoundCodec::L16].into_iter().find(|codec| codec.key() == text);
            match known {
                Some(codec) => Field::Is(codec),
                None => self.wrong(report, "sound_codec", format_args!("is not a codec of ours; {fix}")),
            }
        })
    }

    pub(super) fn interface(&self, report: &mut Report<'_>, world: &World) -> Field<Choice> {
        let fix = "write an interface's address or its name, as in \"127.0.0.1\" or \"eth0\"";
        self.text(report, "interface", fix).and_then(|text| match interface(text, world) {
            Ok(interface) => Field::Is(interface),
            Err(sentence) => self.wrong(report, "interface", sentence),
        })
    }
}

/// The interface that has this name or address; or what is wrong with it, to stand behind `interface = "eth9"`.
pub(super) fn interface(text: &str, world: &World) -> Result<Choice, String> {
    let address = text.parse::<IpAddr>().ok();
    let matching: Vec<&Interface> = world
        .interfaces
        .iter()
        .filter(|one| one.name == text || address.is_some_and(|address| one.has(address)))
        .collect();
    let describe = |all: &[&Interface]| all.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ");
    match matching.as_slice() {
        [] => {
            let all: Vec<&Interface> = world.interfaces.iter().collect();
            Err(format!("does not exist on this machine; choose one of {}", describe(&all)))
        }
        [one] => Ok(Choice { name: one.name.clone(), address }),
        several => {
            let other = if address.is_some() { "name" } else { "address" };
            Err(format!("is ambiguous; write the {other} of one of {}", describe(several)))
        }
    }
}

/// The path that `text` means, or what is wrong with it. `~/` is the home folder, and a relative path starts at `folder`.
/// `text` must not be empty.
pub(super) fn located(text: &str, folder: &Path, world: &World) -> Result<PathBuf, &'static str> {
    match (text.strip_prefix("~/"), &world.home) {
        (None, _) => Ok(folder.join(text)),
        (Some(rest), Some(home)) => Ok(home.join(rest)),
        (Some(_), None) => Err("needs a home folder, and this user has none; write the whole path"),
    }
}

/// The type of a value, for messages.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "not a whole number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) const NAME_FIX: &str = "choose 1 to 63 characters, as in \"Ocean\"";

/// What is wrong with a station's name, and the fix; `None` if nothing is.
pub(crate) fn name_fault(name: &str) -> Option<String> {
    let characters = name.chars().count();
    if name.trim().is_empty() {
        Some(format!("is empty; {NAME_FIX}"))
    } else if characters > 63 {
        Some(format!("has {characters} characters; {NAME_FIX}"))
    } else if name.chars().any(char::is_control) {
        Some("has a control character; remove it".into())
    } else {
        None
    }
}

/// What is wrong with the address of a group, and the fix; `None` if nothing is. Does not check the port.
pub(super) fn group_fault(group: SocketAddr) -> Option<&'static str> {
    match group {
        SocketAddr::V4(group) if !group.ip().is_multicast() => {
            Some("is not a multicast address; choose one in 239.0.0.0/8")
        }
        SocketAddr::V6(group) if !group.ip().is_multicast() => {
            Some("is not a multicast address; choose one in ff15::/16")
        }
        SocketAddr::V4(group) if group.ip().octets()[..3] == [224, 0, 0] => Some(
            "is in 224.0.0.0/24, which is reserved for routing protocols (RFC 5771); choose one in 239.0.0.0/8",
        ),
        SocketAddr::V6(group) if group.ip().segments()[0] == 0xff02 => Some(
            "is in ff02::/16, which is reserved for neighbour discovery and routing protocols (RFC 4291); \
             choose one in ff15::/16",
        ),
        SocketAddr::V6(group) if scope(group.ip()) == 1 => {
            Some("has the scope of one interface (RFC 4291), which it never leaves; choose one in ff15::/16")
        }
        SocketAddr::V6(group) if matches!(scope(group.ip()), 0 | 15) => {
            Some("has a reserved scope (RFC 4291); choose one in ff15::/16")
        }
        SocketAddr::V6(group) if group.scope_id() != 0 => {
            Some("names a zone after the %; remove it: `interface` says where the station is sent")
        }
        _ => None,
    }
}

/// The scope of a multicast address (RFC 4291 section 2.7).
fn scope(group: &Ipv6Addr) -> u16 {
    group.segments()[0] & 0xf
}
