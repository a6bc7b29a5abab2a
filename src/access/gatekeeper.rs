//! Compares the secrets of clients with the file, counts their attempts, and writes the audit log.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{info, warn};

use super::grant::Grant;
use super::keys::{Entry, Keys, hex, is_token, random, sha256};
use super::{LONGEST_SECRET, Secret};
use crate::limits::Attempts;
use crate::log::RateLimit;
use crate::private_file::{Stamp, stamp};

/// Passwords that are hashed at one time, each in 19 MiB and 30 ms of a core.
const HASHED_AT_ONCE: usize = 2;

/// How long a log-in of a browser lasts, and how many there are at most. The oldest one gives way.
const SESSION: Duration = Duration::from_secs(12 * 3600);
const SESSIONS: usize = 4096;

/// A client that shows a secret.
#[derive(Debug, Clone, Copy)]
pub struct Visitor {
    /// Its address.
    pub address: IpAddr,
    /// Whether nobody between can read what it sends.
    pub tls: bool,
    /// The server that it came to, for the log.
    pub service: &'static str,
}

impl Visitor {
    /// Whether nobody on the way can read the connection: it is TLS, or comes from this machine.
    pub fn is_private(&self) -> bool {
        self.tls || self.address.to_canonical().is_loopback()
    }
}

/// The name and secret that a client shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name that a password belongs to. A token needs none.
    pub name: String,
    /// A token or a password.
    pub secret: Secret,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Anybody between could read the secret.
    #[error("tokens and passwords are taken by TLS only, or on the broadcaster's own machine")]
    Plain,
    /// The address has tried too often.
    #[error("too many wrong tokens or passwords came from this address: try again in {} s", .0.as_secs() + 1)]
    TooMany(Duration),
    /// There is no such token or password, or it is over.
    #[error("this token or password is not let in")]
    Wrong,
}

/// Why a client may not change what is on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmin {
    /// The client has shown no token or password.
    #[error("this needs a token or password with admin; `broadcaster token add NAME --admin` makes one")]
    Unknown,
    /// The client has shown none, and may not show one by this connection, which is plain.
    #[error(
        "this needs a token or password with admin, which are taken by TLS only, or on the broadcaster's own machine"
    )]
    Plain,
    /// The client's token or password has no `admin`: it may only watch.
    #[error("this token or password has no admin: it may only watch")]
    Watcher,
}

/// Lets clients in.
pub struct Gatekeeper {
    file: Option<PathBuf>,
    /// The file as it was when it was read last.
    read: Mutex<Stamp>,
    keys: watch::Sender<Arc<Keys>>,
    /// The entries that were let in when the file was looked at last, by their ids.
    let_in: Mutex<HashSet<String>>,
    attempts: Mutex<Attempts>,
    hashing: Arc<Semaphore>,
    /// The log-ins of browsers, by the hash of their cookie.
    sessions: Mutex<HashMap<[u8; 32], Session>>,
    /// Limits the log lines about attempts that are not looked at.
    ignored: Mutex<RateLimit>,
}

struct Session {
    entry: Arc<Entry>,
    ends: SystemTime,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without a file: nobody is let in, and every station is open to all.
impl Default for Gatekeeper {
    fn default() -> Gatekeeper {
        Gatekeeper::new(None, None, Keys::default())
    }
}

impl Gatekeeper {
    fn new(file: Option<PathBuf>, read: Stamp, keys: Keys) -> Gatekeeper {
        Gatekeeper {
            file,
            let_in: Mutex::default(),
            read: Mutex::new(read),
            keys: watch::Sender::new(Arc::new(keys)),
            attempts: Mutex::default(),
            hashing: Arc::new(Semaphore::new(HASHED_AT_ONCE)),
            sessions: Mutex::default(),
            ignored: Mutex::default(),
        }
    }

    /// Lets in the tokens and passwords of a file, which need not be there yet.
    ///
    /// # Errors
    /// As [`Keys::read`].
    pub fn open(file: &Path) -> io::Result<Gatekeeper> {
        let read = stamp(file);
        let keys = read_or_none(file)?;
        Ok(Gatekeeper::new(Some(file.to_owned()), read, keys))
    }

    /// The file; `None` if there is none, so that no station has to be closed.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the file again if it has changed. A file with a fault changes nothing, and the log says what is wrong. Returns whether an
    /// entry that was let in at the last look no longer is.
    #[expect(clippy::disallowed_methods, reason = "a shell: tokens end by the wall clock")]
    pub fn refresh(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let stamp = stamp(file);
        if std::mem::replace(&mut *lock(&self.read), stamp) != stamp {
            self.read_again(file);
        }
        let (keys, now) = (self.keys.borrow().clone(), SystemTime::now());
        let let_in = keys.entries().iter().filter(|entry| !entry.is_over(now)).map(|entry| entry.id.clone());
        let let_in: HashSet<String> = let_in.collect();
        let before = std::mem::replace(&mut *lock(&self.let_in), let_in.clone());
        !before.is_subset(&let_in)
    }

    fn read_again(&self, file: &Path) {
        match read_or_none(file) {
            Ok(keys) => {
                let old = self.keys.send_replace(Arc::new(keys));
                let new = self.keys.borrow().clone();
                let told = |verb: &str, entries: &[Entry], others: &Keys| {
                    for entry in entries.iter().filter(|entry| others.find(&entry.id) != Some(*entry)) {
                        let admin = if entry.admin { " with admin" } else { "" };
                        info!("audit: {verb} the {} \"{}\" ({}){admin}", entry.kind(), entry.name, entry.id);
                    }
                };
                told("removed", old.entries(), &new);
                told("added", new.entries(), &old);
            }
            Err(error) => warn!("tokens stay as they were: {}: {error}", file.display()),
        }
    }

    /// Lets a client in that shows `credentials`.
    ///
    /// # Errors
    /// It is not let in. There is no difference between a name that is not known and a secret that is wrong.
    #[expect(clippy::disallowed_methods, reason = "a shell: it counts attempts")]
    pub async fn admit(&self, visitor: Visitor, credentials: Credentials) -> Result<Grant, Denied> {
        let Visitor { address, service, .. } = visitor;
        let now = Instant::now();
        if !visitor.is_private() {
            self.ignore(now, visitor, Denied::Plain);
            return Err(Denied::Plain);
        }
        self.begin_attempt(now, visitor)?;
        let keys = self.keys.borrow().clone();
        let entry = self.find(keys, credentials).await.filter(|entry| !entry.is_over(SystemTime::now()));
        let Some(entry) = entry else {
            info!("audit: refused {address} by {service}: {}", Denied::Wrong);
            return Err(Denied::Wrong);
        };
        self.was_right(visitor);
        info!(
            "audit: let in {address} by {service}, with the {} \"{}\" ({})",
            entry.kind(),
            entry.name,
            entry.id
        );
        Ok(Grant::of(entry, self.keys.subscribe()))
    }

    /// Counts an attempt at a secret, before the caller compares it. An address has one number of attempts for all secrets
    /// together.
    ///
    /// # Errors
    /// [`Denied::TooMany`].
    pub(crate) fn begin_attempt(&self, now: Instant, visitor: Visitor) -> Result<(), Denied> {
        lock(&self.attempts).begin(now, visitor.address).map_err(|wait| {
            self.ignore(now, visitor, Denied::TooMany(wait));
            Denied::TooMany(wait)
        })
    }

    /// The attempt that was [counted](Self::begin_attempt) was right.
    pub(crate) fn was_right(&self, visitor: Visitor) {
        lock(&self.attempts).give_back(visitor.address);
    }

    async fn find(&self, keys: Arc<Keys>, credentials: Credentials) -> Option<Arc<Entry>> {
        let Credentials { name, secret } = credentials;
        if secret.reveal().len() > LONGEST_SECRET {
            return None;
        }
        if is_token(secret.reveal()) {
            return keys.of_token(&secret).cloned().map(Arc::new);
        }
        let permit = self.hashing.clone().acquire_owned().await.ok()?;
        let hashed = spawn_blocking(move || {
            let found = keys.of_password(&name, &secret).cloned();
            drop(permit);
            found
        });
        hashed.await.ok().flatten().map(Arc::new)
    }

    /// Lets a client change what is on air. Returns its name and the id of its token or password, for the audit log.
    ///
    /// # Errors
    /// It may not.
    #[expect(clippy::disallowed_methods, reason = "a shell: it limits log lines")]
    pub fn operator(&self, visitor: Visitor, grant: &Grant) -> Result<String, NotAdmin> {
        let refused = match grant.entry() {
            Some(entry) if grant.is_admin() && !grant.is_over() => {
                let Visitor { address, service, .. } = visitor;
                return Ok(format!("\"{}\" ({}) at {address}, by {service},", entry.name, entry.id));
            }
            Some(_) => NotAdmin::Watcher,
            None if visitor.is_private() => NotAdmin::Unknown,
            None => NotAdmin::Plain,
        };
        self.ignore(Instant::now(), visitor, refused);
        Err(refused)
    }

    /// Logs attempts of which there may be many, a line a second at most.
    fn ignore(&self, now: Instant, visitor: Visitor, denied: impl std::fmt::Display) {
        if let Some(count) = lock(&self.ignored).note(now) {
            info!(count, "audit: refused {} by {}: {denied}", visitor.address, visitor.service);
        }
    }

    /// Logs a browser in. Returns its cookie, and how long that lasts.
    ///
    /// # Errors
    /// The client was not let in, or the system gives no random numbers.
    #[expect(clippy::disallowed_methods, reason = "a shell: log-ins end by the wall clock")]
    pub fn log_in(&self, grant: &Grant) -> Result<(Secret, Duration), String> {
        let entry = grant.entry().ok_or("nobody is let in")?;
        let cookie = Secret::new(hex(&random::<32>()?));
        let now = SystemTime::now();
        let left = entry.expires.and_then(|end| end.duration_since(now).ok()).unwrap_or(SESSION);
        let lasts = left.min(SESSION);
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= SESSIONS {
            sessions.retain(|_, session| session.ends > now);
        }
        if sessions.len() >= SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.ends).map(|(hash, _)| *hash);
            oldest.and_then(|hash| sessions.remove(&hash));
        }
        sessions.insert(sha256(cookie.reveal()), Session { entry: entry.clone(), ends: now + lasts });
        Ok((cookie, lasts))
    }

    /// The browser that shows this cookie; `None` if its log-in is over, or it shows the cookie where anybody could read it. A guess
    /// needs no limit: a cookie has 256 random bits.
    #[expect(clippy::disallowed_methods, reason = "a shell: log-ins end by the wall clock")]
    pub fn logged_in(&self, visitor: Visitor, cookie: &Secret) -> Option<Grant> {
        if !visitor.is_private() {
            return None;
        }
        let hash = sha256(cookie.reveal());
        let mut sessions = lock(&self.sessions);
        let session = sessions.get(&hash)?;
        let grant = Grant::of(session.entry.clone(), self.keys.subscribe());
        if session.ends <= SystemTime::now() || grant.is_over() {
            sessions.remove(&hash);
            return None;
        }
        Some(grant)
    }

    /// Ends the log-in of a browser.
    pub fn log_out(&self, cookie: &Secret) {
        lock(&self.sessions).remove(&sha256(cookie.reveal()));
    }
}

/// The keys of a file; none if it is not there.
fn read_or_none(file: &Path) -> io::Result<Keys> {
    match Keys::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Keys::default()),
        read => read,
    }
}

#[cfg(test)]
mod tests;
