//! Line-ups from the command line, for `broadcaster play`.

use super::*;
use crate::interface::Choice;

fn play(edit: impl FnOnce(&mut PlayOptions)) -> Result<Lineup, ConfigError> {
    let mut options =
        PlayOptions { films: vec!["films/foyer.mp4".into()], any: 0x0102, ..PlayOptions::default() };
    edit(&mut options);
    Lineup::of_films(&options, &world())
}

#[test]
fn a_film_is_a_station_on_loopback_that_begins_with_its_beginning() {
    let lineup = play(|_| ()).unwrap();
    let [station] = &lineup.stations[..] else { panic!("{lineup:?}") };
    assert_eq!((station.id, station.name.as_str()), (StationId(1), "foyer"));
    assert_eq!(station.group, "239.255.2.3:5004".parse().unwrap());
    assert_eq!(station.interface, Choice { name: "lo".into(), address: Some([127, 0, 0, 1].into()) });
    assert!(!station.reel, "with a reel the time of day would choose where the film begins");
    assert_eq!(station.media.films(), [PathBuf::from("films/foyer.mp4")]);
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(lineup.directory, at("127.0.0.1:9688"));
    assert_eq!((lineup.rtsp, lineup.http), (Some(at("127.0.0.1:8554")), Some(at("127.0.0.1:8088"))));
    assert_eq!(lineup.notes(), Vec::<String>::new());
}

#[test]
fn name_group_and_interface_are_chosen() {
    let lineup = play(|options| {
        options.films = vec!["a.mp4".into(), "/srv/films".into()];
        options.name = Some("Foyer".into());
        options.group = Some("239.77.0.4:6000".into());
        options.interface = Some("192.0.2.8".into());
    })
    .unwrap();
    let station = &lineup.stations[0];
    assert_eq!((station.name.as_str(), station.media.films().len()), ("Foyer", 2));
    assert_eq!(station.group, "239.77.0.4:6000".parse().unwrap());
    assert_eq!(lineup.directory, "192.0.2.8:9688".parse().unwrap(), "others reach it there, and only there");
    assert_eq!(lineup.http.map(|http| http.ip()), Some([192, 0, 2, 8].into()));
    let six = play(|options| {
        options.group = Some("[ff15::7]:5004".into());
        options.interface = Some("eth2".into());
    });
    assert_eq!(six.unwrap().directory, "[2001:db8::9]:9688".parse().unwrap());
}

#[test]
fn every_random_number_is_a_group_that_the_rules_allow() {
    for any in 0..=u16::MAX {
        let lineup = play(|options| options.any = any).unwrap();
        let IpAddr::V4(group) = lineup.stations[0].group.ip() else { panic!() };
        let [239, 255, c, d] = group.octets() else { panic!("{group}") };
        assert!((1..=254).contains(&c) && (1..=254).contains(&d), "{group}");
    }
}

#[test]
fn a_folder_and_an_odd_file_name_are_names_too() {
    let name =
        |film: &str| play(|options| options.films = vec![film.into()]).unwrap().stations[0].name.clone();
    assert_eq!(name("/srv/films"), "films");
    assert_eq!(name("a\nb.mp4"), "a b");
    assert_eq!(name(&format!("{}.mp4", "ä".repeat(80))), "ä".repeat(63));
}

/// Every message, word by word.
#[test]
fn every_fault_of_the_command_line_is_one_sentence() {
    let sentences = |edit: &dyn Fn(&mut PlayOptions)| play(edit).unwrap_err().sentences().to_vec();
    let films = |films: &[&str]| {
        let films: Vec<PathBuf> = films.iter().map(PathBuf::from).collect();
        sentences(&|options| options.films = films.clone())
    };
    assert_eq!(
        films(&["none.mp4", "a.mp4", "conf/locked.mp4"]),
        ["none.mp4 does not exist", "conf/locked.mp4 cannot be read: Permission denied (os error 13)"]
    );
    assert!(films(&["conf/empty"])[0].starts_with("conf/empty is a folder without films; put in one"));
    for (group, sentence) in [
        ("239.1.1.1", "--group 239.1.1.1 has no port; write 239.1.1.1:5004"),
        ("ff15::7", "--group ff15::7 has no port; write [ff15::7]:5004"),
        ("me", "--group me is not an address and a port; write one as in 239.255.1.1:5004"),
        (
            "239.1.1.1:0",
            "--group 239.1.1.1:0 has no room for pictures, sound and their RTCP; choose a port from 1 to 65532",
        ),
        ("10.0.0.1:5004", "--group 10.0.0.1:5004 is not a multicast address; choose one in 239.0.0.0/8"),
    ] {
        assert_eq!(sentences(&|options| options.group = Some(group.into())), [sentence]);
    }
    for (interface, start) in [
        ("eth9", "--interface eth9 does not exist on this machine; choose one of lo (127.0.0.1, ::1), "),
        ("eth3", "interface eth3 is down; bring it up, or choose another"),
        (
            "eth2",
            "interface eth2 has no IPv4 address for the group 239.255.2.3:5004; choose another group or interface",
        ),
    ] {
        let sentences = sentences(&|options| options.interface = Some(interface.into()));
        assert!(sentences.len() == 1 && sentences[0].starts_with(start), "{sentences:?}");
    }
    assert_eq!(
        sentences(&|options| options.name = Some(" ".into())),
        ["--name \" \" is empty; choose 1 to 63 characters, as in \"Ocean\""]
    );
}
