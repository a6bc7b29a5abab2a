//! What must hold of reels, whatever happens to their files.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use tempfile::TempDir;

use super::film::Memo;
use super::*;
use crate::clock::wall_clock;
use crate::wire::jpeg::MAX_SCAN;

/// Long after every test's films were written.
const NOW: AirTime = AirTime(4_000_000_000_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const SIZE: Size = Size { width: 32, height: 16 };
const ENCODING: Encoding = Encoding { size: SIZE, quality: 80 };
const PAL: FrameRate = FrameRate::new(25, 1).unwrap();

/// A folder with films and reels in it.
struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene { dir: TempDir::new().unwrap() }
    }

    fn reels(&self) -> PathBuf {
        self.dir.path().join("reels")
    }

    fn store(&self, limit: u64) -> Store {
        Store::open(&self.reels(), limit, NOW).unwrap()
    }

    fn film(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The names of files in the store's folder that end so.
    fn files(&self, end: &str) -> Vec<String> {
        let names = fs::read_dir(self.reels()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(end)).collect();
        names.sort();
        names
    }
}

fn picture(n: usize, bytes: usize) -> Jpeg {
    let mut rng = fastrand::Rng::with_seed(n as u64);
    Jpeg {
        size: SIZE,
        chroma: Chroma::Yuv420,
        tables: Tables::Standard(80 - (n % 3) as u8),
        restart_interval: None,
        scan: std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect(),
    }
}

/// Records `count` pictures of `bytes` each, at 25 a second.
fn record(store: &Store, film: &Path, count: usize, bytes: usize, now: AirTime) -> Arc<Reel> {
    let key = store.key(film, ENCODING, now).unwrap();
    let mut recorder = store.record(&key, film).unwrap().expect("nobody else records it");
    for n in 0..count {
        recorder.add(HOUR + PAL.nth(n as u64), &picture(n, bytes)).unwrap();
    }
    recorder.finish(PAL, PAL.nth(count as u64), now).unwrap()
}

#[test]
fn what_was_recorded_is_read_by_the_next_process_too() {
    let scene = Scene::new();
    let film = scene.film("nature.mp4", b"a film");
    let key = {
        let store = scene.store(u64::MAX);
        let key = store.key(&film, ENCODING, NOW).unwrap();
        assert!(store.find(&key, NOW).is_none());
        // More than the buffer holds.
        let reel = record(&store, &film, 300, 1000, NOW);
        assert!(Arc::ptr_eq(&reel, &store.find(&key, NOW).unwrap()), "one reel for all");
        key
    };
    let store = scene.store(u64::MAX);
    let reel = store.find(&key, NOW).unwrap();
    assert_eq!((reel.len(), reel.size(), *reel.key()), (300, SIZE, key));
    assert_eq!((reel.rate(), reel.length(), reel.is_variable()), (PAL, Duration::from_secs(12), false));
    for n in 0..300 {
        assert_eq!(reel.stamp(n), PAL.nth(n as u64));
        assert_eq!(reel.picture(n).unwrap(), picture(n, 1000));
        assert_eq!(reel.at(reel.stamp(n)), n);
        assert_eq!(reel.at(reel.stamp(n) + Duration::from_millis(39)), n);
    }
    assert_eq!(reel.at(HOUR), 299);
    let bytes = (HEADER_LEN + 300 * (1000 + ENTRY_LEN)) as u64;
    assert_eq!(store.usage(), Usage { reels: 1, bytes });
    assert_eq!(scene.files(".part"), [""; 0]);
}

#[test]
fn the_file_is_as_documented() {
    let scene = Scene::new();
    let reel = record(&scene.store(u64::MAX), &scene.film("a", b"a film"), 2, 3, NOW);
    let file = fs::read(scene.reels().join(&reel.name)).unwrap();
    assert_eq!(file.len(), 92 + 2 * 3 + 2 * 25);
    assert_eq!(file[..12], *b"\x89REEL\r\n\x1a\x01\0\x01\0");
    assert_eq!(file[12..44], *blake3::hash(b"a film").as_bytes());
    assert_eq!(
        file[44..56],
        [32, 0, 16, 0, 80, 1, 0, 0, 0xcf, 0xff, 0, 0],
        "size, quality, type, stamps, budget"
    );
    assert_eq!(file[56..64], [25, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(file[64..72], 80_000_000u64.to_le_bytes());
    assert_eq!(file[72..76], [2, 0, 0, 0]);
    assert_eq!(file[76..80], crc32fast::hash(&file[98..]).to_le_bytes());
    assert_eq!(file[80..88], 98u64.to_le_bytes());
    assert_eq!(file[88..92], crc32fast::hash(&file[..88]).to_le_bytes());
    assert_eq!(file[92..95], picture(0, 3).scan);
    let second = &file[98 + 25..];
    assert_eq!(second[..12], [95, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(second[12..20], 40_000_000u64.to_le_bytes());
    assert_eq!(second[20], 79);
    assert_eq!(second[21..], crc32fast::hash(&file[95..98]).to_le_bytes());
}

/// Whether anything of the reel at `path` is found wrong; what is not must be as it was recorded.
fn notices(path: &Path, key: &ReelKey, original: &Reel) -> bool {
    let reel = match Reel::open(path, key) {
        Err(ReelError::Damaged { .. }) => return true,
        Err(error) => panic!("{error}"),
        Ok(reel) => reel,
    };
    let facts = |reel: &Reel| {
        let stamps: Vec<_> = (0..reel.len()).map(|n| reel.stamp(n)).collect();
        (stamps, reel.size(), reel.rate(), reel.length(), reel.is_variable())
    };
    assert_eq!(facts(&reel), facts(original));
    let mut noticed = false;
    for n in 0..reel.len() {
        match reel.picture(n) {
            Ok(jpeg) => assert_eq!(jpeg, picture(n, 40)),
            Err(ReelError::Damaged { damage: Damage::Picture(at), .. }) => noticed |= at == n,
            Err(error) => panic!("{error}"),
        }
    }
    noticed
}

#[test]
fn every_flipped_bit_and_every_truncation_is_noticed() {
    let scene = Scene::new();
    let original = record(&scene.store(u64::MAX), &scene.film("a", b"a film"), 3, 40, NOW);
    let whole = fs::read(scene.reels().join(&original.name)).unwrap();
    let path = scene.dir.path().join("damaged.reel");
    fs::write(&path, &whole).unwrap();
    assert!(!notices(&path, original.key(), &original));

    let file = File::options().write(true).open(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let (at, mask) = (bit / 8, 1 << (bit % 8));
        file.write_all_at(&[whole[at] ^ mask], at as u64).unwrap();
        assert!(notices(&path, original.key(), &original), "bit {bit}");
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
    }
    for len in (0..whole.len()).rev() {
        file.set_len(len as u64).unwrap();
        assert!(notices(&path, original.key(), &original), "{len} bytes");
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert!(notices(&path, original.key(), &original), "a byte too many");
}

#[test]
fn numbers_that_cannot_be_are_refused_before_anything_is_allocated_for_them() {
    let scene = Scene::new();
    let original = record(&scene.store(u64::MAX), &scene.film("a", b"a film"), 3, 40, NOW);
    let path = scene.reels().join(&original.name);
    let whole = fs::read(&path).unwrap();
    let index_at = original.header.index_at as usize;
    // A liar that has its checksums right.
    let lie = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = whole.clone();
        change(&mut file);
        let index = crc32fast::hash(&file[index_at..]).to_le_bytes();
        file[76..80].copy_from_slice(&index);
        let header = crc32fast::hash(&file[..88]).to_le_bytes();
        file[88..92].copy_from_slice(&header);
        fs::write(&path, file).unwrap();
        match Reel::open(&path, original.key()).expect_err("a lie") {
            ReelError::Damaged { damage, .. } => damage,
            error => panic!("{error}"),
        }
    };
    let put = |at: usize, bytes: &'static [u8]| {
        move |file: &mut Vec<u8>| file[at..at + bytes.len()].copy_from_slice(bytes)
    };
    for (at, bytes, damage) in [
        (50, &[2][..], Damage::Nonsense("kind of stamps")),
        (52, &[1], Damage::Version),
        (56, &[0], Damage::Nonsense("rate")),
        (64, &[0; 8], Damage::Nonsense("order of stamps")),
        (72, &[0], Damage::Nonsense("count of pictures")),
        (72, &[2], Damage::Truncated),
        (72, &[0xff; 4], Damage::Nonsense("count of pictures")),
        (72, &[0, 0, 0x80, 0], Damage::Truncated),
        (80, &[0xff; 8], Damage::Truncated),
        (index_at, &[93], Damage::Nonsense("index")),
        (index_at, &[0xff; 8], Damage::Nonsense("index")),
        (index_at + 8, &[41], Damage::Nonsense("index")),
        (index_at + 8, &[0xff; 4], Damage::Nonsense("picture")),
        (index_at + 8, &[0], Damage::Nonsense("picture")),
        (index_at + 12, &[1], Damage::Nonsense("index")),
        (index_at + 20, &[0], Damage::Nonsense("quality")),
        (index_at + 20, &[100], Damage::Nonsense("quality")),
        (index_at + 25 + 12, &[0xff; 8], Damage::Nonsense("order of stamps")),
        (index_at + 50 + 12, &[0; 8], Damage::Nonsense("order of stamps")),
        (index_at + 50 + 8, &[39], Damage::Nonsense("index")),
    ] {
        assert_eq!(lie(&put(at, bytes)), damage, "{bytes:?} at {at}");
    }
}

#[test]
fn a_reel_that_cannot_be_used_is_removed_and_made_again() {
    let scene = Scene::new();
    let film = scene.film("a", b"a film");
    let store = scene.store(u64::MAX);
    let (key, name) = {
        let reel = record(&store, &film, 3, 40, NOW);
        (*reel.key(), reel.name.clone())
    };
    let path = scene.reels().join(&name);
    let whole = fs::read(&path).unwrap();
    let with = |at: usize, byte: u8| {
        let mut file = whole.clone();
        file[at] = byte;
        file
    };
    let other_encoder = {
        let mut file = with(10, 2);
        let crc = crc32fast::hash(&file[..88]).to_le_bytes();
        file[88..92].copy_from_slice(&crc);
        file
    };
    let other_film = {
        let reel = record(&store, &scene.film("b", b"another"), 3, 40, NOW);
        fs::read(scene.reels().join(&reel.name)).unwrap()
    };
    for (damage, file) in [
        (Damage::Truncated, vec![]),
        (Damage::Truncated, whole[..whole.len() - 1].to_vec()),
        (Damage::Magic, vec![0; 1000]),
        (Damage::Version, with(8, 2)),
        (Damage::Version, other_encoder),
        (Damage::Header, with(30, 0)),
        (Damage::Index, with(whole.len() - 1, 0)),
        (Damage::Key, other_film),
    ] {
        fs::write(&path, file).unwrap();
        match Reel::open(&path, &key) {
            Err(ReelError::Damaged { reel, damage: found }) => {
                assert_eq!((reel, found), (name.clone(), damage))
            }
            other => panic!("{damage}: {other:?}"),
        }
        assert!(store.find(&key, NOW).is_none());
        assert!(!path.exists(), "{damage}");
        record(&store, &film, 3, 40, NOW);
        assert!(store.find(&key, NOW).is_some());
    }
}

#[test]
fn damage_on_air_is_an_error_and_the_reel_can_be_discarded() {
    let scene = Scene::new();
    let film = scene.film("a", b"a film");
    let store = scene.store(u64::MAX);
    let reel = record(&store, &film, 3, 40, NOW);
    let path = scene.reels().join(&reel.name);
    let held = reel.picture(0).unwrap();
    File::options().write(true).open(&path).unwrap().write_all_at(&[0xff; 2], HEADER_LEN as u64).unwrap();
    assert_eq!(reel.picture(0).unwrap(), held, "who holds a picture shares it");
    drop(held);
    let sentence = reel.picture(0).unwrap_err().to_string();
    assert_eq!(sentence, format!("reel {} is damaged: picture 0 does not match its checksum", reel.name));
    assert_eq!(reel.picture(1).unwrap(), picture(1, 40));

    File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert!(matches!(reel.picture(1), Err(ReelError::Damaged { damage: Damage::Picture(1), .. })));

    store.discard(&reel);
    assert!(!path.exists());
    assert!(store.find(reel.key(), NOW).is_none());
    let again = record(&store, &film, 3, 40, NOW);
    assert!(!Arc::ptr_eq(&reel, &again));
    // Another station finds the damage later: what was made again stays.
    store.discard(&reel);
    assert!(path.exists());
    assert!(Arc::ptr_eq(&again, &store.find(reel.key(), NOW).unwrap()));
}

#[test]
fn many_threads_read_one_reel() {
    let scene = Scene::new();
    let reel = record(&scene.store(u64::MAX), &scene.film("a", b"a film"), 200, 500, NOW);
    thread::scope(|scope| {
        for reader in 0..8 {
            let reel = &reel;
            scope.spawn(move || {
                let mut held = std::collections::VecDeque::new();
                for n in (0..2000).map(|n| (n + reader * 3) % 200) {
                    let jpeg = reel.picture(n).unwrap();
                    assert_eq!(jpeg, picture(n, 500));
                    held.push_back(jpeg);
                    if held.len() > 10 {
                        held.pop_front();
                    }
                }
            });
        }
    });
}

#[test]
fn who_comes_soon_after_shares_the_bytes_and_nobody_keeps_them() {
    let scene = Scene::new();
    let reel = record(&scene.store(u64::MAX), &scene.film("a", b"a film"), 100, 500, NOW);
    let first: Vec<_> = (0..SHARED).map(|n| reel.picture(n).unwrap()).collect();
    for (n, first) in first.iter().enumerate() {
        assert_eq!(reel.picture(n).unwrap().scan.as_ptr(), first.scan.as_ptr());
    }
    assert_eq!(reel.picture(SHARED).unwrap(), picture(SHARED, 500), "picture 0 gives way");
    assert_ne!(reel.picture(0).unwrap().scan.as_ptr(), first[0].scan.as_ptr());
    drop(first);
    assert!(reel.shared.iter().all(|slot| lock(slot).1.strong_count() == 0));
}

#[test]
fn the_least_recently_aired_goes_first() {
    let scene = Scene::new();
    let limit = 35_000; // three reels of 10,342 bytes
    let films: Vec<_> = (0u8..5).map(|n| scene.film(&n.to_string(), &[n])).collect();
    let path = |key: &ReelKey| scene.reels().join(format!("{key}.reel"));
    let mut keys: Vec<_> = Vec::new();
    {
        let store = scene.store(limit);
        for (n, film) in films[..3].iter().enumerate() {
            keys.push(*record(&store, film, 10, 1000, NOW + HOUR * n as u32).key());
        }
        assert_eq!(store.usage(), Usage { reels: 3, bytes: 31_026 });
        store.find(&keys[0], NOW + HOUR * 3).unwrap();
    }
    // The order outlives the process.
    let store = scene.store(limit);
    keys.push(*record(&store, &films[3], 10, 1000, NOW + HOUR * 4).key());
    let there = |n: usize| path(&keys[n]).exists();
    assert_eq!([0, 1, 2, 3].map(there), [true, false, true, true]);

    // One that is on air stays, and the next one goes.
    let on_air = store.find(&keys[2], NOW).unwrap();
    keys.push(*record(&store, &films[4], 10, 1000, NOW + HOUR * 5).key());
    let there = |n: usize| path(&keys[n]).exists();
    assert_eq!([0, 1, 2, 3, 4].map(there), [false, false, true, true, true]);
    assert_eq!(on_air.picture(9).unwrap(), picture(9, 1000));
    drop(on_air);

    // Aired long ago, but hardly a minute since it was touched: the file is left alone.
    let modified = |n: usize| fs::metadata(path(&keys[n])).unwrap().modified().unwrap();
    let before = modified(4);
    let aired = store.find(&keys[4], NOW + HOUR * 5 + TOUCH_EVERY / 2).unwrap();
    assert_eq!(modified(4), before);
    store.find(&keys[4], NOW + HOUR * 5 + TOUCH_EVERY).unwrap();
    assert_eq!(modified(4), before + TOUCH_EVERY);
    drop(aired);

    // A smaller limit holds from the start.
    let store = scene.store(11_000);
    assert_eq!(store.usage(), Usage { reels: 1, bytes: 10_342 });
    assert!(store.find(&keys[4], NOW).is_some());
}

#[test]
fn a_reel_that_another_process_removes_airs_on() {
    let scene = Scene::new();
    let film = scene.film("a", b"a film");
    let (ours, theirs) = (scene.store(u64::MAX), scene.store(u64::MAX));
    let reel = record(&ours, &film, 3, 40, NOW);
    let other = theirs.find(reel.key(), NOW).expect("two stores, one folder");
    assert!(!Arc::ptr_eq(&reel, &other));
    theirs.discard(&other);
    assert_eq!(reel.picture(2).unwrap(), picture(2, 40));
    assert!(ours.find(reel.key(), NOW).is_some(), "as long as somebody has it open");
    let key = *reel.key();
    drop(reel);
    assert!(ours.find(&key, NOW).is_none());
}

#[test]
fn a_film_larger_than_the_store_is_given_up_and_not_tried_again() {
    let scene = Scene::new();
    let store = scene.store(20_000);
    let film = scene.film("a", b"a film");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    let failed =
        (0..100).find_map(|n| recorder.add(PAL.nth(n), &picture(0, 1000)).err().map(|error| (n, error)));
    let (n, error) = failed.unwrap();
    assert_eq!(n, 19);
    assert_eq!(
        error.to_string(),
        "the film's reel is larger than all reels may be together, 20000 bytes; raise [reel] bytes"
    );
    assert_eq!(scene.files("part"), [""; 0]);
    assert!(matches!(recorder.add(HOUR, &picture(0, 9)), Err(RecordError::GivenUp)));
    assert!(matches!(recorder.finish(PAL, HOUR, NOW), Err(RecordError::GivenUp)));
    assert!(store.record(&key, &film).unwrap().is_none());

    let small = record(&store, &scene.film("b", b"another"), 11, 1000, NOW);
    let film = scene.film("c", b"a third");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    (0..11).for_each(|n| recorder.add(PAL.nth(n), &picture(0, 1000)).unwrap());
    assert!(matches!(recorder.finish(PAL, HOUR, NOW), Err(RecordError::NoRoom { limit: 20_000 })));
    assert_eq!(scene.files("part"), [""; 0]);
    drop(small);
    record(&store, &film, 11, 1000, NOW);
    assert_eq!(store.usage().reels, 1);
}

#[test]
fn a_full_disk_is_one_error_and_leaves_nothing() {
    let scene = Scene::new();
    let store = scene.store(u64::MAX);
    let film = scene.film("a", b"a film");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for full_at in 0..30 {
        let mut recorder = store.record(&key, &film).unwrap().unwrap();
        let mut error = None;
        for n in 0..30 {
            if n == full_at {
                recorder.redirect(full());
            }
            let added = recorder.add(PAL.nth(n), &picture(0, MAX_SCAN));
            if let Err(failed) = added
                && error.is_none()
            {
                error = Some(failed);
                assert_eq!(scene.files("part"), [""; 0], "removed at once");
            }
        }
        let error = error.unwrap_or_else(|| recorder.finish(PAL, HOUR, NOW).unwrap_err());
        let RecordError::Io(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "at picture {full_at}");
        assert_eq!((scene.files("part"), scene.files("reel")), (vec![], vec![]));
    }
    // A folder that vanishes under it, and is made again for the next one.
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    recorder.add(Duration::ZERO, &picture(0, 40)).unwrap();
    fs::remove_dir_all(scene.reels()).unwrap();
    assert!(matches!(recorder.finish(PAL, HOUR, NOW), Err(RecordError::Io(_))));
    record(&store, &film, 3, 40, NOW);
}

#[test]
fn what_a_reel_cannot_hold_is_refused() {
    let scene = Scene::new();
    let store = scene.store(u64::MAX);
    let film = scene.film("a", b"a film");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let good = picture(0, 40);
    for wrong in [
        Jpeg { chroma: Chroma::Yuv422, ..good.clone() },
        Jpeg { tables: Tables::in_band([1; 64], [1; 64]), ..good.clone() },
        Jpeg { restart_interval: Some(4), ..good.clone() },
        Jpeg { size: Size { width: 16, height: 16 }, ..good.clone() },
        Jpeg { scan: Bytes::new(), ..good.clone() },
        Jpeg { scan: vec![0; MAX_SCAN + 1].into(), ..good.clone() },
    ] {
        let mut recorder = store.record(&key, &film).unwrap().unwrap();
        assert!(matches!(recorder.add(Duration::ZERO, &wrong), Err(RecordError::Unsuitable(_))));
    }
    let begin = || store.record(&key, &film).unwrap().unwrap();
    assert!(matches!(
        begin().finish(PAL, HOUR, NOW),
        Err(RecordError::Unsuitable("the film has no pictures"))
    ));
    for stamps in [[5, 4], [5, 6]] {
        let mut recorder = begin();
        let added = stamps.map(|ms| recorder.add(Duration::from_millis(ms), &good).is_ok());
        assert_eq!(added, [true, stamps[1] == 6]);
        let ends_with_its_last = recorder.finish(PAL, Duration::from_millis(1), NOW);
        assert!(ends_with_its_last.is_err());
    }
    assert_eq!((scene.files("part"), scene.files("reel")), (vec![], vec![]));
}

#[test]
fn stamps_on_the_grid_and_off_it() {
    let scene = Scene::new();
    let store = scene.store(u64::MAX);
    let ntsc = FrameRate::new(30_000, 1001).unwrap();
    for (name, millis, variable) in [
        ("ntsc in Matroska", vec![7, 40, 74, 107, 140], false),
        ("with a hole", vec![0, 33, 67, 133, 167], false),
        ("variable", vec![0, 33, 50, 100], true),
        ("without stamps", vec![0, 0, 0], true),
    ] {
        let film = scene.film(name, name.as_bytes());
        let key = store.key(&film, ENCODING, NOW).unwrap();
        let mut recorder = store.record(&key, &film).unwrap().unwrap();
        for &ms in &millis {
            recorder.add(Duration::from_millis(ms), &picture(0, 40)).unwrap();
        }
        let reel = recorder.finish(ntsc, HOUR, NOW).unwrap();
        assert_eq!(reel.is_variable(), variable, "{name}");
        let stamps: Vec<_> = (0..reel.len()).map(|n| reel.stamp(n).as_millis() as u64 + millis[0]).collect();
        assert_eq!(stamps, millis);
    }
}

#[test]
fn one_recorder_a_reel_in_a_process_and_two_processes_do_no_harm() {
    let scene = Scene::new();
    let film = scene.film("a", b"a film");
    let (ours, theirs) = (scene.store(u64::MAX), scene.store(u64::MAX));
    let key = ours.key(&film, ENCODING, NOW).unwrap();
    let first = ours.record(&key, &film).unwrap();
    assert!(first.is_some());
    assert!(ours.record(&key, &film).unwrap().is_none());
    drop(first);
    let mut first = ours.record(&key, &film).unwrap().expect("the first gave up");
    let mut second = theirs.record(&key, &film).unwrap().expect("another process");
    for n in 0..9 {
        first.add(PAL.nth(n as u64), &picture(n, 40)).unwrap();
        second.add(PAL.nth(n as u64), &picture(n, 40)).unwrap();
    }
    let first = first.finish(PAL, HOUR, NOW).unwrap();
    let second = second.finish(PAL, HOUR, NOW).unwrap();
    for reel in [first, second, ours.find(&key, NOW).unwrap(), theirs.find(&key, NOW).unwrap()] {
        (0..9).for_each(|n| assert_eq!(reel.picture(n).unwrap(), picture(n, 40)));
    }
    assert_eq!(scene.files(".reel").len(), 1);
    assert!(ours.record(&key, &film).unwrap().is_some(), "the turn is over");
}

#[test]
fn two_processes_in_a_folder_that_is_too_small_only_ever_air_what_was_recorded() {
    let scene = Scene::new();
    let films: Vec<_> = (0u8..6).map(|n| scene.film(&n.to_string(), &[n])).collect();
    let limit = 35_000; // three of six
    let stores = [scene.store(limit), scene.store(limit)];
    let aired = AtomicU64::new(0);
    thread::scope(|scope| {
        for station in 0..6u64 {
            let (store, films, aired) = (&stores[station as usize % 2], &films, &aired);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(station);
                for pass in 0..20 {
                    let now = NOW + Duration::from_secs(pass * 60);
                    let film = &films[rng.usize(..films.len())];
                    let key = store.key(film, ENCODING, now).unwrap();
                    if let Some(reel) = store.find(&key, now) {
                        (0..reel.len()).for_each(|n| assert_eq!(reel.picture(n).unwrap(), picture(n, 1000)));
                        aired.fetch_add(1, Relaxed);
                        if rng.u8(..) < 30 {
                            store.discard(&reel);
                        }
                    } else if let Some(mut recorder) = store.record(&key, film).unwrap() {
                        (0..10).for_each(|n| {
                            recorder.add(PAL.nth(n as u64), &picture(n, 1000)).unwrap();
                        });
                        match recorder.finish(PAL, HOUR, now) {
                            Ok(_) | Err(RecordError::NoRoom { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
    });
    assert!(aired.load(Relaxed) > 0);
    assert_eq!(scene.files(".part"), [""; 0]);
    let usage = scene.store(limit).usage();
    assert!(usage.bytes <= limit && usage.reels > 0, "{usage:?}");
}

#[test]
fn parts_of_the_dead_are_removed_and_nothing_else() {
    let scene = Scene::new();
    let film = scene.film("a", b"a film");
    let store = scene.store(u64::MAX);
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut alive = store.record(&key, &film).unwrap().unwrap();
    alive.add(Duration::ZERO, &picture(0, 40)).unwrap();
    let dead = [format!("{key}.0123456789abcdef.part"), "films.0123456789abcdef.part".into()];
    let strangers = ["film.part", "holiday.0123456789abcdef.part", "mine.reel", "a-b.reel"];
    for name in dead.iter().map(String::as_str).chain(strangers) {
        fs::write(scene.reels().join(name), [0; 1000]).unwrap();
    }
    let other = scene.store(500);
    for name in &dead {
        assert!(!scene.reels().join(name).exists(), "{name}");
    }
    for name in strangers {
        assert!(scene.reels().join(name).exists(), "{name}");
    }
    assert_eq!(other.usage(), Usage::default());
    alive.finish(PAL, HOUR, NOW).expect("the one that is being recorded stays");
}

#[test]
fn a_folder_that_cannot_be_is_an_error() {
    let scene = Scene::new();
    let film = scene.film("a", b"a film");
    assert!(Store::open(&film.join("reels"), 1000, NOW).is_err());
    assert!(Store::open(Path::new("/proc/reels"), 1000, NOW).is_err());
}

#[test]
fn a_start_with_reels_present_hashes_nothing() {
    let scene = Scene::new();
    let films: Vec<_> = (0u8..20).map(|n| scene.film(&n.to_string(), &[n; 100])).collect();
    let keys = |store: &Store| -> Vec<_> {
        films.iter().map(|film| store.key(film, ENCODING, NOW).unwrap()).collect()
    };
    let store = scene.store(u64::MAX);
    let first = keys(&store);
    assert_eq!((keys(&store), store.hashed()), (first.clone(), 20));
    let store = scene.store(u64::MAX);
    assert_eq!((keys(&store), store.hashed()), (first.clone(), 0));

    // Two processes that hash different films know all of them afterwards.
    fs::remove_file(scene.reels().join("films")).unwrap();
    let (one, two) = (scene.store(u64::MAX), scene.store(u64::MAX));
    one.key(&films[0], ENCODING, NOW).unwrap();
    two.key(&films[1], ENCODING, NOW).unwrap();
    let store = scene.store(u64::MAX);
    assert_eq!((keys(&store), store.hashed()), (first, 18));
}

#[test]
fn the_key_is_the_content_and_the_encoding() {
    let scene = Scene::new();
    let store = scene.store(u64::MAX);
    let film = scene.film("a", b"one film");
    let key = |film: &Path| store.key(film, ENCODING, NOW).unwrap();
    let original = key(&film);
    assert_eq!(key(&scene.film("b", b"one film")), original, "one film under two names");
    for other in [
        Encoding { quality: 79, ..ENCODING },
        Encoding { size: Size { width: 16, ..SIZE }, ..ENCODING },
        Encoding { size: Size { height: 32, ..SIZE }, ..ENCODING },
    ] {
        let other = store.key(&film, other, NOW).unwrap();
        assert_ne!(other, original);
        assert_ne!(other.to_string(), original.to_string());
    }
    // Changed in place, as long as before and with its old time of modification.
    let modified = fs::metadata(&film).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&film).unwrap();
    file.write_all_at(b"ONE", 0).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
    assert_eq!(fs::metadata(&film).unwrap().modified().unwrap(), modified);
    assert_ne!(key(&film), original);
    // Another film takes the name.
    fs::rename(scene.film("c", b"two film"), &film).unwrap();
    assert_eq!(*key(&film).film(), *blake3::hash(b"two film").as_bytes());

    let none = store.key(&scene.dir.path().join("none"), ENCODING, NOW).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    assert_eq!(store.key(scene.dir.path(), ENCODING, NOW).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_film_that_was_written_just_now_is_not_remembered() {
    let scene = Scene::new();
    let store = scene.store(u64::MAX);
    let film = scene.film("a", b"a film");
    let now = wall_clock();
    store.key(&film, ENCODING, now).unwrap();
    store.key(&film, ENCODING, now).unwrap();
    assert_eq!(store.hashed(), 2);
    store.key(&film, ENCODING, now + Duration::from_secs(3)).unwrap();
    store.key(&film, ENCODING, now).unwrap();
    assert_eq!(store.hashed(), 3);
}

#[test]
fn a_damaged_memo_is_no_memo() {
    let scene = Scene::new();
    let film = scene.film("a", b"a film");
    let path = scene.dir.path().join("films");
    let content = Memo::load(path.clone()).content(&film, NOW).unwrap();
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len(), 8 + 72 + 4);
    let mut damaged: Vec<_> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
    damaged.extend((0..whole.len() * 8).map(|bit| {
        let mut file = whole.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        file
    }));
    damaged.push([&whole[..], &[0; 2_000_000]].concat());
    for file in damaged {
        fs::write(&path, file).unwrap();
        let memo = Memo::load(path.clone());
        assert_eq!(memo.content(&film, NOW).unwrap(), content);
        assert_eq!(memo.hashed.into_inner(), 1);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn stations_that_start_with_one_film_hash_it_once() {
    let scene = Scene::new();
    let store = scene.store(u64::MAX);
    let film = scene.film("a", b"");
    // Long enough to hash that they meet: 20 ms.
    File::options().write(true).open(&film).unwrap().set_len(100 << 20).unwrap();
    let start = std::sync::Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                store.key(&film, ENCODING, NOW).unwrap()
            });
        }
    });
    assert_eq!(store.hashed(), 1);
}

#[test]
fn a_film_that_changes_while_it_is_recorded_gives_no_reel() {
    let scene = Scene::new();
    let store = scene.store(u64::MAX);
    let film = scene.film("a", b"a film");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    recorder.add(Duration::ZERO, &picture(0, 40)).unwrap();
    fs::rename(scene.film("b", b"a fake"), &film).unwrap();
    assert!(matches!(recorder.finish(PAL, HOUR, NOW), Err(RecordError::FilmChanged)));
    assert!(store.find(&key, NOW).is_none());
    assert_eq!((scene.files("part"), scene.files("reel")), (vec![], vec![]));
}
