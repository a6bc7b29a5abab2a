//! Obeys commands while the broadcaster runs: those on the control socket and of the web, SIGHUP, and changes of the line-up's
//! file if it is followed.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::info;

use super::follow::FollowedFile;
use super::reload::{Cause, Reloader};
use crate::control::{Asked, Commands, ControlAnswer, ControlCommand, ControlSocket, Origin, serve};
use crate::headend::{HeadEnd, OrderRefused, StationOrder};
use crate::media::StationId;

/// The file of a line-up, and the socket of the commands on it.
pub struct LineupSource {
    /// The file.
    pub file: PathBuf,
    /// The control socket; `None`: only SIGHUP reloads.
    pub control: Option<ControlSocket>,
}

/// Obeys the commands that come by the control socket of `source` or are sent to `given`, SIGHUP, and changes of the line-up's file.
pub(super) async fn obey(
    source: LineupSource,
    commands: Commands,
    mut given: mpsc::Receiver<Asked>,
    mut reloader: Reloader,
) {
    let LineupSource { file, control } = source;
    let mut hang_ups = signal(SignalKind::hangup()).ok();
    let mut followed = None;
    // It lives as long as the loop: a command that is half read when something else happens is read on.
    let mut serving = pin!(async {
        match control {
            Some(socket) => serve(socket, commands).await,
            // The commands are kept, so that there may always be another one.
            None => std::future::pending::<()>().await,
        }
    });
    loop {
        if !reloader.lineup.watch {
            followed = None;
        } else if followed.is_none() {
            followed = Some(FollowedFile::new(file.clone()));
        }
        let hang_up = async {
            match &mut hang_ups {
                Some(signal) => signal.recv().await,
                None => None,
            }
        };
        let changed = async {
            match &mut followed {
                Some(file) => file.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut serving => {}
            Some(asked) = given.recv() => obey_one(asked, &file, &mut reloader).await,
            Some(()) = hang_up => {
                info!("audit: SIGHUP orders a reload");
                drop(tokio::spawn(reloader.reload(Cause::Asked).await.finish()));
            }
            () = changed => drop(tokio::spawn(reloader.reload(Cause::Change).await.finish())),
        }
    }
}

/// Obeys a command on the line-up of `file`. Stations take their time, and no other command waits for them.
async fn obey_one(asked: Asked, file: &Path, reloader: &mut Reloader) {
    let Asked { command, origin, answer } = asked;
    info!("audit: {origin} orders {command}");
    // A client that is gone needs no answer.
    match command {
        ControlCommand::Reload { dry_run: true } => drop(answer.send(reloader.dry_run().await)),
        ControlCommand::Reload { dry_run: false } => {
            let reloaded = reloader.reload(Cause::Asked).await;
            tokio::spawn(async move { drop(answer.send(reloaded.finish().await)) });
        }
        ControlCommand::Order { station, order } => {
            let head_end = reloader.head_end.clone();
            let folder = file.parent().map(Path::to_owned).unwrap_or_default();
            tokio::spawn(async move {
                let obeyed = answer_to(order_from(&origin, &head_end, station, order, folder).await);
                let outcome = if obeyed.done { "obeyed" } else { "refused" };
                info!("audit: the order of {origin} is {outcome}: {}", obeyed.sentences.join("; "));
                drop(answer.send(obeyed));
            });
        }
    }
}

/// Gives a station an order. A film that is named from the network is one of the line-up in `folder`, or beside one.
async fn order_from(
    origin: &Origin,
    head_end: &Arc<HeadEnd>,
    station: StationId,
    order: StationOrder,
    folder: PathBuf,
) -> Result<String, OrderRefused> {
    let order = match (order, origin) {
        (StationOrder::Play(film), Origin::Network(_)) => {
            StationOrder::Play(head_end.film_of_line_up(film, folder).await?)
        }
        (order, _) => order,
    };
    head_end.order(station, order).await
}

/// The answer to an order with this result.
fn answer_to(result: Result<String, OrderRefused>) -> ControlAnswer {
    let (done, not_now, sentence) = match result {
        Ok(sentence) => (true, false, sentence),
        Err(OrderRefused::Wrong(sentence)) => (false, false, sentence),
        Err(OrderRefused::NotNow(sentence)) => (false, true, sentence),
    };
    ControlAnswer { done, not_now, sentences: vec![sentence] }
}
