//! Whose reel it is: the film's content, and what is remembered of it.

use super::*;

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
