//! The right to watch: tokens and passwords, and the clients that have shown one.
//!
//! Any room below may import it. Of ours it imports `limits`, `log` and `private_file`.
//!
//! ```text
//! a client's secret -> Gatekeeper -> Grant -> allows(the `access` of a station)
//!                        |    \-- Attempts: how often an address may try
//!                        \-- Keys: the file, which `broadcaster token` writes
//! ```
//!
//! - [`keys`]: the file of tokens and passwords, of which it has only hashes.
//! - [`gatekeeper`]: compares secrets, counts attempts, and writes the audit log. Follows the file.
//! - [`grant`]: what a client may see, and until when.
//!
//! A secret is in no log, in no status and on no command line.

pub mod gatekeeper;
pub mod grant;
pub mod keys;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use gatekeeper::{Credentials, Denied, Gatekeeper, NotAdmin, Visitor};
pub use grant::Grant;
pub use keys::{Keys, Terms};

/// The name whose holders have `admin`: they see every station, and may change what is on air.
pub const ADMIN: &str = "admin";

/// Longest secret that is looked at, in bytes.
pub const LONGEST_SECRET: usize = 256;

/// A token or a password as a client sends it. No format shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret that was received, or read from a file.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The token in `file`, or else the one in the environment, `STATIONCAST_TOKEN`: on a command line, every user of the machine
    /// could read it. `None` if there is neither.
    ///
    /// # Errors
    /// A sentence: the file cannot be read, or it has no token.
    pub fn from_file_or_environment(file: Option<&Path>) -> Result<Option<Secret>, String> {
        let text = match file {
            Some(file) => {
                let read = std::fs::read_to_string(file);
                Some(read.map_err(|error| format!("--token-file {}: {error}", file.display()))?)
            }
            None => std::env::var("STATIONCAST_TOKEN").ok().filter(|text| !text.trim().is_empty()),
        };
        let Some(text) = text else { return Ok(None) };
        let token = text.trim();
        let is_one_word = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_one_word || token.len() > LONGEST_SECRET {
            return Err("a token is one word, as `broadcaster token add` prints it".into());
        }
        Ok(Some(Secret(token.to_owned())))
    }

    /// The secret itself, to be sent or hashed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
