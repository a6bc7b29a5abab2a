//! The sections of the file: their names, and the look-up of one.

use toml::de::{DeTable, DeValue};

use super::fields::{Section, kind};
use super::report::{Report, nearest, short};

const SECTIONS: [&str; 11] = [
    "directory",
    "defaults",
    "reel",
    "rtsp",
    "http",
    "announce",
    "publish",
    "tls",
    "access",
    "reload",
    "station",
];
/// The sections as their headers in a file.
const HEADERS: &str = "[directory], [defaults], [reel], [rtsp], [http], [announce], [publish], [tls], [access], [reload] \
                       and [[station]]";
/// The keys of `[defaults]`. Each station may set them for itself.
pub(super) const SETTINGS: [&str; 15] = [
    "interface",
    "ttl",
    "width",
    "quality",
    "datagram",
    "reel",
    "spread",
    "slide",
    "buffer",
    "sound",
    "sound_bitrate",
    "sound_codec",
    "loudness",
    "encrypt",
    "sign",
];

/// Reports every top-level name of the file that this version does not know.
pub(super) fn unknown_sections(root: &DeTable<'_>, report: &mut Report<'_>) {
    for (key, value) in root {
        let name = key.get_ref().as_ref();
        if SECTIONS.contains(&name) {
            continue;
        }
        let shown = short(name);
        let sentence = match value.get_ref() {
            DeValue::Table(_) | DeValue::Array(_) => {
                let meant =
                    nearest(name, &SECTIONS).map(|known| format!("; did you mean {}?", header(known)));
                format!(
                    "unknown section [{shown}]; this version has the sections {HEADERS}{}",
                    meant.unwrap_or_default()
                )
            }
            _ if SETTINGS.contains(&name) => stray_setting(name),
            _ => format!("`{shown}` stands before any section; put it under one of {HEADERS}"),
        };
        report.fault(key.span().start, sentence);
    }
}

fn stray_setting(key: &str) -> String {
    format!("`{key}` stands before any section; put it under [defaults] or a [[station]]")
}

fn header(section: &str) -> String {
    if section == "station" { "[[station]]".to_owned() } else { format!("[{section}]") }
}

/// The section `name`; `None` if the file has none, or if it is not a table, which is reported.
pub(super) fn section<'s, 'i>(
    root: &'s DeTable<'i>,
    name: &str,
    report: &mut Report<'_>,
) -> Option<Section<'s, 'i>> {
    let (key, value) = root.get_key_value(name)?;
    let place = header(name);
    let DeValue::Table(table) = value.get_ref() else {
        let sentence = match value.get_ref() {
            // `reel = false` is a setting. Only `reel` is the name of both a section and a setting.
            DeValue::Boolean(_) if SETTINGS.contains(&name) => stray_setting(name),
            other => format!("{name} is {}; write its keys under one line {place}", kind(other)),
        };
        report.fault(key.span().start, sentence);
        return None;
    };
    Some(Section { table, at: key.span().start, place })
}
