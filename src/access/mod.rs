//! Who may watch: tokens and passwords, and the clients that have shown one.
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

use serde::{Deserialize, Serialize};

pub use gatekeeper::{Credentials, Denied, Gatekeeper, Visitor};
pub use grant::Grant;
pub use keys::Keys;

/// The name whose holders see every station.
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
