//! Reels, whatever happens to their files.

mod keys;
mod store;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use tempfile::TempDir;

use super::hash_cache::HashCache;
use super::picture_file::SHARED_SCANS;
use super::*;
use crate::clock::wall_clock;
use crate::media::jpeg::{Chroma, Tables};
use crate::wire::payload::jpeg::MAX_SCAN;

/// Long after the tests wrote their films.
const NOW: AirTime = AirTime(4_000_000_000_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const SIZE: Size = Size { width: 32, height: 16 };
const ENCODING: Encoding = Encoding { size: SIZE, quality: 80 };
const PAL: FrameRate = FrameRate::new(25, 1).unwrap();

/// A folder with films and reels.
struct StoreFixture {
    dir: TempDir,
}

impl StoreFixture {
    fn new() -> StoreFixture {
        StoreFixture { dir: TempDir::new().unwrap() }
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

    /// The names of the files in the store's folder that end with `end`.
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
fn a_recorded_reel_is_read_by_the_next_process_too() {
    let fixture = StoreFixture::new();
    let film = fixture.film("nature.mp4", b"a film");
    let key = {
        let store = fixture.store(u64::MAX);
        let key = store.key(&film, ENCODING, NOW).unwrap();
        assert!(store.find(&key, NOW).is_none());
        // More bytes than the buffer holds.
        let reel = record(&store, &film, 300, 1000, NOW);
        assert!(Arc::ptr_eq(&reel, &store.find(&key, NOW).unwrap()), "one reel for all");
        key
    };
    let store = fixture.store(u64::MAX);
    let reel = store.find(&key, NOW).unwrap();
    assert_eq!((reel.len(), reel.size(), *reel.key()), (300, SIZE, key));
    assert_eq!((reel.rate(), reel.length()), (PAL, Duration::from_secs(12)));
    for n in 0..300 {
        assert_eq!(reel.stamp(n), PAL.nth(n as u64));
        assert_eq!(reel.picture(n).unwrap(), picture(n, 1000));
        assert_eq!(reel.at(reel.stamp(n)), n);
        assert_eq!(reel.at(reel.stamp(n) + Duration::from_millis(39)), n);
    }
    assert_eq!(reel.at(HOUR), 299);
    let bytes = (HEADER_LEN + 300 * (1000 + ENTRY_LEN)) as u64;
    assert_eq!(store.usage(), Usage { reels: 1, bytes });
    assert_eq!(fixture.files(".part"), [""; 0]);
}

#[test]
fn the_file_is_as_documented() {
    let fixture = StoreFixture::new();
    let reel = record(&fixture.store(u64::MAX), &fixture.film("a", b"a film"), 2, 3, NOW);
    let file = fs::read(fixture.reels().join(reel.pictures.name())).unwrap();
    assert_eq!(file.len(), 92 + 2 * 3 + 2 * 25);
    assert_eq!(file[..12], *b"\x89REEL\r\n\x1a\x01\0\x04\0");
    assert_eq!(file[12..44], *blake3::hash(b"a film").as_bytes());
    assert_eq!(
        file[44..56],
        [32, 0, 16, 0, 80, 1, 0, 0, 0xcf, 0xff, 0, 0],
        "size, quality, type, unused, budget"
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

/// Whether any damage to the reel at `path` is noticed. Everything that is not noticed must be as it was recorded.
fn notices(path: &Path, key: &ReelKey, original: &Reel) -> bool {
    let reel = match Reel::open(path, key) {
        Err(ReelError::Damaged { .. }) => return true,
        Err(error) => panic!("{error}"),
        Ok(reel) => reel,
    };
    let facts = |reel: &Reel| {
        let stamps: Vec<_> = (0..reel.len()).map(|n| reel.stamp(n)).collect();
        (stamps, reel.size(), reel.rate(), reel.length())
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
    let fixture = StoreFixture::new();
    let original = record(&fixture.store(u64::MAX), &fixture.film("a", b"a film"), 3, 40, NOW);
    let whole = fs::read(fixture.reels().join(original.pictures.name())).unwrap();
    let path = fixture.dir.path().join("damaged.reel");
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
fn invalid_numbers_are_refused_before_memory_is_allocated_for_them() {
    let fixture = StoreFixture::new();
    let original = record(&fixture.store(u64::MAX), &fixture.film("a", b"a film"), 3, 40, NOW);
    let path = fixture.reels().join(original.pictures.name());
    let whole = fs::read(&path).unwrap();
    let index_at = original.header.index_at as usize;
    // Changes values, and makes the checksums right.
    let forge = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = whole.clone();
        change(&mut file);
        let index = crc32fast::hash(&file[index_at..]).to_le_bytes();
        file[76..80].copy_from_slice(&index);
        let header = crc32fast::hash(&file[..88]).to_le_bytes();
        file[88..92].copy_from_slice(&header);
        fs::write(&path, file).unwrap();
        match Reel::open(&path, original.key()).expect_err("a forgery") {
            ReelError::Damaged { damage, .. } => damage,
            error => panic!("{error}"),
        }
    };
    let put = |at: usize, bytes: &'static [u8]| {
        move |file: &mut Vec<u8>| file[at..at + bytes.len()].copy_from_slice(bytes)
    };
    for (at, bytes, damage) in [
        (52, &[1][..], Damage::Version),
        (56, &[0], Damage::Invalid("rate")),
        (64, &[0; 8], Damage::Invalid("order of stamps")),
        (72, &[0], Damage::Invalid("count of pictures")),
        (72, &[2], Damage::Truncated),
        (72, &[0xff; 4], Damage::Invalid("count of pictures")),
        (72, &[0, 0, 0x80, 0], Damage::Truncated),
        (80, &[0xff; 8], Damage::Truncated),
        (index_at, &[93], Damage::Invalid("index")),
        (index_at, &[0xff; 8], Damage::Invalid("index")),
        (index_at + 8, &[41], Damage::Invalid("index")),
        (index_at + 8, &[0xff; 4], Damage::Invalid("picture")),
        (index_at + 8, &[0], Damage::Invalid("picture")),
        (index_at + 12, &[1], Damage::Invalid("index")),
        (index_at + 20, &[0], Damage::Invalid("quality")),
        (index_at + 20, &[100], Damage::Invalid("quality")),
        (index_at + 25 + 12, &[0xff; 8], Damage::Invalid("order of stamps")),
        (index_at + 50 + 12, &[0; 8], Damage::Invalid("order of stamps")),
        (index_at + 50 + 8, &[39], Damage::Invalid("index")),
    ] {
        assert_eq!(forge(&put(at, bytes)), damage, "{bytes:?} at {at}");
    }
}

#[test]
fn a_reel_that_cannot_be_used_is_removed_and_made_again() {
    let fixture = StoreFixture::new();
    let film = fixture.film("a", b"a film");
    let store = fixture.store(u64::MAX);
    let (key, name) = {
        let reel = record(&store, &film, 3, 40, NOW);
        (*reel.key(), reel.pictures.name().to_owned())
    };
    let path = fixture.reels().join(&name);
    let whole = fs::read(&path).unwrap();
    let with = |at: usize, byte: u8| {
        let mut file = whole.clone();
        file[at] = byte;
        file
    };
    let other_encoder = {
        let mut file = with(10, ENCODER_VERSION as u8 + 1);
        let crc = crc32fast::hash(&file[..88]).to_le_bytes();
        file[88..92].copy_from_slice(&crc);
        file
    };
    let other_film = {
        let reel = record(&store, &fixture.film("b", b"another"), 3, 40, NOW);
        fs::read(fixture.reels().join(reel.pictures.name())).unwrap()
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
    let fixture = StoreFixture::new();
    let film = fixture.film("a", b"a film");
    let store = fixture.store(u64::MAX);
    let reel = record(&store, &film, 3, 40, NOW);
    let path = fixture.reels().join(reel.pictures.name());
    let held = reel.picture(0).unwrap();
    File::options().write(true).open(&path).unwrap().write_all_at(&[0xff; 2], HEADER_LEN as u64).unwrap();
    assert_eq!(reel.picture(0).unwrap(), held, "a picture that is held is shared");
    drop(held);
    let sentence = reel.picture(0).unwrap_err().to_string();
    assert_eq!(
        sentence,
        format!("reel {} is damaged: picture 0 does not match its checksum", reel.pictures.name())
    );
    assert_eq!(reel.picture(1).unwrap(), picture(1, 40));

    File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert!(matches!(reel.picture(1), Err(ReelError::Damaged { damage: Damage::Picture(1), .. })));

    store.discard(&reel);
    assert!(!path.exists());
    assert!(store.find(reel.key(), NOW).is_none());
    let again = record(&store, &film, 3, 40, NOW);
    assert!(!Arc::ptr_eq(&reel, &again));
    // Another station finds the damage later. The reel that was recorded again stays.
    store.discard(&reel);
    assert!(path.exists());
    assert!(Arc::ptr_eq(&again, &store.find(reel.key(), NOW).unwrap()));
}

#[test]
fn many_threads_read_one_reel() {
    let fixture = StoreFixture::new();
    let reel = record(&fixture.store(u64::MAX), &fixture.film("a", b"a film"), 200, 500, NOW);
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
fn readers_share_the_bytes_of_a_picture_and_the_reel_does_not_keep_them() {
    let fixture = StoreFixture::new();
    let reel = record(&fixture.store(u64::MAX), &fixture.film("a", b"a film"), 100, 500, NOW);
    let first: Vec<_> = (0..SHARED_SCANS).map(|n| reel.picture(n).unwrap()).collect();
    for (n, first) in first.iter().enumerate() {
        assert_eq!(reel.picture(n).unwrap().scan.as_ptr(), first.scan.as_ptr());
    }
    assert_eq!(reel.picture(SHARED_SCANS).unwrap(), picture(SHARED_SCANS, 500), "picture 0 gives way");
    assert_ne!(reel.picture(0).unwrap().scan.as_ptr(), first[0].scan.as_ptr());
    drop(first);
    assert_eq!(reel.pictures.held(), 0);
}

#[test]
fn try_picture_does_not_wait_for_the_disk_of_another_reader() {
    let fixture = StoreFixture::new();
    let reel = record(&fixture.store(u64::MAX), &fixture.film("a.mp4", b"film"), 2 * SHARED_SCANS, 100, NOW);
    let hung = reel.hang(7);
    let (said, answers) = std::sync::mpsc::channel();
    let asker = thread::spawn({
        let reel = reel.clone();
        move || [7, 7 + SHARED_SCANS, 8].map(|n| said.send(reel.try_picture(n).map(|jpeg| jpeg.is_some())))
    });
    for expected in [false, false, true] {
        let answer = answers.recv_timeout(Duration::from_secs(20)).expect("it answers");
        assert_eq!(answer.unwrap(), expected);
    }
    drop(hung);
    asker.join().unwrap().into_iter().for_each(|sent| sent.unwrap());
    assert!(reel.try_picture(7).unwrap().is_some());
}
