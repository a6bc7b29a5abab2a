//! The most pictures a second that the machine can send: a whole line-up plays one film at higher and higher rates, until
//! pictures are left out or late. The bare sender, which is the limit, does the same.

use std::path::Path;

use anyhow::{Context, bail};
use stationcast::media::FrameRate;

use crate::fixture::Fixture;
use crate::rows::{MAX_STATIONS, Row, Sender};

/// Pictures a second of the first try.
const FIRST: f64 = 35.0;

/// The factor from one rate to the next.
const STEP: f64 = 1.05;

/// Rates to try. The last one is 285,000 pictures a second, more than one thread can send.
const RATES: i32 = 44;

/// Tries of each rate: something else may have disturbed the first.
const TRIES: usize = 2;

/// The highest rate that a sender sustains.
struct Capacity {
    /// Pictures a second of all stations.
    pictures: f64,
    /// Gigabits of UDP payload a second.
    gigabits: f64,
}

/// Measures both senders, each rate for `seconds`, and prints the results.
pub(crate) fn measure(folder: &Path, seconds: f64, fifo: bool, smoke: bool) -> anyhow::Result<()> {
    println!(
        "| sender | pictures/s | of each of {MAX_STATIONS} | Gb/s | p99 us | skipped | lost | % of a core | |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---|");
    // Rate by rate, not sender by sender: the machine may be slower a few minutes later.
    let senders = [Sender::Bare, Sender::Ours];
    let (mut most, mut sustained) = ([None, None], [true, true]);
    for n in 0..if smoke { 1 } else { RATES } {
        let rate = FrameRate::new((FIRST * STEP.powi(n)).round() as u32, 1).context("a rate")?;
        eprint!("\rthe film at {rate} pictures a second   ");
        let fixture = Fixture::at_rate(folder, rate)?;
        for ((sender, most), sustained) in senders.iter().zip(&mut most).zip(&mut sustained) {
            if *sustained {
                eprint!("\r{} at {rate} pictures a second   ", sender.name());
                let tried = (0..TRIES).map(|_| run(&fixture, *sender, rate, seconds, fifo));
                let better = tried.filter_map(Result::transpose).next().transpose()?;
                *sustained = better.is_some();
                *most = better.or(most.take());
            }
        }
        if sustained == [false, false] {
            break;
        }
    }
    eprintln!();
    let [Some(bare), Some(ours)] = &most else { bail!("not even {FIRST} pictures a second are managed") };
    let ratio = ours.pictures / bare.pictures;
    println!(
        "\nAs many pictures a second as the machine holds: ours {:.0} ({:.2} Gb/s), bare {:.0} ({:.2} Gb/s): {ratio:.2}, \
         at least 0.9 {}",
        ours.pictures,
        ours.gigabits,
        bare.pictures,
        bare.gigabits,
        if ratio >= 0.9 { "reached" } else { "MISSED" },
    );
    Ok(())
}

/// The figures of `sender` at `rate`. `None` if it left pictures out, or if one in a hundred was an interval late.
fn run(
    fixture: &Fixture,
    sender: Sender,
    rate: FrameRate,
    seconds: f64,
    fifo: bool,
) -> anyhow::Result<Option<Capacity>> {
    let mut row = Row { sender, fifo, stations: MAX_STATIONS, busy: false, absent: None, runs: Vec::new() };
    row.add(fixture.run(&row, seconds).with_context(|| row.title())?);
    let (pacing, bytes) = row.pacing().zip(row.picture()).context("nothing was heard")?;
    let skipped = row.gaps().max(row.logged());
    let holds = skipped == 0 && pacing.p99 <= rate.interval().as_secs_f64() * 1e6;
    let pictures = f64::from(MAX_STATIONS) * rate.as_f64();
    let gigabits = pictures * bytes * 8.0 / 1e9;
    println!(
        "| {} | {pictures:.0} | {rate} | {gigabits:.2} | {:.0} | {skipped} | {} | {:.0} | {} |",
        sender.name(),
        pacing.p99,
        row.lost(),
        row.core().unwrap_or_default() * 100.0,
        if holds { "" } else { "too much" },
    );
    Ok(holds.then_some(Capacity { pictures, gigabits }))
}
