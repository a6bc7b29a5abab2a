//! The store: its limit, which files it removes, and other processes in its folder.

use super::*;

#[test]
fn the_least_recently_aired_goes_first() {
    let fixture = StoreFixture::new();
    let limit = 35_000; // three reels of 10,342 bytes
    let films: Vec<_> = (0u8..5).map(|n| fixture.film(&n.to_string(), &[n])).collect();
    let path = |key: &ReelKey| fixture.reels().join(format!("{key}.reel"));
    let mut keys: Vec<_> = Vec::new();
    {
        let store = fixture.store(limit);
        for (n, film) in films[..3].iter().enumerate() {
            keys.push(*record(&store, film, 10, 1000, NOW + HOUR * n as u32).key());
        }
        assert_eq!(store.usage(), Usage { reels: 3, bytes: 31_026 });
        store.find(&keys[0], NOW + HOUR * 3).unwrap();
    }
    // The next process evicts in the same order.
    let store = fixture.store(limit);
    keys.push(*record(&store, &films[3], 10, 1000, NOW + HOUR * 4).key());
    let there = |n: usize| path(&keys[n]).exists();
    assert_eq!([0, 1, 2, 3].map(there), [true, false, true, true]);

    // A reel on air stays, and the next one is evicted.
    let on_air = store.find(&keys[2], NOW).unwrap();
    keys.push(*record(&store, &films[4], 10, 1000, NOW + HOUR * 5).key());
    let there = |n: usize| path(&keys[n]).exists();
    assert_eq!([0, 1, 2, 3, 4].map(there), [false, false, true, true, true]);
    assert_eq!(on_air.picture(9).unwrap(), picture(9, 1000));
    drop(on_air);

    // The modification time is updated once a minute at most.
    let modified = |n: usize| fs::metadata(path(&keys[n])).unwrap().modified().unwrap();
    let before = modified(4);
    let aired = store.find(&keys[4], NOW + HOUR * 5 + TOUCH_EVERY / 2).unwrap();
    assert_eq!(modified(4), before);
    store.find(&keys[4], NOW + HOUR * 5 + TOUCH_EVERY).unwrap();
    assert_eq!(modified(4), before + TOUCH_EVERY);
    drop(aired);

    // A smaller limit applies when the store is opened.
    let store = fixture.store(11_000);
    assert_eq!(store.usage(), Usage { reels: 1, bytes: 10_342 });
    assert!(store.find(&keys[4], NOW).is_some());
}

#[test]
fn a_reel_that_another_process_removes_stays_on_air() {
    let fixture = StoreFixture::new();
    let film = fixture.film("a", b"a film");
    let (ours, theirs) = (fixture.store(u64::MAX), fixture.store(u64::MAX));
    let reel = record(&ours, &film, 3, 40, NOW);
    let other = theirs.find(reel.key(), NOW).expect("two stores, one folder");
    assert!(!Arc::ptr_eq(&reel, &other));
    theirs.discard(&other);
    assert_eq!(reel.picture(2).unwrap(), picture(2, 40));
    assert!(ours.find(reel.key(), NOW).is_some(), "as long as a station has it open");
    let key = *reel.key();
    drop(reel);
    assert!(ours.find(&key, NOW).is_none());
}

#[test]
fn a_film_larger_than_the_store_is_given_up_and_not_tried_again() {
    let fixture = StoreFixture::new();
    let store = fixture.store(20_000);
    let film = fixture.film("a", b"a film");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    let failed =
        (0..100).find_map(|n| recorder.add(PAL.nth(n), &picture(0, 1000)).err().map(|error| (n, error)));
    let (n, error) = failed.unwrap();
    assert_eq!(n, 19);
    assert_eq!(
        error.to_string(),
        "the film's reel alone takes about 20592 bytes, and all reels together may take 20000; raise [reel] bytes \
         above that, or set `reel = false` for the stations that play it"
    );
    assert_eq!(fixture.files("part"), [""; 0]);
    assert!(matches!(recorder.add(HOUR, &picture(0, 9)), Err(RecordError::GivenUp)));
    assert!(matches!(recorder.finish(PAL, HOUR, NOW), Err(RecordError::GivenUp)));
    assert!(store.record(&key, &film).unwrap().is_none());

    let small = record(&store, &fixture.film("b", b"another"), 11, 1000, NOW);
    let film = fixture.film("c", b"a third");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    (0..11).for_each(|n| recorder.add(PAL.nth(n), &picture(0, 1000)).unwrap());
    assert!(matches!(recorder.finish(PAL, HOUR, NOW), Err(RecordError::NoRoom { limit: 20_000 })));
    assert_eq!(fixture.files("part"), [""; 0]);
    drop(small);
    record(&store, &film, 11, 1000, NOW);
    assert_eq!(store.usage().reels, 1);
}

#[test]
fn a_film_larger_than_the_store_evicts_no_other() {
    let fixture = StoreFixture::new();
    let store = fixture.store(2_000_000);
    for name in ["a", "b", "c"] {
        record(&store, &fixture.film(name, name.as_bytes()), 10, 50_000, NOW);
    }
    let film = fixture.film("large", b"a large film");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    recorder.expect(1000);
    let error = (0..1000).find_map(|n| recorder.add(PAL.nth(n), &picture(0, 50_000)).err()).unwrap();
    assert!(matches!(error, RecordError::TooLarge { needed: 50_000_000..51_000_000, limit: 2_000_000 }));
    assert_eq!(store.usage().reels, 3, "none was evicted for it");
    assert!(store.record(&key, &film).unwrap().is_none(), "not tried again");

    // A film that fits evicts others, even if it announces more pictures than it has.
    let film = fixture.film("fits", b"one that fits");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    recorder.expect(36);
    (0..30).for_each(|n| recorder.add(PAL.nth(n), &picture(0, 50_000)).unwrap());
    recorder.finish(PAL, HOUR, NOW).unwrap();
    assert_eq!(fixture.files("part"), [""; 0]);
    assert!(store.find(&key, NOW).is_some());
    assert_eq!(store.usage().reels, 1);
}

#[test]
fn a_reel_that_another_station_has_recorded_meanwhile_is_not_recorded_again() {
    let fixture = StoreFixture::new();
    let store = fixture.store(u64::MAX);
    let film = fixture.film("a", b"a film");
    let key = store.key(&film, ENCODING, NOW).unwrap();
    assert!(store.find(&key, NOW).is_none(), "not yet");
    record(&store, &film, 3, 40, NOW);
    assert!(store.record(&key, &film).unwrap().is_none());
}

#[test]
fn a_full_disk_is_one_error_and_leaves_no_file() {
    let fixture = StoreFixture::new();
    let store = fixture.store(u64::MAX);
    let film = fixture.film("a", b"a film");
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
                assert_eq!(fixture.files("part"), [""; 0], "removed at once");
            }
        }
        let error = error.unwrap_or_else(|| recorder.finish(PAL, HOUR, NOW).unwrap_err());
        let RecordError::Io(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "at picture {full_at}");
        assert_eq!((fixture.files("part"), fixture.files("reel")), (vec![], vec![]));
    }
    // The folder vanishes during a recording, and is created again for the next one.
    let mut recorder = store.record(&key, &film).unwrap().unwrap();
    recorder.add(Duration::ZERO, &picture(0, 40)).unwrap();
    fs::remove_dir_all(fixture.reels()).unwrap();
    assert!(matches!(recorder.finish(PAL, HOUR, NOW), Err(RecordError::Io(_))));
    record(&store, &film, 3, 40, NOW);
}

#[test]
fn pictures_that_a_reel_cannot_hold_are_refused() {
    let fixture = StoreFixture::new();
    let store = fixture.store(u64::MAX);
    let film = fixture.film("a", b"a film");
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
    assert_eq!((fixture.files("part"), fixture.files("reel")), (vec![], vec![]));
}

#[test]
fn stamps_on_the_grid_and_off_it_are_kept() {
    let fixture = StoreFixture::new();
    let store = fixture.store(u64::MAX);
    let ntsc = FrameRate::new(30_000, 1001).unwrap();
    for (name, millis) in [
        ("ntsc in Matroska", vec![7, 40, 74, 107, 140]),
        ("with a hole", vec![0, 33, 67, 133, 167]),
        ("variable", vec![0, 33, 50, 100]),
        ("without stamps", vec![0, 0, 0]),
    ] {
        let film = fixture.film(name, name.as_bytes());
        let key = store.key(&film, ENCODING, NOW).unwrap();
        let mut recorder = store.record(&key, &film).unwrap().unwrap();
        for &ms in &millis {
            recorder.add(Duration::from_millis(ms), &picture(0, 40)).unwrap();
        }
        let reel = recorder.finish(ntsc, HOUR, NOW).unwrap();
        let stamps: Vec<_> = (0..reel.len()).map(|n| reel.stamp(n).as_millis() as u64 + millis[0]).collect();
        assert_eq!(stamps, millis, "{name}");
    }
}

#[test]
fn a_process_has_one_recorder_for_a_reel_and_two_processes_do_no_harm() {
    let fixture = StoreFixture::new();
    let film = fixture.film("a", b"a film");
    let (ours, theirs) = (fixture.store(u64::MAX), fixture.store(u64::MAX));
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
    assert_eq!(fixture.files(".reel").len(), 1);
    ours.discard(&ours.find(&key, NOW).unwrap());
    assert!(ours.record(&key, &film).unwrap().is_some(), "the permit was released");
}

#[test]
fn two_processes_in_a_store_that_is_too_small_air_only_recorded_pictures() {
    let fixture = StoreFixture::new();
    let films: Vec<_> = (0u8..6).map(|n| fixture.film(&n.to_string(), &[n])).collect();
    let limit = 35_000; // three of six
    let stores = [fixture.store(limit), fixture.store(limit)];
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
    assert_eq!(fixture.files(".part"), [""; 0]);
    let usage = fixture.store(limit).usage();
    assert!(usage.bytes <= limit && usage.reels > 0, "{usage:?}");
}

#[test]
fn parts_of_dead_processes_are_removed_and_no_other_file() {
    let fixture = StoreFixture::new();
    let film = fixture.film("a", b"a film");
    let store = fixture.store(u64::MAX);
    let key = store.key(&film, ENCODING, NOW).unwrap();
    let mut alive = store.record(&key, &film).unwrap().unwrap();
    alive.add(Duration::ZERO, &picture(0, 40)).unwrap();
    let dead = [format!("{key}.0123456789abcdef.part"), "films.0123456789abcdef.part".into()];
    let strangers = ["film.part", "holiday.0123456789abcdef.part", "mine.reel", "a-b.reel"];
    for name in dead.iter().map(String::as_str).chain(strangers) {
        fs::write(fixture.reels().join(name), [0; 1000]).unwrap();
    }
    let other = fixture.store(500);
    for name in &dead {
        assert!(!fixture.reels().join(name).exists(), "{name}");
    }
    for name in strangers {
        assert!(fixture.reels().join(name).exists(), "{name}");
    }
    assert_eq!(other.usage(), Usage::default());
    alive.finish(PAL, HOUR, NOW).expect("a part that is being recorded stays");
}

#[test]
fn a_folder_that_cannot_be_created_is_an_error() {
    let fixture = StoreFixture::new();
    let film = fixture.film("a", b"a film");
    assert!(Store::open(&film.join("reels"), 1000, NOW).is_err());
    assert!(Store::open(Path::new("/proc/reels"), 1000, NOW).is_err());
}
