use std::path::Path;

use std::sync::LazyLock;

use super::*;
use crate::access::{Credentials, Gatekeeper, Keys, Secret, Terms};
use crate::lineup::{Lineup, World};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// A head-end with a film as station 1, station 7, which is published to, and numbers 900 to 901.
fn head_end(keys: &str) -> Arc<HeadEnd> {
    head_end_of("900-901", keys)
}

/// The same with other numbers.
fn head_end_of(ids: &str, keys: &str) -> Arc<HeadEnd> {
    let world = World::for_tests();
    let text = format!(
        "[rtsp]\n[access]\nfile = \"access.toml\"\n[publish]\nids = \"{ids}\"\ntoken = \"right-token\"\n\
         [[station]]\nid = 1\nname = \"Film\"\nmedia = \"a.mp4\"\ngroup = \"239.1.1.1:5004\"\n\
         [[station]]\nid = 7\nname = \"Camera 7\"\ngroup = \"239.1.1.7:5004\"\npublish = {{ {keys} }}\n"
    );
    let lineup = Lineup::parse(&text, Path::new("stations.toml"), &world).unwrap();
    let (mut head_end, _stop) = HeadEnd::for_tests(lineup.stations, None);
    Arc::get_mut(&mut head_end).unwrap().publishers = Publishers::new(lineup.publish);
    head_end
}

/// Of a client that has shown nothing.
static NOBODY: LazyLock<Grant> = LazyLock::new(Grant::default);

fn ask<'a>(name: &'a str, token: Option<&'a str>, peer: IpAddr) -> PublishRequest<'a> {
    PublishRequest { name, token, grant: &NOBODY, peer, tls: false, now: Instant::now() }
}

fn with<'a>(name: &'a str) -> PublishRequest<'a> {
    ask(name, Some("right-token"), HERE)
}

fn current(peer: IpAddr) -> Current {
    Current { number: 0, peer, is_waiting: false, replaced: watch::channel(false).0 }
}

fn refusal(head_end: &Arc<HeadEnd>, request: &PublishRequest<'_>) -> String {
    head_end.publisher(request).err().expect("a refusal").to_string()
}

#[tokio::test(start_paused = true)]
async fn a_name_has_one_publisher_unless_it_may_be_taken_over() {
    let head_end = head_end("token = \"right-token\"");
    let first = head_end.publisher(&with("camera-7")).unwrap();
    for same in ["camera-7", "Camera 7", "7", "CAMERA_7"] {
        let why = refusal(&head_end, &with(same));
        assert!(why.starts_with("192.0.2.7 publishes to /publish/"), "{same}: {why}");
    }
    drop(first);
    assert!(head_end.publisher(&with("7")).is_ok());

    let head_end = self::head_end("token = \"right-token\", takeover = true");
    let mut first = head_end.publisher(&with("7")).unwrap();
    first.go_on_air().expect("it is on air");
    let mut second = head_end.publisher(&with("7")).unwrap();
    tokio::time::timeout(Duration::from_secs(1), first.replaced()).await.expect("it is told");
    assert!(first.go_on_air().is_none(), "it does not come back");
    drop(first);
    assert!(second.go_on_air().is_some());
}

#[tokio::test(start_paused = true)]
async fn names_that_nothing_is_published_to_are_refused_with_a_sentence() {
    let head_end = head_end("");
    for (name, why) in [
        ("Film", "station 1 has this name, and is not published to"),
        ("901", "the name of the station has no letters"),
        (&"x".repeat(64), "the name of the station has 64 characters"),
    ] {
        assert!(refusal(&head_end, &with(name)).contains(why), "{name}");
    }
    // Without a token of its own, station 7 is open to all.
    assert!(head_end.publisher(&ask("7", None, HERE)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_are_attempts_of_an_address_as_at_all_other_secrets() {
    let head_end = head_end("");
    let wrong = |peer| head_end.publisher(&ask("anna", Some("wrong-token"), peer)).err().unwrap();
    for _ in 0..20 {
        // Each client asks without one first, and right ones cost nothing.
        assert_eq!(head_end.publisher(&ask("anna", None, HERE)).err(), Some(PublishRefusal::Token));
        assert!(head_end.publisher(&with("anna")).is_ok());
    }
    for _ in 0..10 {
        assert_eq!(wrong(HERE), PublishRefusal::Token);
    }
    let many = "too many wrong tokens or passwords came from this address: try again in 7 s";
    assert_eq!(wrong(HERE).to_string(), many);
    assert_eq!(refusal(&head_end, &with("anna")), many, "the right one neither");
    let visitor = Visitor { address: HERE, tls: true, service: "http" };
    let credentials = Credentials { name: "anna".into(), secret: Secret::new("sct_00".into()) };
    let elsewhere = head_end.gatekeeper.admit(visitor, credentials).await.err().unwrap();
    assert_eq!(elsewhere.to_string(), many, "there is one count of all");
    assert!(head_end.publisher(&ask("anna", Some("right-token"), [192, 0, 2, 8].into())).is_ok());
    tokio::time::advance(Duration::from_secs(7)).await;
    assert!(head_end.publisher(&with("anna")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn names_of_the_access_file_may_publish_where_they_are_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.toml");
    let mut keys = Keys::default();
    let now = std::time::SystemTime::now();
    let [anna, bert] = ["anna", "bert"].map(|name| keys.add_token(name, now, Terms::default()).unwrap().1);
    keys.write(&file).unwrap();
    let lineup = |keys: &str| {
        let mut head_end = head_end(keys);
        Arc::get_mut(&mut head_end).unwrap().gatekeeper = Arc::new(Gatekeeper::open(&file).unwrap());
        head_end
    };
    let head_end = lineup("access = [\"anna\"], token = \"right-token\"");
    let visitor = Visitor { address: HERE, tls: true, service: "rtsp" };
    let [anna, bert] = [anna, bert].map(|secret| Credentials { name: String::new(), secret });
    let (anna, bert) = (
        head_end.gatekeeper.admit(visitor, anna).await.unwrap(),
        head_end.gatekeeper.admit(visitor, bert).await.unwrap(),
    );
    let asks = |grant, token, tls| PublishRequest { grant, tls, ..ask("7", token, HERE) };
    assert!(head_end.publisher(&asks(&anna, None, true)).is_ok());
    assert!(head_end.publisher(&asks(&NOBODY, Some("right-token"), false)).is_ok(), "the token does, too");
    let or_token = PublishRefusal::Name { or_token: true };
    for _ in 0..20 {
        // By TLS it may be the secret of a name, and is counted when that is looked for.
        assert_eq!(head_end.publisher(&asks(&bert, Some("sct_bert"), true)).err(), Some(or_token.clone()));
    }
    for _ in 0..10 {
        assert_eq!(
            head_end.publisher(&asks(&NOBODY, Some("wrong-token"), false)).err(),
            Some(or_token.clone())
        );
    }
    let many = head_end.publisher(&asks(&NOBODY, Some("wrong-token"), false)).err();
    assert!(matches!(many, Some(PublishRefusal::Forbidden(_))), "{many:?}");

    let head_end = lineup("access = [\"anna\"]");
    let name = head_end.publisher(&asks(&NOBODY, Some("right-token"), true)).err();
    assert_eq!(name, Some(PublishRefusal::Name { or_token: false }), "it is not open to all");
}

#[tokio::test(start_paused = true)]
async fn a_station_is_made_with_the_first_picture_and_keeps_its_number() {
    let head_end = head_end("");
    let mut anna = head_end.publisher(&with("Anna")).unwrap();
    assert!(head_end.station(StationId(900)).is_none(), "nothing has come yet");
    anna.go_on_air().unwrap();
    let station = head_end.station(StationId(900)).unwrap();
    assert_eq!(
        (station.spec().name.as_str(), station.spec().group.to_string()),
        ("Anna", "239.77.3.132:5004".into())
    );
    let mut bert = head_end.publisher(&with("Bert")).unwrap();
    bert.go_on_air().unwrap();
    assert!(refusal(&head_end, &with("Carla")).contains("all 2 numbers of [publish] are in use"));
    // One that comes back soon finds the same station.
    drop(anna);
    tokio::time::sleep(LINGER / 2).await;
    let mut anna = head_end.publisher(&with("anna")).unwrap();
    anna.go_on_air().unwrap();
    tokio::time::sleep(LINGER).await;
    assert!(Arc::ptr_eq(&station, &head_end.station(StationId(900)).unwrap()));
    // Later it has the same number.
    drop((anna, bert));
    tokio::time::sleep(LINGER * 2).await;
    assert!(head_end.station(StationId(900)).is_none() && head_end.station(StationId(901)).is_none());
    let mut bert = head_end.publisher(&with("Bert")).unwrap();
    bert.go_on_air().unwrap();
    assert!(head_end.station(StationId(901)).is_some());
    // A new name has the number of the one that has left.
    let mut carla = head_end.publisher(&with("Carla")).unwrap();
    carla.go_on_air().unwrap();
    assert_eq!(head_end.station(StationId(900)).unwrap().spec().name, "Carla");
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_all_publishers_are_bounded() {
    let head_end = head_end("");
    let publishers = ["7", "Anna"].map(|name| head_end.publisher(&with(name)).unwrap());
    for publisher in &publishers {
        assert_eq!(publisher.count(MOST_BYTES / 2, Instant::now()), Ok(()));
    }
    let why = publishers[0].count(1, Instant::now()).unwrap_err();
    assert_eq!(why, "all publishers together send more than 125 MB a second");
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert_eq!(publishers[0].count(1, Instant::now()), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn publishers_are_bounded_in_all_and_by_address() {
    let head_end = head_end("");
    let mut state = head_end.publishers.lock();
    for n in 0..MOST_PER_ADDRESS as u16 {
        let current = current(HERE);
        state.current.insert(StationId(n), current);
    }
    let full = state.check_room(HERE).unwrap_err().to_string();
    assert_eq!(full, "64 publishers come from 192.0.2.7 already; stop one first");
    assert_eq!(state.check_room([192, 0, 2, 8].into()), Ok(()));
    for n in 0..MOST_PUBLISHERS as u16 {
        let peer = std::net::Ipv4Addr::from_bits(n.into()).into();
        state.current.insert(StationId(n), current(peer));
    }
    assert!(matches!(state.check_room(HERE), Err(PublishRefusal::Full(_))));
}

#[tokio::test(start_paused = true)]
async fn whoever_announces_many_names_takes_neither_all_numbers_nor_those_that_are_kept() {
    let head_end = head_end_of("900-949", "");
    let mut anna = head_end.publisher(&with("Anna")).unwrap();
    anna.go_on_air().unwrap();
    drop(anna);
    let there: IpAddr = [192, 0, 2, 8].into();
    let mut waiting = Vec::new();
    for n in 0..10_000 {
        match head_end.publisher(&ask(&format!("x{n}"), Some("right-token"), there)) {
            Ok(publisher) => waiting.push(publisher),
            Err(refusal) => assert_eq!(
                refusal.to_string(),
                "37 publishers of 192.0.2.8 have announced a station and sent no picture yet; wait for them, 10 s at most"
            ),
        }
        // Some of them go, and others come.
        if n % 3 == 0 && waiting.len() == 37 {
            waiting.remove(0);
        }
    }
    assert!(waiting.len() >= 36);
    let state = || head_end.publishers.lock();
    assert!(state().current.len() <= 37 && state().numbers.count() <= 38, "{}", state().numbers.count());
    assert_eq!(head_end.stations().len(), 3, "two of the line-up, and Anna's");
    // Other publishers come on air, and a name that comes back has the number that it had.
    let mut berta = head_end.publisher(&with("Berta")).unwrap();
    assert!(berta.go_on_air().is_some());
    let mut anna = head_end.publisher(&with("Anna")).unwrap();
    assert!(anna.go_on_air().is_some() && anna.station() == StationId(900));
    // A publisher that has sent a picture no longer counts as waiting, and one that leaves keeps nothing.
    for publisher in &mut waiting {
        publisher.go_on_air().unwrap();
    }
    assert!(head_end.publisher(&ask("one-more", Some("right-token"), there)).is_ok());
    drop(waiting);
    assert_eq!(state().current.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_logged_once_a_second_with_their_number() {
    let head_end = head_end("");
    let note = || head_end.publishers.note_refusal(Instant::now());
    assert_eq!((note(), note(), note()), (Some(1), None, None));
}
