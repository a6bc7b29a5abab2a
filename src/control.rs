//! Commands to a broadcaster that runs: to reload its line-up, and to have a station show something else.
//!
//! ```text
//! broadcaster reload -> control socket --\
//! POST /api/reload   -> web --------------+-> Commands -> daemon, which obeys one after the other
//! ```
//!
//! The control socket is for commands of this machine. A connection has one command and one answer, each a line of JSON. Only the
//! user who runs the broadcaster, and root, may connect: the socket has mode 0600.
//!
//! Imported by `web`, which hands commands on, by `daemon`, which obeys, and by the binary `broadcaster`, which asks. It imports
//! `headend` (the orders) and `media`.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::headend::StationOrder;
use crate::media::StationId;

/// Longest command, in bytes.
const MAX_COMMAND: u64 = 4096;

/// Longest time that a client takes to send its command, or to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most clients of the control socket at one time. The next one waits.
const CLIENTS: usize = 16;

/// Most commands that wait until those before them are obeyed. The sender of a further one waits.
const WAITING: usize = 16;

/// Longest time until a command is answered: a line-up whose films are on a slow disk takes seconds to check.
const ANSWER: Duration = Duration::from_secs(60);

/// A command to a running broadcaster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlCommand {
    /// Read the line-up again, and adapt the stations to it.
    Reload {
        /// Only tell what would change.
        dry_run: bool,
    },
    /// Have a station show something else.
    Order {
        /// The station.
        station: StationId,
        /// The order. A film is named by an absolute path.
        order: StationOrder,
    },
}

/// The command as the log has it. Text of the client is quoted, so that it cannot begin a line of the log.
impl fmt::Display for ControlCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlCommand::Reload { dry_run: false } => f.write_str("a reload"),
            ControlCommand::Reload { dry_run: true } => f.write_str("what a reload would change"),
            ControlCommand::Order { station, order } => match order {
                StationOrder::Skip => write!(f, "station {station} to skip"),
                StationOrder::Play(film) => write!(f, "station {station} to play {film:?}"),
                StationOrder::Hold(text) => write!(f, "station {station} to hold {text:?}"),
                StationOrder::Resume => write!(f, "station {station} to resume"),
            },
        }
    }
}

/// Where a command comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This machine: the user of this number, by the control socket. It may name any film.
    Machine(u32),
    /// The network: a client with `admin`, as [`operator`](crate::access::Gatekeeper::operator) describes it. It may name the films of the
    /// line-up, and those beside them.
    Network(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Machine(user) => write!(f, "user {user} of this machine"),
            Origin::Network(client) => f.write_str(client),
        }
    }
}

/// A command that waits for its answer.
#[derive(Debug)]
pub struct Asked {
    /// The command.
    pub command: ControlCommand,
    /// Where it comes from.
    pub origin: Origin,
    /// Takes the answer. The client may be gone.
    pub answer: oneshot::Sender<ControlAnswer>,
}

/// Hands commands to the broadcaster.
#[derive(Debug, Clone)]
pub struct Commands(mpsc::Sender<Asked>);

impl Commands {
    /// A sender of commands, and the receiver at which they are obeyed. When the receiver is dropped, each command is answered by a refusal.
    pub fn new() -> (Commands, mpsc::Receiver<Asked>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Commands(sender), receiver)
    }

    /// Has a command obeyed. Once the broadcaster has received it, it is obeyed even if the caller stops waiting for the answer.
    pub async fn give(&self, command: ControlCommand, origin: Origin) -> ControlAnswer {
        let (answer, answered) = oneshot::channel();
        let given = self.0.send(Asked { command, origin, answer }).await;
        let answered = if given.is_ok() { answered.await.ok() } else { None };
        answered.unwrap_or_else(|| {
            let sentence = "this broadcaster was started without a line-up file, or is ending";
            ControlAnswer { done: false, not_now: true, sentences: vec![sentence.into()] }
        })
    }
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlAnswer {
    /// Whether the command was carried out. If not, nothing has changed.
    pub done: bool,
    /// If it was not: whether nothing is wrong with the command itself, and it may be carried out later.
    #[serde(default)]
    pub not_now: bool,
    /// One sentence for each thing that was done, or for each reason why nothing was.
    pub sentences: Vec<String>,
}

/// The runtime folder of the systemd service.
const SERVICE: &str = "/run/stationcast";

/// Where the control socket of the broadcaster that runs the line-up `file` may be. The broadcaster takes the first: in the
/// folder that systemd made for the service (`RUNTIME_DIRECTORY`), or else in the user's own (`XDG_RUNTIME_DIR`), or else in
/// one of this user under the folder for temporary files. The last is the service's, for a command of root.
///
/// # Errors
/// The file is not there.
pub fn paths(file: &Path) -> io::Result<Vec<PathBuf>> {
    let file = fs::canonicalize(file)?;
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let folder = folder("RUNTIME_DIRECTORY").or_else(|| Some(folder("XDG_RUNTIME_DIR")?.join("stationcast")));
    let folder = folder.unwrap_or_else(|| {
        let user = rustix::process::getuid().as_raw();
        std::env::temp_dir().join(format!("stationcast-{user}"))
    });
    // Short, since the path of a socket has 107 bytes at most (unix(7)).
    let hash = blake3::hash(file.as_os_str().as_encoded_bytes()).to_hex();
    Ok([folder, SERVICE.into()].iter().map(|folder| folder.join(format!("{}.sock", &hash[..16]))).collect())
}

/// A control socket on which a broadcaster listens. The socket is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens on the control socket at `path`, and makes its folder, which must be this user's.
///
/// # Errors
/// Another broadcaster answers there, or the system's.
pub fn listen(path: &Path) -> io::Result<ControlSocket> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Anybody may make a folder under that for temporary files.
        if fs::metadata(folder)?.uid() != rustix::process::getuid().as_raw() {
            let sentence = format!("the folder {} belongs to another user", folder.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence));
        }
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another broadcaster runs this line-up"));
    }
    // A broadcaster that was killed leaves its socket behind.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(ControlSocket { listener, path: path.to_owned() })
}

/// Hands the commands that come to `socket` on, for ever. Clients do not wait for each other. The socket is removed when this is dropped.
#[expect(clippy::disallowed_methods, reason = "a shell: it tries again after a while")]
pub async fn serve(socket: ControlSocket, commands: Commands) {
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        if clients.len() >= CLIENTS {
            clients.join_next().await;
        }
        match socket.listener.accept().await {
            Ok((stream, _)) => drop(clients.spawn(serve_client(stream, commands.clone()))),
            // No descriptor is free for now.
            Err(_) => tokio::time::sleep(PATIENCE).await,
        }
    }
}

/// Reads the command of a client, and answers it. A client that sends none in time gets no answer.
async fn serve_client(mut stream: tokio::net::UnixStream, commands: Commands) {
    let Ok(peer) = stream.peer_cred() else { return };
    let mut line = String::new();
    let mut limited = tokio::io::BufReader::new((&mut stream).take(MAX_COMMAND));
    let read = tokio::time::timeout(PATIENCE, limited.read_line(&mut line)).await;
    if !matches!(read, Ok(Ok(1..))) {
        return;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(command) => commands.give(command, Origin::Machine(peer.uid())).await,
        Err(error) => {
            let sentence = format!("this broadcaster does not know the command: {error}");
            ControlAnswer { done: false, not_now: false, sentences: vec![sentence] }
        }
    };
    let Ok(mut line) = serde_json::to_vec(&answer) else { return };
    line.push(b'\n');
    // A client that is gone needs none.
    let _ = tokio::time::timeout(PATIENCE, stream.write_all(&line)).await;
}

/// Sends a command to the broadcaster that listens at one of `paths`, and waits for the answer.
///
/// # Errors
/// No broadcaster listens there, or it does not answer.
pub fn ask(paths: &[PathBuf], command: &ControlCommand) -> io::Result<ControlAnswer> {
    let connected = paths.iter().map(UnixStream::connect).reduce(|one, other| one.or(other));
    let mut stream = connected.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(format!("{}\n", serde_json::to_string(command)?).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_is_answered_and_garbage_is_refused_in_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("control.sock");
        let listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listen(&path).unwrap_err().to_string(), "another broadcaster runs this line-up");
        let expected =
            ControlAnswer { done: true, not_now: false, sentences: vec!["one".into(), "two".into()] };
        let answer = expected.clone();
        let (commands, mut given) = Commands::new();
        let server = tokio::spawn(serve(listener, commands));
        let obeying = tokio::spawn(async move {
            let asked = given.recv().await.unwrap();
            asked.answer.send(answer).unwrap();
            (asked.command, asked.origin)
        });
        let socket = path.clone();
        let asked = tokio::task::spawn_blocking(move || {
            // A client that is gone at once, one that says nothing yet, one that says too much, and one that says nothing that is known.
            drop(UnixStream::connect(&path));
            let mut silent = UnixStream::connect(&path).unwrap();
            silent.write_all(b"{\"reload\":").unwrap();
            let _ = UnixStream::connect(&path).unwrap().write_all(&[b'x'; 10_000]);
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(b"{\"dance\":{}}\n").unwrap();
            let mut refused = String::new();
            BufReader::new(stream).read_line(&mut refused).unwrap();
            assert!(refused.starts_with("{\"done\":false,"), "{refused}");
            ask(&[path], &ControlCommand::Reload { dry_run: true }).unwrap()
        });
        assert_eq!(asked.await.unwrap(), expected);
        let user = rustix::process::getuid().as_raw();
        let command = ControlCommand::Reload { dry_run: true };
        assert_eq!(obeying.await.unwrap(), (command, Origin::Machine(user)));
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        assert!(!socket.exists(), "no socket is left behind");
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(ask(std::slice::from_ref(&path), &ControlCommand::Reload { dry_run: false }).is_err());
        listen(&path).unwrap();
    }
}
