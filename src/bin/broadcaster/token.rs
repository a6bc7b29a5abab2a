//! `broadcaster token`: adds, lists and removes the tokens and passwords that a line-up's stations let in.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use stationcast::access::keys::{Entry, name_fault};
use stationcast::access::{ADMIN, Keys, LONGEST_SECRET, Secret, Terms};
use stationcast::lineup::Lineup;

use super::{LineupFile, outcome, print};

#[derive(Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token for a name, and print it: this once, since only its hash is kept
    Add(Add),
    /// List the tokens and passwords that are let in
    List(LineupFile),
    /// Remove a token or password by its id, or all of a name
    Remove {
        /// The id that `token list` shows, or the name
        #[arg(value_name = "ID|NAME")]
        id_or_name: String,
        #[command(flatten)]
        line_up: LineupFile,
    },
}

#[derive(Args)]
struct Add {
    /// The name that stations let in by `access`; "admin" has --admin by itself
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// How long it is let in, as in 30d, 12h or 1year; default: until it is removed
    #[arg(long, value_name = "TIME", value_parser = lasts)]
    expires: Option<Duration>,
    /// Let in a password instead, which is read from standard input, or asked for at a terminal
    #[arg(long)]
    password: bool,
    /// It may change what is on air, by the API, and sees every station
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    line_up: LineupFile,
}

fn name(text: &str) -> Result<String, String> {
    name_fault(text).map(|()| text.to_owned())
}

fn lasts(text: &str) -> Result<Duration, &'static str> {
    let lasts = humantime::parse_duration(text).ok().filter(|lasts| *lasts >= Duration::from_secs(1));
    lasts.ok_or("write a time of 1 s or more, as in 30d, 12h or 1year")
}

impl Add {
    fn terms(&self) -> Terms {
        Terms { lasts: self.expires, admin: self.admin }
    }
}

impl Token {
    pub(crate) fn run(&self) -> ExitCode {
        let (TokenCommand::Add(Add { line_up, .. })
        | TokenCommand::List(line_up)
        | TokenCommand::Remove { line_up, .. }) = &self.command;
        let lineup = match Lineup::load(&line_up.config) {
            Ok(lineup) => lineup,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        };
        let Some(file) = &lineup.access else {
            eprintln!(
                "{}: there is no [access] section; add one with the `file` that tokens are kept in, as in\n\n[access]\nfile = \"access.toml\"",
                line_up.config.display()
            );
            return ExitCode::from(2);
        };
        outcome(self.execute(file, &lineup))
    }

    #[expect(clippy::disallowed_methods, reason = "a program is a shell")]
    fn execute(&self, file: &Path, lineup: &Lineup) -> anyhow::Result<()> {
        let mut keys = read(file)?;
        let now = SystemTime::now();
        match &self.command {
            TokenCommand::Add(add @ Add { name, password: true, .. }) => {
                let password = ask()?;
                let id = keys.add_password(name, &password, now, add.terms()).map_err(anyhow::Error::msg)?;
                write(&keys, file)?;
                eprintln!("the password of \"{name}\" is let in; its id is {id}");
            }
            TokenCommand::Add(add @ Add { name, password: false, .. }) => {
                let (id, token) = keys.add_token(name, now, add.terms()).map_err(anyhow::Error::msg)?;
                write(&keys, file)?;
                eprintln!("this token of \"{name}\" is let in, and shown this once; its id is {id}");
                print(&format!("{}\n", token.reveal()))?;
            }
            TokenCommand::List(_) => print(&table(keys.entries(), now))?,
            TokenCommand::Remove { id_or_name, .. } => {
                let removed = keys.remove(id_or_name);
                anyhow::ensure!(
                    !removed.is_empty(),
                    "there is no token or password with the id or name {id_or_name:?}; `broadcaster token list` shows them"
                );
                write(&keys, file)?;
                for entry in removed {
                    eprintln!("removed the {} {} of \"{}\"", entry.kind(), entry.id, entry.name);
                }
            }
        }
        if let TokenCommand::Add(Add { name, admin: false, .. }) = &self.command {
            let used = lineup.stations.iter().any(|station| station.access.contains(name));
            if !used && name != ADMIN {
                eprintln!(
                    "no station of the line-up lets in \"{name}\" yet: write access = [\"{name}\"] at one"
                );
            }
        }
        Ok(())
    }
}

/// The tokens and passwords of a file; none if it is not there.
fn read(file: &Path) -> anyhow::Result<Keys> {
    match Keys::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Keys::default()),
        read => read.with_context(|| format!("{}", file.display())),
    }
}

fn write(keys: &Keys, file: &Path) -> anyhow::Result<()> {
    keys.write(file).with_context(|| format!("cannot write {}", file.display()))
}

/// Reads a password: one line of standard input. A terminal does not show it.
fn ask() -> anyhow::Result<Secret> {
    let stdin = io::stdin();
    let before = if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None };
    if let Some(before) = &before {
        eprint!("password: ");
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden).context("the terminal would show the password")?;
    }
    let mut bytes = Vec::new();
    let mut line = stdin.lock().take(LONGEST_SECRET as u64 + 2);
    let read = io::BufRead::read_until(&mut io::BufReader::new(&mut line), b'\n', &mut bytes);
    if let Some(before) = &before {
        let _ = tcsetattr(&stdin, OptionalActions::Flush, before);
        eprintln!();
    }
    read.context("cannot read the password")?;
    let text = String::from_utf8(bytes).ok().context("the password is not UTF-8")?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// The entries, in columns.
fn table(entries: &[Entry], now: SystemTime) -> String {
    if entries.is_empty() {
        return "nobody is let in: `broadcaster token add NAME` makes a token\n".to_owned();
    }
    let day = |time| humantime::format_rfc3339_seconds(time).to_string().replace('T', " ");
    let mut text =
        format!("{:<8}  {:<8}  {:<20}  {:<20}  {:<5}  name\n", "id", "kind", "added", "until", "admin");
    for entry in entries {
        let until = match entry.expires {
            None => "-".to_owned(),
            Some(_) if entry.is_over(now) => "over".to_owned(),
            Some(end) => day(end),
        };
        text += &format!(
            "{:<8}  {:<8}  {:<20}  {until:<20}  {:<5}  {}\n",
            entry.id,
            entry.kind(),
            day(entry.created),
            if entry.admin || entry.name == ADMIN { "yes" } else { "-" },
            entry.name
        );
    }
    text
}
