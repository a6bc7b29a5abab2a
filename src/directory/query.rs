//! One question to a directory, on a connection of its own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::endpoint::{ConnectError, Endpoint};
use super::message::{
    ErrorCode, MessageError, Reply, Request, Services, StationInfo, StationKeys, StationNow, StationSound,
    StationSource, VERSION,
};
use super::serialization::encode;
use crate::media::AirTime;
use crate::tls::pin::InsecureError;

/// Why a directory gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The connection failed: nothing listens there, or there is no route.
    #[error("cannot reach the directory at {addr}: {reason}. Is the broadcaster running?")]
    Connect {
        /// The directory's address.
        addr: SocketAddr,
        /// The system's error.
        reason: io::Error,
    },
    /// The connection is not secure.
    #[error(transparent)]
    Insecure(InsecureError),
    /// The connection broke.
    #[error("lost the directory at {addr}: {reason}")]
    Io {
        /// The directory's address.
        addr: SocketAddr,
        /// The system's error.
        reason: io::Error,
    },
    /// No complete answer came in time.
    #[error("the directory at {addr} did not answer in {} s", .after.as_secs_f64())]
    TimedOut {
        /// The directory's address.
        addr: SocketAddr,
        /// The caller's timeout.
        after: Duration,
    },
    /// The server closed the connection before it had answered.
    #[error("the directory at {addr} closed the connection without an answer")]
    Closed {
        /// The directory's address.
        addr: SocketAddr,
    },
    /// The server refused the request.
    #[error("the directory at {addr} refused: {sentence}")]
    Refused {
        /// The directory's address.
        addr: SocketAddr,
        /// For programs.
        code: ErrorCode,
        /// The server's sentence.
        sentence: String,
    },
    /// The answer is not a message of the protocol.
    #[error("{addr} is not a stationcast directory: {reason}")]
    Message {
        /// The address that answered.
        addr: SocketAddr,
        /// What is wrong with the answer.
        reason: MessageError,
    },
    /// The answer does not belong to the question.
    #[error("{addr} is not a stationcast directory: {what}")]
    Unexpected {
        /// The address that answered.
        addr: SocketAddr,
        /// What is wrong with the answer.
        what: &'static str,
    },
}

/// Asks a directory for its line-up: the stations, ascending by id. Takes at most `timeout`. Needs a tokio
/// runtime.
///
/// # Errors
/// [`QueryError`]. Whatever the peer sends, this returns within `timeout` and holds at most one reply in memory.
pub async fn list(directory: impl Into<Endpoint>, timeout: Duration) -> Result<Vec<StationInfo>, QueryError> {
    let stations = |reply| match reply {
        Reply::LineUp { stations, .. } => Some(stations),
        _ => None,
    };
    ask(directory.into(), timeout, Request::List, stations).await
}

/// Asks a directory where its stations are served besides multicast. The answer is as seen from here: a
/// service that only the directory's own machine can reach is `None`. Takes at most `timeout`. Needs a tokio runtime.
///
/// # Errors
/// As [`list`].
pub async fn services(directory: impl Into<Endpoint>, timeout: Duration) -> Result<Services, QueryError> {
    let services = |reply| match reply {
        Reply::Services(services) => Some(services),
        _ => None,
    };
    let directory = directory.into();
    let addr = directory.address;
    let Services { rtsp, http } = ask(directory, timeout, Request::Services, services).await?;
    let from_here = |service: Option<SocketAddr>| from_here(service?, addr);
    Ok(Services { rtsp: from_here(rtsp), http: from_here(http) })
}

/// Asks a directory from which addresses its stations are sent, ascending by id. Takes at most `timeout`. Needs a
/// tokio runtime.
///
/// # Errors
/// As [`list`]. An older directory refuses the question.
pub async fn sources(
    directory: impl Into<Endpoint>,
    timeout: Duration,
) -> Result<Vec<StationSource>, QueryError> {
    let sources = |reply| match reply {
        Reply::Sources(sources) => Some(sources),
        _ => None,
    };
    ask(directory.into(), timeout, Request::Sources, sources).await
}

/// Asks a directory what is on its stations, ascending by id, and at which moment of its clock that is so. Takes at
/// most `timeout`. Needs a tokio runtime.
///
/// # Errors
/// As [`list`]. An older directory refuses the question.
pub async fn now(
    directory: impl Into<Endpoint>,
    timeout: Duration,
) -> Result<(AirTime, Vec<StationNow>), QueryError> {
    let now = |reply| match reply {
        Reply::Now { at, stations } => Some((at, stations)),
        _ => None,
    };
    ask(directory.into(), timeout, Request::Now, now).await
}

/// Asks a directory for the keys of its encrypted stations, ascending by id. Takes at most `timeout`. Needs a tokio runtime.
///
/// # Errors
/// As [`list`]. An older directory refuses the question.
pub async fn keys(directory: impl Into<Endpoint>, timeout: Duration) -> Result<Vec<StationKeys>, QueryError> {
    let keys = |reply| match reply {
        Reply::Keys(keys) => Some(keys),
        _ => None,
    };
    ask(directory.into(), timeout, Request::Keys, keys).await
}

/// Asks a directory how the sound of its stations is sent, ascending by id; a station without sound is missing. Takes
/// at most `timeout`. Needs a tokio runtime.
///
/// # Errors
/// As [`list`]. An older directory refuses the question.
pub async fn sounds(
    directory: impl Into<Endpoint>,
    timeout: Duration,
) -> Result<Vec<StationSound>, QueryError> {
    let sounds = |reply| match reply {
        Reply::Sound(sounds) => Some(sounds),
        _ => None,
    };
    ask(directory.into(), timeout, Request::Sound, sounds).await
}

/// The address of a service for a client that reached the directory at `directory`; `None` if the client cannot reach
/// the service.
fn from_here(service: SocketAddr, directory: SocketAddr) -> Option<SocketAddr> {
    let by = directory.ip().to_canonical();
    if service.ip().is_unspecified() {
        let mut here = directory; // with its zone, if it has one
        here.set_port(service.port());
        // 0.0.0.0 does not listen on IPv6, but on Linux :: listens on IPv4 too.
        return (by.is_ipv4() || service.is_ipv6()).then_some(here);
    }
    (by.is_loopback() || !service.ip().is_loopback()).then_some(service)
}

/// Sends `question` on a new connection. `answer` extracts the result from the reply; `None` means that the reply does
/// not belong to the question.
async fn ask<T>(
    directory: Endpoint,
    timeout: Duration,
    question: Request,
    answer: impl Fn(Reply) -> Option<T>,
) -> Result<T, QueryError> {
    let addr = directory.address;
    match tokio::time::timeout(timeout, answered(&directory, question, answer)).await {
        Ok(answer) => answer,
        Err(_) => Err(QueryError::TimedOut { addr, after: timeout }),
    }
}

async fn answered<T>(
    directory: &Endpoint,
    question: Request,
    answer: impl Fn(Reply) -> Option<T>,
) -> Result<T, QueryError> {
    let addr = directory.address;
    let connected = directory.connect::<Reply>().await;
    let (mut framed, _) = connected.map_err(|error| match error {
        ConnectError::Io(reason) => QueryError::Connect { addr, reason },
        ConnectError::Insecure(reason) => QueryError::Insecure(reason),
    })?;
    let lost = |reason| QueryError::Io { addr, reason };
    let wrong = |reason| QueryError::Message { addr, reason };
    let unexpected = QueryError::Unexpected { addr, what: "its reply does not belong to the question" };

    let mut questions = encode(&Request::hello()).map_err(wrong)?;
    if let Some(token) = directory.token() {
        questions.extend(encode(&Request::Admit { token: token.clone() }).map_err(wrong)?);
    }
    questions.extend(encode(&question).map_err(wrong)?);
    // A full server refuses and closes, perhaps before it has read the questions. Its refusal tells more than our failed
    // write, so the write's error is reported only if no reply comes.
    let sent = framed.send(&questions).await;
    let mut greeted = false;
    loop {
        while let Some(reply) = framed.take().map_err(wrong)? {
            match reply {
                Reply::Hello { version: VERSION, .. } if !greeted => greeted = true,
                Reply::Admitted { .. } if greeted => {}
                Reply::Error { code, sentence } => return Err(QueryError::Refused { addr, code, sentence }),
                reply if greeted => return answer(reply).ok_or(unexpected),
                _ => return Err(unexpected),
            }
        }
        if !framed.fill().await.map_err(lost)? {
            sent.map_err(lost)?;
            return Err(QueryError::Closed { addr });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_by_an_address_that_the_client_can_reach() {
        for (service, directory, expected) in [
            ("0.0.0.0:8554", "192.0.2.7:9688", Some("192.0.2.7:8554")),
            ("[::]:8554", "192.0.2.7:9688", Some("192.0.2.7:8554")),
            ("[::]:8554", "[2001:db8::7]:9688", Some("[2001:db8::7]:8554")),
            ("[::]:8554", "[fe80::1%2]:9688", Some("[fe80::1%2]:8554")),
            ("0.0.0.0:8554", "[2001:db8::7]:9688", None),
            ("0.0.0.0:8554", "[::ffff:192.0.2.7]:9688", Some("[::ffff:192.0.2.7]:8554")),
            ("192.0.2.8:8554", "192.0.2.7:9688", Some("192.0.2.8:8554")),
            ("127.0.0.1:8554", "127.0.0.1:9688", Some("127.0.0.1:8554")),
            ("127.0.0.1:8554", "[::1]:9688", Some("127.0.0.1:8554")),
            // Another machine's loopback is not ours.
            ("127.0.0.1:8554", "192.0.2.7:9688", None),
            ("[::1]:8554", "192.0.2.7:9688", None),
        ] {
            let address = |text: &str| text.parse::<SocketAddr>().expect(text);
            let found = from_here(address(service), address(directory));
            assert_eq!(found, expected.map(address), "{service}, directory at {directory}");
        }
    }
}
