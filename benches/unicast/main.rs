//! What it costs to serve each of many viewers by unicast: `cargo bench --bench unicast [-- --viewers 500 --seconds 20]`.
//!
//! ```text
//! bench -- unshare --> bench in a network of its own
//!                        |-- the broadcaster, two stations; or the bare writer: the same bytes, one thread
//!                        |-- many readers in one process, by RTSP over TCP or UDP; or abusers of RTSP and HTTP
//!                        \-- viewer --probe on the other station's group: is multicast late because of them?
//! ```
//!
//! All rows are measured in runs of a few seconds, round after round, and pooled.
//!
//! A module imports only those before it: `addresses`, `network`, `process`, `film`; `bare`, `readers` and `abuse`, which
//! run as helpers; `measure`.

#![expect(clippy::disallowed_methods, reason = "a bench is a shell: it reads clocks and sleeps")]

#[allow(dead_code, reason = "the other bench has films of other rates, too")]
#[path = "../pacing/film.rs"]
mod film;
#[allow(dead_code, reason = "the other bench sends multicast and needs the interface")]
#[path = "../pacing/network.rs"]
mod network;
#[allow(dead_code, reason = "the other bench awaits logs and measures threads")]
#[path = "../pacing/process.rs"]
mod process;

mod abuse;
mod addresses;
mod bare;
mod measure;
mod readers;

use std::process::ExitCode;

use clap::Parser;

/// What it costs to serve each of many viewers by unicast, in a network of its own.
#[derive(Parser)]
#[command(name = "unicast")]
struct Options {
    /// How many viewers by RTSP
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2000))]
    viewers: u32,
    /// For how long each row is measured, in runs of up to 5 s
    #[arg(long, default_value_t = 20.0, value_name = "N")]
    seconds: f64,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Whether this is in the namespace already
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", film, viewers, seconds] => bare::write(film, viewers, seconds),
        ["abuse", seconds] => abuse::abuse(seconds),
        ["read", address, viewers, seconds, transport] => readers::read(address, viewers, seconds, transport),
        _ => {
            let options = Options::parse();
            if options.inside {
                measure::bench(options.viewers, options.seconds)
            } else {
                network::enter(&arguments)
            }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unicast: {error:#}");
            ExitCode::FAILURE
        }
    }
}
