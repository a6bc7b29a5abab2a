//! Stations that share a group address, and the ports that each of them takes.

use super::*;

#[test]
fn stations_on_one_address_need_ports_for_their_sound() {
    let faults = |stations: &[(u16, &str, &str)]| {
        let text = stations.iter().enumerate().map(|(n, (port, media, more))| {
            format!(
                "[[station]]\nid = {}\nname = \"{n}\"\nmedia = \"{media}\"\ngroup = \"239.1.1.1:{port}\"\n{more}\n",
                n + 1
            )
        });
        parse(&text.collect::<String>()).err().map(|error| error.to_string())
    };
    let (heard, mute, off) = ("a.mp4", "mute.mp4", "sound = false");
    let inside = |port, first: u16, last| {
        Some(format!(
            "conf/stations.toml:11: station \"1\": group = \"239.1.1.1:{port}\" is one of the ports {first} to \
             {last} of station \"0\" on line 1 (pictures, sound, and the RTCP of each); give each station an \
             address of its own"
        ))
    };
    for (port, expected) in [
        (5005, inside(5005, 5004, 5007)),
        (5007, inside(5007, 5004, 5007)),
        (5008, None),
        (5000, None),
        (
            5001,
            Some(
                "conf/stations.toml:11: station \"1\": group = \"239.1.1.1:5001\" takes the ports 5001 to 5004 \
                 (pictures, sound, and the RTCP of each), and station \"0\" on line 1 is on 5004; give each \
                 station an address of its own"
                    .to_owned(),
            ),
        ),
    ] {
        assert_eq!(faults(&[(5004, heard, ""), (port, heard, "")]), expected, "{port}");
    }
    // Without sound a station takes two ports, whether its film has none or the line-up wants none.
    for quiet in [(mute, ""), (heard, off), (mute, off)] {
        assert_eq!(faults(&[(5004, quiet.0, quiet.1), (5006, heard, "")]), None, "{quiet:?}");
        assert_eq!(faults(&[(5004, quiet.0, quiet.1), (5005, heard, "")]), inside(5005, 5004, 5005));
    }
    assert_eq!(faults(&[(5004, mute, "sound = true"), (5006, mute, "")]), inside(5006, 5004, 5007));

    // Signatures take the fifth port, with sound or without.
    let signed = "sign = true";
    assert_eq!(faults(&[(5004, mute, signed), (5009, heard, "")]), None);
    assert_eq!(
        faults(&[(5004, mute, signed), (5008, heard, "")]).as_deref(),
        Some(
            "conf/stations.toml:11: station \"1\": group = \"239.1.1.1:5008\" is one of the ports 5004 to \
             5008 of station \"0\" on line 1 (pictures, sound, the RTCP of each, and signatures); give each \
             station an address of its own"
        )
    );

    assert_eq!(faults(&[(65_531, heard, signed)]), None);
    assert_eq!(
        faults(&[(65_532, mute, signed)]).as_deref(),
        Some(
            "conf/stations.toml:5: station \"0\": group = \"239.1.1.1:65532\" has no room for \
             signatures on the port + 4; choose a port up to 65531, or write sign = false"
        )
    );
    assert_eq!(faults(&[(65_532, heard, "")]), None);
    assert_eq!(faults(&[(65_533, mute, "")]), None);
    assert_eq!(
        faults(&[(65_533, heard, "")]).as_deref(),
        Some(
            "conf/stations.toml:5: station \"0\": group = \"239.1.1.1:65533\" has no room for sound and \
             its RTCP on the ports + 2 and + 3; choose a port up to 65532, or write sound = false"
        )
    );
}
