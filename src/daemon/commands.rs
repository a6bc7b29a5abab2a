//! Obeys commands while the broadcaster runs: those on the control socket, SIGHUP, and changes of the line-up's file if it is
//! followed.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::follow::FollowedFile;
use super::reload::{Cause, Reloader};
use crate::control::{Asking, ControlAnswer, ControlCommand, ControlSocket};
use crate::headend::OrderRefused;

/// The file of a line-up, and the socket of the commands on it.
pub struct LineupSource {
    /// The file.
    pub file: PathBuf,
    /// The control socket; `None`: only SIGHUP reloads.
    pub control: Option<ControlSocket>,
}

/// Obeys the commands that come to `source`.
pub(super) async fn obey(source: LineupSource, mut reloader: Reloader) {
    let LineupSource { file, control } = source;
    let mut hang_ups = signal(SignalKind::hangup()).ok();
    let mut followed = None;
    loop {
        if !reloader.lineup.watch {
            followed = None;
        } else if followed.is_none() {
            followed = Some(FollowedFile::new(file.clone()));
        }
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
        let changed = async {
            match &mut followed {
                Some(file) => file.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (command, asking) = command => match command {
                ControlCommand::Reload { dry_run: true } => asking.answer(&reloader.dry_run().await).await,
                // Stations take their time, and no other command waits for them.
                ControlCommand::Reload { dry_run: false } => {
                    let reloaded = reloader.reload(Cause::Asked).await;
                    tokio::spawn(async move { asking.answer(&reloaded.finish().await).await });
                }
                ControlCommand::Order { station, order } => {
                    let head_end = reloader.head_end.clone();
                    tokio::spawn(async move {
                        let answer = answer_to(head_end.order(station, order).await);
                        asking.answer(&answer).await;
                    });
                }
            },
            Some(()) = hang_up => drop(tokio::spawn(reloader.reload(Cause::Asked).await.finish())),
            () = changed => drop(tokio::spawn(reloader.reload(Cause::Change).await.finish())),
        }
    }
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
