//! The phases of the stations' programmes: how much later than its [schedule](super::schedule) without a phase each
//! one is. A file keeps them, so that after a restart a station shows the picture that it would have shown without
//! one.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tracing::warn;

use super::lock;
use super::reel::ReelKey;

/// By the station's group: a hash of the programme's reels, and its phase. A station has one entry, since the phase of
/// an earlier programme is not needed again.
type PhaseTable = HashMap<SocketAddr, (String, Duration)>;

/// The phases of all stations.
pub(crate) struct Phases {
    table: Mutex<PhaseTable>,
    /// `None` if phases are not kept over a restart. Locked while the file is written, which may block; the table is
    /// not.
    file: Mutex<Option<PathBuf>>,
}

impl Phases {
    /// The phases in `file`. Without a file, phases last as long as the process.
    pub(crate) fn load(file: Option<PathBuf>) -> Phases {
        let table = file.as_deref().map(load).unwrap_or_default();
        Phases { table: Mutex::new(table), file: Mutex::new(file) }
    }

    /// The phase of the programme of these reels on the station that sends to `group`, if it has one of its own. Does
    /// not wait for a disk.
    pub(crate) fn get<'a>(
        &self,
        group: SocketAddr,
        reels: impl Iterator<Item = &'a ReelKey>,
    ) -> Option<Duration> {
        let hash = programme_hash(reels);
        lock(&self.table).get(&group).filter(|known| known.0 == hash).map(|known| known.1)
    }

    /// Sets a phase, and writes all of them to the file, which blocks. If that fails, phases last as long as the
    /// process.
    pub(crate) fn set<'a>(
        &self,
        group: SocketAddr,
        reels: impl Iterator<Item = &'a ReelKey>,
        phase: Duration,
    ) {
        lock(&self.table).insert(group, (programme_hash(reels), phase));
        let file = lock(&self.file);
        // Read after the lock was taken: while this thread waited for it, others may have set phases.
        let table = lock(&self.table).clone();
        if let Err(error) = file.as_ref().map_or(Ok(()), |file| save(&table, file)) {
            warn!(
                "cannot save the phases of the stations' programmes, which will jump at a restart: {error}"
            );
        }
    }
}

/// Reads a file of phases. Each line has a group, a hash of the programme's reels, and nanoseconds, separated by
/// spaces. Other lines are ignored, and cost a jump in a programme.
fn load(file: &Path) -> PhaseTable {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let (group, rest) = line.split_once(' ')?;
        let (hash, nanos) = rest.split_once(' ')?;
        Some((group.parse().ok()?, (hash.to_owned(), Duration::from_nanos(nanos.parse().ok()?))))
    };
    text.lines().filter_map(line).collect()
}

fn save(table: &PhaseTable, file: &Path) -> io::Result<()> {
    let line = |(group, (hash, phase)): (&SocketAddr, &(String, Duration))| {
        format!("{group} {hash} {}\n", phase.as_nanos())
    };
    let mut lines: Vec<_> = table.iter().map(line).collect();
    lines.sort_unstable();
    // A process that is killed meanwhile leaves the old file or the new one, and a part that the next process removes.
    let part = file.with_extension(format!("{:016x}.part", fastrand::u64(..)));
    let saved = fs::write(&part, lines.concat()).and_then(|()| fs::rename(&part, file));
    if saved.is_err() {
        let _ = fs::remove_file(&part);
    }
    saved
}

fn programme_hash<'a>(reels: impl Iterator<Item = &'a ReelKey>) -> String {
    let mut hasher = blake3::Hasher::new();
    for reel in reels {
        hasher.update(reel.to_string().as_bytes());
    }
    hasher.finalize().to_hex().as_str()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::reel::{Encoding, Store};
    use crate::media::{AirTime, Size};

    #[test]
    fn phases_survive_a_restart_and_rubbish_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phases");
        let mut table = load(&file);
        table
            .insert("239.77.0.1:5004".parse().unwrap(), ("abc".into(), Duration::from_nanos(12_345_678_901)));
        table.insert("[ff15::1]:5004".parse().unwrap(), ("def".into(), Duration::ZERO));
        save(&table, &file).unwrap();
        assert_eq!(load(&file), table);
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str("torn\n239.77.0.2:5004 ghi 12x\n239.77.0.2 ghi 12\nabc 12345\n\u{fffd} \n");
        fs::write(&file, text).unwrap();
        assert_eq!(load(&file), table);
        fs::write(&file, [0xff, 0xfe, 0, 10]).unwrap();
        assert!(load(&file).is_empty());
    }

    #[test]
    fn a_station_has_one_phase_however_many_programmes_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let now = AirTime(1_790_000_000_000_000_000);
        let store = Store::open(folder.path(), u64::MAX, now).unwrap();
        let open = || Phases::load(Some(folder.path().join("phases")));
        let phases = open();
        let group = |port| SocketAddr::from(([239, 77, 0, 1], port));
        let encoding = Encoding { size: Size { width: 16, height: 16 }, quality: 80 };
        let keys = ["a", "b", "c"].map(|name| {
            let film = folder.path().join(name);
            fs::write(&film, name).unwrap();
            store.key(&film, encoding, now).unwrap()
        });
        for (n, key) in keys.iter().enumerate() {
            phases.set(group(5004), [key].into_iter(), Duration::from_millis(n as u64));
        }
        phases.set(group(5006), keys.iter(), Duration::from_millis(7));
        let again = open();
        assert_eq!(fs::read_to_string(folder.path().join("phases")).unwrap().lines().count(), 2);
        assert_eq!(again.get(group(5004), [&keys[2]].into_iter()), Some(Duration::from_millis(2)));
        assert_eq!(again.get(group(5004), [&keys[0]].into_iter()), None, "an earlier programme");
        assert_eq!(again.get(group(5006), keys.iter()), Some(Duration::from_millis(7)));
    }

    #[test]
    fn phases_that_cannot_be_saved_leave_no_part_and_a_stale_part_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phases");
        fs::create_dir(&file).unwrap();
        assert!(save(&HashMap::new(), &file).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the folder in the way");
        let part = folder.path().join("phases.0123456789abcdef.part");
        fs::write(&part, "").unwrap();
        Store::open(folder.path(), u64::MAX, AirTime::default()).unwrap();
        assert!(!part.exists());
    }
}
