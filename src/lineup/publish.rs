//! Publishing: who may send the content of a station, and which stations are made for those who publish. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::fields::{Field, Section, group_fault, kind};
use super::report::Report;
use super::sections::section;
use super::{Media, StationSpec, access};
use crate::access::keys::is_same;
use crate::media::StationId;

/// The group of station 0 among those that are made by publishing, unless the file names another.
const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 77, 0, 0)), 5004);

/// Shortest and longest token, in characters.
const TOKEN_LENGTH: RangeInclusive<usize> = 8..=128;

const TOKEN_FIX: &str = "write 8 to 128 letters, digits and - . _ ~, which a URL takes as they are";
const TAKEOVER_FIX: &str =
    "choose true or false (whether a second publisher that is let in takes the place of the first)";

/// The secret by which publishers show that they may publish. No message shows it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublishToken(String);

impl PublishToken {
    /// Whether `offered` is this token. Takes as long for a wrong one as for the right one, however much of it is right.
    pub fn admits(&self, offered: &str) -> bool {
        is_same(&self.0, offered)
    }

    fn parse(text: &str) -> Option<PublishToken> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let is_right = TOKEN_LENGTH.contains(&text.len()) && text.bytes().all(plain);
        is_right.then(|| PublishToken(text.to_owned()))
    }
}

impl fmt::Debug for PublishToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublishToken(…)")
    }
}

/// The rule for the publishers of a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRule {
    /// The token of the line-up; `None`: it has none.
    pub token: Option<PublishToken>,
    /// The names of the tokens and passwords of the access file by which somebody may publish, too. If there is no token and there
    /// are no names, everybody may.
    pub access: Vec<String>,
    /// Whether a publisher that is let in takes the place of another.
    pub takeover: bool,
}

/// The stations that are made by publishing to a new name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishSpec {
    /// Their numbers, 1..=999.
    pub ids: RangeInclusive<u16>,
    /// The rule for their publishers.
    pub rule: PublishRule,
    /// The file that keeps the numbers of names over a restart; `None`: they are not kept. Broadcasters that make the same stations
    /// would be in each other's way in any case, so only these share a file.
    pub numbers: Option<PathBuf>,
    /// A station of theirs, with the keys of `[defaults]`. Its group is that of number 0.
    template: Box<StationSpec>,
}

impl PublishSpec {
    /// The station of this number, which is in the range, and name.
    pub fn station(&self, id: StationId, name: &str) -> StationSpec {
        let group = group_of(self.template.group, id).unwrap_or(self.template.group);
        StationSpec { id, name: name.to_owned(), group, ..StationSpec::clone(&self.template) }
    }

    /// Whether a station of this number is made by publishing.
    pub fn has(&self, id: StationId) -> bool {
        self.ids.contains(&id.0)
    }

    /// How many stations there may be.
    pub fn most(&self) -> usize {
        self.ids.len()
    }
}

/// The group of a number: its address is so many behind that of number 0. `None` if there is none.
fn group_of(base: SocketAddr, id: StationId) -> Option<SocketAddr> {
    let ip = match base.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().checked_add(id.0.into())?)),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().checked_add(id.0.into())?)),
    };
    let group = SocketAddr::new(ip, base.port());
    group_fault(group).is_none().then_some(group)
}

/// The last part of the URL to which a station of this name is published: its letters and digits in lower case, other
/// characters as single hyphens. Names that differ in nothing else are the same.
pub fn publish_name(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_alphanumeric() {
            text.extend(c.to_lowercase());
        } else if !text.is_empty() && !text.ends_with('-') {
            text.push('-');
        }
    }
    text.truncate(text.trim_end_matches('-').len());
    text
}

/// Reads `publish` of a station. `open` tells whether RTSP is served beyond this machine; `None` if it is not served at all.
pub(super) fn rule(
    station: &Section<'_, '_>,
    report: &mut Report<'_>,
    open: Option<bool>,
) -> Option<PublishRule> {
    let value = station.get("publish")?;
    let DeValue::Table(table) = value.get_ref() else {
        let sentence = format!("is {}; write publish = {{ token = \"...\" }}", kind(value.get_ref()));
        station.wrong::<()>(report, "publish", sentence);
        return None;
    };
    let place = format!("{}: publish", station.place);
    let section = Section { table, at: value.span().start, place };
    section.unknown_keys(report, &["token", "access", "takeover"], "publish");
    read_rule(&section, report, open)
}

fn read_rule(section: &Section<'_, '_>, report: &mut Report<'_>, open: Option<bool>) -> Option<PublishRule> {
    let takeover = section.flag(report, "takeover", TAKEOVER_FIX).or(Field::Is(false)).value();
    let access = access::names(section, report);
    let token = match section.get("token") {
        None => Some(None),
        // Never shown as it was typed, not even if it is wrong.
        Some(value) => {
            let token = value.get_ref().as_str().and_then(PublishToken::parse);
            if token.is_none() {
                section.fault(report, value.span().start, format_args!("token is no token; {TOKEN_FIX}"));
            }
            token.map(Some)
        }
    };
    match open {
        None => section.fault(report, section.at, "publishers come by RTSP, which is not served; add a section [rtsp]"),
        Some(true) if token == Some(None) && section.get("access").is_none() => section.fault(
            report,
            section.at,
            "there is no token, and [rtsp] can be reached from other machines, so everybody could publish; write token = \"...\"",
        ),
        Some(_) => {}
    }
    Some(PublishRule { token: token?, access, takeover: takeover? })
}

/// Reads `[publish]`. `state` is the folder for what is to be remembered, and `template` makes a station of the keys of `[defaults]`.
pub(super) fn read(
    root: &DeTable<'_>,
    report: &mut Report<'_>,
    open: Option<bool>,
    stations: &[StationSpec],
    state: Option<&Path>,
    template: impl FnOnce(SocketAddr) -> Option<StationSpec>,
) -> Option<PublishSpec> {
    let section = section(root, "publish", report)?;
    section.unknown_keys(report, &["ids", "token", "access", "takeover", "group"], "[publish]");
    let rule = read_rule(&section, report, open);
    let ids = ids(&section, report);
    let base = section.socket(report, "group", &GROUP.to_string()).or(Field::Is(GROUP)).value();
    let (ids, base) = (ids?, base?);
    let last = StationId(*ids.end());
    if [StationId(*ids.start()), last].iter().any(|&id| group_of(base, id).is_none()) {
        let sentence = format!(
            "group = \"{base}\" is that of number 0; with {last} added it is not a multicast address that can be used; \
             choose one in 239.0.0.0/8"
        );
        section.fault(report, section.at, sentence);
        return None;
    }
    for station in stations {
        if ids.contains(&station.id.0) {
            let sentence = format!(
                "station {} \"{}\" on line {} has a number of {}-{}; choose other numbers",
                station.id,
                station.name,
                station.line,
                ids.start(),
                ids.end()
            );
            section.fault(report, section.at, sentence);
        }
        if let Some(id) = ids
            .clone()
            .map(StationId)
            .find(|&id| group_of(base, id).is_some_and(|group| group.ip() == station.group.ip()))
        {
            let sentence = format!(
                "number {id} would be sent to the group address of station \"{}\" on line {}; choose another group",
                station.name, station.line
            );
            section.fault(report, section.at, sentence);
        }
    }
    let rule = rule?;
    let template = template(base)?;
    let template = Box::new(StationSpec { media: Media::Published(rule.clone()), ..template });
    let file = |state: &Path| state.join(numbers_file(&ids, base));
    Some(PublishSpec { numbers: state.map(file), ids, rule, template })
}

/// The name of the file that keeps the numbers of these stations.
fn numbers_file(ids: &RangeInclusive<u16>, base: SocketAddr) -> String {
    let group = base.to_string().replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    format!("published-{}-{}-{}.json", ids.start(), ids.end(), group.trim_matches('-'))
}

/// The numbers, as in `"900-949"`.
fn ids(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<RangeInclusive<u16>> {
    let fix = "write the first and the last number, as in \"900-949\"";
    let text = match section.text(report, "ids", fix) {
        Field::Is(text) => text,
        Field::Wrong => return None,
        Field::Absent => {
            section.missing(report, "ids", fix);
            return None;
        }
    };
    let number = |text: &str| text.trim().parse().ok().filter(|number| (1..=999).contains(number));
    let range = text.split_once('-').and_then(|(first, last)| Some(number(first)?..=number(last)?));
    match range.filter(|range| !range.is_empty()) {
        Some(range) => Some(range),
        None => {
            section.wrong::<()>(report, "ids", format_args!("is not a range of 1 to 999; {fix}"));
            None
        }
    }
}
