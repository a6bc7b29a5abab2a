//! A connection to the directory that is kept, and made again, for as long as a viewer runs.

#![expect(clippy::disallowed_methods, reason = "a shell: it waits between attempts")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::{connect, hello};
use crate::directory::link::{Link, Wire};
use crate::directory::message::{ErrorCode, OnAir, Reply, Request, StationInfo, VERSION, encode};
use crate::media::StationId;

/// A connection is made within this, or it has failed.
const CONNECT: Duration = Duration::from_secs(3);

/// A Ping follows the last thing we said by this: the server closes at 90 s of our silence, however
/// much it says itself.
const PING: Duration = Duration::from_secs(20);

/// Everything we say is answered by something within this, or the server is lost.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection that lasted this long was a good one: the next pause is the shortest again.
const GOOD: Duration = Duration::from_secs(8);

/// What the directory says, or what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The directory has answered our Hello.
    Connected {
        /// Our end of the connection; its address is the interface by which the server is reached.
        local: SocketAddr,
    },
    /// All stations, ascending by id: after every Connected, and after every change.
    LineUp(Vec<StationInfo>),
    /// We are in the audience of the station last wanted.
    Tuned {
        /// The station.
        entry: StationInfo,
        /// What it shows now; `None` when nothing has gone on air yet.
        now: Option<OnAir>,
    },
    /// The directory refused something. Unless the code is [`ErrorCode::NoSuchStation`] a Lost follows.
    Refused {
        /// For programs.
        code: ErrorCode,
        /// The server's words.
        sentence: String,
    },
    /// There is no connection; the next attempt is in `retry_in`.
    Lost {
        /// Why, for people.
        reason: String,
        /// The pause before the next attempt: 250 ms to 8 s.
        retry_in: Duration,
    },
}

/// A connection to a directory, kept alive and made again until this is dropped.
#[derive(Debug)]
pub struct Session {
    wanted: watch::Sender<Option<StationId>>,
    task: AbortHandle,
}

impl Session {
    /// Connects, says Hello, watches the line-up, and tunes when [`tune`](Self::tune) says so; for
    /// ever, with a pause that grows from 250 ms to 8 s between failed attempts. `events` is called
    /// on the session's task: it should pass the event on and return.
    ///
    /// # Panics
    /// Outside a tokio runtime with time and I/O enabled.
    pub fn start(directory: SocketAddr, events: impl Fn(Event) + Send + 'static) -> Session {
        let (wanted, watched) = watch::channel(None);
        let client = Client { wanted: watched, events: Box::new(events) };
        let task = tokio::spawn(client.keep(directory)).abort_handle();
        Session { wanted, task }
    }

    /// Asks for a station: written at once when connected, else (and again) as soon as it is. Never
    /// blocks; of several quick calls the newest wins. Answered by [`Event::Tuned`] or
    /// [`Event::Refused`]; only the Tuned of the station last wanted is passed on.
    pub fn tune(&self, station: StationId) {
        self.wanted.send_replace(Some(station));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Client {
    wanted: watch::Receiver<Option<StationId>>,
    events: Box<dyn Fn(Event) + Send>,
}

impl Client {
    async fn keep(mut self, directory: SocketAddr) {
        let mut pause = Pause::default();
        loop {
            let began = Instant::now();
            let reason = match timeout(CONNECT, connect(directory)).await {
                Ok(Ok(stream)) => match stream.local_addr() {
                    Ok(local) => self.converse(stream, local).await,
                    Err(error) => Err(error.to_string()),
                },
                Ok(Err(error)) => Err(format!("cannot connect to the directory at {directory}: {error}")),
                Err(_) => Err(format!("the directory at {directory} does not answer")),
            };
            let Err(reason) = reason else { return };
            if began.elapsed() >= GOOD {
                pause = Pause::default();
            }
            let retry_in = pause.next(fastrand::f64());
            (self.events)(Event::Lost { reason, retry_in });
            sleep(retry_in).await;
        }
    }

    /// One connection, until it is lost (`Err`: why) or nobody wants it any more (`Ok`).
    async fn converse(&mut self, stream: impl Wire, local: SocketAddr) -> Result<(), String> {
        let mut link = Link::<_, Reply>::new(stream);
        let mut opening = vec![hello(), Request::Watch];
        let wanted = *self.wanted.borrow_and_update();
        opening.extend(wanted.map(|station| Request::Tune { station }));
        say(&mut link, &opening).await?;

        let mut greeted = false;
        let mut said = Instant::now();
        let mut unanswered = Some(said); // since when
        loop {
            while let Some(reply) = link.take().map_err(|error| error.to_string())? {
                unanswered = None;
                self.hear(reply, &mut greeted, local)?;
            }
            let lost_at = unanswered.map(|since| since + ANSWER);
            let request = tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    match *self.wanted.borrow_and_update() {
                        Some(station) => Request::Tune { station },
                        None => continue,
                    }
                }
                read = link.fill() => match read {
                    Ok(true) => continue,
                    Ok(false) => return Err("the directory closed the connection".to_owned()),
                    Err(error) => return Err(error.to_string()),
                },
                () = sleep_until(said + PING) => Request::Ping,
                () = sleep_until(lost_at.unwrap_or(said)), if lost_at.is_some() => {
                    return Err(format!("the directory has not answered for {} s", ANSWER.as_secs()));
                }
            };
            say(&mut link, &[request]).await?;
            said = Instant::now();
            unanswered.get_or_insert(said);
        }
    }

    fn hear(&self, reply: Reply, greeted: &mut bool, local: SocketAddr) -> Result<(), String> {
        match reply {
            Reply::Hello { version, server } if !*greeted => {
                if version != VERSION {
                    return Err(format!("the directory speaks version {version}, we speak {VERSION}"));
                }
                debug!(%local, %server, "directory: connected");
                *greeted = true;
                (self.events)(Event::Connected { local });
            }
            Reply::Error { code, sentence } => (self.events)(Event::Refused { code, sentence }),
            _ if !*greeted => return Err("the directory did not begin with Hello".to_owned()),
            Reply::Hello { .. } => return Err("the directory said Hello twice".to_owned()),
            Reply::LineUp { stations, .. } => (self.events)(Event::LineUp(stations)),
            Reply::Tuned { entry, now } => {
                // An answer that a newer zap has overtaken would show the wrong picture for a blink.
                if *self.wanted.borrow() == Some(entry.id) {
                    (self.events)(Event::Tuned { entry, now });
                }
            }
            Reply::Pong | Reply::Services(_) => {}
        }
        Ok(())
    }
}

/// Sends requests in one write.
async fn say(link: &mut Link<impl Wire, Reply>, requests: &[Request]) -> Result<(), String> {
    let mut bytes = Vec::new();
    for request in requests {
        bytes.extend(encode(request).map_err(|error| error.to_string())?);
    }
    match timeout(ANSWER, link.send(&bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the directory does not read what we send".to_owned()),
    }
}

/// The pause between attempts: doubles from 250 ms to 6.4 s, and a random quarter more, so that a
/// thousand viewers do not all come back to a restarted server in the same instant.
#[derive(Debug, Default)]
struct Pause {
    failures: u32,
}

impl Pause {
    /// The next pause; `jitter` is 0.0..1.0.
    fn next(&mut self, jitter: f64) -> Duration {
        let steady = Duration::from_millis(250 << self.failures.min(5)).min(Duration::from_millis(6400));
        self.failures = self.failures.saturating_add(1);
        steady.mul_f64(1.0 + jitter / 4.0)
    }
}

#[cfg(test)]
mod tests;
