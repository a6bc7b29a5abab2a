//! `[access]`: the file of tokens and passwords; and `access` of a station: the names that it lets in.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::fields::{Section, kind};
use super::report::Report;
use super::sections::section;
use super::security::path;
use super::{Media, PublishRule, PublishSpec, StationSpec, World};
use crate::access::keys::name_fault;

const FIX: &str = "name a file, as in \"access.toml\"; `broadcaster token` writes it";

/// Reads `[access]`.
pub(super) fn file(
    root: &DeTable<'_>,
    report: &mut Report<'_>,
    folder: &Path,
    world: &World,
) -> Option<PathBuf> {
    let section = section(root, "access", report)?;
    section.unknown_keys(report, &["file"], "[access]");
    if section.get("file").is_none() {
        section.missing(report, "file", FIX);
    }
    path(&section, report, "file", FIX, folder, world).value()
}

/// The names of a station. Those that are wrong are reported.
pub(super) fn names(section: &Section<'_, '_>, report: &mut Report<'_>) -> Vec<String> {
    let fix = "write a list of the names of tokens and passwords, as in [\"staff\"]";
    let Some(value) = section.get("access") else { return Vec::new() };
    let DeValue::Array(list) = value.get_ref() else {
        section.wrong::<()>(report, "access", format_args!("is {}; {fix}", kind(value.get_ref())));
        return Vec::new();
    };
    // An empty list might be meant to let in nobody.
    if list.is_empty() {
        section.wrong::<()>(
            report,
            "access",
            format_args!("names nobody; {fix}, or leave it out to let in everybody"),
        );
    }
    let name = |text: &str| name_fault(text).map(|()| text.to_owned()).map_err(|rule| format!(": {rule}"));
    section.texts(report, "access", list.iter(), fix, name)
}

/// Reports a station that lets in only some, to watch or to publish, if there is no file of those.
pub(super) fn refuse_without_file(
    stations: &[StationSpec],
    publish: Option<&PublishSpec>,
    file: Option<&Path>,
    report: &mut Report<'_>,
) {
    if file.is_some() {
        return;
    }
    let has_names = |rule: &PublishRule| !rule.access.is_empty();
    let is_closed = |station: &&StationSpec| {
        !station.access.is_empty() || station.media.published().is_some_and(has_names)
    };
    let place = match stations.iter().find(is_closed) {
        Some(closed) => format!("station \"{}\"", closed.name),
        None if publish.is_some_and(|publish| has_names(&publish.rule)) => "[publish]".to_owned(),
        None => return,
    };
    report.fault_of_file(format_args!(
        "{place} has `access`, and there is no [access] with a `file` of tokens; add one"
    ));
}

/// Reports each mosaic that lets in somebody whom a station in it does not: it would show them that station.
pub(super) fn refuse_leaks(stations: &[StationSpec], report: &mut Report<'_>) {
    for spec in stations {
        let shown = spec.at.iter().map(|timed| &timed.media).chain([&spec.media]).flat_map(Media::mosaic);
        let shown = shown.filter_map(|id| stations.iter().find(|station| station.id == *id));
        let lets_in_more = |of: &&StationSpec| {
            let within = !spec.access.is_empty() && spec.access.iter().all(|name| of.access.contains(name));
            !of.access.is_empty() && !within
        };
        if let Some(hidden) = shown.clone().find(|of| of.encrypt.is_some() && spec.encrypt.is_none()) {
            let (name, id) = (&spec.name, hidden.id);
            report.fault_on(
                spec.line,
                format_args!("station \"{name}\": media shows station {id}, which is encrypted; write encrypt = true here too"),
            );
        }
        if let Some(hidden) = shown.into_iter().find(lets_in_more) {
            let (name, id, access) = (&spec.name, hidden.id, hidden.access.join("\", \""));
            report.fault_on(
                spec.line,
                format_args!("station \"{name}\": media shows station {id}, which lets in only some; write access = [\"{access}\"] here too"),
            );
        }
    }
}
