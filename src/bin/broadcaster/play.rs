//! `broadcaster play`: films on air without a line-up.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use stationcast::content::film_list::FilmList;
use stationcast::daemon::invitation;
use stationcast::directory::{self, State};
use stationcast::lineup::{Lineup, PlayOptions, World};
use stationcast::log::without_numbers;

use super::{broadcast, outcome, print};

/// Longest wait for an answer of our own directory.
const ANSWER: Duration = Duration::from_secs(5);

/// Time between two looks whether our station is on air: shorter than a person notices.
const GLANCE: Duration = Duration::from_millis(50);

/// The arguments.
#[derive(clap::Args)]
pub(super) struct Play {
    /// Films, pictures, or folders of them, which are played in this order, for ever
    #[arg(value_name = "FILM", required = true)]
    films: Vec<PathBuf>,
    /// The multicast group; default: a random one in 239.255.0.0/16
    #[arg(long, value_name = "GROUP:PORT")]
    group: Option<String>,
    /// The station's name; default: that of the first film
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Send on this interface, by name or address, for other machines; default: loopback, which nothing leaves
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
}

impl Play {
    /// Plays the films until a signal stops it.
    pub(super) fn run(&self) -> ExitCode {
        let world = match World::of_this_machine() {
            Ok(world) => world,
            Err(error) => {
                return outcome(Err(error).context("cannot list this machine's network interfaces"));
            }
        };
        let options = PlayOptions {
            films: self.films.clone(),
            name: self.name.clone(),
            group: self.group.clone(),
            interface: self.interface.clone(),
            any: fastrand::u16(..),
        };
        let lineup = match Lineup::of_films(&options, &world) {
            Ok(lineup) => lineup,
            Err(error) => {
                let sentences = error.sentences().iter();
                sentences.for_each(|sentence| eprintln!("broadcaster: {}", without_numbers(sentence)));
                return ExitCode::from(2);
            }
        };
        let films = FilmList::probe(&lineup);
        let faults = films.faults();
        // A folder may have other files than films, which are passed over. A film that somebody names is meant.
        let is_named =
            |film: &Option<&Path>| film.is_none_or(|film| options.films.iter().any(|one| one == film));
        let is_wrong = faults.len() >= films.len() || faults.iter().any(|(_, film, _)| is_named(film));
        faults.iter().for_each(|(.., sentence)| eprintln!("broadcaster: {sentence}"));
        if is_wrong {
            return ExitCode::from(2);
        }
        outcome(broadcast(lineup, None))
    }
}

/// Prints how to watch the one station of `lineup`, once it is on air.
#[expect(clippy::disallowed_methods, reason = "a program is a shell")]
pub(super) async fn invite(lineup: Lineup) {
    // The directory answers as soon as the broadcaster serves it.
    while let Ok(stations) = directory::list(lineup.directory, ANSWER).await {
        if stations.first().is_some_and(|station| station.state != State::Starting) {
            break;
        }
        tokio::time::sleep(GLANCE).await;
    }
    let program = std::env::args_os().next().unwrap_or_default();
    let viewer = invitation::viewer_beside(Path::new(&program));
    let _ = print(&invitation::text(&lineup, &viewer));
}
