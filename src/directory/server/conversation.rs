//! One connection's conversation: requests in their order, pushes in between, an end to every wait.

use std::io;
use std::net::SocketAddr;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::Limits;
use crate::directory::link::{Link, Wire};
use crate::directory::message::{ErrorCode, Reply, Request, VERSION, encode};
use crate::directory::table::{Seat, StationTable};
use crate::media::StationId;

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client closed.
    Closed,
    /// The connection broke.
    Lost(io::Error),
    /// The client did not take a reply in time.
    Stuck,
    /// The client is to be told why, and the connection to be closed.
    Refused { code: ErrorCode, sentence: String },
}

fn refused(code: ErrorCode, sentence: impl Into<String>) -> End {
    End::Refused { code, sentence: sentence.into() }
}

pub(super) struct Conversation<'a, S> {
    link: Link<S, Request>,
    peer: SocketAddr,
    table: &'a StationTable,
    limits: &'a Limits,
    greeted: bool,
    seat: Option<Seat>,
    watching: Option<Watching>,
}

impl<'a, S: Wire> Conversation<'a, S> {
    pub(super) fn new(
        link: Link<S, Request>,
        peer: SocketAddr,
        table: &'a StationTable,
        limits: &'a Limits,
    ) -> Self {
        Conversation { link, peer, table, limits, greeted: false, seat: None, watching: None }
    }

    /// Leaves the audience, and hands back the connection for the last words.
    pub(super) fn leave(self) -> Link<S, Request> {
        self.link
    }

    /// Talks until it is over.
    pub(super) async fn run(&mut self) -> End {
        let born = Instant::now();
        let mut heard = born; // when the last request was complete
        let mut began = None; // when the request under way began
        loop {
            loop {
                match self.link.take() {
                    Ok(Some(request)) => {
                        if let Err(end) = self.answer(request).await {
                            return end;
                        }
                        heard = Instant::now();
                        began = None;
                    }
                    Ok(None) => break,
                    Err(error) => return refused(ErrorCode::BadRequest, error.to_string()),
                }
            }
            let (deadline, sentence) = if !self.greeted {
                (born + self.limits.hello, "no Hello came in time")
            } else if self.link.is_midway() {
                (
                    *began.get_or_insert_with(Instant::now) + self.limits.request,
                    "a request was not finished in time",
                )
            } else {
                (heard + self.limits.idle, "nothing came for too long: send a Ping now and then")
            };
            tokio::select! {
                read = self.link.fill() => match read {
                    Ok(true) => {}
                    Ok(false) => return End::Closed,
                    Err(error) => return End::Lost(error),
                },
                () = Watching::due(&mut self.watching, self.limits) => {
                    if let Err(end) = self.push().await {
                        return end;
                    }
                }
                () = sleep_until(deadline) => return refused(ErrorCode::TimedOut, sentence),
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<(), End> {
        match request {
            Request::Hello { .. } if self.greeted => {
                Err(refused(ErrorCode::BadRequest, "a second Hello: one is enough"))
            }
            Request::Hello { version, agent } => {
                if version != VERSION {
                    let sentence = format!(
                        "version {version} is not spoken here: this directory speaks version {VERSION}"
                    );
                    return Err(refused(ErrorCode::UnsupportedVersion, sentence));
                }
                debug!(peer = %self.peer, ?agent, "directory: hello");
                self.greeted = true;
                let server = concat!("stationcast ", env!("CARGO_PKG_VERSION")).to_owned();
                self.send(&Reply::Hello { version, server }).await
            }
            _ if !self.greeted => Err(refused(ErrorCode::BadRequest, "the first request must be Hello")),
            Request::List => self.send(&self.line_up()).await,
            Request::Tune { station } => self.tune(station).await,
            Request::Watch => {
                self.watching.get_or_insert_with(|| Watching {
                    changes: self.table.changes(),
                    pushed: Instant::now(),
                    due: None,
                });
                self.push().await
            }
            Request::Ping => self.send(&Reply::Pong).await,
            Request::Services => self.send(&Reply::Services(self.table.services())).await,
        }
    }

    async fn tune(&mut self, station: StationId) -> Result<(), End> {
        if self.seat.as_ref().is_none_or(|seat| seat.station != station)
            && let Some(seat) = self.table.sit(station)
        {
            self.seat = Some(seat); // which leaves the old one
        }
        let Some((entry, now)) = self.table.look(station) else {
            let sentence = format!("there is no station {station} in the line-up");
            return self.send(&Reply::Error { code: ErrorCode::NoSuchStation, sentence }).await;
        };
        match encode(&Reply::Tuned { entry: entry.clone(), now }) {
            Ok(bytes) => self.write(&bytes).await,
            Err(error) => {
                warn!(station = %station, %error, "directory: the picture on air cannot be handed over");
                self.send(&Reply::Tuned { entry, now: None }).await
            }
        }
    }

    fn line_up(&self) -> Reply {
        let (revision, stations) = self.table.line_up();
        Reply::LineUp { revision, stations }
    }

    /// Sends the line-up, and notes for a watcher what it has seen.
    async fn push(&mut self) -> Result<(), End> {
        if let Some(watching) = &mut self.watching {
            watching.changes.mark_unchanged(); // first: a change after it is seen, at worst twice
            watching.pushed = Instant::now();
            watching.due = None;
        }
        self.send(&self.line_up()).await
    }

    async fn send(&mut self, reply: &Reply) -> Result<(), End> {
        match encode(reply) {
            Ok(bytes) => self.write(&bytes).await,
            Err(error) => {
                // The table admits only what fits: our bug, and not this client's.
                tracing::error!(peer = %self.peer, %error, "directory: cannot answer");
                Err(End::Closed)
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        match timeout(self.limits.write, self.link.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::Lost(error)),
            Err(_) => Err(End::Stuck),
        }
    }
}

/// A watcher's view of the table.
struct Watching {
    changes: watch::Receiver<u64>,
    pushed: Instant,
    due: Option<Instant>,
}

impl Watching {
    /// Waits until the line-up is to be pushed: a change, but not too soon after the last push. For
    /// ever when nobody watches. May be cancelled.
    async fn due(watching: &mut Option<Watching>, limits: &Limits) {
        let Some(watching) = watching else { return std::future::pending().await };
        let due = match watching.due {
            Some(due) => due,
            None => {
                if watching.changes.changed().await.is_err() {
                    return std::future::pending().await; // the table is gone: nothing changes any more
                }
                *watching.due.insert(watching.pushed + limits.push)
            }
        };
        sleep_until(due).await;
    }
}
