//! Every message about a line-up, word by word: messages are the first interface that an operator meets.

use super::*;

/// A station "Ocean" without faults, its first key on line 2, then `extra` from line 6 on.
fn ocean(extra: &str) -> String {
    "[[station]]\nid = 1\nname = \"Ocean\"\nmedia = \"a.mp4\"\ngroup = \"239.77.0.1:5004\"\n".to_owned()
        + extra
}

/// The station "Ocean" with `value` for `key`, on line 2; `None` leaves the key out.
pub(super) fn with(key: &str, value: Option<&str>) -> String {
    let mut lines = vec!["[[station]]".to_owned()];
    lines.extend(value.map(|value| format!("{key} = {value}")));
    for (other, right) in
        [("id", "1"), ("name", "\"Ocean\""), ("media", "\"a.mp4\""), ("group", "\"239.77.0.1:5004\"")]
    {
        if other != key {
            lines.push(format!("{other} = {right}"));
        }
    }
    lines.join("\n")
}

const ALL: &str = "lo (127.0.0.1, ::1), eth0 (192.0.2.7, 192.0.2.8, 2001:db8::7), eth1 (10.0.0.1), eth2 (2001:db8::9), \
    eth3 (down, no address), tun0 (10.9.9.9), tun1 (10.9.9.9)";

/// (the text of the file, its messages). Each message follows `conf/stations.toml`; ALL stands for all interfaces.
#[rustfmt::skip] // one message a line, as it is printed
fn cases() -> Vec<(String, &'static [&'static str])> {
    let is = |key: &str, value: &str| with(key, Some(value));
    let reel = |key: &str| ocean(&format!("[reel]\n{key}"));
    vec![
        // The text.
        (String::new(),
            &[r#": no station; add a [[station]] with id, name, media and group"#]),
        ("id = ".into(),
            &[r#":1: there is no value after the =; write one, text in quotes"#]),
        ("[[station]]\nname = Ocean".into(),
            &[r#":2: `Ocean` is not a valid value; put text in quotes, as in "Ocean""#]),
        ("[[station]]\ngroup = 239.77.0.1:5004".into(),
            &[r#":2: this is not a number; put text in quotes, as in "239.77.0.1:5004""#]),
        ("[[station]]\nname = \"Ocean\nid = 1".into(),
            &[r#":2: this text has no closing quote; end it where it began, on this line"#]),
        ("[[station]]\nname = \"Oce\x1ban\"\nmedia = 'a\x07.mp4'".into(), &[
            r#":2: this text has a control character; remove it"#,
            r#":3: this text has a control character; remove it"#,
        ]),
        ("[[station]]\nid = 1\nid = 2".into(),
            &[r#":3: `id` is there twice; keep one of them"#]),
        ("[[station\nid 1\n".into(), &[
            r#":1: not TOML: unclosed array table, expected `]]`"#,
            r#":2: not TOML: key with no value, expected `=`"#,
        ]),
        ("[[station]]\nmedia = [\"a.mp4\",\n".into(),
            &[r#":2: not TOML: unclosed array, expected `]`"#]),
        ("[[station]]\nid = 01\nttl = 1 width = 2\n".into(), &[
            r#":2: a number does not begin with 0; remove the 0"#,
            r#":3: `1 width` is not a valid value; put text in quotes, as in "1 width""#,
        ]),
        ("[[station]]\nreel = Yes\nname = off".into(), &[
            r#":2: `Yes` is not a valid value; write true or false, or put text in quotes, as in "Yes""#,
            r#":3: `off` is not a valid value; write true or false, or put text in quotes, as in "off""#,
        ]),
        ("[[station]]\nspread = .5\nttl = 1.".into(), &[
            r#":2: a number has digits on both sides of its decimal point; write it as in 0.5"#,
            r#":3: a number has digits on both sides of its decimal point; write it as in 0.5"#,
        ]),
        ("[[station]]\nspread = 0,5\nttl = 1, 2".into(), &[
            r#":2: a number has a decimal point, not a comma; write it as in 0.5"#,
            r#":3: not TOML: unexpected key or value, expected newline, `#`"#,
        ]),
        // Sections and keys.
        (ocean("[reels]\nbytes = 2_000_000"),
            &[r#":6: unknown section [reels]; this version has the sections [directory], [defaults], [reel], [rtsp], [http], [announce], [publish], [tls], [access], [reload] and [[station]]; did you mean [reel]?"#]),
        (ocean("[[stations]]\nid = 2"),
            &[r#":6: unknown section [stations]; this version has the sections [directory], [defaults], [reel], [rtsp], [http], [announce], [publish], [tls], [access], [reload] and [[station]]; did you mean [[station]]?"#]),
        ("ttl = 3\n".to_owned() + &ocean(""),
            &[r#":1: `ttl` stands before any section; put it under [defaults] or a [[station]]"#]),
        ("ports = 3\n".to_owned() + &ocean(""),
            &[r#":1: `ports` stands before any section; put it under one of [directory], [defaults], [reel], [rtsp], [http], [announce], [publish], [tls], [access], [reload] and [[station]]"#]),
        (ocean("[directory]\nlisten = \"127.0.0.1:1\"\nport = 9688"),
            &[r#":8: [directory]: unknown key `port`; [directory] has the keys listen and tls"#]),
        (ocean("[directory]\nlistne = \"127.0.0.1:1\""),
            &[r#":7: [directory]: unknown key `listne`; [directory] has the keys listen and tls; did you mean `listen`?"#]),
        (ocean("[defaults]\nid = 3\nqualty = 3"), &[
            r#":7: [defaults]: unknown key `id`; [defaults] has the keys interface, ttl, width, quality, datagram, reel, spread, slide, buffer, sound, sound_bitrate, sound_codec, loudness, encrypt and sign"#,
            r#":8: [defaults]: unknown key `qualty`; [defaults] has the keys interface, ttl, width, quality, datagram, reel, spread, slide, buffer, sound, sound_bitrate, sound_codec, loudness, encrypt and sign; did you mean `quality`?"#,
        ]),
        (ocean("interfase = \"eth0\""),
            &[r#":6: station "Ocean": unknown key `interfase`; a station has the keys id, name, media, publish, fallback, at, group, access, interface, ttl, width, quality, datagram, reel, spread, slide, buffer, sound, sound_bitrate, sound_codec, loudness, encrypt, sign, password_file, password_env, size, rate, camera_format and microphone; did you mean `interface`?"#]),
        (ocean("\"a\\nb\" = 1"),
            &[r#":6: station "Ocean": unknown key `a\nb`; a station has the keys id, name, media, publish, fallback, at, group, access, interface, ttl, width, quality, datagram, reel, spread, slide, buffer, sound, sound_bitrate, sound_codec, loudness, encrypt, sign, password_file, password_env, size, rate, camera_format and microphone"#]),
        ("defaults = 5\n".to_owned() + &ocean(""),
            &[r#":1: defaults is a number; write its keys under one line [defaults]"#]),
        ("directory = \"127.0.0.1:9688\"\n".to_owned() + &ocean(""),
            &[r#":1: directory is text; write its keys under one line [directory]"#]),
        (ocean("[[defaults]]\nttl = 1"),
            &[r#":6: defaults is a list; write its keys under one line [defaults]"#]),
        ("reel = false\n".to_owned() + &ocean(""),
            &[r#":1: `reel` stands before any section; put it under [defaults] or a [[station]]"#]),
        ("reel = \"~/reels\"\n".to_owned() + &ocean(""),
            &[r#":1: reel is text; write its keys under one line [reel]"#]),
        (ocean("[[reel]]\ndir = \"reels\""),
            &[r#":6: reel is a list; write its keys under one line [reel]"#]),
        (reel("reel = false\nbyte = 1"), &[
            r#":7: [reel]: unknown key `reel`; [reel] has the keys dir and bytes"#,
            r#":8: [reel]: unknown key `byte`; [reel] has the keys dir and bytes; did you mean `bytes`?"#,
        ]),
        // Stations.
        ("[defaults]\nttl = 1".into(),
            &[r#": no station; add a [[station]] with id, name, media and group"#]),
        ("station = []".into(),
            &[r#":1: no station; add a [[station]] with id, name, media and group"#]),
        ("station = 5".into(),
            &[r#":1: station is a number; write [[station]], once for each station"#]),
        ("[station]\nid = 1".into(),
            &[r#":1: [station] is a single table; write [[station]], once for each station"#]),
        ("station = [5]".into(),
            &[r#":1: station #1: 5 is not a table; write [[station]] and its keys below"#]),
        ("[[station]]".into(), &[
            r#":1: station #1: `id` is missing; choose a whole number from 1 to 999 (the number that viewers type)"#,
            r#":1: station #1: `name` is missing; choose 1 to 63 characters, as in "Ocean""#,
            r#":1: station #1: `group` is missing; choose a multicast address and a port, as in "239.77.0.1:5004""#,
            r#":1: station #1: `media` is missing; name a film, a folder of films or a list of them, as in "media/ocean.mp4""#,
        ]),
        (with("id", None),
            &[r#":1: station "Ocean": `id` is missing; choose a whole number from 1 to 999 (the number that viewers type)"#]),
        (with("name", None),
            &[r#":1: station #1: `name` is missing; choose 1 to 63 characters, as in "Ocean""#]),
        (with("media", None),
            &[r#":1: station "Ocean": `media` is missing; name a film, a folder of films or a list of them, as in "media/ocean.mp4""#]),
        (with("group", None),
            &[r#":1: station "Ocean": `group` is missing; choose a multicast address and a port, as in "239.77.0.1:5004""#]),
        (is("id", "0"),
            &[r#":2: station "Ocean": id = 0 is out of range; choose a whole number from 1 to 999 (the number that viewers type)"#]),
        (is("id", "1000"),
            &[r#":2: station "Ocean": id = 1000 is out of range; choose a whole number from 1 to 999 (the number that viewers type)"#]),
        (is("id", "-1"),
            &[r#":2: station "Ocean": id = -1 is out of range; choose a whole number from 1 to 999 (the number that viewers type)"#]),
        (is("id", "99999999999999999999999"),
            &[r#":2: station "Ocean": id = 99999999999999999999999 is out of range; choose a whole number from 1 to 999 (the number that viewers type)"#]),
        (is("id", "\"1\""),
            &[r#":2: station "Ocean": id = "1" is text; choose a whole number from 1 to 999 (the number that viewers type)"#]),
        (is("name", "\"\""),
            &[r#":2: station #1: name = "" is empty; choose 1 to 63 characters, as in "Ocean""#]),
        (is("name", "\"  \""),
            &[r#":2: station #1: name = "  " is empty; choose 1 to 63 characters, as in "Ocean""#]),
        (is("name", &format!("\"{}\"", "a".repeat(64))),
            &[r#":2: station #1: name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… has 64 characters; choose 1 to 63 characters, as in "Ocean""#]),
        (is("name", "\"a\\tb\""),
            &[r#":2: station #1: name = "a\tb" has a control character; remove it"#]),
        (is("name", "7"),
            &[r#":2: station #1: name = 7 is a number; choose 1 to 63 characters, as in "Ocean""#]),
        (ocean("[[station]]\nid = 1\nname = \"B\"\nmedia = \"a.mp4\"\ngroup = \"239.77.0.2:5004\""),
            &[r#":7: station "B": id = 1 is taken by station "Ocean" on line 1; give each station its own"#]),
        (ocean("[[station]]\nid = 2\nname = \"Ocean\"\nmedia = \"a.mp4\"\ngroup = \"239.77.0.2:5004\""),
            &[r#":8: station "Ocean": name = "Ocean" is taken by station "Ocean" on line 1; give each station its own"#]),
        (ocean("[[station]]\nid = 2\nname = \"B\"\nmedia = \"a.mp4\"\ngroup = \"239.77.0.1:5004\""),
            &[r#":10: station "B": group = "239.77.0.1:5004" is taken by station "Ocean" on line 1; give each station its own"#]),
        // Groups.
        (is("group", "\"10.0.0.1:5004\""),
            &[r#":2: station "Ocean": group = "10.0.0.1:5004" is not a multicast address; choose one in 239.0.0.0/8"#]),
        (is("group", "\"[2001:db8::1]:5004\""),
            &[r#":2: station "Ocean": group = "[2001:db8::1]:5004" is not a multicast address; choose one in ff15::/16"#]),
        (is("group", "\"239.77.0.1\""),
            &[r#":2: station "Ocean": group = "239.77.0.1" has no port; write it as in "239.77.0.1:5004""#]),
        (is("group", "\"ff15::77:2\""),
            &[r#":2: station "Ocean": group = "ff15::77:2" has no port; write it as in "[ff15::77:2]:5004""#]),
        (is("group", "\"[ff15::77:2]\""),
            &[r#":2: station "Ocean": group = "[ff15::77:2]" has no port; write it as in "[ff15::77:2]:5004""#]),
        (is("group", "\"239.77.0.1:0\""),
            &[r#":2: station "Ocean": group = "239.77.0.1:0" has port 0; choose one from 1 to 65535"#]),
        (is("group", "\"239.77.0.1:65536\""),
            &[r#":2: station "Ocean": group = "239.77.0.1:65536" has port 65536; choose one from 1 to 65535"#]),
        (is("group", "\"[ff15::77:2]:99999\""),
            &[r#":2: station "Ocean": group = "[ff15::77:2]:99999" has port 99999; choose one from 1 to 65535"#]),
        (is("group", "\"ocean\""),
            &[r#":2: station "Ocean": group = "ocean" is not an address with a port; write an address and a port, as in "239.77.0.1:5004""#]),
        (is("group", "\"ocean.example:5004\""),
            &[r#":2: station "Ocean": group = "ocean.example:5004" is not an address with a port; write an address and a port, as in "239.77.0.1:5004""#]),
        (is("group", "5004"),
            &[r#":2: station "Ocean": group = 5004 is a number; write an address and a port, as in "239.77.0.1:5004""#]),
        (is("group", "\"224.0.0.5:5004\""),
            &[r#":2: station "Ocean": group = "224.0.0.5:5004" is in 224.0.0.0/24, which is reserved for routing protocols (RFC 5771); choose one in 239.0.0.0/8"#]),
        (is("group", "\"[ff02::5]:5004\""),
            &[r#":2: station "Ocean": group = "[ff02::5]:5004" is in ff02::/16, which is reserved for neighbour discovery and routing protocols (RFC 4291); choose one in ff15::/16"#]),
        (is("group", "\"[239.77.0.1]:5004\""),
            &[r#":2: station "Ocean": group = "[239.77.0.1]:5004" is not an address with a port; write an address and a port, as in "239.77.0.1:5004""#]),
        (is("group", "\"[[ff15::1]]:5004\""),
            &[r#":2: station "Ocean": group = "[[ff15::1]]:5004" is not an address with a port; write an address and a port, as in "239.77.0.1:5004""#]),
        (is("group", "\"[ff11::1]:5004\""),
            &[r#":2: station "Ocean": group = "[ff11::1]:5004" has the scope of one interface (RFC 4291), which it never leaves; choose one in ff15::/16"#]),
        (is("group", "\"[ff10::1]:5004\""),
            &[r#":2: station "Ocean": group = "[ff10::1]:5004" has a reserved scope (RFC 4291); choose one in ff15::/16"#]),
        (is("group", "\"[ff1f::1]:5004\""),
            &[r#":2: station "Ocean": group = "[ff1f::1]:5004" has a reserved scope (RFC 4291); choose one in ff15::/16"#]),
        (is("group", "\"[ff15::77:2%2]:5004\""),
            &[r#":2: station "Ocean": group = "[ff15::77:2%2]:5004" names a zone after the %; remove it: `interface` says where the station is sent"#]),
        (is("interface", "\"eth1\"").replace("239.77.0.1", "[ff15::77:2]"),
            &[r#":6: station "Ocean": group = "[ff15::77:2]:5004" is IPv6, but interface eth1 (10.0.0.1) has no IPv6 address; choose an IPv4 group or another interface"#]),
        (is("interface", "\"eth2\""),
            &[r#":6: station "Ocean": group = "239.77.0.1:5004" is IPv4, but interface eth2 (2001:db8::9) has no IPv4 address; choose an IPv6 group or another interface"#]),
        // Settings.
        (is("width", "0"),
            &[r#":2: station "Ocean": width = 0 is out of range; choose a whole number from 16 to 2040 (pixels; RTP/JPEG carries no more)"#]),
        (is("width", "15"),
            &[r#":2: station "Ocean": width = 15 is out of range; choose a whole number from 16 to 2040 (pixels; RTP/JPEG carries no more)"#]),
        (is("width", "2041"),
            &[r#":2: station "Ocean": width = 2041 is out of range; choose a whole number from 16 to 2040 (pixels; RTP/JPEG carries no more)"#]),
        (is("width", "0x1_0000"),
            &[r#":2: station "Ocean": width = 0x1_0000 is out of range; choose a whole number from 16 to 2040 (pixels; RTP/JPEG carries no more)"#]),
        (is("width", "\"big\""),
            &[r#":2: station "Ocean": width = "big" is text; choose a whole number from 16 to 2040 (pixels; RTP/JPEG carries no more)"#]),
        (is("width", "640.0"),
            &[r#":2: station "Ocean": width = 640.0 is not a whole number; choose a whole number from 16 to 2040 (pixels; RTP/JPEG carries no more)"#]),
        (is("quality", "0"),
            &[r#":2: station "Ocean": quality = 0 is out of range; choose a whole number from 1 to 99 (JPEG quality, the Q of RTP/JPEG)"#]),
        (is("quality", "100"),
            &[r#":2: station "Ocean": quality = 100 is out of range; choose a whole number from 1 to 99 (JPEG quality, the Q of RTP/JPEG)"#]),
        (is("quality", "true"),
            &[r#":2: station "Ocean": quality = true is a boolean; choose a whole number from 1 to 99 (JPEG quality, the Q of RTP/JPEG)"#]),
        (is("ttl", "256"),
            &[r#":2: station "Ocean": ttl = 256 is out of range; choose a whole number from 0 to 255 (0 stays on this machine, 1 on this network)"#]),
        (is("ttl", "-1"),
            &[r#":2: station "Ocean": ttl = -1 is out of range; choose a whole number from 0 to 255 (0 stays on this machine, 1 on this network)"#]),
        (is("ttl", "1979-05-27"),
            &[r#":2: station "Ocean": ttl = 1979-05-27 is a date or time; choose a whole number from 0 to 255 (0 stays on this machine, 1 on this network)"#]),
        (is("datagram", "575"),
            &[r#":2: station "Ocean": datagram = 575 is out of range; choose "auto" or a whole number from 576 to 65507 (bytes of UDP payload)"#]),
        (is("datagram", "65508"),
            &[r#":2: station "Ocean": datagram = 65508 is out of range; choose "auto" or a whole number from 576 to 65507 (bytes of UDP payload)"#]),
        (is("datagram", "65536"),
            &[r#":2: station "Ocean": datagram = 65536 is out of range; choose "auto" or a whole number from 576 to 65507 (bytes of UDP payload)"#]),
        (is("datagram", "\"jumbo\""),
            &[r#":2: station "Ocean": datagram = "jumbo" is not a valid value; choose "auto" or a whole number from 576 to 65507 (bytes of UDP payload)"#]),
        (is("datagram", "[1400]"),
            &[r#":2: station "Ocean": datagram = [1400] is a list; choose "auto" or a whole number from 576 to 65507 (bytes of UDP payload)"#]),
        (is("interface", "\"eth9\""),
            &[r#":2: station "Ocean": interface = "eth9" does not exist on this machine; choose one of ALL"#]),
        (is("interface", "\"192.0.2.99\""),
            &[r#":2: station "Ocean": interface = "192.0.2.99" does not exist on this machine; choose one of ALL"#]),
        (is("interface", "\"10.9.9.9\""),
            &[r#":2: station "Ocean": interface = "10.9.9.9" is ambiguous; write the name of one of tun0 (10.9.9.9), tun1 (10.9.9.9)"#]),
        (is("interface", "2"),
            &[r#":2: station "Ocean": interface = 2 is a number; write an interface's address or its name, as in "127.0.0.1" or "eth0""#]),
        (is("slide", "0"),
            &[r#":2: station "Ocean": slide = 0 is out of range; choose a whole number from 1 to 86400 (seconds for which a picture file is on)"#]),
        (is("slide", "\"10\""),
            &[r#":2: station "Ocean": slide = "10" is text; choose a whole number from 1 to 86400 (seconds for which a picture file is on)"#]),
        (is("buffer", "2001"),
            &[r#":2: station "Ocean": buffer = 2001 is out of range; choose a whole number from 0 to 2000 (milliseconds for which pictures of a live source wait)"#]),
        (is("media", "\"https://cam/a\""),
            &[r#":2: station "Ocean": media = "https://cam/a" is encrypted, which is not supported yet; name an http or rtsp address, as in "http://192.0.2.20:8080/stream.mjpg" or "rtsp://192.0.2.21/stream1""#]),
        (is("media", "[\"http://cam/a\"]"),
            &[r#":2: station "Ocean": media = "http://cam/a" is a live source; write it alone, not in a list"#]),
        (is("spread", "1"),
            &[r#":2: station "Ocean": spread = 1 is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "-1"),
            &[r#":2: station "Ocean": spread = -1 is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "-0.1"),
            &[r#":2: station "Ocean": spread = -0.1 is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "0.96"),
            &[r#":2: station "Ocean": spread = 0.96 is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "0.950001"),
            &[r#":2: station "Ocean": spread = 0.950001 is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "50"),
            &[r#":2: station "Ocean": spread = 50 is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "nan"),
            &[r#":2: station "Ocean": spread = nan is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "inf"),
            &[r#":2: station "Ocean": spread = inf is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "99999999999999999999"),
            &[r#":2: station "Ocean": spread = 99999999999999999999 is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "\"0.5\""),
            &[r#":2: station "Ocean": spread = "0.5" is text; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "true"),
            &[r#":2: station "Ocean": spread = true is a boolean; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("spread", "[0.5]"),
            &[r#":2: station "Ocean": spread = [0.5] is a list; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#]),
        (is("reel", "1"),
            &[r#":2: station "Ocean": reel = 1 is a number; choose true or false (whether encoded pictures are kept, to be sent again)"#]),
        (is("reel", "\"false\""),
            &[r#":2: station "Ocean": reel = "false" is text; choose true or false (whether encoded pictures are kept, to be sent again)"#]),
        (is("reel", "0.5"),
            &[r#":2: station "Ocean": reel = 0.5 is not a whole number; choose true or false (whether encoded pictures are kept, to be sent again)"#]),
        (is("reel", "{ dir = \"reels\" }"),
            &[r#":2: station "Ocean": reel = { dir = "reels" } is a table; choose true or false (whether encoded pictures are kept, to be sent again)"#]),
        (ocean("[defaults]\nspread = 2\nreel = \"no\""), &[
            r#":7: [defaults]: spread = 2 is out of range; choose a number from 0 to 0.95 (the share of a picture's interval over which its packets are spread; 0 sends them at once)"#,
            r#":8: [defaults]: reel = "no" is text; choose true or false (whether encoded pictures are kept, to be sent again)"#,
        ]),
        // Media.
        (is("media", "\"none.mp4\""),
            &[r#":2: station "Ocean": media = "none.mp4" does not exist; it would be conf/none.mp4, since a relative path starts at the folder of conf/stations.toml"#]),
        (is("media", "\"~/none.mp4\""),
            &[r#":2: station "Ocean": media = "~/none.mp4" does not exist; it would be /home/op/none.mp4: name a film or a folder that does"#]),
        (is("media", "\"/srv/none\""),
            &[r#":2: station "Ocean": media = "/srv/none" does not exist; name a film or a folder that does"#]),
        (is("media", "\"locked.mp4\""),
            &[r#":2: station "Ocean": media = "locked.mp4" cannot be read: Permission denied (os error 13); check conf/locked.mp4 and its permissions"#]),
        (is("media", "\"empty\""),
            &[r#":2: station "Ocean": media = "empty" is a folder without films; put in one whose name ends in mp4, m4v, mov, mkv, avi, webm, ts, mpg, mpeg, or pictures: jpg, jpeg, png, webp"#]),
        (is("media", "[]"),
            &[r#":2: station "Ocean": media = [] is an empty list; name a film, a folder of films or a list of them, as in "media/ocean.mp4""#]),
        (is("media", "\"\""),
            &[r#":2: station "Ocean": media = "" is empty; name a film or a folder of films"#]),
        (is("media", "{ file = \"a.mp4\" }"),
            &[r#":2: station "Ocean": media = { file = "a.mp4" } is a table; name a film, a folder of films or a list of them, as in "media/ocean.mp4""#]),
        (is("media", "[\n  \"a.mp4\",\n  \"none.mp4\",\n  3,\n]"), &[
            r#":4: station "Ocean": media = "none.mp4" does not exist; it would be conf/none.mp4, since a relative path starts at the folder of conf/stations.toml"#,
            r#":5: station "Ocean": media = 3 is a number; name a film, a folder of films or a list of them, as in "media/ocean.mp4""#,
        ]),
        // The directory.
        (ocean("[directory]\nlisten = \"here\""),
            &[r#":7: [directory]: listen = "here" is not an address with a port; write an address and a port, as in "127.0.0.1:9688""#]),
        (ocean("[directory]\nlisten = \"127.0.0.1\""),
            &[r#":7: [directory]: listen = "127.0.0.1" has no port; write it as in "127.0.0.1:9688""#]),
        (ocean("[directory]\nlisten = \"127.0.0.1:0\""),
            &[r#":7: [directory]: listen = "127.0.0.1:0" has port 0; choose one from 1 to 65535"#]),
        (ocean("[directory]\nlisten = 9688"),
            &[r#":7: [directory]: listen = 9688 is a number; write an address and a port, as in "127.0.0.1:9688""#]),
        // Reels.
        (reel("dir = \"\""),
            &[r#":7: [reel]: dir = "" is empty; name a folder, as in "/var/cache/stationcast""#]),
        (reel("dir = false"),
            &[r#":7: [reel]: dir = false is a boolean; name a folder, as in "/var/cache/stationcast""#]),
        (reel("dir = [\"a\", \"b\"]"),
            &[r#":7: [reel]: dir = ["a", "b"] is a list; name a folder, as in "/var/cache/stationcast""#]),
        (reel("dir = \"~\""),
            &[r#":7: [reel]: dir = "~" does not say whose home; write "~/" before a folder in your own, or the whole path"#]),
        (reel("dir = \"~op/reels\""),
            &[r#":7: [reel]: dir = "~op/reels" does not say whose home; write "~/" before a folder in your own, or the whole path"#]),
        (reel("dir = \"a\\u0000b\""),
            &[r#":7: [reel]: dir = "a\u0000b" has a control character; remove it"#]),
        (reel("dir = \"ocean.mp4\""),
            &[r#":7: [reel]: dir = "ocean.mp4" is a file; name a folder: conf/ocean.mp4 is in the way"#]),
        (reel("dir = \"locked.mp4\""),
            &[r#":7: [reel]: dir = "locked.mp4" cannot be used: Permission denied (os error 13); check conf/locked.mp4 and its permissions"#]),
        (reel("bytes = 0"),
            &[r#":7: [reel]: bytes = 0 is out of range; choose a whole number of bytes from 1_000_000 to 2^63 - 1, as in 20_000_000_000 (20 GB); to keep no reels, write reel = false under [defaults]"#]),
        (reel("bytes = 999_999"),
            &[r#":7: [reel]: bytes = 999_999 is out of range; choose a whole number of bytes from 1_000_000 to 2^63 - 1, as in 20_000_000_000 (20 GB); to keep no reels, write reel = false under [defaults]"#]),
        (reel("bytes = -1"),
            &[r#":7: [reel]: bytes = -1 is out of range; choose a whole number of bytes from 1_000_000 to 2^63 - 1, as in 20_000_000_000 (20 GB); to keep no reels, write reel = false under [defaults]"#]),
        (reel("bytes = 9223372036854775808"),
            &[r#":7: [reel]: bytes = 9223372036854775808 is out of range; choose a whole number of bytes from 1_000_000 to 2^63 - 1, as in 20_000_000_000 (20 GB); to keep no reels, write reel = false under [defaults]"#]),
        (reel("bytes = 20e9"),
            &[r#":7: [reel]: bytes = 20e9 is not a whole number; choose a whole number of bytes from 1_000_000 to 2^63 - 1, as in 20_000_000_000 (20 GB); to keep no reels, write reel = false under [defaults]"#]),
        (reel("bytes = \"20 GB\""),
            &[r#":7: [reel]: bytes = "20 GB" is text; choose a whole number of bytes from 1_000_000 to 2^63 - 1, as in 20_000_000_000 (20 GB); to keep no reels, write reel = false under [defaults]"#]),
        (reel("bytes = true"),
            &[r#":7: [reel]: bytes = true is a boolean; choose a whole number of bytes from 1_000_000 to 2^63 - 1, as in 20_000_000_000 (20 GB); to keep no reels, write reel = false under [defaults]"#]),
        // Sound.
        (is("sound", "\"english please\""),
            &[r#":2: station "Ocean": sound = "english please" is not a language; choose true, false, a language as in "eng", or the number of a sound track from 1"#]),
        (is("sound", "\"\""),
            &[r#":2: station "Ocean": sound = "" is not a language; choose true, false, a language as in "eng", or the number of a sound track from 1"#]),
        (is("sound", "0"),
            &[r#":2: station "Ocean": sound = 0 is out of range; choose true, false, a language as in "eng", or the number of a sound track from 1"#]),
        (is("sound", "65"),
            &[r#":2: station "Ocean": sound = 65 is out of range; choose true, false, a language as in "eng", or the number of a sound track from 1"#]),
        (is("sound", "1.5"),
            &[r#":2: station "Ocean": sound = 1.5 is not a whole number; choose true, false, a language as in "eng", or the number of a sound track from 1"#]),
        (is("sound", "[\"eng\"]"),
            &[r#":2: station "Ocean": sound = ["eng"] is a list; choose true, false, a language as in "eng", or the number of a sound track from 1"#]),
        (is("sound", "eng"),
            &[r#":2: `eng` is not a valid value; put text in quotes, as in "eng""#]),
        (is("sound_bitrate", "31_999"),
            &[r#":2: station "Ocean": sound_bitrate = 31_999 is out of range; choose a whole number from 32000 to 510000 (bits a second of sound)"#]),
        (is("sound_bitrate", "128"),
            &[r#":2: station "Ocean": sound_bitrate = 128 is out of range; choose a whole number from 32000 to 510000 (bits a second of sound)"#]),
        (is("sound_bitrate", "510001"),
            &[r#":2: station "Ocean": sound_bitrate = 510001 is out of range; choose a whole number from 32000 to 510000 (bits a second of sound)"#]),
        (is("sound_bitrate", "\"128k\""),
            &[r#":2: station "Ocean": sound_bitrate = "128k" is text; choose a whole number from 32000 to 510000 (bits a second of sound)"#]),
        (is("sound_codec", "\"aac\""),
            &[r#":2: station "Ocean": sound_codec = "aac" is not a codec of ours; choose "opus" or "l16" (linear samples, for players that do not decode Opus)"#]),
        (is("sound_codec", "16"),
            &[r#":2: station "Ocean": sound_codec = 16 is a number; choose "opus" or "l16" (linear samples, for players that do not decode Opus)"#]),
        (is("loudness", "-23"),
            &[r#":2: station "Ocean": loudness = -23 is a number; choose true or false (whether films are brought to one loudness)"#]),
        (is("loudness", "\"yes\""),
            &[r#":2: station "Ocean": loudness = "yes" is text; choose true or false (whether films are brought to one loudness)"#]),
        (is("sign", "1"),
            &[r#":2: station "Ocean": sign = 1 is a number; choose true or false (whether pictures are signed)"#]),
        (is("loudness", "off"),
            &[r#":2: `off` is not a valid value; write true or false, or put text in quotes, as in "off""#]),
        // A wrong default is reported once, not for each station. All faults are reported, in the order of the file.
        (
            "[defaults]\nttl = 300\ninterface = \"eth9\"\n".to_owned()
                + &ocean("[[station]]\nid = 1\nname = \"\"\nwidth = 1\n"),
            &[
            r#":2: [defaults]: ttl = 300 is out of range; choose a whole number from 0 to 255 (0 stays on this machine, 1 on this network)"#,
            r#":3: [defaults]: interface = "eth9" does not exist on this machine; choose one of ALL"#,
            r#":9: station #2: `group` is missing; choose a multicast address and a port, as in "239.77.0.1:5004""#,
            r#":9: station #2: `media` is missing; name a film, a folder of films or a list of them, as in "media/ocean.mp4""#,
            r#":10: station #2: id = 1 is taken by station "Ocean" on line 4; give each station its own"#,
            r#":11: station #2: name = "" is empty; choose 1 to 63 characters, as in "Ocean""#,
            r#":12: station #2: width = 1 is out of range; choose a whole number from 16 to 2040 (pixels; RTP/JPEG carries no more)"#,
        ],
        ),
    ]
}

#[test]
fn every_message_names_the_place_the_rule_and_the_fix() {
    for (text, expected) in cases() {
        let error = parse(&text).expect_err(&text);
        let expected: Vec<String> = expected
            .iter()
            .map(|message| format!("conf/stations.toml{}", message.replace("ALL", ALL)))
            .collect();
        assert_eq!(error.sentences(), expected, "of\n{text}");
        assert_eq!(error.to_string(), expected.join("\n"));
    }
}

#[test]
fn a_missing_interface_or_home_folder_is_reported() {
    let mut world = world();
    world.interfaces.retain(|interface| interface.name == "eth1");
    world.home = None;
    let text = with("media", Some("\"~/a.mp4\"")) + "\n[reel]\ndir = \"~/reels\"";
    let error = Lineup::parse(&text, Path::new("stations.toml"), &world).unwrap_err();
    assert_eq!(
        error.sentences(),
        [
            "stations.toml:1: station \"Ocean\": interface = \"127.0.0.1\", the default, does not exist on this \
             machine; choose one of eth1 (10.0.0.1)",
            "stations.toml:2: station \"Ocean\": media = \"~/a.mp4\" needs a home folder, and this user has \
             none; write the whole path",
            "stations.toml:7: [reel]: dir = \"~/reels\" needs a home folder, and this user has none; write the \
             whole path",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stations.toml");
    let shown = file.display().to_string();
    let message = || Lineup::load(&file).unwrap_err().to_string();

    assert_eq!(
        message(),
        format!(
            "{shown} does not exist; name the line-up with --config FILE, or put a film on air without one: broadcaster play FILM"
        )
    );
    fs::write(&file, b"# fine\n# \xff\xfe\n").unwrap();
    assert_eq!(message(), format!("{shown}:2: byte 0xff is not UTF-8; save the file as UTF-8"));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(message(), format!("{shown} is a folder; give a file in it, such as {shown}/stations.toml"));
}
