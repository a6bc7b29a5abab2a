//! What is seen: the view of the present moment, and its sentences.

#![expect(clippy::disallowed_methods, reason = "a shell: banners fade")]

use std::time::{Duration, Instant};

use super::{App, DIRECTORY_PATIENCE, DirectoryLost, OpenPanel, PATIENCE};
use crate::clock::wall_clock;
use crate::conflict::addresses;
use crate::directory::{State, StationInfo, StationNow};
use crate::media::{AirTime, StationId};
use crate::screen::{Banner, DecodedPicture, Guide, List, Panel, Row, Screen, ScreenView, VolumeBar};
use crate::viewer::zapper::SignalState;

/// Whether there is a live picture of the chosen station.
enum Reception {
    /// There is, or there was until now.
    Live,
    /// There is none yet, and a sentence says why.
    Waiting(String),
    /// There is none any more, and a sentence says why.
    Lost(String),
}

impl App {
    pub(super) fn paint(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        let now = Instant::now();
        self.tell_conflict();
        self.tell_directory(now);
        self.banner_until.take_if(|until| now >= *until);
        self.message.take_if(|(_, until)| now >= *until);
        self.volume_until.take_if(|until| now >= *until);
        let (note, lost) = match self.reception(now) {
            Reception::Live => (None, false),
            Reception::Waiting(sentence) => (Some(sentence), false),
            Reception::Lost(sentence) => (Some(sentence), true),
        };
        let tiles = self.mosaic.as_ref().map(|mosaic| mosaic.view(self.zapper.wanted()));
        // Each tile says of its station what is wrong. If there is none, a sentence says why.
        let no_tiles = tiles.as_ref().map(Vec::is_empty);
        let note = note.filter(|_| no_tiles != Some(false));
        let typed = self.remote.shown();
        let station = self.zapper.station();
        // Of a station that is not received, nothing is on.
        let [on, next] = station
            .filter(|_| note.is_none())
            .map(|station| self.programme(station.id, now))
            .unwrap_or_default();
        let banner =
            station.filter(|_| no_tiles.is_none() && (self.banner_until.is_some() || note.is_some()));
        let panel = match &self.panel {
            OpenPanel::None => Panel::None,
            OpenPanel::Info => Panel::Info(self.information(now)),
            OpenPanel::Keys => Panel::Keys,
            OpenPanel::List(_) => self.list_view().map_or(Panel::None, Panel::List),
            OpenPanel::Guide(_) => self.guide_view(self.broadcast_time()).map_or(Panel::None, Panel::Guide),
        };
        let muted = self.volume.muted;
        let view = ScreenView {
            picture: self.visible_picture(),
            mosaic: tiles.as_deref(),
            lost: lost && tiles.is_none(),
            banner: banner.map(|station| Banner {
                number: station.id,
                name: &station.name,
                programme: [&on, &next],
            }),
            note: note.as_deref(),
            typed: typed.as_deref(),
            panel,
            message: self.message.as_ref().map(|(message, _)| message.as_str()),
            paused: self.paused,
            volume: self.volume_until.map(|_| VolumeBar { percent: self.volume.percent, muted }),
        };
        screen.show(&view)?;
        if let Some(station) = station {
            let title = format!("{} {} - stationcast", station.id, station.name);
            if title != self.title {
                screen.window().set_title(&title);
                self.title = title;
            }
        }
        self.measure_offset();
        self.dirty = false;
        if let Some(station) = self.unpainted.take() {
            self.zapper.shown(station);
        }
        Ok(())
    }

    /// Tells once that the directory is away though the picture goes on.
    fn tell_directory(&mut self, now: Instant) {
        let live = self.zapper.signal() == SignalState::Live;
        let address = self.zapper.directory();
        if let Some(lost) = &mut self.directory_lost
            && !lost.told
            && live
            && now >= lost.since + DIRECTORY_PATIENCE
        {
            lost.told = true;
            self.say(format!("The directory at {address} is away. The picture goes on."));
        }
    }

    /// The picture on the screen. While another station is awaited, the one before it stays for a moment, so that a change is
    /// seamless; after that the screen belongs to the chosen one.
    pub(super) fn visible_picture(&self) -> Option<&DecodedPicture> {
        let chosen = self.zapper.station().map(|station| station.id);
        let belongs = self.pictured == chosen || self.tuned_at.elapsed() < PATIENCE;
        self.picture.as_ref().filter(|_| belongs)
    }

    /// The open line-up.
    pub(super) fn list_view<'a>(&'a self) -> Option<List<'a>> {
        let OpenPanel::List(listing) = &self.panel else { return None };
        let current = self.zapper.station().map(|station| station.id);
        let row = |station: &'a StationInfo| row(station, self.zapper.now_of(station.id));
        Some(listing.view(self.zapper.line_up(), current, row))
    }

    /// The open guide at `now` of the broadcaster's clock.
    pub(super) fn guide_view<'a>(&'a self, now: AirTime) -> Option<Guide<'a>> {
        let OpenPanel::Guide(guide) = &self.panel else { return None };
        let current = self.zapper.station().map(|station| station.id);
        let time = |at: AirTime, seconds: bool| {
            let time = time_of_day(at, Duration::ZERO);
            if seconds { time } else { time[..5].to_owned() }
        };
        Some(guide.view(self.zapper.line_up(), now, current, time))
    }

    /// The film that is on with its position, and the one that follows; empty if that is not known.
    fn programme(&self, id: StationId, now: Instant) -> [String; 2] {
        let Some(station) = self.zapper.now_of(id) else { return Default::default() };
        let on = station.now.as_ref().map(|film| match self.zapper.air_time(now) {
            Some(at) => format!("{}  {}", film.title, position(film.position(at), film.length())),
            None => film.title.clone(),
        });
        // A film that is repeated says nothing new.
        let repeated = |title: &&String| station.now.as_ref().is_some_and(|film| film.title == **title);
        let next =
            station.next.as_ref().filter(|title| !repeated(title)).map(|title| format!("Next: {title}"));
        [on.unwrap_or_default(), next.unwrap_or_default()]
    }

    fn reception(&self, now: Instant) -> Reception {
        let lost = self.directory_lost.as_ref().map(|lost| lost.sentence(self.zapper.directory(), now));
        let patient = self.tuned_at.elapsed() < PATIENCE;
        let sentence = match (self.zapper.signal(), self.zapper.station()) {
            (SignalState::Live, _) => return Reception::Live,
            (SignalState::Waiting, _) if patient => return Reception::Live,
            (SignalState::Lost(silent), Some(_)) => {
                let problem = self.zapper.problem().map(|problem| format!("No signal: {problem}"));
                let since = || format!("No signal since {}", time_of_day(wall_clock(), silent));
                return Reception::Lost(problem.or(lost).unwrap_or_else(since));
            }
            (_, Some(_)) => lost.unwrap_or_else(|| "Waiting for the station".into()),
            (_, None) if lost.is_some() => lost.unwrap_or_default(),
            (_, None) if !self.zapper.is_connected() => {
                format!("Waiting for the directory at {}", self.zapper.directory())
            }
            (_, None) => match self.zapper.wanted() {
                Some(id) => format!("No station {id}. L shows the line-up."),
                None => "The line-up has no stations".into(),
            },
        };
        Reception::Waiting(sentence)
    }

    /// The row of the sound in the information; `None` if nothing plays sound.
    fn sound_row(&self) -> Option<String> {
        let speaker = self.zapper.speaker()?;
        if let Some(problem) = speaker.problem() {
            return Some(format!("none: {problem}"));
        }
        let status = speaker.status();
        let Some(offset) = self.offset.filter(|_| status.heard.is_some()) else { return Some("–".into()) };
        Some(format!(
            "{offset:+.0} ms, buffer {:.0} ms, device {:.0} ms, {} lost",
            status.buffered_ms, status.device_ms, status.counters.lost
        ))
    }

    /// Labels and values of the information.
    fn information(&self, now: Instant) -> Vec<(&'static str, String)> {
        let Some((station, status)) = self.zapper.on_screen() else { return Vec::new() };
        let (counters, reading) = (status.counters, status.reading);
        let size = self.picture.as_ref().map_or_else(|| "–".into(), |picture| picture.size.to_string());
        let rate = station.rate.map_or_else(String::new, |rate| format!(" of {:.2}", rate.as_f64()));
        let zap = self.zapper.last_zap();
        let zap = zap.map_or_else(|| "–".into(), |took| format!("{:.1} ms", took.as_secs_f64() * 1e3));
        // Of a stream that no directory lists, it is not known.
        let quality = match station.quality {
            0 => String::new(),
            quality => format!(", quality {quality}"),
        };
        let mut rows = vec![("Station", format!("{} {}", station.id, station.name))];
        if let Some(programme) = self.zapper.now_of(station.id) {
            let [on, _] = self.programme(station.id, now);
            rows.extend([("Now", on)].into_iter().filter(|(_, on)| !on.is_empty()));
            rows.extend(programme.next.clone().map(|title| ("Next", title)));
        }
        rows.extend([
            ("Group", station.group.to_string()),
            ("Size", format!("{size}{quality}")),
            ("Pictures", format!("{:.2}{rate} a second", reading.rate)),
            ("Lost", format!("{} pictures, {} packets", counters.pictures_lost, counters.packets_lost)),
            ("Lateness", format!("p50 {:.0} µs, p99 {:.0} µs", reading.pacing.p50, reading.pacing.p99)),
            ("Change", zap),
            ("Buffer", format!("{} kB, {} dropped", status.buffer / 1000, status.kernel_drops)),
        ]);
        if let Some(signed) = status.signed {
            rows.push((
                "Signed",
                format!("{} pictures, {} packets refused", signed.pictures, signed.refused),
            ));
        }
        rows.extend(self.sound_row().map(|row| ("Sound", row)));
        if !self.others.is_empty() {
            rows.push(("Others here", addresses(&self.others)));
        }
        rows
    }
}

impl DirectoryLost {
    /// What is wrong, and when the next attempt is.
    fn sentence(&self, directory: std::net::SocketAddr, now: Instant) -> String {
        let seconds = self.retry_at.saturating_duration_since(now).as_secs_f64().ceil();
        let wrong = if self.reached {
            format!("No directory at {directory}: {}.", self.reason)
        } else {
            format!("Cannot reach {directory}: is the broadcaster running?")
        };
        match seconds as u64 {
            0 => format!("{wrong} Trying again"),
            seconds => format!("{wrong} Trying again in {seconds} s"),
        }
    }
}

/// A station's row in the list.
fn row<'a>(station: &'a StationInfo, programme: Option<&'a StationNow>) -> Row<'a> {
    let film = programme.and_then(|programme| programme.now.as_ref());
    let (state, off_air) = match (&station.state, film) {
        (State::Slate { .. }, _) => ("off air".into(), true),
        (State::Starting, _) => ("starting".into(), false),
        (State::Film, None) => ("".into(), false),
        (State::Film, Some(film)) => match programme.and_then(|programme| programme.next.as_ref()) {
            Some(next) if *next != film.title => (format!("{}, then {next}", film.title).into(), false),
            _ => (film.title.as_str().into(), false),
        },
    };
    Row { id: station.id, name: &station.name, state, off_air }
}

/// A position in a film, and the film's length if that is known: `3:07 of 1:42:30`.
fn position(at: Duration, length: Option<Duration>) -> String {
    let clock = |span: Duration| match span.as_secs() {
        seconds @ 3600.. => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        seconds => format!("{}:{:02}", seconds / 60, seconds % 60),
    };
    let length = length.map(|length| format!(" of {}", clock(length)));
    clock(at) + &length.unwrap_or_default()
}

/// The user's time of day so long before `now`, as `14:03:20`.
fn time_of_day(now: AirTime, ago: Duration) -> String {
    let at = jiff::Timestamp::from_nanosecond((now - ago).0.into()).unwrap_or_default();
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::FilmOnAir;

    #[test]
    fn a_lost_directory_is_told_with_the_time_of_the_next_attempt() {
        let now = Instant::now();
        let lost = |reached, in_ms| DirectoryLost {
            reason: "a reply is too long".into(),
            reached,
            retry_at: now + Duration::from_millis(in_ms),
            since: now,
            told: false,
        };
        let directory = "127.0.0.1:9688".parse().unwrap();
        assert_eq!(
            lost(false, 6100).sentence(directory, now),
            "Cannot reach 127.0.0.1:9688: is the broadcaster running? Trying again in 7 s"
        );
        assert_eq!(
            lost(true, 0).sentence(directory, now),
            "No directory at 127.0.0.1:9688: a reply is too long. Trying again"
        );
    }

    #[test]
    fn a_row_tells_what_is_on_and_what_follows() {
        let mut station = StationInfo {
            id: StationId(1),
            name: "Nature".into(),
            group: "239.1.1.1:5004".parse().unwrap(),
            interface: "lo".into(),
            size: None,
            rate: None,
            quality: 80,
            state: State::Film,
            audience: 0,
        };
        let film = FilmOnAir { title: "Sintel".into(), begin: AirTime(5), end: None };
        let programme = |next: Option<&str>| StationNow {
            id: StationId(1),
            now: Some(film.clone()),
            next: next.map(str::to_owned),
        };
        let state = |station: &StationInfo, programme: Option<&StationNow>| {
            row(station, programme).state.into_owned()
        };
        assert_eq!(state(&station, Some(&programme(Some("Big Buck Bunny")))), "Sintel, then Big Buck Bunny");
        assert_eq!(state(&station, Some(&programme(Some("Sintel")))), "Sintel", "it is repeated");
        assert_eq!(
            (state(&station, Some(&programme(None))), state(&station, None)),
            ("Sintel".into(), "".into())
        );
        station.state = State::Slate { reason: "gone".into() };
        assert_eq!(state(&station, Some(&programme(None))), "off air");
    }

    #[test]
    fn a_position_has_hours_if_there_are_any() {
        let seconds = Duration::from_secs;
        assert_eq!(position(seconds(187), Some(seconds(6150))), "3:07 of 1:42:30");
        assert_eq!(position(seconds(3605), None), "1:00:05");
        assert_eq!(position(Duration::from_millis(999), Some(seconds(20))), "0:00 of 0:20");
    }

    #[test]
    fn a_time_of_day_is_short() {
        let text = time_of_day(AirTime(1_795_145_460_123_456_789), Duration::from_secs(2));
        let parts: Vec<u32> = text.split(':').map(|part| part.parse().unwrap()).collect();
        // Minutes and seconds are those of UTC in all but a few zones.
        assert_eq!((parts.len(), parts[2], text.len()), (3, 58, 8), "{text}");
    }
}
