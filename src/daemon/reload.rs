//! Adapts a running broadcaster to its line-up when the file has changed: at a command on the control socket, and at SIGHUP.
//!
//! A line-up with a fault changes nothing. Stations that are the same in both line-ups are not touched: they keep their task,
//! sockets, SSRC, sequence numbers and place in the programme.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::control::{Asking, ControlAnswer, ControlCommand, ControlSocket};
use crate::directory::State;
use crate::headend::{HeadEnd, StationHandle};
use crate::lineup::{ChangeKind, Difference, Lineup, StationSpec, has_sound};
use crate::media::StationId;

/// How long a reload waits for the stations that begin, to tell whether they are on air.
const ON_AIR: Duration = Duration::from_secs(5);

/// The file of a line-up, and the socket of the commands on it.
pub struct LineupSource {
    /// The file.
    pub file: PathBuf,
    /// The control socket; `None`: only SIGHUP reloads.
    pub control: Option<ControlSocket>,
}

/// Reloads the line-up of `head_end`, which is `lineup` now, at each command and at each SIGHUP.
pub(super) async fn reload(source: LineupSource, lineup: Lineup, head_end: Arc<HeadEnd>) {
    let LineupSource { file, control } = source;
    let mut reloader = Reloader { file, lineup, head_end };
    let mut hang_ups = signal(SignalKind::hangup()).ok();
    loop {
        let command = async {
            match &control {
                Some(socket) => Asking::next(socket).await,
                None => std::future::pending().await,
            }
        };
        let hang_up = async {
            match &mut hang_ups {
                Some(signal) => signal.recv().await,
                None => None,
            }
        };
        tokio::select! {
            (ControlCommand::Reload { dry_run }, asking) = command => {
                let answer = reloader.reload(dry_run).await;
                asking.answer(&answer).await;
            }
            Some(()) = hang_up => drop(reloader.reload(false).await),
            else => return,
        }
    }
}

struct Reloader {
    file: PathBuf,
    /// The line-up that is on air. Settings that wait for the next start are as they were at this one.
    lineup: Lineup,
    head_end: Arc<HeadEnd>,
}

impl Reloader {
    /// Reads the line-up, and adapts the stations to it unless this is a dry run.
    async fn reload(&mut self, dry_run: bool) -> ControlAnswer {
        let (file, old) = (self.file.clone(), self.lineup.clone());
        let load = move || {
            let new = Lineup::load(&file)?;
            let difference = Difference::of(&old, &new, |spec| has_sound(&spec.sound, &spec.media));
            Ok((new, difference))
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        let (new, difference) = match loaded {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(fault)) => return self.refuse(lines(&fault)),
            Err(_) => return self.refuse(vec!["the line-up cannot be checked".into()]),
        };
        let mut sentences = difference.sentences();
        if dry_run {
            sentences.push(
                if difference.is_empty() { "nothing would change" } else { "nothing was changed" }.into(),
            );
            return ControlAnswer { done: true, sentences };
        }
        new.notes().iter().for_each(|note| warn!("{note}"));
        let begin = self.apply(&difference);
        self.lineup.stations = new.stations;
        sentences.extend(self.await_on_air(&begin).await);
        if difference.is_empty() {
            sentences.push("nothing has changed".into());
        }
        sentences.iter().for_each(|sentence| info!("reload: {sentence}"));
        ControlAnswer { done: true, sentences }
    }

    fn refuse(&self, mut sentences: Vec<String>) -> ControlAnswer {
        sentences.push("the line-up on air stays as it is".into());
        sentences.iter().for_each(|sentence| warn!("reload: {sentence}"));
        ControlAnswer { done: false, sentences }
    }

    /// Adapts the stations. Returns those that begin.
    fn apply(&self, difference: &Difference) -> Vec<StationId> {
        let stations = self.head_end.stations();
        for change in &difference.stations {
            let (ChangeKind::Renamed(spec) | ChangeKind::InPlace(spec, _)) = &change.kind else { continue };
            let Some(station) = stations.get(&change.id) else { continue };
            station.set_spec(StationSpec::clone(spec));
            // The table refuses no name: the line-up was checked.
            let _ = self.head_end.table.update(change.id, |entry| entry.name.clone_from(&spec.name));
        }
        let begins = |kind: &ChangeKind| match kind {
            ChangeKind::Added(spec) | ChangeKind::Restarts(spec, _) => Some(spec.clone()),
            _ => None,
        };
        let is_removed = |kind: &ChangeKind| *kind == ChangeKind::Removed;
        if difference.stations.iter().any(|change| begins(&change.kind).is_some() || is_removed(&change.kind))
        {
            self.head_end.change_stations(|handles| {
                for change in &difference.stations {
                    if is_removed(&change.kind) {
                        handles.remove(&change.id);
                    } else if let Some(spec) = begins(&change.kind) {
                        handles.insert(change.id, Arc::new(StationHandle::new(*spec)));
                    }
                }
            });
        }
        difference
            .stations
            .iter()
            .filter(|change| begins(&change.kind).is_some())
            .map(|change| change.id)
            .collect()
    }

    /// Waits until the stations that begin are on air. Returns a sentence for each.
    #[expect(clippy::disallowed_methods, reason = "a shell: it does not wait for ever")]
    async fn await_on_air(&self, begin: &[StationId]) -> Vec<String> {
        let mut changes = self.head_end.table.changes();
        let state = |id: StationId| {
            // Until the new station has entered the table, the old one's entry is there.
            let has_begun = self.head_end.station(id)?.feed.at(self.head_end.clock.now()).is_some();
            self.head_end.entry(id).map(|entry| entry.state).filter(|_| has_begun)
        };
        let all = async {
            while begin.iter().any(|&id| state(id).is_none_or(|state| state == State::Starting)) {
                // The first picture is due a moment after the station has told what it shows.
                let _ = tokio::time::timeout(Duration::from_millis(20), changes.changed()).await;
            }
        };
        let _ = tokio::time::timeout(ON_AIR, all).await;
        let told = begin.iter().map(|&id| match state(id) {
            Some(State::Film) => format!("station {id} is on air"),
            Some(State::Slate { reason }) => format!("station {id} shows a slate: {reason}"),
            Some(State::Starting) | None => format!("station {id} is not on air yet"),
        });
        told.collect()
    }
}

/// The sentences of an error.
fn lines(error: &crate::lineup::ConfigError) -> Vec<String> {
    error.sentences().to_vec()
}
