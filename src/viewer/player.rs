//! An external player instead of our window: `viewer --station 2 --player "ffplay {sdp}"`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::directory::{self, Endpoint, Services, State, StationInfo};
use crate::interface::{Interface, named};
use crate::media::SoundCodec;
use crate::tuner::join;
use crate::wire::sdp::{Description, Transport, sound_port};

/// Time that a player has to end after SIGTERM, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// TTL in the player's SDP. The directory does not tell the station's own; players use it only for the RTCP that they
/// send, which concerns this network alone.
const TTL: u8 = 1;

/// Timeout for the directory to answer where RTSP and the web are served.
const ANSWER: Duration = Duration::from_secs(5);

/// FFplay's exit status says nothing: it is 0 also if FFplay has played nothing. Nobody has seen much of a station that soon.
const TOO_SOON: Duration = Duration::from_secs(1);

/// The placeholders of a command, which stand in braces.
const NAMES: [&str; 8] = ["sdp", "group", "port", "local", "rtsp", "http", "name", "station"];

/// A player's command line with placeholders, of at least one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Vec<Piece>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// One of [`NAMES`].
    Value(&'static str),
}

impl Template {
    /// Parses a command. It is split into words as a shell does, with quotes and backslashes, but not run by a shell.
    /// `{{` and `}}` are braces.
    ///
    /// # Errors
    /// A sentence, if a quote is not closed, there is no word, or a placeholder does not exist.
    pub fn parse(command: &str) -> Result<Template, String> {
        let words = shlex::split(command).ok_or("a quote is not closed")?;
        if words.is_empty() {
            return Err("it does not name a program".into());
        }
        words.iter().map(|word| pieces(word)).collect::<Result<_, _>>().map(Template)
    }

    fn uses(&self, name: &str) -> bool {
        self.0.iter().flatten().any(|piece| matches!(piece, Piece::Value(used) if *used == name))
    }

    /// The words, with each placeholder replaced by its `value`. A value with spaces stays one word.
    fn fill(&self, value: impl Fn(&str) -> String) -> Vec<String> {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(name) => value(name),
        };
        self.0.iter().map(|word| word.iter().map(text).collect()).collect()
    }
}

/// Splits a word at its placeholders.
fn pieces(word: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = word;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(behind) = after.strip_prefix(brace) {
            text.push_str(brace);
            rest = behind;
        } else if brace == "}" {
            return Err(format!("a }} stands alone in {word}; write }}}} for a brace"));
        } else {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("a {{ is not closed in {word}"))?;
            let known = NAMES.into_iter().find(|known| *known == name).ok_or_else(|| {
                let all = NAMES.map(|name| format!("{{{name}}}")).join(", ");
                format!("there is no {{{name}}}; choose from {all}, or write {{{{ for a brace")
            })?;
            pieces.push(Piece::Text(std::mem::take(&mut text)));
            pieces.push(Piece::Value(known));
            rest = after;
        }
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// The value of a placeholder. `local` is this machine's address on the interface on which the station arrives: players
/// that are not told one use that of the default route.
fn value(name: &str, station: &StationInfo, services: Services, local: IpAddr, sdp: Option<&Path>) -> String {
    let at = |service: Option<SocketAddr>| service.map_or_else(String::new, |at| at.to_string());
    let StationInfo { id, group, .. } = station;
    match name {
        "sdp" => sdp.map_or_else(String::new, |path| path.display().to_string()),
        "group" => group.ip().to_string(),
        "port" => group.port().to_string(),
        "local" => local.to_string(),
        "rtsp" => format!("rtsp://{}/{id}", at(services.rtsp)),
        "http" => format!("http://{}/stations/{id}.mjpeg", at(services.http)),
        "name" => station.name.clone(),
        _ => id.to_string(),
    }
}

/// This machine's address on the interface on which a group arrives: `towards`, from which the directory is reached, if
/// the interface has it; else its first address of the group's family.
fn address(group: IpAddr, interface: &Interface, towards: IpAddr) -> Option<IpAddr> {
    if group.is_ipv4() == towards.is_ipv4() && interface.has(towards) {
        return Some(towards);
    }
    match group {
        IpAddr::V4(_) => interface.v4.first().copied().map(IpAddr::V4),
        IpAddr::V6(_) => interface.v6.first().copied().map(IpAddr::V6),
    }
}

/// Gives FFmpeg's programs and mpv the options without which they receive nothing by the SDP file at `sdp`, unless the command
/// has them: FFmpeg opens no network for a file, and both join the group on the interface of the default route. `local` is this
/// machine's address on the right one.
fn complete(words: &mut Vec<String>, sdp: &str, local: Option<IpAddr>) {
    let program = words.first().and_then(|word| Path::new(word).file_name()?.to_str()).unwrap_or_default();
    let says = |option: &str| words.iter().any(|word| word.contains(option));
    let mut options = Vec::new();
    let mut before = 1;
    match program {
        "ffplay" | "ffmpeg" | "ffprobe" => {
            // Options count for the input behind them.
            let Some(input) = words.iter().position(|word| word == sdp) else { return };
            before = if words[input - 1] == "-i" { input - 1 } else { input };
            if !says("-protocol_whitelist") {
                options.extend(["-protocol_whitelist".to_owned(), "file,udp,rtp".to_owned()]);
            }
            if let Some(local) = local.filter(|_| !says("-localaddr")) {
                options.extend(["-localaddr".to_owned(), local.to_string()]);
            }
        }
        "mpv" => {
            let local = local.filter(|_| !says("localaddr"));
            options.extend(local.map(|local| format!("--demuxer-lavf-o-append=localaddr={local}")));
        }
        _ => {}
    }
    words.splice(before..before, options);
}

/// The station's SDP, as far as the directory describes the station; `origin` is the broadcaster's address.
fn describe(station: &StationInfo, origin: IpAddr, sound: Option<SoundCodec>) -> String {
    let description = Description {
        name: &station.name,
        origin,
        session: station.id.0.into(),
        rate: station.rate.filter(|_| station.state == State::Film),
        by_ntp: false, // the directory does not say
        sound,
        crypto: None,
        transport: Transport::Multicast { group: station.group, ttl: TTL },
    };
    description.to_sdp()
}

/// Runs a player on a station until it ends; on SIGINT, SIGTERM or SIGHUP it is ended. `wanted` is the name or address
/// of the interface that the user has chosen.
///
/// # Errors
/// There is no such interface, or the player is not installed, cannot be started, or fails by itself.
#[expect(clippy::disallowed_methods, reason = "a shell: it follows a station")]
pub async fn play(
    template: &Template,
    station: &StationInfo,
    endpoint: &Endpoint,
    wanted: Option<&str>,
) -> anyhow::Result<()> {
    let directory = endpoint.address;
    let towards = join::local_address(directory)?.to_canonical();
    let interface = named(&join::interface_for_station(station, wanted, directory.ip(), towards));
    let on_it = interface.as_ref().ok().and_then(|i| address(station.group.ip(), i, towards));
    let local = match (interface, template.uses("local")) {
        (Ok(interface), true) => on_it.with_context(|| {
            format!("interface {interface} has no address from which {} can be received", station.group)
        })?,
        (Err(error), true) => return Err(error.into()),
        (_, false) => towards,
    };
    // An older directory has no encrypted stations.
    let encrypted = directory::keys(endpoint.clone(), ANSWER).await.unwrap_or_default();
    ensure!(
        !encrypted.iter().any(|encrypted| encrypted.id == station.id),
        "station {} is encrypted, and --player gives a player no key; for FFmpeg get its SDP from the broadcaster's web, by https",
        station.id
    );
    let services = match template.uses("rtsp") || template.uses("http") {
        true => directory::services(endpoint.clone(), ANSWER).await?,
        false => Services::default(),
    };
    for (name, service) in [("rtsp", services.rtsp), ("http", services.http)] {
        ensure!(
            service.is_some() || !template.uses(name),
            "this broadcaster does not serve {{{name}}} to this machine; see [{name}] in its line-up"
        );
    }
    // An older directory does not tell the source address. Then: a broadcaster on this machine sends from its address on
    // that interface; of one elsewhere, the directory's own address is the best guess.
    let guess = on_it.filter(|_| join::is_here(directory.ip())).unwrap_or(directory.ip().to_canonical());
    let (told, sounds) = match template.uses("sdp") {
        true => (
            directory::sources(endpoint.clone(), ANSWER).await.unwrap_or_default(),
            directory::sounds(endpoint.clone(), ANSWER).await.unwrap_or_default(),
        ),
        false => (Vec::new(), Vec::new()),
    };
    // SDP of ours says where sound is; one that is elsewhere is left out.
    let sound = sounds
        .iter()
        .find(|sound| sound.id == station.id && sound.port == sound_port(station.group.port()))
        .and_then(|sound| SoundCodec::of_encoding(&sound.codec));
    let told = told.iter().find(|source| source.id == station.id).map(|source| source.address);
    let origin = told.filter(|source| source.is_ipv4() == station.group.is_ipv4()).unwrap_or(guess);
    let file = match template.uses("sdp") {
        true => Some(TemporaryFile::write(station.id.0, &describe(station, origin, sound))?),
        false => None,
    };
    let path = file.as_ref().map(|file| file.0.as_path());
    let mut words = template.fill(|name| value(name, station, services, local, path));
    if let Some(sdp) = path {
        complete(&mut words, &sdp.display().to_string(), on_it);
    }
    let (program, args) = words.split_first().context("no player is named")?;

    // Before the player starts, so that its end is not missed.
    let mut children = signal(SignalKind::child())?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Sent when the terminal is closed.
    let mut hang_up = signal(SignalKind::hangup())?;
    let began = Instant::now();
    let mut player = match Command::new(program).args(args).spawn() {
        Ok(player) => player,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("the player {program} is not installed"),
        Err(error) => bail!("cannot start the player {program}: {error}"),
    };
    loop {
        if let Some(status) = player.try_wait()? {
            return judge(program, status, began.elapsed());
        }
        tokio::select! {
            _ = children.recv() => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hang_up.recv() => break,
        }
    }
    let killed_at = Instant::now() + GRACE;
    // It has not been waited for, so the process ID is still its own.
    kill_process(Pid::from_child(&player), Signal::TERM)?;
    while player.try_wait()?.is_none() {
        tokio::select! {
            _ = children.recv() => {}
            () = tokio::time::sleep_until(killed_at) => {
                player.kill()?;
                player.wait()?;
            }
        }
    }
    Ok(())
}

/// Whether a player that has ended by itself, after `ran`, has done its work.
fn judge(program: &str, status: ExitStatus, ran: Duration) -> anyhow::Result<()> {
    if !status.success() {
        bail!("the player {program} ended with {status}");
    }
    if Path::new(program).file_name().is_some_and(|name| name == "ffplay") && ran < TOO_SOON {
        bail!("the player {program} ended after {:.1} s; its messages above say why", ran.as_secs_f64());
    }
    Ok(())
}

/// A file that is removed when this is dropped.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Writes `sdp` into a new file in the system's folder for temporary files.
    fn write(station: u16, sdp: &str) -> anyhow::Result<TemporaryFile> {
        let name = format!("stationcast-{station}-{:016x}.sdp", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.map(|file| (file, TemporaryFile(path.clone())))
            .and_then(|(mut file, temporary)| file.write_all(sdp.as_bytes()).map(|()| temporary))
            .with_context(|| format!("cannot write {} for the player", path.display()))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{FrameRate, StationId};

    fn station(group: &str) -> StationInfo {
        let group = group.parse().unwrap();
        let station = StationInfo::starting(StationId(2), "Nature; rm -rf /", group, "eth0", 80);
        StationInfo { rate: FrameRate::new(25, 1), state: State::Film, ..station }
    }

    fn filled(command: &str) -> Vec<String> {
        let station = station("239.77.0.2:5004");
        let services = Services { rtsp: "192.0.2.7:8554".parse().ok(), http: "192.0.2.7:8088".parse().ok() };
        let template = Template::parse(command).unwrap();
        let local = [192, 0, 2, 9].into();
        template.fill(|name| value(name, &station, services, local, Some(Path::new("/tmp/a b.sdp"))))
    }

    #[test]
    fn a_command_is_split_as_by_a_shell_and_then_filled() {
        assert_eq!(
            filled("mpv --title='a {name}' {sdp} {group}:{port} -n{station} {{}} \\\"x"),
            ["mpv", "--title=a Nature; rm -rf /", "/tmp/a b.sdp", "239.77.0.2:5004", "-n2", "{}", "\"x"]
        );
        assert_eq!(
            filled("vlc {local} {rtsp} {http}"),
            ["vlc", "192.0.2.9", "rtsp://192.0.2.7:8554/2", "http://192.0.2.7:8088/stations/2.mjpeg"]
        );
        let (services, local) =
            (Services { rtsp: "[fd77::1]:8554".parse().ok(), http: None }, "fd77::2".parse().unwrap());
        let v6 = value("rtsp", &station("[ff15::77:2]:5004"), services, local, None);
        assert_eq!(v6, "rtsp://[fd77::1]:8554/2");
    }

    #[test]
    fn players_get_the_options_without_which_they_receive_nothing() {
        let completed = |command: &str| {
            let mut words = shlex::split(command).unwrap();
            complete(&mut words, "2.sdp", Some([192, 0, 2, 9].into()));
            words.join(" ")
        };
        let both = "-protocol_whitelist file,udp,rtp -localaddr 192.0.2.9";
        for (command, expected) in [
            ("ffplay -i 2.sdp", format!("ffplay {both} -i 2.sdp")),
            ("/usr/bin/ffplay -nodisp 2.sdp", format!("/usr/bin/ffplay -nodisp {both} 2.sdp")),
            (
                "ffmpeg -v error -i 2.sdp -c copy 2.mkv",
                format!("ffmpeg -v error {both} -i 2.sdp -c copy 2.mkv"),
            ),
            (
                "ffplay -protocol_whitelist file,udp,rtp 2.sdp",
                "ffplay -protocol_whitelist file,udp,rtp -localaddr 192.0.2.9 2.sdp".into(),
            ),
            ("mpv 2.sdp", "mpv --demuxer-lavf-o-append=localaddr=192.0.2.9 2.sdp".into()),
        ] {
            assert_eq!(completed(command), expected);
        }
        // These have all that they need, or are nobody's that is known.
        for command in [
            "ffplay -protocol_whitelist file,udp,rtp -localaddr 192.0.2.7 -i 2.sdp",
            "ffplay rtsp://192.0.2.7:8554/2",
            "mpv --demuxer-lavf-o=localaddr=192.0.2.7 2.sdp",
            "vlc 2.sdp",
            "sh -c 'ffplay 2.sdp'",
        ] {
            assert_eq!(completed(command), shlex::split(command).unwrap().join(" "));
        }
    }

    #[test]
    fn a_player_that_has_played_nothing_is_a_failure() {
        use std::os::unix::process::ExitStatusExt;

        let (good, bad) = (ExitStatus::from_raw(0), ExitStatus::from_raw(1 << 8));
        let soon = Duration::from_millis(300);
        let said = |program, status, ran| judge(program, status, ran).err().map(|error| error.to_string());
        assert_eq!(said("mpv", good, soon), None);
        assert_eq!(said("ffplay", good, TOO_SOON), None);
        let sentence = "the player /usr/bin/ffplay ended after 0.3 s; its messages above say why";
        assert_eq!(said("/usr/bin/ffplay", good, soon).as_deref(), Some(sentence));
        assert_eq!(said("mpv", bad, soon).as_deref(), Some("the player mpv ended with exit status: 1"));
    }

    #[test]
    fn an_error_names_what_is_wrong_with_a_command() {
        for (command, sentence) in [
            ("", "it does not name a program"),
            ("ffplay '{sdp}", "a quote is not closed"),
            ("ffplay {sdp", "a { is not closed in {sdp"),
            ("ffplay sdp}", "a } stands alone in sdp}; write }} for a brace"),
            (
                "ffplay {spd}",
                "there is no {spd}; choose from {sdp}, {group}, {port}, {local}, {rtsp}, {http}, {name}, {station}, or \
                 write {{ for a brace",
            ),
        ] {
            assert_eq!(Template::parse(command).unwrap_err(), sentence, "{command}");
        }
    }

    #[test]
    fn the_sdp_describes_the_group_and_is_removed_with_the_player() {
        let text = describe(&station("232.77.0.2:5004"), [192, 0, 2, 7].into(), Some(SoundCodec::Opus));
        for line in [
            "c=IN IP4 232.77.0.2/1",
            "a=source-filter: incl IN IP4 232.77.0.2 192.0.2.7",
            "a=framerate:25",
            "m=audio 5006 RTP/AVP 97",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in {text}");
        }
        assert!(
            !text.contains("refclk") && !text.contains("mediaclk"),
            "nothing is known of the station's clock: {text}"
        );
        let file = TemporaryFile::write(2, &text).unwrap();
        let path = file.0.clone();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn local_is_the_address_on_which_the_station_arrives() {
        let interface = Interface {
            name: "eth1".into(),
            index: 3,
            mtu: 1500,
            up: true,
            loopback: false,
            v4: vec![[198, 51, 100, 9].into(), [198, 51, 100, 10].into()],
            v6: vec!["2001:db8::9".parse().unwrap()],
        };
        let local = |group: &str, towards: &str| {
            let address = address(group.parse().unwrap(), &interface, towards.parse().unwrap());
            address.expect("an address").to_string()
        };
        assert_eq!(
            local("239.77.0.2", "127.0.0.1"),
            "198.51.100.9",
            "the directory is on this machine, but the station is not on lo"
        );
        assert_eq!(local("239.77.0.2", "198.51.100.10"), "198.51.100.10");
        assert_eq!(local("ff15::77:2", "198.51.100.10"), "2001:db8::9");
    }

    #[tokio::test]
    async fn a_player_gets_the_interface_that_the_viewer_would_join_on() {
        let directory = "127.0.0.1:9688".parse::<SocketAddr>().unwrap().into();
        let play = async |command: &str, interface: &str, wanted: Option<&str>| {
            let template = Template::parse(command).unwrap();
            let station = StationInfo { interface: interface.into(), ..station("232.77.0.2:5004") };
            play(&template, &station, &directory, wanted).await
        };
        // It is the station's own, not the one from which the directory is reached, unless another one is wanted.
        let missing = play("true {local}", "nosuch0", None).await.unwrap_err().to_string();
        assert_eq!(missing, "there is no interface nosuch0 on this machine");
        play("test {local} = 127.0.0.1", "nosuch0", Some("lo")).await.unwrap();
        play("true {group}", "nosuch0", None).await.unwrap();
    }

    #[tokio::test]
    async fn a_player_that_fails_or_is_not_installed_is_an_error() {
        let play = async |command: &str| {
            let template = Template::parse(command).unwrap();
            play(
                &template,
                &station("239.77.0.2:5004"),
                &"127.0.0.1:9688".parse::<SocketAddr>().unwrap().into(),
                None,
            )
            .await
        };
        play("sh -c 'grep -q 239.77.0.2 \"$0\"' {sdp}").await.unwrap();
        assert_eq!(
            play("sh -c 'exit 3'").await.unwrap_err().to_string(),
            "the player sh ended with exit status: 3"
        );
        let missing = play("no-such-player-anywhere {sdp}").await.unwrap_err().to_string();
        assert_eq!(missing, "the player no-such-player-anywhere is not installed");
    }
}
