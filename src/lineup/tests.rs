//! The values of a line-up. `messages` has a table of all messages.

mod live;
mod messages;
mod outputs;
mod play;
mod ports;
mod publish;

use proptest::prelude::*;

use super::*;

const SHIPPED: &str = include_str!("../../stations.toml");

/// A machine with loopback, an interface with both IP versions, one with IPv4 only, one with IPv6 only, one that is down,
/// and two tunnels that share an address.
fn world() -> World {
    let interface = |index: u32, name: &str, mtu: u32, v4: &[&str], v6: &[&str]| Interface {
        name: name.into(),
        index,
        mtu,
        up: name != "eth3",
        loopback: name == "lo",
        v4: v4.iter().map(|address| address.parse().unwrap()).collect(),
        v6: v6.iter().map(|address| address.parse().unwrap()).collect(),
    };
    World {
        interfaces: vec![
            interface(1, "lo", 65_536, &["127.0.0.1"], &["::1"]),
            interface(2, "eth0", 1500, &["192.0.2.7", "192.0.2.8"], &["2001:db8::7"]),
            interface(3, "eth1", 1500, &["10.0.0.1"], &[]),
            interface(4, "eth2", 9000, &[], &["2001:db8::9"]),
            interface(5, "eth3", 1500, &[], &[]),
            interface(6, "tun0", 1400, &["10.9.9.9"], &[]),
            interface(7, "tun1", 500, &["10.9.9.9"], &[]),
        ],
        home: Some("/home/op".into()),
        cache: Some("/home/op/.cache".into()),
        state: Some("/home/op/.local/state/stationcast".into()),
        media: Box::new(|path| {
            let path = path.to_str().unwrap();
            match path {
                "conf/films" | "/srv/films" => MediaKind::Folder { films: 3 },
                "conf/empty" => MediaKind::Folder { films: 0 },
                "conf/locked.mp4" => MediaKind::Unreadable("Permission denied (os error 13)".into()),
                _ if path.ends_with(".mp4") && !path.contains("none") => MediaKind::File,
                _ => MediaKind::Missing,
            }
        }),
        // The film "mute.mp4" has no sound.
        sound: Box::new(|choice, media| match choice {
            SoundChoice::Off => false,
            SoundChoice::Auto => media.iter().any(|film| !film.ends_with("mute.mp4")),
            _ => true,
        }),
    }
}

fn parse(text: &str) -> Result<Lineup, ConfigError> {
    Lineup::parse(text, Path::new("conf/stations.toml"), &world())
}

fn one(text: &str) -> StationSpec {
    let station = "[[station]]\nid = 1\nname = \"Ocean\"\nmedia = \"a.mp4\"\n";
    let group = if text.contains("group") { "" } else { "group = \"239.77.0.1:5004\"\n" };
    parse(&format!("{station}{group}{text}")).unwrap().stations.remove(0)
}

#[test]
fn the_shipped_lineup_has_no_faults_and_stays_on_this_machine() {
    let lineup = Lineup::parse(SHIPPED, Path::new("stations.toml"), &world()).unwrap();
    // The document shows this table.
    let shown =
        include_str!("../../docs/stations.md").split("broadcaster check --config stations.toml\n").nth(1);
    let shown = shown.and_then(|text| text.split("\n```").next()).unwrap();
    // Below it is the table of the films, which a test of the command compares.
    assert_eq!(lineup.table(), shown.split("\n\n").next().unwrap());
    assert!(lineup.stations.iter().all(|station| lineup.stays_here(station)));
    assert!(lineup.notes().is_empty(), "{:?}", lineup.notes());
}

#[test]
fn a_long_list_of_films_does_not_fill_the_table() {
    let text = "[[station]]\nid = 1\nname = \"A\"\ngroup = \"239.77.0.1:5004\"\nmedia = ";
    let lineup = parse(&format!("{text}[\"1.mp4\", \"2.mp4\", \"3.mp4\", \"4.mp4\", \"5.mp4\"]")).unwrap();
    assert!(
        lineup.table().contains("  conf/1.mp4, conf/2.mp4, conf/3.mp4, and 2 more\n"),
        "{}",
        lineup.table()
    );
}

#[test]
fn the_shipped_lineup_names_the_defaults() {
    let keys = [
        "listen",
        "interface",
        "ttl",
        "width",
        "quality",
        "datagram",
        "reel",
        "spread",
        "encrypt",
        "sign",
        "bytes",
        "sap",
        "mdns",
    ]
    .map(|key| format!("{key} ="));
    let blank = |line| if keys.iter().any(|key| str::starts_with(line, key)) { "" } else { line };
    let bare = SHIPPED.lines().map(blank).collect::<Vec<_>>().join("\n");
    // `listen` is in three sections.
    assert_eq!(bare.matches(" = ").count() + keys.len() + 2, SHIPPED.matches(" = ").count());
    let parse = |text| Lineup::parse(text, Path::new("stations.toml"), &world()).unwrap();
    assert_eq!(parse(&bare), parse(SHIPPED));
}

#[test]
fn the_examples_in_its_comments_have_no_faults() {
    // A comment that begins with a key or a header is an example, as in "# id = 40".
    let example = |line: &str| {
        let bare = line.strip_prefix("# ")?;
        let key = bare.split(" = ").next()?;
        (bare == "[[station]]"
            || bare == "[[station.at]]"
            || bare == "[publish]"
            || (key != bare && !key.contains(' ')))
        .then(|| bare.to_owned())
    };
    let text: Vec<String> =
        SHIPPED.lines().map(|line| example(line).unwrap_or_else(|| line.to_owned())).collect();
    let mut world = world();
    world.media = Box::new(|path| match path.extension() {
        Some(_) => MediaKind::File,
        None => MediaKind::Folder { films: 1 },
    });
    let lineup = Lineup::parse(&text.join("\n"), Path::new("stations.toml"), &world).unwrap();
    let ids: Vec<u16> = lineup.stations.iter().map(|station| station.id.0).collect();
    assert_eq!(ids, [1, 2, 3, 40, 41, 42, 43, 44, 45]);
    assert_eq!(lineup.stations[5].media.to_string(), "http://192.0.2.20:8080/stream.mjpg");
    assert_eq!(lineup.stations[8].media.to_string(), "mosaic of 1, 2, 3");
    assert_eq!(lineup.stations[5].buffer, Duration::from_millis(120));
    assert_eq!(lineup.publish.unwrap().ids, 900..=949);
    assert_eq!(lineup.stations[6].fallback, [Path::new("media/ocean.mp4")]);
    assert_eq!(lineup.stations[7].at[0].media.to_string(), "/dev/video0");
    assert_eq!(
        lineup.stations[3].media.films(),
        [PathBuf::from("/home/op/films/opening.mp4"), "/srv/films/season 1".into()]
    );
    assert!(lineup.stations[4].group.is_ipv6());
    assert_eq!(lineup.reel.dir, Some("/var/cache/stationcast".into()));
    assert_eq!(lineup.hosts, ["tv.example.org", "192.0.2.80"]);
    assert_eq!((lineup.stations[3].reel, lineup.stations[3].spread.permille()), (false, 800));
}

#[test]
fn a_station_uses_its_own_key_then_defaults_then_the_built_in_value() {
    let text = "[defaults]\nttl = 9\nwidth = 320\ninterface = \"eth0\"\ndatagram = 1400\nreel = false\n\
                spread = 0.2\n[[station]]\nid = 7\n\
                name = \"A\"\nmedia = [\"a.mp4\", \"films\"]\ngroup = \"239.1.1.1:5004\"\nttl = 0\n\
                datagram = \"auto\"\nspread = 0\n[directory]\nlisten = \"[::]:99\"";
    let lineup = parse(text).unwrap();
    let station = &lineup.stations[0];
    assert_eq!((station.ttl, station.width, station.quality), (0, 320, 80));
    assert_eq!((station.interface.name.as_str(), station.datagram), ("eth0", Datagram::Auto));
    assert_eq!((station.id, station.name.as_str(), station.line), (StationId(7), "A", 8));
    assert_eq!((station.reel, station.spread), (false, Spread::NONE));
    assert_eq!((one("").reel, one("").spread.as_f64()), (true, 0.5));
    assert!(one("reel = true").reel && !one("reel = false").reel);
    assert_eq!(station.media.films(), [PathBuf::from("conf/a.mp4"), PathBuf::from("conf/films")]);
    assert_eq!(lineup.directory, "[::]:99".parse().unwrap());
    assert_eq!(parse(&text[..text.find("[directory]").unwrap()]).unwrap().directory, DIRECTORY);
}

#[test]
fn the_bounds_of_each_range_are_allowed() {
    for text in ["ttl = 0", "ttl = 255", "width = 16", "width = 2040", "quality = 1", "quality = 99"] {
        one(text);
    }
    assert_eq!(one("datagram = 576").datagram, Datagram::Limit(576));
    assert_eq!(one("datagram = 65_507").datagram, Datagram::Limit(65_507));
    for (id, name) in [(1, "a".to_owned()), (999, "\u{e9}".repeat(63))] {
        let text = format!(
            "[[station]]\nid = {id}\nname = \"{name}\"\nmedia = \"mute.mp4\"\ngroup = \"224.0.1.0:65535\""
        );
        parse(&text).unwrap();
    }
}

#[test]
fn a_spread_is_exact_to_a_thousandth() {
    for (typed, permille) in [
        ("0", 0),
        ("0.0", 0),
        ("-0.0", 0),
        ("0x0", 0),
        ("0.0004", 0),
        ("1e-3", 1),
        ("0.333_3", 333),
        ("0.95", 950),
    ] {
        assert_eq!(one(&format!("spread = {typed}")).spread.permille(), permille, "{typed}");
    }
    assert_eq!(Spread::new(0.95), Some(Spread::MAX));
    for share in [-0.001, 0.950_001, 1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(Spread::new(share), None, "{share}");
    }
    for permille in 0..=Spread::MAX.permille() {
        let spread = Spread::new(f64::from(permille) / 1000.0).unwrap();
        assert_eq!((spread.permille(), Spread::new(spread.as_f64())), (permille, Some(spread)));
    }
}

#[test]
fn reels_are_kept_in_the_configured_folder_or_in_the_users_cache() {
    let reel = |section: &str| parse(&(messages::with("id", Some("1")) + "\n" + section)).unwrap().reel;
    let dir = |typed: &str| reel(&format!("[reel]\ndir = \"{typed}\"")).dir.unwrap();
    let default = ReelSpec { dir: Some("/home/op/.cache/stationcast".into()), bytes: 20_000_000_000 };
    assert_eq!(reel(""), default);
    assert_eq!(reel("[reel]"), default);
    assert_eq!(dir("~/reels"), Path::new("/home/op/reels"));
    assert_eq!(dir("reels"), Path::new("conf/reels"));
    assert_eq!(dir("films"), Path::new("conf/films")); // exists already
    assert_eq!(dir("/var/cache/reels"), Path::new("/var/cache/reels"));
    assert_eq!(reel("[reel]\nbytes = 1_000_000"), ReelSpec { bytes: 1_000_000, ..default.clone() });
    assert_eq!(reel("[reel]\nbytes = 9223372036854775807").bytes, i64::MAX as u64);
}

#[test]
fn without_a_home_reels_are_kept_only_in_a_configured_folder() {
    let mut world = world();
    (world.home, world.cache) = (None, None);
    let read = |text: String| Lineup::parse(&text, Path::new("stations.toml"), &world).unwrap();
    let bare = messages::with("id", Some("1"));
    let lineup = read(bare.clone());
    assert_eq!(lineup.reel.dir, None);
    assert_eq!(
        lineup.notes(),
        ["no reels are kept: this user has no home folder, so set `dir` under [reel]"]
    );
    assert!(read(bare.clone() + "\nreel = false").notes().is_empty());
    let named = read(bare + "\n[reel]\ndir = \"reels\"");
    assert_eq!((named.reel.dir.as_deref(), named.notes().len()), (Some(Path::new("reels")), 0));
}

#[test]
fn the_users_cache_is_from_xdg_or_in_the_home_folder() {
    let home = Some(Path::new("/home/op"));
    let found = |set: Option<&str>, home| cache(set.map(OsString::from), home);
    assert_eq!(found(Some("/var/tmp/op"), home), Some("/var/tmp/op".into()));
    assert_eq!(found(Some("/var/tmp/op"), None), Some("/var/tmp/op".into()));
    for ignored in [None, Some(""), Some("cache")] {
        assert_eq!(found(ignored, home), Some("/home/op/.cache".into()));
        assert_eq!(found(ignored, None), None);
    }
}

#[test]
fn an_auto_datagram_fills_one_packet_of_the_interface() {
    let limit = |text: &str| {
        let station = one(text);
        station.datagram_limit(station.interface.find(&world().interfaces).unwrap().mtu)
    };
    let v6 = "group = \"[ff15::77:2]:5004\"\n";
    assert_eq!(limit(""), 65_507); // 65,536 - 28 is one more than UDP over IPv4 carries
    assert_eq!(limit(v6), 65_536 - 48);
    assert_eq!(limit("interface = \"eth0\""), 1472);
    assert_eq!(limit(&format!("{v6}interface = \"eth0\"")), 1452);
    assert_eq!(limit("interface = \"tun1\""), 576);
    assert_eq!(limit("interface = \"eth0\"\ndatagram = 65507"), 65_507);
}

#[test]
fn an_interface_is_found_by_its_name_or_any_of_its_addresses() {
    let found = |text: &str| one(text).interface.find(&world().interfaces).unwrap();
    assert_eq!(found("interface = \"lo\"").index, 1);
    let second = found("interface = \"192.0.2.8\"");
    assert_eq!(second.name, "eth0");
    assert_eq!(second.v4, [Ipv4Addr::new(192, 0, 2, 8), Ipv4Addr::new(192, 0, 2, 7)]);
    assert_eq!(found("group = \"[ff15::1]:5004\"\ninterface = \"2001:db8:0::9\"").name, "eth2");
    // This interface is down and has no address yet. It may come up later, with either IP version.
    assert!(!found("interface = \"eth3\"").up);
    one("group = \"[ff15::1]:5004\"\ninterface = \"eth3\"");
}

#[test]
fn an_interface_that_is_up_and_waits_for_an_address_is_no_fault() {
    let mut world = world();
    let text = messages::with("interface", Some("\"eth3\""));
    let eth3 = world.interfaces.iter_mut().find(|one| one.name == "eth3").unwrap();
    (eth3.up, eth3.v6) = (true, vec!["fe80::1".parse().unwrap()]);
    let lineup = Lineup::parse(&text, Path::new("stations.toml"), &world).unwrap();
    let notes = lineup.notes().join("\n");
    assert!(notes.contains("goes on air when interface eth3 has an IPv4 address"), "{notes}");
}

#[test]
fn a_file_saved_on_windows_is_read() {
    let lineup = parse(&format!("\u{feff}{}", SHIPPED.replace("media/", "").replace('\n', "\r\n"))).unwrap();
    assert_eq!(lineup.stations.len(), 3);
    let error =
        parse(&format!("\u{feff}{}", messages::with("id", Some("0")).replace('\n', "\r\n"))).unwrap_err();
    assert!(error.to_string().starts_with("conf/stations.toml:2: station \"Ocean\": id = 0 is"), "{error}");
}

#[test]
fn a_file_is_loaded_with_the_interfaces_and_films_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("media")).unwrap();
    fs::write(dir.path().join("stations.toml"), SHIPPED).unwrap();
    let error = Lineup::load(&dir.path().join("stations.toml")).unwrap_err();
    assert_eq!(error.sentences().len(), 3, "{error}");
    for film in ["ocean.mp4", "nature.mp4", "space.mp4"] {
        fs::write(dir.path().join("media").join(film), b"").unwrap();
    }
    let lineup = Lineup::load(&dir.path().join("stations.toml")).unwrap();
    assert_eq!(films(lineup.stations[1].media.films()).unwrap(), [dir.path().join("media/nature.mp4")]);
}

#[test]
fn settings_that_may_surprise_are_noted() {
    let station = |id: u16, group: &str, interface: &str| {
        format!(
            "[[station]]\nid = {id}\nname = \"{id}\"\nmedia = \"a.mp4\"\ngroup = \"{group}\"\n\
             interface = \"{interface}\"\n"
        )
    };
    let text = station(1, "239.1.1.1:5004", "lo")
        + &station(2, "239.1.1.1:5008", "lo")
        + &station(3, "239.1.1.3:5004", "eth3");
    assert_eq!(
        parse(&text).unwrap().notes(),
        [
            "stations \"1\" and \"2\" share group address 239.1.1.1: viewers of one are sent both",
            "station \"3\" goes on air when interface eth3 comes up",
            "station \"3\" leaves this machine, but the directory on 127.0.0.1:9688 does not: viewers on other \
             machines cannot reach it",
        ]
    );
}

#[test]
fn a_signed_station_whose_keys_nobody_believes_is_noted() {
    let notes = |listen: &str, tls: &str| {
        let head = format!("[directory]\nlisten = \"{listen}:9688\"\n{tls}[defaults]\nsign = true\n");
        parse(&(head + &messages::with("id", Some("1")))).unwrap().notes()
    };
    let note = "station \"Ocean\" is signed, but viewers believe the keys by TLS only: write tls = true under [directory]";
    assert_eq!(notes("0.0.0.0", ""), [note]);
    assert_eq!((notes("0.0.0.0", "tls = true\n"), notes("127.0.0.1", "")), (vec![], vec![]));
}

#[test]
fn a_source_specific_group_is_noted() {
    let notes = |group: &str| {
        let group = format!("\"{group}\"");
        parse(&messages::with("group", Some(&group))).unwrap().notes()
    };
    for (group, range) in [("232.77.0.2:5004", "239.0.0.0/8"), ("[ff3e::8000:1]:5004", "ff15::/16")] {
        let expected = format!(
            "station \"Ocean\" has a source-specific group (RFC 4607): a player must name the sender when it joins, as our \
             viewer does and SDP tells, or routers pass nothing; choose one in {range} for players that cannot"
        );
        assert_eq!(notes(group), [expected]);
    }
    assert_eq!(notes("239.77.0.2:5004"), [""; 0]);
}

#[test]
fn an_output_on_loopback_is_noted_if_the_directory_is_not() {
    let notes = |text: &str| parse(&(messages::with("id", Some("1")) + "\n" + text)).unwrap().notes();
    let away = "[directory]\nlisten = \"0.0.0.0:9688\"\n";
    assert_eq!(
        notes(&format!("{away}[rtsp]\n[http]\nlisten = \"[::1]:8088\"")),
        [
            "[rtsp] listens on 127.0.0.1:8554, where other machines cannot reach it, though the directory on \
             0.0.0.0:9688 can be",
            "[http] listens on [::1]:8088, where other machines cannot reach it, though the directory on \
             0.0.0.0:9688 can be",
        ]
    );
    for quiet in [format!("{away}[rtsp]\nlisten = \"0.0.0.0:8554\""), "[rtsp]\n[http]".into(), away.into()] {
        assert_eq!(notes(&quiet), [""; 0]);
    }
}

#[test]
fn the_table_aligns_names_of_any_script() {
    let text = r#"
station = [
    { id = 1, name = "Ozean \u00fc", media = "a.mp4", group = "239.1.1.1:5004" },
    { id = 20, name = "海洋", media = ["a.mp4", "films"], group = "[ff15::1]:5004", interface = "eth0", sound = "eng" },
    { id = 300, name = "e\u0301", media = "a.mp4", group = "239.1.1.3:5004", interface = "eth3", sound = true, sound_bitrate = 96500 },
]
"#;
    assert_eq!(
        parse(text).unwrap().table(),
        " \
 id  name     group           interface         ttl  width  quality  sound           datagram  media
  1  Ozean ü  239.1.1.1:5004  lo 127.0.0.1        1    640       80  -                  65507  conf/a.mp4
 20  海洋     [ff15::1]:5004  eth0 2001:db8::7    1    640       80  128 kbit/s eng      1452  conf/a.mp4, conf/films
300  e\u{301}        239.1.1.3:5004  eth3 -              1    640       80  96.5 kbit/s         1472  conf/a.mp4
3 stations; directory on 127.0.0.1:9688"
    );
}

#[test]
fn the_table_tells_which_stations_are_protected() {
    let station = |id: u8, keys: &str| {
        format!(
            "[[station]]\nid = {id}\nname = \"{id}\"\nmedia = \"a.mp4\"\ngroup = \"239.1.1.{id}:5004\"\n{keys}\n"
        )
    };
    let text = "[access]\nfile = \"access.toml\"\n".to_owned()
        + &station(1, "encrypt = true")
        + &station(2, "")
        + &station(3, "access = [\"staff\"]\nencrypt = \"compat\"\nsign = true");
    let table = parse(&text).unwrap().table();
    let last: Vec<_> = table.lines().skip(4).collect();
    let expected = [
        "these let in only some: 3",
        "these are encrypted: 1, 3",
        "these are signed: 3",
        "3 stations; directory on 127.0.0.1:9688",
    ];
    assert_eq!(last, expected);
    let open = "[directory]\nlisten = \"0.0.0.0:9688\"\n".to_owned() + &station(1, "encrypt = true");
    let fault = parse(&open).unwrap_err().to_string();
    assert!(
        fault.contains("the directory tells its key by TLS only; write tls = true under [directory]"),
        "{fault}"
    );
}

/// Asserts for any text: parsing does not panic; every sentence is one line that begins with the file's name; a line-up
/// without faults keeps the documented ranges and has every station of the file.
fn check_invariants(text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Err(error) => {
            prop_assert!(!error.sentences().is_empty());
            for sentence in error.sentences() {
                prop_assert!(sentence.starts_with("conf/stations.toml:"), "{sentence}");
                prop_assert!(!sentence.contains(char::is_control), "{sentence:?}");
            }
        }
        Ok(lineup) => {
            let document: toml::Table = text.parse().unwrap();
            prop_assert_eq!(document["station"].as_array().unwrap().len(), lineup.stations.len());
            prop_assert!(!lineup.stations.is_empty() && lineup.directory.port() != 0);
            prop_assert!((ReelSpec::MIN..=i64::MAX as u64).contains(&lineup.reel.bytes));
            prop_assert!(lineup.reel.dir.is_some());
            for station in &lineup.stations {
                prop_assert!((1..=999).contains(&station.id.0) && (1..=99).contains(&station.quality));
                prop_assert!(
                    (16..=2040).contains(&station.width)
                        && (!station.media.is_films() || !station.media.films().is_empty())
                );
                for mtu in [0, 576, 1500, 65_536, u32::MAX] {
                    prop_assert!((576..=65_507).contains(&station.datagram_limit(mtu)));
                }
                prop_assert!(station.spread.permille() <= 950);
                prop_assert!(station.group.ip().is_multicast() && station.group.port() != 0);
            }
            lineup.table();
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_text_panics_the_parser(text in any::<String>()) {
        check_invariants(&text)?;
    }

    #[test]
    fn no_damage_to_the_shipped_lineup_panics_the_parser(
        at in 0..SHIPPED.len(),
        length in 0_usize..40,
        put in "[\\[\\]\"'=#\\.{}0-9a-z\\n\u{e9}:~/-]{0,12}",
    ) {
        let keep = |mut at: usize| {
            while !SHIPPED.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (from, to) = (keep(at), keep((at + length).min(SHIPPED.len())));
        check_invariants(&format!("{}{put}{}", &SHIPPED[..from], &SHIPPED[to..]))?;
    }

    #[test]
    fn no_value_of_a_key_panics_the_parser(
        key in "id|name|media|group|interface|ttl|width|quality|datagram|reel|spread|other",
        value in "[0-9_xobe.+-]{1,24}|\"[^\"\\\\]{0,70}\"|\\[[0-9,\"a]{0,9}\\]|true|\"[0-9a-f:.\\[\\]%]{1,30}\"",
    ) {
        check_invariants(&messages::with(&key, Some(&value)))?;
        for key in ["dir", "bytes"] {
            check_invariants(&(messages::with("id", Some("1")) + &format!("\n[reel]\n{key} = {value}")))?;
        }
    }
}
