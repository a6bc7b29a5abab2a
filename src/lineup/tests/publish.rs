//! `publish` of a station, and `[publish]`.

use super::*;
use crate::lineup::publish_name;

/// A line-up with this `[rtsp]`, and these lines behind it.
fn read(rtsp: &str, rest: &str) -> Result<Lineup, String> {
    parse(&format!("{rtsp}\n{rest}")).map_err(|error| error.to_string())
}

fn station(id: u16, name: &str, keys: &str) -> String {
    format!("[[station]]\nid = {id}\nname = \"{name}\"\ngroup = \"239.1.1.{}:5004\"\n{keys}\n", id % 250)
}

const HERE: &str = "[rtsp]\nlisten = \"127.0.0.1:8554\"";
const EVERYWHERE: &str = "[rtsp]\nlisten = \"0.0.0.0:8554\"";
const SECTION: &str = "[publish]\nids = \"900-949\"\ntoken = \"kiwi-melon-fig\"\n";

#[test]
fn a_station_may_be_published_to() {
    let lineup =
        read(EVERYWHERE, &station(7, "Yard", "publish = { token = \"kiwi-melon-fig\", takeover = true }"))
            .unwrap();
    let rule = lineup.stations[0].media.published().unwrap();
    assert!(rule.takeover);
    let token = rule.token.as_ref().unwrap();
    assert!(token.admits("kiwi-melon-fig") && !token.admits("kiwi-melon-fi") && !token.admits(""));
    assert!(!format!("{lineup:?}").contains("kiwi"), "no message shows it");
    assert!(read(HERE, &station(7, "Yard", "publish = {}")).unwrap().stations[0].media.published().is_some());
}

#[test]
fn publishing_makes_stations_of_the_defaults() {
    let defaults = "[defaults]\nwidth = 320\nquality = 70\n";
    let lineup = read(EVERYWHERE, &format!("{defaults}{SECTION}group = \"239.80.0.0:6000\"")).unwrap();
    let publish = lineup.publish.unwrap();
    assert!(lineup.stations.is_empty(), "none is needed");
    assert_eq!((publish.most(), publish.has(StationId(900)), publish.has(StationId(950))), (50, true, false));
    let made = publish.station(StationId(901), "Anna");
    assert_eq!((made.id, made.name.as_str(), made.width, made.quality), (StationId(901), "Anna", 320, 70));
    assert_eq!(made.group.to_string(), "239.80.3.133:6000");
    assert!(made.media.published().is_some());
    assert!(
        made.media.has_sound(&made.sound, |_| false) && !made.media.has_sound(&SoundChoice::Off, |_| true)
    );
}

#[test]
fn the_table_tells_where_to_publish() {
    let lineup = read(HERE, &format!("{SECTION}{}", station(7, "Camera 7", "publish = {}"))).unwrap();
    let table = lineup.table();
    assert!(table.contains("  what is published to /publish/camera-7\n"), "{table}");
    assert!(
        table.contains("\nstations 900-949 are made by publishing to /publish/NAME\n1 station; "),
        "{table}"
    );
}

#[test]
fn faults_of_publishing_have_their_sentences() {
    let yard = |keys: &str| station(7, "Yard", keys);
    let section = |keys: &str| format!("[publish]\n{keys}\n{}", station(1, "Film", "media = \"a.mp4\""));
    let token = "publish = { token = \"kiwi-melon-fig\" }";
    for (rtsp, rest, sentence) in [
        (
            EVERYWHERE,
            yard("publish = {}"),
            "there is no token, and [rtsp] can be reached from other machines",
        ),
        (EVERYWHERE, section("ids = \"900-949\""), "[publish]: there is no token, and [rtsp] can be reached"),
        ("", yard(token), "publishers come by RTSP, which is not served; add a section [rtsp]"),
        (HERE, yard("publish = { token = \"short\" }"), "publish: token is no token; write 8 to 128 letters"),
        (HERE, yard("publish = { token = \"kiwi melon fig\" }"), "token is no token"),
        (HERE, yard("publish = { token = 12345678 }"), "token is no token"),
        (
            HERE,
            yard("publish = { tokn = \"kiwi-melon-fig\" }"),
            "unknown key `tokn`; publish has the keys token, access and takeover; did you mean `token`?",
        ),
        (
            EVERYWHERE,
            yard("publish = { access = [\"anna\"] }"),
            "station \"Yard\" has `access`, and there is no [access] with a `file` of tokens; add one",
        ),
        (
            EVERYWHERE,
            section("ids = \"900-949\"\naccess = [\"anna\"]"),
            "[publish] has `access`, and there is no [access] with a `file` of tokens; add one",
        ),
        (HERE, yard("publish = { access = [] }"), "publish: access = [] names nobody"),
        (HERE, yard("publish = true"), "publish = true is a boolean; write publish = { token = \"...\" }"),
        (HERE, yard("publish = {}\nmedia = \"a.mp4\""), "has both media and publish; keep one of them"),
        (
            HERE,
            yard(token) + &station(8, "YARD", token),
            "is /publish/yard in the URL, as that of station \"Yard\" on line",
        ),
        (
            HERE,
            section("token = \"kiwi-melon-fig\""),
            "`ids` is missing; write the first and the last number",
        ),
        (HERE, section("ids = \"949-900\""), "ids = \"949-900\" is not a range of 1 to 999"),
        (HERE, section("ids = \"0-9\""), "is not a range of 1 to 999"),
        (HERE, section("ids = 900"), "ids = 900 is a number; write the first and the last number"),
        (HERE, section("ids = \"1-9\""), "station 1 \"Film\" on line"),
        (
            HERE,
            section("ids = \"900-949\"\ngroup = \"239.1.0.0:5004\"").replace("239.1.1.1", "239.1.3.133"),
            "number 901 would be sent to the group address of station \"Film\"",
        ),
        (
            HERE,
            section("ids = \"900-949\"\ngroup = \"239.255.255.0:5004\""),
            "is not a multicast address that can be used",
        ),
        (
            HERE,
            section("ids = \"900-949\"\ngroup = \"10.0.0.1:5004\""),
            "is not a multicast address that can be used",
        ),
    ] {
        let fault = read(rtsp, &rest).expect_err(&rest);
        assert!(fault.contains(sentence), "{rest}\n{fault}");
        assert!(!fault.contains("kiwi"), "{fault}");
    }
}

#[test]
fn names_in_urls_have_letters_digits_and_hyphens() {
    for (name, url) in [
        ("Camera 3", "camera-3"),
        ("  --Foyer,  2nd floor!", "foyer-2nd-floor"),
        ("Café Größe", "café-größe"),
        ("...", ""),
    ] {
        assert_eq!(publish_name(name), url);
        assert_eq!(publish_name(url), url);
    }
}
