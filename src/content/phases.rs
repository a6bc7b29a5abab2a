//! When the programmes of the stations began a round. A programme is as much later than its
//! [schedule](super::schedule) without a phase as that moment demands. A file keeps the moments, so that after a restart
//! a station shows the picture that it would have shown without one. Between the moment and now the lengths of films may
//! have become known better: a reel tells them to the nanosecond, a container within some pictures.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::warn;

use super::lock;
use crate::media::AirTime;

/// By the station's group: a hash of the programme's films, and when a round of it began. A station has one entry, since
/// that of an earlier programme is not needed again.
type PhaseTable = HashMap<SocketAddr, (String, AirTime)>;

/// Most phases that are kept while there are some of stations that are gone. There may be 999 stations.
const MOST: usize = 2000;

/// The phases of all stations.
pub(crate) struct Phases {
    /// The table, and how many changes were made to it.
    table: Mutex<(PhaseTable, u64)>,
    /// `None` if phases are not kept over a restart. Locked while the file is written, which may block; the table is
    /// not.
    file: Mutex<Option<PhaseFile>>,
}

/// Where phases are kept.
struct PhaseFile {
    path: PathBuf,
    /// How many changes of the table were written to it, or could not be.
    changes: u64,
}

impl Phases {
    /// The phases in `file`. Without a file, phases last as long as the process.
    pub(crate) fn load(file: Option<PathBuf>) -> Phases {
        let table = file.as_deref().map(load).unwrap_or_default();
        let file = file.map(|path| PhaseFile { path, changes: 0 });
        Phases { table: Mutex::new((table, 0)), file: Mutex::new(file) }
    }

    /// When a round of the programme of these films began on the station that sends to `group`, if that is known. Does
    /// not wait for a disk.
    pub(crate) fn get<'a>(
        &self,
        group: SocketAddr,
        films: impl Iterator<Item = &'a Path>,
    ) -> Option<AirTime> {
        let hash = programme_hash(films);
        lock(&self.table).0.get(&group).filter(|known| known.0 == hash).map(|known| known.1)
    }

    /// Sets when a round began, and writes all such moments to the file, which blocks. If that fails, they last as long
    /// as the process. Of calls that come at once, few write the file: if each did, 999 stations that start would write it for a second.
    pub(crate) fn set<'a>(&self, group: SocketAddr, films: impl Iterator<Item = &'a Path>, began: AirTime) {
        let change = {
            let (table, changes) = &mut *lock(&self.table);
            table.insert(group, (programme_hash(films), began));
            *changes += 1;
            *changes
        };
        let mut file = lock(&self.file);
        // While this thread waited for the file, another one may have written this change.
        let Some(file) = file.as_mut().filter(|file| file.changes < change) else { return };
        let (table, changes) = lock(&self.table).clone();
        if let Err(error) = save(&table, &file.path) {
            warn!(
                "cannot save the phases of the stations' programmes, which will jump at a restart: {error}"
            );
        }
        file.changes = changes;
    }

    /// Forgets the groups to which no station sends any more, if there are many: one that was removed may come back.
    pub(crate) fn forget_gone(&self, groups: &HashSet<SocketAddr>) {
        let (table, _) = &mut *lock(&self.table);
        if table.len() > MOST {
            table.retain(|group, _| groups.contains(group));
        }
    }
}

/// Reads a file of phases. Each line has a group, a hash of the programme's films, and nanoseconds since the Unix epoch,
/// separated by spaces. Other lines are ignored, and cost a jump in a programme.
fn load(file: &Path) -> PhaseTable {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let (group, rest) = line.split_once(' ')?;
        let (hash, nanos) = rest.split_once(' ')?;
        Some((group.parse().ok()?, (hash.to_owned(), AirTime(nanos.parse().ok()?))))
    };
    text.lines().filter_map(line).collect()
}

fn save(table: &PhaseTable, file: &Path) -> io::Result<()> {
    let line =
        |(group, (hash, began)): (&SocketAddr, &(String, AirTime))| format!("{group} {hash} {}\n", began.0);
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

fn programme_hash<'a>(films: impl Iterator<Item = &'a Path>) -> String {
    let mut hasher = blake3::Hasher::new();
    for film in films {
        hasher.update(film.as_os_str().as_bytes());
        // No path contains it.
        hasher.update(&[0]);
    }
    hasher.finalize().to_hex().as_str()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::reel::Store;

    #[test]
    fn phases_survive_a_restart_and_rubbish_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phases");
        let mut table = load(&file);
        table.insert("239.77.0.1:5004".parse().unwrap(), ("abc".into(), AirTime(12_345_678_901)));
        table.insert("[ff15::1]:5004".parse().unwrap(), ("def".into(), AirTime(0)));
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
        let open = || Phases::load(Some(folder.path().join("phases")));
        let phases = open();
        let group = |port| SocketAddr::from(([239, 77, 0, 1], port));
        let films = ["a", "b", "c"].map(Path::new);
        for (n, film) in films.into_iter().enumerate() {
            phases.set(group(5004), [film].into_iter(), AirTime(n as u64));
        }
        phases.set(group(5006), films.into_iter(), AirTime(7));
        let again = open();
        assert_eq!(fs::read_to_string(folder.path().join("phases")).unwrap().lines().count(), 2);
        assert_eq!(again.get(group(5004), [films[2]].into_iter()), Some(AirTime(2)));
        assert_eq!(again.get(group(5004), [films[0]].into_iter()), None, "an earlier programme");
        assert_eq!(again.get(group(5006), films.into_iter()), Some(AirTime(7)));
        assert_eq!(again.get(group(5006), ["ab", "c"].map(Path::new).into_iter()), None, "other films");
    }

    #[test]
    fn a_change_that_another_thread_has_written_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phases");
        let phases = Phases::load(Some(file.clone()));
        let set = |n: u16| {
            let group = SocketAddr::from(([239, 77, 0, 1], n));
            phases.set(group, ["film"].map(Path::new).into_iter(), AirTime(n.into()));
        };
        let mut writing = lock(&phases.file);
        std::thread::scope(|scope| {
            (0..20).for_each(|n| drop(scope.spawn(move || set(n))));
            while lock(&phases.table).1 < 20 {
                std::thread::yield_now();
            }
            writing.as_mut().unwrap().changes = 20;
            drop(writing);
        });
        assert!(!file.exists());
        set(20);
        assert_eq!(load(&file).len(), 21);
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
