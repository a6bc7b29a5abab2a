//! The file of tokens and passwords. It has their hashes only: SHA-256 of tokens, which are random and of 256 bits, and argon2id of
//! passwords.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::Secret;
use crate::private_file;

/// Begins every token, so that it is known for one wherever it turns up.
const TOKEN: &str = "sct_";

/// The costs of argon2id that OWASP recommends: 19 MiB and two passes, some 30 ms of a core. They belong to the name of the key in
/// the file: other costs need another name.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

/// Most entries of a file.
const MOST: usize = 1000;

/// Shortest password, in characters.
const SHORTEST_PASSWORD: usize = 10;

type Sha256 = [u8; 32];

/// The tokens and passwords that are let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    entries: Vec<Entry>,
}

/// A token or a password that is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names it in the log, and to remove it: 8 hexadecimal digits.
    pub id: String,
    /// The name that stations let in.
    pub name: String,
    /// The moment at which it was added.
    pub created: SystemTime,
    /// From when on it is not let in; `None`: for ever.
    pub expires: Option<SystemTime>,
    /// Whether it may change what is on air, and see every station.
    pub admin: bool,
    hash: Hash,
}

#[derive(Clone, PartialEq, Eq)]
enum Hash {
    Token(Sha256),
    Password { salt: [u8; 16], hash: Sha256 },
}

/// Not even hashes are shown.
impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Hash::Token(_) => "Token",
            Hash::Password { .. } => "Password",
        })
    }
}

/// How a token or a password that is added is let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long; `None`: for ever.
    pub lasts: Option<Duration>,
    /// Whether it may change what is on air, and see every station.
    pub admin: bool,
}

impl Entry {
    /// `token` or `password`.
    pub fn kind(&self) -> &'static str {
        match self.hash {
            Hash::Token(_) => "token",
            Hash::Password { .. } => "password",
        }
    }

    /// Whether it is let in no more.
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The file as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    access: Vec<EntryText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryText {
    id: String,
    name: String,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    admin: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    argon2id: Option<String>,
}

const HEAD: &str =
    "# Tokens and passwords that this broadcaster lets in, hashed. `broadcaster token` writes this file.\n\n";

impl Keys {
    /// Reads a file, which other users can neither read nor write.
    ///
    /// # Errors
    /// The system's, or a sentence about what is wrong with it.
    pub fn read(file: &Path) -> io::Result<Keys> {
        let wrong = |sentence: String| io::Error::new(io::ErrorKind::InvalidData, sentence);
        let bytes = private_file::read(file)?;
        let text = str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8".into()))?;
        // The error of the parser shows the line, which has a hash.
        let parsed: FileText = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().and_then(|span| Some(1 + text.get(..span.start)?.matches('\n').count()));
            let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            wrong(format!("{line}it is not as `broadcaster token` writes it: {}", error.message()))
        })?;
        if parsed.access.len() > MOST {
            return Err(wrong(format!("it has more than {MOST} entries")));
        }
        let mut keys = Keys::default();
        for text in parsed.access {
            let id = text.id.clone();
            let entry = entry(text).ok_or_else(|| wrong(format!("the entry {id:?} is not whole")))?;
            if keys.find(&entry.id).is_some() {
                return Err(wrong(format!("the entry {id:?} is there twice")));
            }
            keys.entries.push(entry);
        }
        Ok(keys)
    }

    /// Writes the file as a whole, with mode 0600 if it is new.
    ///
    /// # Errors
    /// The system's. The old file is then as it was.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let time = |time| humantime::format_rfc3339_seconds(time).to_string();
        let text = |entry: &Entry| {
            let (sha256, argon2id) = match &entry.hash {
                Hash::Token(hash) => (Some(hex(hash)), None),
                Hash::Password { salt, hash } => (None, Some(format!("{} {}", hex(salt), hex(hash)))),
            };
            EntryText {
                id: entry.id.clone(),
                name: entry.name.clone(),
                created: time(entry.created),
                expires: entry.expires.map(time),
                admin: entry.admin,
                sha256,
                argon2id,
            }
        };
        let whole = FileText { access: self.entries.iter().map(text).collect() };
        let text = toml::to_string(&whole).map_err(io::Error::other)?;
        private_file::replace(file, (HEAD.to_owned() + &text).as_bytes())
    }

    /// The entries, in the order in which they were added.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry with this id.
    pub fn find(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// Adds a new token for `name`. Returns its id, and the token, which nothing keeps.
    ///
    /// # Errors
    /// A sentence: the name is not one, or there is no room.
    pub fn add_token(
        &mut self,
        name: &str,
        now: SystemTime,
        terms: Terms,
    ) -> Result<(String, Secret), String> {
        let token = Secret::new(format!("{TOKEN}{}", hex(&random::<32>()?)));
        let hash = Hash::Token(sha256(token.reveal()));
        Ok((self.add(name, now, terms, hash)?, token))
    }

    /// Adds a password for `name`. Takes a while, and 19 MiB. Returns the entry's id.
    ///
    /// # Errors
    /// A sentence: the name is not one, it has a password, the password is too short or too long, or there is no room.
    pub fn add_password(
        &mut self,
        name: &str,
        password: &Secret,
        now: SystemTime,
        terms: Terms,
    ) -> Result<String, String> {
        let text = password.reveal();
        if text.chars().count() < SHORTEST_PASSWORD || text.len() > super::LONGEST_SECRET {
            return Err(format!(
                "a password has at least {SHORTEST_PASSWORD} characters, and at most {} bytes",
                super::LONGEST_SECRET
            ));
        }
        if is_token(text) {
            return Err(format!("a password does not begin with {TOKEN}, as tokens do"));
        }
        if self.password_of(name).is_some() {
            return Err(format!("\"{name}\" has a password already: remove it first"));
        }
        let salt = random()?;
        let hash = Hash::Password { salt, hash: argon2id(text, &salt) };
        self.add(name, now, terms, hash)
    }

    fn add(&mut self, name: &str, now: SystemTime, terms: Terms, hash: Hash) -> Result<String, String> {
        let Terms { lasts, admin } = terms;
        name_fault(name)?;
        if self.entries.len() >= MOST {
            return Err(format!("there are {MOST} entries already: remove some first"));
        }
        let expires = match lasts {
            None => None,
            // The latest that the file can say.
            Some(lasts) => Some(
                now.checked_add(lasts)
                    .filter(|&end| {
                        humantime::parse_rfc3339("9999-12-31T23:59:59Z").is_ok_and(|last| end <= last)
                    })
                    .ok_or("that is too long; leave --expires out if it holds for ever")?,
            ),
        };
        let id = loop {
            let id = hex(&random::<4>()?);
            if self.find(&id).is_none() {
                break id;
            }
        };
        self.entries.push(Entry {
            id: id.clone(),
            name: name.to_owned(),
            created: now,
            expires,
            admin,
            hash,
        });
        Ok(id)
    }

    /// Removes the entry with this id, or all of this name. Returns those that were removed.
    pub fn remove(&mut self, id_or_name: &str) -> Vec<Entry> {
        let by_id = self.find(id_or_name).is_some();
        let is_meant =
            |entry: &mut Entry| if by_id { entry.id == id_or_name } else { entry.name == id_or_name };
        self.entries.extract_if(.., is_meant).collect()
    }

    /// The entry of a token, over or not. Takes as long for a wrong one as for a right one.
    pub(super) fn of_token(&self, token: &Secret) -> Option<&Entry> {
        let shown = sha256(token.reveal());
        let mut found = None;
        for entry in &self.entries {
            if let Hash::Token(hash) = &entry.hash
                && bool::from(hash.ct_eq(&shown))
            {
                found = Some(entry);
            }
        }
        found
    }

    fn password_of(&self, name: &str) -> Option<(&Entry, [u8; 16], Sha256)> {
        self.entries.iter().find_map(|entry| match &entry.hash {
            Hash::Password { salt, hash } if entry.name == name => Some((entry, *salt, *hash)),
            _ => None,
        })
    }

    /// The entry of a name and its password, over or not. Takes as long for a name that has no password. Blocks for a while.
    pub(super) fn of_password(&self, name: &str, password: &Secret) -> Option<&Entry> {
        let known = self.password_of(name);
        let (salt, expected) = known.map(|(_, salt, hash)| (salt, hash)).unwrap_or_default();
        let is_right = bool::from(argon2id(password.reveal(), &salt).ct_eq(&expected));
        known.map(|(entry, ..)| entry).filter(|_| is_right)
    }
}

/// Whether a secret is a token, and not a password.
pub(super) fn is_token(secret: &str) -> bool {
    secret.starts_with(TOKEN)
}

/// Whether `name` is one that stations let in.
///
/// # Errors
/// A sentence that says the rule.
pub fn name_fault(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=32).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    Err("a name has 1 to 32 letters and digits of ASCII, and - _ . between them, as in staff".into())
}

fn entry(text: EntryText) -> Option<Entry> {
    let time = |text: &str| humantime::parse_rfc3339(text).ok();
    let hash = match (text.sha256, text.argon2id) {
        (Some(hash), None) => Hash::Token(bytes(&hash)?),
        (None, Some(both)) => {
            let (salt, hash) = both.split_once(' ')?;
            Hash::Password { salt: bytes(salt)?, hash: bytes(hash)? }
        }
        _ => return None,
    };
    name_fault(&text.name).ok()?;
    let expires = match text.expires {
        Some(expires) => Some(time(&expires)?),
        None => None,
    };
    let is_id =
        !text.id.is_empty() && text.id.len() <= 32 && text.id.bytes().all(|b| b.is_ascii_alphanumeric());
    let created = time(&text.created)?;
    is_id.then_some(Entry { id: text.id, name: text.name, created, expires, admin: text.admin, hash })
}

/// Whether two secrets are the same. Takes as long whether they are or not, however much of them is the same: their hashes are
/// compared, in constant time.
#[cfg(feature = "broadcaster")]
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    sha256(one).ct_eq(&sha256(other)).into()
}

pub(super) fn sha256(text: &str) -> Sha256 {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    bytes
}

/// Memory for argon2 that is not in use: 19 MiB for each of the passwords that were ever hashed at once, of which there are two. With
/// memory of its own for each password, the allocator keeps some for every thread that has hashed one: 670 MB after 6,667 passwords.
static MEMORY: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());

fn argon2id(password: &str, salt: &[u8; 16]) -> Sha256 {
    let mut hash = [0; 32];
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).expect("the costs are within argon2's bounds");
    let free = MEMORY.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut memory = free.unwrap_or_else(|| vec![Block::new(); params.block_count()]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    // A password that is too long for argon2 has 4 GiB.
    argon2
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut hash, &mut memory[..])
        .expect("the lengths are within argon2's bounds");
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    hash
}

/// Bytes from the system's source of randomness.
pub(super) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of hexadecimal digits; `None` if there are not as many.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> = text.chars().map(|c| Some(c.to_digit(16)? as u8)).collect::<Option<_>>()?;
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}
