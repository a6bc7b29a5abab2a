//! Signed pictures: a viewer that requires them, and somebody else on the group, by the programs as they are shipped.

use crate::common::film::pal;
use crate::common::lan::{Lan, station};
use crate::common::watch::watch_with;

const GROUP: &str = "239.77.0.1:5004";

pub(crate) fn a_viewer_that_requires_signatures_shows_the_signed_station_alone() {
    let lan = Lan::new(&["tower", "desk"]);
    let (tower, desk) = (lan.host("tower"), lan.host("desk"));
    let at = |port: u16| format!("{}:{port}", tower.address());
    let (directory, other_directory) = (at(9688), at(9689));
    let head = |listen: &str| {
        format!("[directory]\nlisten = \"{listen}\"\ntls = \"both\"\n[defaults]\ninterface = \"eth0\"\n")
    };
    let broadcaster = tower.on_air(
        &(head(&directory)
            + &station(1, &[&pal(1).path], GROUP, "sign = true\n")
            + &station(2, &[&pal(2).path], "239.77.0.2:5004", "")
            + &station(3, &[&pal(3).path], "239.77.0.3:5004", "sign = true\nencrypt = true\n")),
    );
    let viewer = |args: &[&str]| {
        let always = ["--directory", &directory[..], "--require-signed", "--headless", "--json"];
        desk.viewer(&[&always, args].concat()).finish()
    };

    // The keys come by TLS alone, and what has no cards is not received.
    for (args, code, said) in [
        (
            &["--frames", "5"][..],
            1,
            "is reached by a plain connection, and its keys may be anybody's: try --tls",
        ),
        (&["--tcp"], 2, "--require-signed needs multicast"),
    ] {
        let refused = viewer(args);
        assert!(refused.code == Some(code) && refused.stderr.contains(said), "{args:?}: {refused:?}");
    }
    for other in [&["--rtp", GROUP][..], &["--sdp", "none.sdp"]] {
        let refused = desk.viewer(&[other, &["--require-signed", "--headless"]].concat()).finish();
        let said = "--require-signed needs a directory, which tells the keys of its stations";
        assert!(refused.code == Some(2) && refused.stderr.contains(said), "{other:?}: {refused:?}");
    }

    // The unsigned station is not shown, and it is said why.
    let unsigned = viewer(&["--tls", "--station", "2", "--seconds", "2"]);
    let said =
        "no picture of station 2 \"Station 2\" on 239.77.0.2:5004 arrived: its pictures are not signed";
    assert!(unsigned.code == Some(1) && unsigned.stderr.contains(said), "{unsigned:?}");

    // One that is encrypted, too, is.
    let both = viewer(&["--tls", "--station", "3", "--frames", "30"]);
    assert!(both.code == Some(0) && both.stdout.contains("\"frames_lost\":0"), "{both:?}");

    // The signed one is, also while somebody at the same address sends other pictures to its group.
    let mut seen = watch_with(&lan, desk, &directory, 1, 1_000_000, &["--tls", "--require-signed"]);
    seen.await_pictures(50);
    let impostor = tower.on_air(&(head(&other_directory) + &station(1, &[&pal(3).path], GROUP, "")));
    seen.await_more(100);
    impostor.signal("TERM");
    assert_eq!(impostor.finish().code, Some(0));
    seen.await_more(10);
    seen.viewer.signal("INT");
    let seen = seen.done();
    seen.check_whole(&pal(1));
    let figure = |name: &str| seen.summary[name].as_u64().unwrap();
    assert!(figure("signed") >= figure("frames") && figure("unsigned_refused") > 100, "{}", seen.summary);
    assert_eq!(figure("frames_lost"), 0, "{}", seen.summary);

    broadcaster.signal("TERM");
    assert_eq!(broadcaster.finish().code, Some(0));
}
