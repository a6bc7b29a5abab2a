//! A line-up of one station that plays films from the command line, for `broadcaster play`: no file has to be written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::fields::{Field, group_fault, interface, name_fault};
use super::films::{no_films, stem};
use super::outputs::{HTTP, RTSP};
use super::report::{printable, short};
use super::settings::{LOOPBACK, Settings};
use super::{Announce, ConfigError, Lineup, MediaKind, SecuritySpec, StationSpec, World, reel};
use crate::directory::PORT;
use crate::media::StationId;

/// The number of the station.
const ID: StationId = StationId(1);

/// By custom the port of RTP is even, and RFC 3551 registers this one and the next.
const GROUP_PORT: u16 = 5004;

/// Most characters of a station's name.
const LONGEST_NAME: usize = 63;

/// The films to play, as typed.
#[derive(Debug, Clone, Default)]
pub struct PlayOptions {
    /// Films, pictures and folders of them.
    pub films: Vec<PathBuf>,
    /// The station's name; `None`: that of the first film.
    pub name: Option<String>,
    /// The group and its port; `None`: one of 239.255.0.0/16 (RFC 2365: for one site), by [`any`](Self::any).
    pub group: Option<String>,
    /// The interface, by name or address; `None`: loopback.
    pub interface: Option<String>,
    /// A random number, so that two who play films on one network get different groups.
    pub any: u16,
}

/// The line-up of the one station, or every fault of the command line. All services listen on the interface's own address, on
/// their usual ports: on loopback nothing leaves this machine. The station keeps no reel, because with one it would begin in the
/// middle of the film, where the time of day has it.
pub(super) fn lineup(options: &PlayOptions, world: &World) -> Result<Lineup, ConfigError> {
    let mut sentences: Vec<String> =
        options.films.iter().filter_map(|film| film_fault(film, world)).collect();
    let wanted = options.interface.as_deref().unwrap_or(LOOPBACK);
    let choice = interface(wanted, world)
        .map_err(|fault| sentences.push(format!("--interface {} {fault}", short(wanted))))
        .ok();
    let group = match &options.group {
        None => Some(any_group(options.any)),
        Some(text) => {
            group(text).map_err(|fault| sentences.push(format!("--group {} {fault}", short(text)))).ok()
        }
    };
    let name = options.name.clone().unwrap_or_else(|| name_of(&options.films));
    if let Some(fault) = name_fault(&name) {
        sentences.push(format!("--name {:?} {fault}", short(&name)));
    }
    let found = choice.as_ref().and_then(|choice| choice.find(&world.interfaces));
    let here = found.as_ref().and_then(|found| {
        let global = found.v6.iter().find(|own| !own.is_unicast_link_local());
        found.v4.first().map(|own| IpAddr::V4(*own)).or(global.map(|own| IpAddr::V6(*own)))
    });
    if let (Some(found), Some(group)) = (&found, group) {
        let family = if group.is_ipv4() { "IPv4" } else { "IPv6" };
        if !found.up {
            sentences.push(format!("interface {} is down; bring it up, or choose another", found.name));
        } else if here.is_none() {
            sentences
                .push(format!("interface {} has no address; give it one, or choose another", found.name));
        } else if found.source(group.ip()).is_none() {
            sentences.push(format!(
                "interface {} has no {family} address for the group {group}; choose another group or interface",
                found.name
            ));
        }
    }
    let (Some(choice), Some(group), Some(here), true) = (choice, group, here, sentences.is_empty()) else {
        return Err(ConfigError { sentences });
    };
    let settings = Settings::on(Field::Is(choice));
    let station = settings.station(ID, name, options.films.clone().into(), group, 0);
    let station =
        station.expect("every setting has a value: the interface was chosen, the others are defaults");
    let at = |port| SocketAddr::new(here, port);
    Ok(Lineup {
        directory: at(PORT),
        reel: reel::default(world),
        rtsp: Some(at(RTSP.port())),
        http: Some(at(HTTP.port())),
        hosts: Vec::new(),
        announce: Announce { sap: true, mdns: true },
        watch: false,
        security: SecuritySpec::default(),
        access: None,
        stations: vec![StationSpec { reel: false, from_start: true, ..station }],
        publish: None,
        interfaces: world.interfaces.clone(),
    })
}

fn film_fault(film: &Path, world: &World) -> Option<String> {
    let shown = short(&film.display().to_string());
    match (world.media)(film) {
        MediaKind::File => None,
        MediaKind::Folder { films } if films > 0 => None,
        MediaKind::Folder { .. } => Some(format!("{shown} {}", no_films())),
        MediaKind::Missing => Some(format!("{shown} does not exist")),
        MediaKind::Unreadable(why) => Some(format!("{shown} cannot be read: {}", printable(&why))),
    }
}

/// A group of 239.255.0.0/16, without the addresses that end in 0 or 255, which look like networks.
fn any_group(any: u16) -> SocketAddr {
    let [high, low] = any.to_be_bytes().map(|byte| byte % 254 + 1);
    SocketAddr::new(Ipv4Addr::new(239, 255, high, low).into(), GROUP_PORT)
}

/// The group that was typed, or what is wrong with it.
fn group(text: &str) -> Result<SocketAddr, String> {
    let group: SocketAddr = match (text.parse(), text.parse::<IpAddr>()) {
        (Ok(group), _) => group,
        (_, Ok(ip)) => return Err(format!("has no port; write {}", SocketAddr::new(ip, GROUP_PORT))),
        _ => return Err(format!("is not an address and a port; write one as in 239.255.1.1:{GROUP_PORT}")),
    };
    if group.port() == 0 || group.port() > u16::MAX - 3 {
        return Err("has no room for pictures, sound and their RTCP; choose a port from 1 to 65532".into());
    }
    group_fault(group).map_or(Ok(group), |fault| Err(fault.to_owned()))
}

/// The first film's name without its ending, as a name that the rules allow.
fn name_of(films: &[PathBuf]) -> String {
    let name = films.first().map(|film| stem(film)).unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_NAME).collect();
    if name.trim().is_empty() { "Film".into() } else { name.trim().to_owned() }
}
