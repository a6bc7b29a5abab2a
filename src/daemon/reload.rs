//! Adapts a running broadcaster to its line-up when the file has changed.
//!
//! A line-up with a fault changes nothing. Stations that are the same in both line-ups are not touched: they keep their task,
//! sockets, SSRC, sequence numbers and place in the programme.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::listeners::ListenerSwitch;
use super::service::ServiceManager;
use crate::announce::Announcements;
use crate::control::ControlAnswer;
use crate::directory::{Services, State};
use crate::headend::{HeadEnd, Interlude, StationHandle};
use crate::lineup::{ChangeKind, ConfigError, Difference, Lineup, StationSpec, has_sound};
use crate::media::StationId;

/// How long a reload waits for the stations that begin, to tell whether they are on air.
const ON_AIR: Duration = Duration::from_secs(5);

/// The cause of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody asked for it.
    Asked,
    /// The file has another content. The first look at it finds what is on air.
    Change,
}

/// Adapts a broadcaster to its line-up.
pub(super) struct Reloader {
    pub(super) file: PathBuf,
    /// The line-up that is on air. Settings that wait for the next start are as they were at this one.
    pub(super) lineup: Lineup,
    pub(super) head_end: Arc<HeadEnd>,
    pub(super) switch: ListenerSwitch,
    /// By which the web is addressed.
    pub(super) hosts: watch::Sender<Vec<String>>,
    pub(super) announced: watch::Sender<Announcements>,
    pub(super) manager: ServiceManager,
}

impl Reloader {
    /// Tells what a reload would change.
    pub(super) async fn dry_run(&self) -> ControlAnswer {
        match self.load().await {
            Ok((_, difference)) => {
                let mut sentences = difference.sentences();
                sentences.push(
                    if difference.is_empty() { "nothing would change" } else { "nothing was changed" }.into(),
                );
                ControlAnswer { done: true, not_now: false, sentences }
            }
            Err(sentences) => refusal(sentences),
        }
    }

    /// Reads the line-up, and adapts the broadcaster to it. Stations that begin are not waited for yet.
    pub(super) async fn reload(&mut self, cause: Cause) -> Reloaded {
        self.manager.reloading().await;
        let result = self.try_reload(cause).await;
        Reloaded { result, cause, head_end: self.head_end.clone(), manager: self.manager.clone() }
    }

    /// The line-up as the file has it, and its difference from the one on air.
    ///
    /// # Errors
    /// The sentences that say what is wrong with it.
    async fn load(&self) -> Result<(Lineup, Difference), Vec<String>> {
        let (file, old) = (self.file.clone(), self.lineup.clone());
        let load = move || {
            let new = Lineup::load(&file)?;
            let difference = Difference::of(&old, &new, |spec| has_sound(&spec.sound, &spec.media));
            Ok::<_, ConfigError>((new, difference))
        };
        match tokio::task::spawn_blocking(load).await {
            Ok(Ok(loaded)) => Ok(loaded),
            Ok(Err(fault)) => Err(fault.sentences().to_vec()),
            Err(_) => Err(vec!["the line-up cannot be checked".into()]),
        }
    }

    /// Returns what was done, in sentences, and which stations begin.
    ///
    /// # Errors
    /// Why nothing was.
    async fn try_reload(&mut self, cause: Cause) -> Result<(Vec<String>, Vec<StationId>), Vec<String>> {
        let (new, difference) = self.load().await?;
        // All that can fail comes first.
        let bound = ListenerSwitch::bind(&difference.listeners).map_err(|error| vec![error.to_string()])?;
        if cause != Cause::Change || !difference.is_empty() {
            new.notes().iter().for_each(|note| warn!("{note}"));
        }
        super::keep_secrets(&new);
        let begin = self.apply(&difference);
        self.lineup = Lineup { reel: self.lineup.reel.clone(), ..new };
        let head_end = self.head_end.clone();
        drop(tokio::task::spawn_blocking(move || head_end.forget_gone()));
        self.switch.switch(bound).await;
        self.tell_addresses();
        Ok((difference.sentences(), begin))
    }

    /// Tells where the broadcaster is reached by now.
    fn tell_addresses(&self) {
        let Lineup { directory, rtsp, http, .. } = self.lineup;
        self.head_end.table.set_services(Services { rtsp, http });
        let hosts = super::hosts(&self.lineup);
        self.hosts.send_if_modified(|before| std::mem::replace(before, hosts.clone()) != hosts);
        let announced = Announcements::new(&self.lineup, Some(directory));
        self.announced.send_if_modified(|before| std::mem::replace(before, announced.clone()) != announced);
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
                        let station = StationHandle::new(*spec);
                        if let Some(before) = handles.get(&change.id) {
                            station.stay_on_hold(before);
                        }
                        handles.insert(change.id, Arc::new(station));
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
}

/// A reload, but for the stations that begin.
pub(super) struct Reloaded {
    result: Result<(Vec<String>, Vec<StationId>), Vec<String>>,
    cause: Cause,
    head_end: Arc<HeadEnd>,
    manager: ServiceManager,
}

impl Reloaded {
    /// Waits for the stations that begin. Returns what has become of the reload, which the log has then.
    pub(super) async fn finish(self) -> ControlAnswer {
        let answer = match &self.result {
            Ok((done, begin)) => {
                let mut sentences = done.clone();
                sentences.extend(self.await_on_air(begin).await);
                if sentences.is_empty() {
                    sentences.push("nothing has changed".into());
                }
                if self.cause == Cause::Asked || !done.is_empty() {
                    sentences.iter().for_each(|sentence| info!("reload: {sentence}"));
                }
                ControlAnswer { done: true, not_now: false, sentences }
            }
            Err(sentences) => {
                let refusal = refusal(sentences.clone());
                refusal.sentences.iter().for_each(|sentence| warn!("reload: {sentence}"));
                refusal
            }
        };
        self.manager.reloaded().await;
        answer
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
                // The first picture is due a moment after the station has told what it shows, and nothing tells that it is.
                let _ = tokio::time::timeout(Duration::from_millis(5), changes.changed()).await;
            }
        };
        let _ = tokio::time::timeout(ON_AIR, all).await;
        let is_on_hold = |id| {
            let interlude = self.head_end.station(id).and_then(|station| station.interlude());
            matches!(interlude, Some(Interlude::Hold(_)))
        };
        let told = begin.iter().map(|&id| match state(id) {
            Some(State::Film) => format!("station {id} is on air"),
            Some(State::Slate { reason }) if is_on_hold(id) => format!("station {id} is on hold: {reason}"),
            Some(State::Slate { reason }) => format!("station {id} shows a slate: {reason}"),
            Some(State::Starting) | None => format!("station {id} is not on air yet"),
        });
        told.collect()
    }
}

/// The answer to a reload that is refused for these reasons.
fn refusal(mut sentences: Vec<String>) -> ControlAnswer {
    sentences.push("the line-up on air stays as it is".into());
    ControlAnswer { done: false, not_now: false, sentences }
}
