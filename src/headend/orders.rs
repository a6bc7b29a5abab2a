//! The orders of operators during an event: to skip a film, to play another one, to hold, to go on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{HeadEnd, StationHandle};
use crate::content::catalogue::Catalogue;
use crate::content::worker::STUCK_AFTER;
use crate::directory::message::{MAX_SENTENCE, plain_text};
use crate::lineup::{Media, film_among};
use crate::media::StationId;

/// Longest time until a station has obeyed. What was handed to the air before is shown first, up to [`LEAD`](crate::air::LEAD);
/// a film without a reel then has to open.
const OBEYED_AFTER: Duration = Duration::from_secs(5);

/// An order to a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StationOrder {
    /// The next film at once.
    Skip,
    /// This film at once, and once. Then the programme goes on.
    Play(PathBuf),
    /// A slate with this text, and silence, until another order.
    Hold(String),
    /// The programme goes on.
    Resume,
}

/// An operator's content, which a station shows instead of its programme. The programme goes on underneath: after the interlude, films are on
/// that would be on without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interlude {
    /// A slate with this text.
    Hold(String),
    /// The film of this title, once.
    Film(Arc<str>),
}

/// Why an order was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefused {
    /// It never can be obeyed: there is no such station, or no such film.
    #[error("{0}")]
    Wrong(String),
    /// It cannot be obeyed as things are.
    #[error("{0}")]
    NotNow(String),
}

/// The last order, and its number, from 1; 0 if there was none.
pub(crate) type NumberedOrder = (u64, Option<StationOrder>);

/// The orders of one station. The last one counts.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    given: watch::Sender<NumberedOrder>,
    /// The number of the last order that was obeyed, and what kept it from success.
    obeyed: watch::Sender<(u64, Option<String>)>,
    interlude: watch::Sender<Option<Interlude>>,
}

impl Orders {
    /// Gives an order. Returns its number.
    fn give(&self, order: StationOrder) -> u64 {
        let mut number = 0;
        self.given.send_modify(|(last, given)| {
            *last += 1;
            number = *last;
            *given = Some(order);
        });
        number
    }

    /// Receives the last order whenever there is one.
    pub(crate) fn given(&self) -> watch::Receiver<NumberedOrder> {
        self.given.subscribe()
    }

    /// The order of this number has come on air. `fault` is what the station shows instead.
    pub(crate) fn obeyed(&self, number: u64, fault: Option<String>) {
        self.obeyed.send_replace((number, fault));
    }

    /// Records what is on instead of the programme.
    pub(crate) fn set_interlude(&self, interlude: Option<Interlude>) {
        self.interlude.send_replace(interlude);
    }

    /// The interlude that is on instead of the programme, up to [`LEAD`](crate::air::LEAD) ahead.
    pub(crate) fn interlude(&self) -> Option<Interlude> {
        self.interlude.borrow().clone()
    }

    /// The obstacle to the order of this number, once the station has obeyed; `None` if it does not in time.
    async fn outcome(&self, number: u64) -> Option<Option<String>> {
        let mut obeyed = self.obeyed.subscribe();
        let waited = timeout(OBEYED_AFTER, obeyed.wait_for(|(last, _)| *last >= number)).await;
        Some(waited.ok()?.ok()?.1.clone())
    }
}

impl HeadEnd {
    /// Gives a station an order, and waits until what it orders is handed to the air, less than a second before it is seen.
    /// Returns the sentence that tells what is on then.
    ///
    /// # Errors
    /// The order is refused, and then nothing has changed; or the station cannot obey.
    pub async fn order(&self, id: StationId, order: StationOrder) -> Result<String, OrderRefused> {
        let order = match order {
            StationOrder::Hold(text) => StationOrder::Hold(plain_text(&text, MAX_SENTENCE)),
            order => order,
        };
        let station = self.station(id).ok_or_else(|| OrderRefused::Wrong(self.no_station(id)))?;
        let spec = station.spec();
        let name = format!("station {id} \"{}\"", spec.name);
        let interlude = station.orders.interlude();
        let not_now = |why: &str| Err(OrderRefused::NotNow(format!("{name} {why}")));
        match (&order, &interlude) {
            (StationOrder::Skip, Some(Interlude::Hold(_))) => {
                return not_now("is on hold; resume it, or play a film");
            }
            (StationOrder::Skip, None) if !matches!(spec.media, Media::Films(_)) => {
                return not_now("shows no films, so there is no next one");
            }
            (StationOrder::Resume, None) => {
                return not_now("shows its programme; there is nothing to resume");
            }
            _ => {}
        }
        if let StationOrder::Play(film) = &order {
            self.check_film(film, spec.slide).await?;
        }
        let number = station.orders.give(order.clone());
        match station.orders.outcome(number).await {
            Some(None) => Ok(match order {
                StationOrder::Hold(text) => format!("{name} is on hold: {text}"),
                StationOrder::Play(_) => format!("{name} shows {} once", station.latest_title()),
                StationOrder::Skip | StationOrder::Resume if !matches!(spec.media, Media::Films(_)) => {
                    format!("{name} goes on")
                }
                StationOrder::Skip | StationOrder::Resume => {
                    format!("{name} goes on with {}", station.latest_title())
                }
            }),
            Some(Some(fault)) => not_now(&fault),
            None => not_now(&format!("has not obeyed within {} s", OBEYED_AFTER.as_secs())),
        }
    }

    /// The film that a client of the network names, which is one of the stations' films, or beside one; a relative path continues
    /// `folder`, that of the line-up, or a folder of films.
    ///
    /// # Errors
    /// It is none of these, or the disk does not answer.
    pub(crate) async fn film_of_line_up(
        &self,
        film: PathBuf,
        folder: PathBuf,
    ) -> Result<PathBuf, OrderRefused> {
        let media: Vec<PathBuf> = self.media().into_iter().collect();
        let name = film.display().to_string();
        let looking = tokio::task::spawn_blocking(move || film_among(&media, &folder, &film));
        match timeout(STUCK_AFTER, looking).await {
            Ok(Ok(Some(film))) => Ok(film),
            Ok(Ok(None)) => Err(OrderRefused::Wrong(format!(
                "{name} is no film of the line-up, nor one in the same folder: others are played from this machine only"
            ))),
            _ => Err(OrderRefused::NotNow(format!("{name} cannot be read in time"))),
        }
    }

    fn no_station(&self, id: StationId) -> String {
        let stations = self.stations();
        let station = |station: &Arc<StationHandle>| {
            let spec = station.spec();
            format!("{} \"{}\"", spec.id, spec.name)
        };
        let all: Vec<String> = stations.values().map(station).collect();
        format!("there is no station {id}; choose one of {}", all.join(", "))
    }

    /// Checks that a film can be played, and finds its title.
    async fn check_film(&self, film: &Path, slide: Duration) -> Result<(), OrderRefused> {
        let (catalogue, path) = (self.catalogue.clone(), film.to_owned());
        let checked = tokio::task::spawn_blocking(move || check(&catalogue, &path, slide));
        match timeout(STUCK_AFTER, checked).await {
            Ok(Ok(checked)) => checked.map_err(OrderRefused::Wrong),
            _ => Err(OrderRefused::NotNow(format!("{} cannot be read in time", film.display()))),
        }
    }
}

fn check(catalogue: &Catalogue, film: &Path, slide: Duration) -> Result<(), String> {
    match fs::metadata(film) {
        Ok(found) if found.is_dir() => return Err(format!("{} is a folder; name a film", film.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("there is no film {}", film.display()));
        }
        _ => {}
    }
    catalogue.outline(film, slide).map_err(|error| error.to_string())?;
    catalogue.title(film);
    Ok(())
}

impl StationHandle {
    /// The interlude that is on instead of the programme, by an order, or will be within a second.
    pub fn interlude(&self) -> Option<Interlude> {
        self.orders.interlude()
    }

    /// The title of the film that was handed to the air last, in quotation marks, for a sentence.
    fn latest_title(&self) -> String {
        let title = match self.interlude() {
            Some(Interlude::Film(title)) => Some(title),
            _ => self.guide().latest_title(),
        };
        title.map_or("a film".into(), |title| format!("\"{title}\""))
    }

    /// A station that starts again is on hold if it was.
    pub(crate) fn stay_on_hold(&self, before: &StationHandle) {
        if let Some(hold @ Interlude::Hold(_)) = before.orders.interlude() {
            self.orders.set_interlude(Some(hold));
        }
    }
}
