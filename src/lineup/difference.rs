//! The difference of two line-ups: all that a reload has to change, and how. Pure.

use std::fmt;
use std::net::SocketAddr;

use super::report::listed;
use super::{Lineup, StationSpec};
use crate::media::StationId;

/// The difference of two line-ups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// The stations that differ, ascending by number.
    pub stations: Vec<StationChange>,
    /// The listeners that differ.
    pub listeners: Vec<ListenerChange>,
    /// The settings of the whole that differ and hold at once, as `section.key`.
    pub settings: Vec<&'static str>,
    /// The settings that differ and hold only when the broadcaster is started again, as `section.key`.
    pub later: Vec<&'static str>,
}

/// A listener that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerChange {
    /// The section of the line-up that has its address.
    pub section: &'static str,
    /// Where it listens; `None`: nowhere.
    pub old: Option<SocketAddr>,
    /// Where it is to listen; `None`: nowhere.
    pub new: Option<SocketAddr>,
}

impl fmt::Display for ListenerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listeners: [{}] ", self.section)?;
        match (self.old, self.new) {
            (Some(old), Some(new)) => write!(f, "moves from {old} to {new}; its connections stay"),
            (None, Some(new)) => write!(f, "begins on {new}"),
            (Some(old), None) => write!(f, "ends on {old}; its connections stay"),
            (None, None) => f.write_str("stays off"),
        }
    }
}

/// A station that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationChange {
    /// The number.
    pub id: StationId,
    /// The name that viewers know.
    pub name: String,
    /// The change.
    pub kind: ChangeKind,
}

/// The change of a station that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It comes on air.
    Added(Box<StationSpec>),
    /// It goes off air for good.
    Removed,
    /// It stays on air, and nothing but its name changes.
    Renamed(Box<StationSpec>),
    /// It stays on air; these keys hold from the next picture or from the next film on.
    InPlace(Box<StationSpec>, Vec<&'static str>),
    /// It goes off air and comes back, because of these keys: its stream is another one.
    Restarts(Box<StationSpec>, Vec<&'static str>),
}

impl Difference {
    /// The difference of `new` from `old`. `sounds` tells whether a station has sound; it is asked of stations whose films change.
    pub fn of(old: &Lineup, new: &Lineup, sounds: impl Fn(&StationSpec) -> bool) -> Difference {
        let station = |lineup: &'_ Lineup, id| lineup.stations.iter().find(|spec| spec.id == id).cloned();
        let mut ids: Vec<_> = old.stations.iter().chain(&new.stations).map(|spec| spec.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let stations = ids.into_iter().filter_map(|id| {
            let (name, kind) = match (station(old, id), station(new, id)) {
                (None, Some(new)) => (new.name.clone(), ChangeKind::Added(new.into())),
                (Some(old), None) => (old.name, ChangeKind::Removed),
                (Some(old), Some(new)) => (old.name.clone(), change(&old, new, &sounds)?),
                (None, None) => return None,
            };
            Some(StationChange { id, name, kind })
        });
        let (settings, later) = settings(old, new);
        Difference { stations: stations.collect(), listeners: listeners(old, new), settings, later }
    }

    /// Whether the line-ups are the same to a running broadcaster.
    pub fn is_empty(&self) -> bool {
        let Difference { stations, listeners, settings, later } = self;
        stations.is_empty() && listeners.is_empty() && settings.is_empty() && later.is_empty()
    }

    /// One sentence for each change.
    pub fn sentences(&self) -> Vec<String> {
        let later =
            self.later.iter().map(|key| format!("{key} changes when the broadcaster is started again"));
        let listeners = self.listeners.iter().map(ToString::to_string);
        let settings = self.settings.iter().map(|key| format!("{key} changes at once"));
        self.stations.iter().map(ToString::to_string).chain(listeners).chain(settings).chain(later).collect()
    }
}

impl fmt::Display for StationChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "station {} \"{}\" ", self.id, self.name)?;
        match &self.kind {
            ChangeKind::Added(_) => f.write_str("is added"),
            ChangeKind::Removed => f.write_str("is removed"),
            ChangeKind::Renamed(spec) => write!(f, "is renamed \"{}\"", spec.name),
            ChangeKind::InPlace(_, keys) => write!(f, "stays on air, with another {}", listed(keys)),
            ChangeKind::Restarts(_, keys) => write!(f, "starts again, with another {}", listed(keys)),
        }
    }
}

/// How `new` differs from `old`, both of one number; `None` if it does not.
fn change(old: &StationSpec, new: StationSpec, sounds: &impl Fn(&StationSpec) -> bool) -> Option<ChangeKind> {
    // A key that this forgets does not compile. The line is only where the station is in the file, and no file sets `from_start`.
    let StationSpec {
        id: _,
        name,
        media,
        fallback,
        at,
        group,
        interface,
        ttl,
        width,
        quality,
        datagram,
        reel,
        spread,
        slide,
        buffer,
        sound,
        sound_bitrate,
        sound_codec,
        loudness,
        sign,
        access,
        encrypt,
        from_start: _,
        line: _,
    } = &new;
    let differing = |keys: &[(&'static str, bool)]| -> Vec<&'static str> {
        keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect()
    };
    let other_media = *media != old.media;
    // What is no film has its own size and rate.
    let is_published = media.published().is_some() && old.media.published().is_some();
    let other_source = other_media && !is_published && !(media.is_films() && old.media.is_films());
    let stream = differing(&[
        ("media", other_source),
        ("fallback", *fallback != old.fallback),
        ("at", *at != old.at),
        ("group", *group != old.group),
        ("interface", *interface != old.interface),
        ("ttl", *ttl != old.ttl),
        ("width", *width != old.width),
        ("quality", *quality != old.quality),
        ("datagram", *datagram != old.datagram),
        // Clients that are not let in any more must not go on.
        ("access", *access != old.access),
        ("encrypt", *encrypt != old.encrypt),
        ("sound_codec", *sound_codec != old.sound_codec),
        // Its cards have a socket of their own.
        ("sign", *sign != old.sign),
        // A station has sound, or has none, for as long as it is on air: its description would change otherwise.
        ("sound", *sound != old.sound || other_media && sounds(old) != sounds(&new)),
    ]);
    let in_place = differing(&[
        ("name", *name != old.name),
        ("media", other_media && !other_source && !is_published),
        ("publish", other_media && is_published),
        ("reel", *reel != old.reel),
        ("spread", *spread != old.spread),
        ("slide", *slide != old.slide),
        ("buffer", *buffer != old.buffer),
        ("sound_bitrate", *sound_bitrate != old.sound_bitrate),
        ("loudness", *loudness != old.loudness),
    ]);
    match (&stream[..], &in_place[..]) {
        ([], []) => None,
        ([], ["name"]) => Some(ChangeKind::Renamed(new.into())),
        ([], _) => Some(ChangeKind::InPlace(new.into(), in_place)),
        _ => Some(ChangeKind::Restarts(new.into(), [stream, in_place].concat())),
    }
}

fn listeners(old: &Lineup, new: &Lineup) -> Vec<ListenerChange> {
    let change = |section, old, new| ListenerChange { section, old, new };
    let all = [
        change("directory", Some(old.directory), Some(new.directory)),
        change("rtsp", old.rtsp, new.rtsp),
        change("http", old.http, new.http),
    ];
    all.into_iter().filter(|change| change.old != change.new).collect()
}

/// The settings of all stations together that differ: those that hold at once, and those that wait.
fn settings(old: &Lineup, new: &Lineup) -> (Vec<&'static str>, Vec<&'static str>) {
    let Lineup {
        directory: _,
        rtsp: _,
        http: _,
        stations: _,
        interfaces: _,
        reel,
        hosts,
        announce,
        watch,
        publish,
        security,
        access,
    } = new;
    let differing = |keys: &[(&'static str, bool)]| -> Vec<&'static str> {
        keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect()
    };
    let at_once = differing(&[
        ("http.hosts", *hosts != old.hosts),
        ("announce", *announce != old.announce),
        ("reload.watch", *watch != old.watch),
    ]);
    let later = differing(&[
        ("reel", *reel != old.reel),
        ("publish", *publish != old.publish),
        ("tls", *security != old.security),
        ("access", *access != old.access),
    ]);
    (at_once, later)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::lineup::World;

    fn lineup(text: &str) -> Lineup {
        let world = World::for_tests();
        Lineup::parse(text, Path::new("stations.toml"), &world).unwrap()
    }

    /// The sentences for stations 1 and 2, of which the second has `keys`, and for what is in the file besides.
    fn sentences(keys: &str, besides: &str) -> Vec<String> {
        let station = |id: u8, keys: &str| {
            let name = if keys.contains("name =") { String::new() } else { format!("name = \"S{id}\"\n") };
            let media = if keys.contains("media =") { "" } else { "media = \"a.mp4\"\n" };
            let group = if keys.contains("group =") {
                String::new()
            } else {
                format!("group = \"239.1.1.{id}:5004\"\n")
            };
            format!("[[station]]\nid = {id}\n{name}{media}{group}{keys}\n")
        };
        let old = lineup(&(station(1, "") + &station(2, "")));
        let new = lineup(&(besides.to_owned() + "\n" + &station(2, keys) + &station(1, "")));
        let sounds = |spec: &StationSpec| spec.media.films().iter().any(|path| path.ends_with("loud.mp4"));
        Difference::of(&old, &new, sounds).sentences()
    }

    #[test]
    fn each_key_is_changed_in_the_least_disturbing_way() {
        for (keys, sentence) in [
            ("name = \"Two\"", "is renamed \"Two\""),
            ("media = \"b.mp4\"", "stays on air, with another media"),
            ("media = \"loud.mp4\"", "starts again, with another sound and media"),
            ("spread = 0.1", "stays on air, with another spread"),
            ("slide = 3", "stays on air, with another slide"),
            ("media = \"http://cam/a\"", "starts again, with another media"),
            ("buffer = 0", "stays on air, with another buffer"),
            ("reel = false", "stays on air, with another reel"),
            ("loudness = false", "stays on air, with another loudness"),
            ("sound_bitrate = 64000", "stays on air, with another sound_bitrate"),
            ("name = \"Two\"\nspread = 0.1\nslide = 3", "stays on air, with another name, spread and slide"),
            ("group = \"239.1.1.9:5004\"", "starts again, with another group"),
            ("ttl = 3", "starts again, with another ttl"),
            ("width = 320", "starts again, with another width"),
            ("quality = 50", "starts again, with another quality"),
            ("datagram = 1000", "starts again, with another datagram"),
            ("sound = true", "starts again, with another sound"),
            ("sign = true", "starts again, with another sign"),
            ("width = 320\nslide = 3", "starts again, with another width and slide"),
        ] {
            assert_eq!(sentences(keys, ""), [format!("station 2 \"S2\" {sentence}")], "{keys}");
        }
    }

    #[test]
    fn the_order_of_stations_is_no_difference() {
        assert_eq!(sentences("", ""), [""; 0]);
    }

    #[test]
    fn stations_come_and_go_and_settings_of_the_whole_wait() {
        let station = "[[station]]\nid = 7\nname = \"Seven\"\nmedia = \"a.mp4\"\ngroup = \"239.1.1.7:5004\"";
        assert_eq!(sentences("", station), ["station 7 \"Seven\" is added"]);
        let (one, both) = (
            lineup(station),
            lineup(&format!(
                "[directory]\nlisten = \"127.0.0.1:1\"\n[reel]\nbytes = 1_000_000\n[http]\nhosts = [\"tv\"]\n[announce]\n\
                 [reload]\nwatch = true\n{station}\n"
            )),
        );
        let waiting = Difference::of(&one, &both, |_| false);
        assert_eq!(
            waiting.sentences(),
            [
                "listeners: [directory] moves from 127.0.0.1:9688 to 127.0.0.1:1; its connections stay",
                "listeners: [http] begins on 127.0.0.1:8088",
                "http.hosts changes at once",
                "announce changes at once",
                "reload.watch changes at once",
                "reel changes when the broadcaster is started again",
            ]
        );
        assert!(!waiting.is_empty());
        assert_eq!(
            Difference::of(&both, &one, |_| false).sentences()[1],
            "listeners: [http] ends on 127.0.0.1:8088; its connections stay"
        );
        let removed =
            Difference::of(&one, &lineup(&station.replace("7", "8").replace("Seven", "Eight")), |_| false);
        let sentences = removed.sentences();
        assert_eq!(sentences, ["station 7 \"Seven\" is removed", "station 8 \"Eight\" is added"]);
    }
}
