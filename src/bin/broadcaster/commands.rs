//! Commands to a broadcaster that runs, by its control socket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Subcommand;
use stationcast::control::{self, ControlCommand};
use stationcast::directory::message::MAX_SENTENCE;
use stationcast::headend::StationOrder;
use stationcast::media::StationId;

use super::{outcome, print};

/// The arguments of `broadcaster control`.
#[derive(clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Control {
    /// The station
    #[arg(value_name = "NUMBER", value_parser = super::station)]
    station: u16,
    #[command(subcommand)]
    order: Order,
    /// The line-up
    #[arg(long, value_name = "FILE", default_value = "stations.toml", global = true)]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Order {
    /// The next film at once
    Skip,
    /// This film at once, and once; then the programme goes on
    Play {
        /// The film
        film: PathBuf,
    },
    /// A slate with this text, and silence, until another order
    Hold {
        /// The text
        #[arg(value_parser = slate_text)]
        text: String,
    },
    /// The programme goes on, where it would be without a hold or another film
    Resume,
}

/// The text of a slate.
fn slate_text(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("say what the slate is to show".into()),
        1..=MAX_SENTENCE => Ok(text.to_owned()),
        _ => Err(format!("a slate has room for {MAX_SENTENCE} bytes at most")),
    }
}

impl Control {
    /// Gives the station the order, and prints the answer.
    pub(super) fn run(&self) -> ExitCode {
        let Control { station, order, config } = self;
        let order = match order {
            Order::Skip => StationOrder::Skip,
            Order::Play { film } if film.to_str().is_none() => {
                eprintln!("{}: the name of the film is not UTF-8", film.display());
                return ExitCode::from(2);
            }
            Order::Play { film } => StationOrder::Play(located(film, config)),
            Order::Hold { text } => StationOrder::Hold(text.clone()),
            Order::Resume => StationOrder::Resume,
        };
        ask(config, &ControlCommand::Order { station: StationId(*station), order })
    }
}

/// The absolute path of a film that an operator names: in the current folder, or as in the line-up, in its folder.
fn located(film: &Path, lineup: &Path) -> PathBuf {
    let beside =
        lineup.parent().map(|folder| folder.join(film)).filter(|beside| beside.exists() && !film.exists());
    let film = beside.unwrap_or_else(|| film.to_owned());
    std::path::absolute(&film).unwrap_or(film)
}

/// Sends a command to the broadcaster that runs the line-up of `file`, and prints its answer.
pub(super) fn ask(file: &Path, command: &ControlCommand) -> ExitCode {
    let answer = control::paths(file).and_then(|paths| control::ask(&paths, command));
    match answer {
        Ok(answer) if answer.done => {
            outcome(answer.sentences.iter().try_for_each(|sentence| print(&format!("{sentence}\n"))))
        }
        Ok(answer) => {
            answer.sentences.iter().for_each(|sentence| eprintln!("{sentence}"));
            if answer.not_now { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
        Err(error) => {
            let error =
                anyhow!(error).context(format!("no broadcaster of this user runs {}", file.display()));
            outcome(Err(error))
        }
    }
}
