//! Keys of reels, and the cache of films' hashes.

#![expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]

use super::*;

#[test]
fn a_start_with_reels_present_hashes_nothing() {
    let fixture = StoreFixture::new();
    let films: Vec<_> = (0u8..20).map(|n| fixture.film(&n.to_string(), &[n; 100])).collect();
    let keys = |store: &Store| -> Vec<_> {
        films.iter().map(|film| store.key(film, ENCODING, NOW).unwrap()).collect()
    };
    let store = fixture.store(u64::MAX);
    let first = keys(&store);
    assert_eq!((keys(&store), store.hashed()), (first.clone(), 20));
    let store = fixture.store(u64::MAX);
    assert_eq!((keys(&store), store.hashed()), (first.clone(), 0));

    // If two processes hash different films, the cache then has all of them.
    fs::remove_file(fixture.reels().join("films")).unwrap();
    let (one, two) = (fixture.store(u64::MAX), fixture.store(u64::MAX));
    one.key(&films[0], ENCODING, NOW).unwrap();
    two.key(&films[1], ENCODING, NOW).unwrap();
    let store = fixture.store(u64::MAX);
    assert_eq!((keys(&store), store.hashed()), (first, 18));
}

#[test]
fn the_key_is_of_the_content_and_the_encoding() {
    let fixture = StoreFixture::new();
    let store = fixture.store(u64::MAX);
    let film = fixture.film("a", b"one film");
    let key = |film: &Path| store.key(film, ENCODING, NOW).unwrap();
    let original = key(&film);
    assert_eq!(key(&fixture.film("b", b"one film")), original, "one film under two names");
    for other in [
        Encoding { quality: 79, ..ENCODING },
        Encoding { size: Size { width: 16, ..SIZE }, ..ENCODING },
        Encoding { size: Size { height: 32, ..SIZE }, ..ENCODING },
    ] {
        let other = store.key(&film, other, NOW).unwrap();
        assert_ne!(other, original);
        assert_ne!(other.to_string(), original.to_string());
    }
    // The film is changed in place. It has its old length and modification time.
    let modified = fs::metadata(&film).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&film).unwrap();
    file.write_all_at(b"ONE", 0).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
    assert_eq!(fs::metadata(&film).unwrap().modified().unwrap(), modified);
    assert_ne!(key(&film), original);
    // Another film takes the name.
    fs::rename(fixture.film("c", b"two film"), &film).unwrap();
    assert_eq!(*key(&film).film_hash(), *blake3::hash(b"two film").as_bytes());

    let none = store.key(&fixture.dir.path().join("none"), ENCODING, NOW).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    assert_eq!(store.key(fixture.dir.path(), ENCODING, NOW).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_hash_of_a_film_that_was_just_written_is_not_cached() {
    let fixture = StoreFixture::new();
    let store = fixture.store(u64::MAX);
    let film = fixture.film("a", b"a film");
    let now = wall_clock();
    store.key(&film, ENCODING, now).unwrap();
    store.key(&film, ENCODING, now).unwrap();
    assert_eq!(store.hashed(), 2);
    store.key(&film, ENCODING, now + Duration::from_secs(3)).unwrap();
    store.key(&film, ENCODING, now).unwrap();
    assert_eq!(store.hashed(), 3);
}

#[test]
fn a_damaged_cache_is_ignored() {
    let fixture = StoreFixture::new();
    let film = fixture.film("a", b"a film");
    let path = fixture.dir.path().join("films");
    let hash = HashCache::load(path.clone()).film_hash(&film, NOW).unwrap();
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
        let cache = HashCache::load(path.clone());
        assert_eq!(cache.film_hash(&film, NOW).unwrap(), hash);
        assert_eq!(cache.hashed.into_inner(), 1);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn stations_that_start_with_one_film_hash_it_once() {
    let fixture = StoreFixture::new();
    let store = fixture.store(u64::MAX);
    let film = fixture.film("a", b"");
    // Hashing takes 20 ms, so that the threads meet.
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
    let fixture = StoreFixture::new();
    let store = fixture.store(u64::MAX);
    let film = fixture.film("a", b"a film");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    recorder.add(Duration::ZERO, &picture(0, 40)).unwrap();
    fs::rename(fixture.film("b", b"a fake"), &film).unwrap();
    assert!(matches!(recorder.finish(PAL, HOUR, NOW), Err(RecordError::FilmChanged)));
    assert!(store.find(&key, NOW).is_none());
    assert_eq!((fixture.files("part"), fixture.files("reel")), (vec![], vec![]));
}

#[test]
fn a_slide_has_a_reel_of_its_own_for_each_length() {
    let fixture = StoreFixture::new();
    let (store, film) = (fixture.store(u64::MAX), fixture.film("slide", b"a picture"));
    let key = store.key(&film, ENCODING, NOW).unwrap().of_slide(Duration::from_secs(4));
    for (seconds, recorded) in [(5, false), (4, true)] {
        let mut recorder = store.record(&key, &film).unwrap().unwrap();
        recorder.add(Duration::ZERO, &picture(0, 10)).unwrap();
        let rate = FrameRate::new(1, seconds).unwrap();
        let reel = recorder.finish(rate, Duration::from_secs(seconds.into()), NOW);
        assert_eq!(reel.is_ok(), recorded, "{seconds} s");
    }
}
