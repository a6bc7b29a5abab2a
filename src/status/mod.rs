//! `broadcaster status`: shows how the stations of a running broadcaster are, read from its HTTP API; once, or as a table
//! that is kept up to date.
//!
//! Only the binary imports it. It imports `web::api` (the answer's types) and `text_table`.
//!
//! - `client`: asks the broadcaster;
//! - `rows`: the answer as rows of text and as a table;
//! - `fit`: which columns fit a terminal, and how wide;
//! - `watch`: the table in a terminal, until a key ends it.

mod client;
mod fit;
mod rows;
mod watch;

pub use client::{StatusError, StatusTarget, address_of, fetch, fetch_json};
pub use rows::table;
pub use watch::watch;
