//! `[reel]`: the folder in which the encoded pictures of films are kept, and its size.

use std::path::{Path, PathBuf};

use super::fields::{Field, Section, located};
use super::report::{Report, short};
use super::{MediaKind, ReelSpec, World};

/// The values for a file without `[reel]`.
pub(super) fn default(world: &World) -> ReelSpec {
    let dir = world.cache.as_ref().map(|cache| cache.join("stationcast"));
    ReelSpec { dir, bytes: ReelSpec::BYTES }
}

/// The values of the section, with defaults for missing keys.
pub(super) fn read(
    section: &Section<'_, '_>,
    report: &mut Report<'_>,
    folder: &Path,
    world: &World,
) -> ReelSpec {
    section.unknown_keys(report, &["dir", "bytes"], "[reel]");
    let fix = "name a folder, as in \"/var/cache/stationcast\"";
    let dir = section.text(report, "dir", fix).and_then(|text| match dir(text, folder, world) {
        Ok(path) => Field::Is(path),
        Err(sentence) => section.wrong(report, "dir", sentence),
    });
    let range = ReelSpec::MIN..=i64::MAX.unsigned_abs();
    let fix = "choose a whole number of bytes from 1_000_000 to 2^63 - 1, as in 20_000_000_000 (20 GB); to keep \
               no reels, write reel = false under [defaults]";
    let bytes = section.number(report, "bytes", range, fix);
    let default = default(world);
    ReelSpec { dir: dir.value().or(default.dir), bytes: bytes.value().unwrap_or(default.bytes) }
}

/// The folder that `dir` names, or what is wrong with it. The folder need not exist yet.
fn dir(text: &str, folder: &Path, world: &World) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty; name a folder, as in \"/var/cache/stationcast\"".into());
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character; remove it".into());
    }
    // This folder would be created, with the name "~". (A film must exist, so for films the mistake shows by itself.)
    if text.starts_with('~') && !text.starts_with("~/") {
        return Err(
            "does not say whose home; write \"~/\" before a folder in your own, or the whole path".into()
        );
    }
    let path = located(text, folder, world)?;
    let shown = short(&path.display().to_string());
    match (world.media)(&path) {
        MediaKind::Missing | MediaKind::Folder { .. } => Ok(path),
        MediaKind::File => Err(format!("is a file; name a folder: {shown} is in the way")),
        MediaKind::Unreadable(why) => {
            Err(format!("cannot be used: {}; check {shown} and its permissions", short(&why)))
        }
    }
}
