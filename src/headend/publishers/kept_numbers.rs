//! The numbers of the stations that are made by publishing. A name keeps its number for a day after its publisher has left, over a
//! restart of the broadcaster too: they are in a file. Pure but for the two functions that read and write it.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::PublishRefusal;
use crate::lineup::{PublishSpec, publish_name};
use crate::media::{AirTime, StationId};
use crate::private_file;

/// The number of a station that was made by publishing is kept so long for its name.
pub(super) const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The version of the file.
const VERSION: u32 = 1;

/// The numbers of names, as in the URLs that are published to.
#[derive(Debug, Default)]
pub(super) struct KeptNumbers {
    by_name: HashMap<String, KeptNumber>,
    /// Whether they are others than in the file.
    is_changed: bool,
}

#[derive(Debug)]
struct KeptNumber {
    id: StationId,
    /// When its last publisher left; `None` while there is one on air.
    left: Option<Instant>,
    /// Whether a publisher of this name has ever been on air.
    was_on_air: bool,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct NumbersFile {
    version: u32,
    numbers: Vec<NumberEntry>,
}

#[derive(Serialize, Deserialize)]
struct NumberEntry {
    name: String,
    id: u16,
    /// When its publisher left, in seconds since 1970; `None`: it was on air when the file was written.
    left: Option<u64>,
}

impl KeptNumbers {
    /// The number for a publisher of this name: the one that the name had, or else the lowest that no name has, or else the one whose
    /// publisher has left the longest ago. `is_used` tells whether somebody has it.
    ///
    /// # Errors
    /// All are in use.
    pub(super) fn number(
        &mut self,
        name: &str,
        spec: &PublishSpec,
        now: Instant,
        is_used: impl Fn(StationId) -> bool,
    ) -> Result<StationId, PublishRefusal> {
        self.by_name.retain(|_, kept| kept.left.is_none_or(|left| now - left < KEPT));
        if let Some(kept) = self.by_name.get(name) {
            return Ok(kept.id);
        }
        let taken: HashSet<StationId> = self.by_name.values().map(|kept| kept.id).collect();
        let id = match spec.ids.clone().map(StationId).find(|id| !taken.contains(id)) {
            Some(id) => id,
            None => {
                let left = |(name, kept): (&String, &KeptNumber)| Some((kept.left?, name.clone(), kept.id));
                let unused = self.by_name.iter().filter(|(_, kept)| !is_used(kept.id));
                let Some((_, oldest, id)) = unused.filter_map(left).min() else {
                    let why = format!("all {} numbers of [publish] are in use", spec.most());
                    return Err(PublishRefusal::Full(why));
                };
                self.by_name.remove(&oldest);
                id
            }
        };
        self.by_name.insert(name.to_owned(), KeptNumber { id, left: Some(now), was_on_air: false });
        Ok(id)
    }

    /// The number of a name, and when its last publisher left; `None` while there is one on air.
    pub(super) fn of(&self, name: &str) -> Option<(StationId, Option<Instant>)> {
        self.by_name.get(name).map(|kept| (kept.id, kept.left))
    }

    /// A publisher of this name is on air.
    pub(super) fn on_air(&mut self, name: &str) {
        if let Some(kept) = self.by_name.get_mut(name) {
            (kept.left, kept.was_on_air) = (None, true);
            self.is_changed = true;
        }
    }

    /// The publisher of this name has left. A name that was never on air is forgotten.
    pub(super) fn left(&mut self, name: &str, now: Instant) {
        self.forget(name);
        if let Some(kept) = self.by_name.get_mut(name) {
            kept.left = Some(now);
            self.is_changed = true;
        }
    }

    /// Forgets a name that was never on air, so that a publisher that announces many names takes no number from names that come back.
    pub(super) fn forget(&mut self, name: &str) {
        if self.by_name.get(name).is_some_and(|kept| !kept.was_on_air) {
            self.by_name.remove(name);
        }
    }

    /// How many names have a number.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.by_name.len()
    }

    /// The contents of the file, if they have changed since this was asked last. `now` and `wall` are one moment.
    pub(super) fn take_changed(&mut self, now: Instant, wall: AirTime) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let seconds = |left: Instant| (wall - (now - left)).0 / 1_000_000_000;
        let entry = |(name, kept): (&String, &KeptNumber)| NumberEntry {
            name: name.clone(),
            id: kept.id.0,
            left: kept.left.map(seconds),
        };
        let mut numbers: Vec<NumberEntry> =
            self.by_name.iter().filter(|(_, kept)| kept.was_on_air).map(entry).collect();
        numbers.sort_by_key(|entry| entry.id);
        serde_json::to_vec_pretty(&NumbersFile { version: VERSION, numbers }).ok()
    }

    /// Reads the contents of a file. Numbers that are not of `spec`, and those whose day is over, are left out. `now` and `wall` are one
    /// moment.
    ///
    /// # Errors
    /// The sentence that says why the file is damaged.
    fn parse(bytes: &[u8], spec: &PublishSpec, now: Instant, wall: AirTime) -> Result<KeptNumbers, String> {
        let file: NumbersFile =
            serde_json::from_slice(bytes).map_err(|error| format!("it is damaged: {error}"))?;
        if file.version != VERSION {
            return Err(format!("it has the version {}, and this program reads {VERSION}", file.version));
        }
        let mut kept = KeptNumbers::default();
        let mut ids = HashSet::new();
        for NumberEntry { name, id, left } in file.numbers {
            if name.is_empty() || publish_name(&name) != name {
                return Err(format!("it is damaged: {name:?} is no name of a station"));
            }
            if !ids.insert(id) || kept.by_name.contains_key(&name) {
                return Err(format!("it is damaged: it has {id} or {name:?} twice"));
            }
            // One that was on air has left with the broadcaster. A clock that was set back makes no time long ago.
            let left = left.map_or(wall, |left| AirTime(left.saturating_mul(1_000_000_000))).min(wall);
            let ago = wall.since(left);
            let id = StationId(id);
            if ago < KEPT && spec.has(id) {
                let left = Some(now.checked_sub(ago).unwrap_or(now));
                kept.by_name.insert(name, KeptNumber { id, left, was_on_air: true });
            }
        }
        Ok(kept)
    }

    /// Reads the file at `path`; one that is not there has none. Blocks.
    ///
    /// # Errors
    /// The sentence that says why it cannot be read.
    pub(super) fn read(
        path: &Path,
        spec: &PublishSpec,
        now: Instant,
        wall: AirTime,
    ) -> Result<KeptNumbers, String> {
        match private_file::read(path) {
            Ok(bytes) => KeptNumbers::parse(&bytes, spec, now, wall),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(KeptNumbers::default()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Replaces the file as a whole. Blocks.
///
/// # Errors
/// The sentence that says why it cannot be written. The old file is then as it was.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let failed = |error: &dyn Display| {
        format!("the numbers of publishers are not kept in {}: {error}", path.display())
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    private_file::replace(path, bytes).map_err(|error| failed(&error))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "of this moment")]
mod tests {
    use super::*;
    use crate::lineup::{Lineup, World};

    const WALL: AirTime = AirTime(1_790_000_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    /// Numbers 900 to 902.
    fn spec() -> PublishSpec {
        let text = "[rtsp]\n[publish]\nids = \"900-902\"\ntoken = \"right-token\"\n";
        Lineup::parse(text, Path::new("stations.toml"), &World::for_tests()).unwrap().publish.unwrap()
    }

    fn number(kept: &mut KeptNumbers, name: &str, now: Instant) -> u16 {
        kept.number(name, &spec(), now, |_| false).unwrap().0
    }

    /// The numbers that a broadcaster finds if it starts so much later.
    fn after(kept: &mut KeptNumbers, now: Instant, pause: Duration) -> KeptNumbers {
        let bytes = kept.take_changed(now, WALL).expect("a change");
        assert_eq!(kept.take_changed(now, WALL), None, "it was asked for");
        KeptNumbers::parse(&bytes, &spec(), now + pause, WALL + pause).unwrap()
    }

    #[test]
    fn a_name_has_its_number_for_a_day_over_a_restart() {
        let (mut kept, now) = (KeptNumbers::default(), Instant::now() + 48 * HOUR);
        for (name, id) in [("anna", 900), ("berta", 901), ("carla", 902)] {
            assert_eq!(number(&mut kept, name, now), id);
        }
        assert_eq!(kept.take_changed(now, WALL), None, "nobody was on air");
        kept.on_air("berta");
        kept.on_air("carla");
        kept.left("carla", now - 20 * HOUR);
        // Anna was never on air. Carla left 20 h before, Berta with the broadcaster.
        let mut later = after(&mut kept, now, 3 * HOUR);
        assert_eq!((later.of("anna"), later.count()), (None, 2));
        assert_eq!(number(&mut later, "dora", now + 3 * HOUR), 900);
        assert_eq!(number(&mut later, "carla", now + 3 * HOUR), 902);
        assert_eq!(number(&mut later, "berta", now + 3 * HOUR), 901);
        kept.on_air("berta");
        assert_eq!(after(&mut kept, now, 5 * HOUR).of("carla"), None, "its day is over");
    }

    #[test]
    fn a_file_that_is_damaged_is_refused_with_a_sentence() {
        let (spec, now) = (spec(), Instant::now());
        let parse = |text: &str| KeptNumbers::parse(text.as_bytes(), &spec, now, WALL);
        let of = |entries: &str| parse(&format!("{{\"version\": 1, \"numbers\": [{entries}]}}"));
        for text in ["", "{", "[]", "\0\0", "{\"version\": 1}"] {
            assert!(parse(text).unwrap_err().starts_with("it is damaged: "), "{text:?}");
        }
        let why = parse("{\"version\": 2, \"numbers\": []}").unwrap_err();
        assert_eq!(why, "it has the version 2, and this program reads 1");
        let anna = "{\"name\": \"anna\", \"id\": 901, \"left\": null}";
        for (entries, why) in [
            (
                "{\"name\": \"A b\", \"id\": 901, \"left\": 1}".to_owned(),
                "it is damaged: \"A b\" is no name of a station",
            ),
            (format!("{anna},{anna}"), "it is damaged: it has 901 or \"anna\" twice"),
        ] {
            assert_eq!(of(&entries).unwrap_err(), why);
        }
        // Of other numbers, of long ago, and of the future.
        let far = "{\"name\": \"x\", \"id\": 7, \"left\": null},{\"name\": \"y\", \"id\": 900, \"left\": 0},\
                   {\"name\": \"z\", \"id\": 902, \"left\": 18446744073709551615}";
        let kept = of(&format!("{anna},{far}")).unwrap();
        assert_eq!(
            (kept.of("anna"), kept.of("x"), kept.of("y")),
            (Some((StationId(901), Some(now))), None, None)
        );
        assert_eq!(kept.of("z"), Some((StationId(902), Some(now))));
    }

    #[test]
    fn a_file_is_made_with_its_folder_and_one_that_is_not_there_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let (path, now) = (folder.path().join("state/numbers.json"), Instant::now());
        assert_eq!(KeptNumbers::read(&path, &spec(), now, WALL).unwrap().count(), 0);
        let mut kept = KeptNumbers::default();
        number(&mut kept, "anna", now);
        kept.on_air("anna");
        write(&path, &kept.take_changed(now, WALL).unwrap()).unwrap();
        assert_eq!(
            KeptNumbers::read(&path, &spec(), now, WALL).unwrap().of("anna").unwrap().0,
            StationId(900)
        );
        let why = write(&path.join("below"), b"").unwrap_err();
        assert!(why.starts_with("the numbers of publishers are not kept in "), "{why}");
    }
}
