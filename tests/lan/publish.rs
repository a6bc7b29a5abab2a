//! Our own publisher, `broadcaster publish`, and ours as the server.

use std::fs;

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Lan, head};
use crate::common::watch::watch;

const DIRECTORY: &str = "10.77.0.1:9688";
const BROADCASTER: &str = env!("CARGO_BIN_EXE_broadcaster");

/// It begins before there is a server, comes on air, survives a restart of the broadcaster, and leaves at a signal. What it cannot
/// mend ends it with a sentence.
pub(crate) fn our_publisher_connects_again() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let (film, sender, one) = (pal(3), lan.host("sender"), lan.host("one"));
    let lineup = head("0.0.0.0:9688", "eth0")
        + "[rtsp]\nlisten = \"0.0.0.0:8554\"\n[publish]\nids = \"900-949\"\ntoken = \"kiwi-melon-fig\"\n";
    let url = |login: &str| format!("rtsp://{login}10.77.0.1:8554/publish/Anna");
    let right = url("anna:kiwi-melon-fig@");
    let mut publisher = one.run(BROADCASTER, &["publish", &right, text(&film.path)]);
    publisher.await_output(
        "not published: nothing answers at 10.77.0.1:8554: Connection refused; trying again in 1 s",
    );
    let mut broadcaster = sender.broadcaster(&lineup);
    publisher.await_output("published to rtsp://10.77.0.1:8554/publish/Anna");
    broadcaster.await_log("Anna (10.77.0.2) is on air as 900", 1);
    let seen = watch(&lan, "two", DIRECTORY, 900, 30).done();
    seen.check_size((640, 368));
    assert!(seen.pictures.iter().filter(|picture| picture.strip().is_some()).count() > 20);
    publisher.await_output("on air for 1 s: ");
    for (arguments, code, said) in [
        (["publish", &url(""), text(&film.path)], 1, "the server wants another token"),
        (["publish", &url("a:wrong-token@"), text(&film.path)], 1, "the server wants another token"),
        (["publish", "http://10.77.0.1/x", text(&film.path)], 2, "this is no URL of RTSP"),
        (["publish", &right, "nowhere.mp4"], 2, "cannot read nowhere.mp4"),
    ] {
        let ended = one.run(BROADCASTER, &arguments).finish();
        assert!(ended.code == Some(code) && ended.stderr.contains(said), "{arguments:?}: {ended:?}");
    }
    broadcaster.signal("TERM");
    broadcaster.finish();
    publisher.await_output("not published: the connection broke");
    let mut broadcaster = sender.broadcaster(&lineup);
    broadcaster.await_log("Anna (10.77.0.2) is on air as 900", 1);
    publisher.signal("INT");
    assert_eq!(publisher.finish().code, Some(0));
    broadcaster.await_log("Anna has left", 1);
}

/// A name has the number that it had before the broadcaster was restarted, though another would be free. A file that is damaged is told
/// in one sentence, and names begin anew.
pub(crate) fn a_name_has_its_number_over_a_restart() {
    let lan = Lan::new(&["sender", "one"]);
    let (film, sender, one) = (pal(3), lan.host("sender"), lan.host("one"));
    let lineup = head("0.0.0.0:9688", "eth0")
        + "[rtsp]\nlisten = \"0.0.0.0:8554\"\n[publish]\nids = \"900-949\"\ntoken = \"kiwi-melon-fig\"\n";
    let publisher = |name: &str| {
        let url = format!("rtsp://anna:kiwi-melon-fig@10.77.0.1:8554/publish/{name}");
        one.run(BROADCASTER, &["publish", &url, text(&film.path)])
    };
    let mut broadcaster = sender.broadcaster(&lineup);
    broadcaster.await_log("rtsp on", 1);
    let anna = publisher("Anna");
    broadcaster.await_log("Anna (10.77.0.2) is on air as 900", 1);
    let berta = publisher("Berta");
    broadcaster.await_log("Berta (10.77.0.2) is on air as 901", 1);
    drop((anna, berta));
    broadcaster.await_log("Berta has left", 1);
    broadcaster.signal("TERM");
    broadcaster.finish();

    let file = lan.folder().join("stationcast/published-900-949-239.77.0.0-5004.json");
    for (damage, said, number) in [(false, "rtsp on", 901), (true, "cannot be read: it is damaged: ", 900)] {
        if damage {
            let whole = fs::read(&file).unwrap();
            fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        }
        let mut broadcaster = sender.broadcaster(&lineup);
        broadcaster.await_log(said, 1);
        assert_eq!(broadcaster.stderr().contains("are forgotten"), damage, "{}", broadcaster.stderr());
        let _berta = publisher("Berta");
        broadcaster.await_log(&format!("Berta (10.77.0.2) is on air as {number}"), 1);
        // Killed, it has written the number already: with the first picture.
        let is_written =
            || fs::read_to_string(&file).ok().filter(|text| text.contains("\"berta\"")).map(drop);
        crate::common::until("the file of numbers", is_written);
    }
}
