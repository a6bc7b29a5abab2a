//! `[rtsp]`, `[http]` and `[announce]`: their values, and every message about them.

use super::*;

/// A line-up without faults, then `sections` from line 6 on.
fn read(sections: &str) -> Result<Lineup, ConfigError> {
    parse(&(messages::with("id", Some("1")) + "\n" + sections))
}

#[test]
fn a_section_turns_an_output_on() {
    let outputs = |sections: &str| {
        let Lineup { rtsp, http, announce, .. } = read(sections).unwrap();
        (rtsp, http, announce.sap, announce.mdns)
    };
    let at = |address: &str| Some(address.parse().unwrap());
    assert_eq!(outputs(""), (None, None, false, false));
    assert_eq!(
        outputs("[rtsp]\n[http]\n[announce]"),
        (at("127.0.0.1:8554"), at("127.0.0.1:8088"), true, true)
    );
    assert_eq!(
        outputs("[http]\nlisten = \"[::]:80\"\n[announce]\nmdns = false"),
        (None, at("[::]:80"), true, false)
    );
    assert_eq!(outputs("[announce]\nsap = false"), (None, None, false, true));
}

#[test]
fn hosts_are_names_in_lower_case_and_addresses_without_brackets() {
    let hosts = |list: &str| read(&format!("[http]\nhosts = {list}")).unwrap().hosts;
    assert_eq!(hosts("[]"), [""; 0]);
    assert_eq!(
        hosts(r#"["TV.Example.org.", "tv_2", "[2001:DB8::7]", "2001:db8::8", "192.0.2.80"]"#),
        ["tv.example.org", "tv_2", "2001:db8::7", "2001:db8::8", "192.0.2.80"]
    );
    assert_eq!(hosts(r#""tv""#), ["tv"], "one name needs no list, as a film needs none");
}

/// (the text of the file from line 6 on, its messages). Each message follows `conf/stations.toml`.
#[rustfmt::skip] // one message a line, as it is printed
const CASES: [(&str, &[&str]); 35] = [
    ("[rtsp]\nport = 8554",
        &[r#":7: [rtsp]: unknown key `port`; [rtsp] has the keys listen and tls"#]),
    ("[http]\nlisen = \"127.0.0.1:80\"",
        &[r#":7: [http]: unknown key `lisen`; [http] has the keys listen, hosts and tls; did you mean `listen`?"#]),
    ("[announce]\nsdp = true",
        &[r#":7: [announce]: unknown key `sdp`; [announce] has the keys sap and mdns; did you mean `sap`?"#]),
    ("[rtsp]\nlisten = 8554",
        &[r#":7: [rtsp]: listen = 8554 is a number; write an address and a port, as in "127.0.0.1:8554""#]),
    ("[http]\nlisten = true",
        &[r#":7: [http]: listen = true is a boolean; write an address and a port, as in "127.0.0.1:8088""#]),
    ("[http]\nlisten = \"0.0.0.0\"",
        &[r#":7: [http]: listen = "0.0.0.0" has no port; write it as in "0.0.0.0:8088""#]),
    ("[rtsp]\nlisten = \"0.0.0.0:0\"",
        &[r#":7: [rtsp]: listen = "0.0.0.0:0" has port 0; choose one from 1 to 65535"#]),
    ("[rtsp]\nlisten = \"here:8554\"",
        &[r#":7: [rtsp]: listen = "here:8554" is not an address with a port; write an address and a port, as in "127.0.0.1:8554""#]),
    ("[announce]\nsap = \"yes\"\nmdns = 1", &[
        r#":7: [announce]: sap = "yes" is text; choose true or false (whether stations are announced to players, by SAP)"#,
        r#":8: [announce]: mdns = 1 is a number; choose true or false (whether the directory is announced to viewers, by mDNS)"#,
    ]),
    ("[[http]]\nlisten = \"127.0.0.1:80\"",
        &[r#":6: http is a list; write its keys under one line [http]"#]),
    ("[http]\nhost = \"tv\"",
        &[r#":7: [http]: unknown key `host`; [http] has the keys listen, hosts and tls; did you mean `hosts`?"#]),
    ("[rtsp]\nhosts = [\"tv\"]",
        &[r#":7: [rtsp]: unknown key `hosts`; [rtsp] has the keys listen and tls"#]),
    ("[http]\nhosts = true",
        &[r#":7: [http]: hosts = true is a boolean; write a list of host names, as in ["tv.example.org"]"#]),
    ("[http]\nlisten = \"tv\"\nhosts = [\"tv\", 7,\n\"\"]", &[
        r#":7: [http]: listen = "tv" is not an address with a port; write an address and a port, as in "127.0.0.1:8088""#,
        r#":8: [http]: hosts = 7 is a number; write a list of host names, as in ["tv.example.org"]"#,
        r#":9: [http]: hosts = "" is not a host name; write one, as in "tv.example.org""#,
    ]),
    ("[http]\nhosts = [\"tv.example.org:8088\"]",
        &[r#":7: [http]: hosts = "tv.example.org:8088" has a port; leave the port out: a host name holds for every port"#]),
    ("[http]\nhosts = [\"[2001:db8::7]:80\", \"192.0.2.7:80\"]", &[
        r#":7: [http]: hosts = "[2001:db8::7]:80" has a port; leave the port out: a host name holds for every port"#,
        r#":7: [http]: hosts = "192.0.2.7:80" has a port; leave the port out: a host name holds for every port"#,
    ]),
    ("[http]\nhosts = [\"http://tv.example.org/\"]",
        &[r#":7: [http]: hosts = "http://tv.example.org/" is a URL; write the host name alone, as in "tv.example.org""#]),
    ("[http]\nhosts = [\"*.example.org\"]",
        &[r#":7: [http]: hosts = "*.example.org" has a *; write each host name in full, as in "tv.example.org""#]),
    ("[http]\nhosts = [\"bücher.example\"]",
        &[r#":7: [http]: hosts = "bücher.example" is not ASCII; write the name as browsers send it, as in "xn--bcher-kva.example""#]),
    ("[http]\nhosts = [\"tv..example\", \"a b\", \"tv/\"]", &[
        r#":7: [http]: hosts = "tv..example" is not a host name; write one, as in "tv.example.org""#,
        r#":7: [http]: hosts = "a b" is not a host name; write one, as in "tv.example.org""#,
        r#":7: [http]: hosts = "tv/" is not a host name; write one, as in "tv.example.org""#,
    ]),
    // TLS, and tokens.
    ("[http]\ntls = \"yes\"\n[rtsp]\ntls = 1", &[
        r#":7: [http]: tls = "yes" is not known; choose true (TLS only), "both" (TLS and plain connections, on the same port) or false"#,
        r#":9: [rtsp]: tls = 1 is a number; choose true (TLS only), "both" (TLS and plain connections, on the same port) or false"#,
    ]),
    ("[tls]\ncert = \"a.pem\"",
        &[r#":6: [tls]: `key` is missing; name the file of the certificate's key, in PEM"#]),
    ("[tls]\nkey = \"a.pem\"\ncertificate = \"a.pem\"", &[
        r#":6: [tls]: `cert` is missing; name the file of the certificate, in PEM"#,
        r#":8: [tls]: unknown key `certificate`; [tls] has the keys cert and key"#,
    ]),
    ("[tls]\ncert = \"\"\nkey = 7", &[
        r#":7: [tls]: cert = "" is not a path; name the file of the certificate, in PEM"#,
        r#":8: [tls]: key = 7 is a number; name the file of the certificate's key, in PEM"#,
    ]),
    ("[access]",
        &[r#":6: [access]: `file` is missing; name a file, as in "access.toml"; `broadcaster token` writes it"#]),
    ("[access]\nfile = true",
        &[r#":7: [access]: file = true is a boolean; name a file, as in "access.toml"; `broadcaster token` writes it"#]),
    ("[[station]]\nid = 9\nname = \"Nine\"\nmedia = \"a.mp4\"\ngroup = \"239.77.0.9:5004\"\naccess = [\"staff\"]",
        &[r#": station "Nine" has `access`, and there is no [access] with a `file` of tokens; add one"#]),
    ("[access]\nfile = \"t\"\n[[station]]\nid = 9\nname = \"Nine\"\nmedia = \"a.mp4\"\ngroup = \"239.77.0.9:5004\"\naccess = []",
        &[r#":13: station "Nine": access = [] names nobody; write a list of the names of tokens and passwords, as in ["staff"], or leave it out to let in everybody"#]),
    ("[access]\nfile = \"t\"\n[[station]]\nid = 9\nname = \"Nine\"\nmedia = \"a.mp4\"\ngroup = \"239.77.0.9:5004\"\naccess = [7, \"a b\"]", &[
        r#":13: station "Nine": access = 7 is a number; write a list of the names of tokens and passwords, as in ["staff"]"#,
        r#":13: station "Nine": access = "a b": a name has 1 to 32 letters and digits of ASCII, and - _ . between them, as in staff"#,
    ]),
    ("[access]\nfile = \"t\"\n[[station]]\nid = 9\nname = \"Nine\"\nmedia = \"a.mp4\"\ngroup = \"239.77.0.9:5004\"\naccess = [\"a\", \"b\"]\n\
      [[station]]\nid = 10\nname = \"Ten\"\nmedia = \"mosaic:9\"\ngroup = \"239.77.0.10:5004\"\naccess = [\"a\", \"c\"]",
        &[r#":14: station "Ten": media shows station 9, which lets in only some; write access = ["a", "b"] here too"#]),
    // Addresses that two sockets cannot both have.
    ("[rtsp]\nlisten = \"127.0.0.1:9688\"",
        &[r#":7: [rtsp]: listen = "127.0.0.1:9688" is taken: [directory] listens there; choose another port"#]),
    ("[rtsp]\nlisten = \"127.0.0.1:8088\"\n[http]",
        &[r#":8: [http]: listen = "127.0.0.1:8088", the default, is taken: [rtsp] listens there; choose another port"#]),
    ("[http]\nlisten = \"0.0.0.0:9688\"",
        &[r#":7: [http]: listen = "0.0.0.0:9688" is taken: [directory] listens there; choose another port"#]),
    ("[http]\nlisten = \"[::]:9688\"",
        &[r#":7: [http]: listen = "[::]:9688" is taken: [directory] listens there; choose another port"#]),
    ("[rtsp]\nlisten = \"[::]:80\"\n[http]\nlisten = \"192.0.2.7:80\"",
        &[r#":9: [http]: listen = "192.0.2.7:80" is taken: [rtsp] listens there; choose another port"#]),
];

#[test]
fn every_message_names_the_place_the_rule_and_the_fix() {
    for (text, expected) in CASES {
        let error = read(text).expect_err(text);
        let expected: Vec<String> =
            expected.iter().map(|message| format!("conf/stations.toml{message}")).collect();
        assert_eq!(error.sentences(), expected, "of\n{text}");
    }
}

#[test]
fn one_port_on_two_addresses_is_allowed() {
    for sections in [
        "[http]\nlisten = \"192.0.2.7:9688\"",
        "[http]\nlisten = \"[::1]:9688\"",
        "[rtsp]\nlisten = \"0.0.0.0:80\"\n[http]\nlisten = \"[::1]:80\"",
    ] {
        read(sections).unwrap();
    }
}

#[test]
fn a_directory_that_cannot_be_announced_is_noted_if_other_machines_can_watch() {
    let away = "interface = \"eth0\"\n[announce]\n";
    let told = |sections: &str| {
        let notes = read(sections).unwrap().notes();
        notes.iter().filter(|note| note.contains("mDNS")).count()
    };
    assert_eq!(told(away), 1);
    assert_eq!(told(&format!("{away}mdns = false")), 0);
    assert_eq!(told(&format!("{away}[directory]\nlisten = \"0.0.0.0:9688\"")), 0);
    assert_eq!(told("[announce]"), 0, "nothing leaves this machine");
}
