//! As many stations as the machine holds: a whole line-up plays one film at higher and higher rates, until pictures are left
//! out or late. And the same for the bare sender, which is the limit.

use std::path::Path;

use anyhow::{Context, bail};
use stationcast::media::FrameRate;

use crate::MOST;
use crate::rows::{Row, Sender};
use crate::run::Studio;

/// Pictures a second of the first try, and the step from one to the next.
const FIRST: f64 = 35.0;
const STEP: f64 = 1.05;

/// At 1.05 a step this is 285,000 pictures a second: more than one thread can send.
const RATES: i32 = 44;

/// A rate that fails is tried again, since something else may have disturbed it.
const TRIES: usize = 2;

/// What a sender manages.
struct Most {
    pictures: f64,
    gigabits: f64,
}

/// Measures both, each rate for `seconds`, and prints what comes of it.
pub(crate) fn measure(folder: &Path, seconds: f64, fifo: bool, smoke: bool) -> anyhow::Result<()> {
    println!("| sender | pictures/s | of each of {MOST} | Gb/s | p99 us | skipped | lost | % of a core | |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---|");
    // In turns: the machine is another one a few minutes later.
    let senders = [Sender::Bare, Sender::Ours];
    let (mut most, mut holds) = ([None, None], [true, true]);
    for n in 0..if smoke { 1 } else { RATES } {
        let rate = FrameRate::new((FIRST * STEP.powi(n)).round() as u32, 1).context("a rate")?;
        eprint!("\rthe film at {rate} pictures a second   ");
        let studio = Studio::at_rate(folder, rate)?;
        for ((sender, most), holds) in senders.iter().zip(&mut most).zip(&mut holds) {
            if *holds {
                eprint!("\r{} at {rate} pictures a second   ", sender.name());
                let tried = (0..TRIES).map(|_| turn(&studio, *sender, rate, seconds, fifo));
                let better = tried.filter_map(Result::transpose).next().transpose()?;
                *holds = better.is_some();
                *most = better.or(most.take());
            }
        }
        if holds == [false, false] {
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

/// What `sender` manages at `rate`; `None` when it leaves pictures out, or one in a hundred is an interval late.
fn turn(
    studio: &Studio,
    sender: Sender,
    rate: FrameRate,
    seconds: f64,
    fifo: bool,
) -> anyhow::Result<Option<Most>> {
    let mut row = Row { sender, fifo, stations: MOST, busy: false, absent: None, turns: Vec::new() };
    row.add(studio.turn(&row, seconds).with_context(|| row.title())?);
    let (pacing, bytes) = row.pacing().zip(row.picture()).context("nothing was heard")?;
    let skipped = row.gaps().max(row.logged());
    let holds = skipped == 0 && pacing.p99 <= rate.interval().as_secs_f64() * 1e6;
    let pictures = f64::from(MOST) * rate.as_f64();
    let gigabits = pictures * bytes * 8.0 / 1e9;
    println!(
        "| {} | {pictures:.0} | {rate} | {gigabits:.2} | {:.0} | {skipped} | {} | {:.0} | {} |",
        sender.name(),
        pacing.p99,
        row.lost(),
        row.core().unwrap_or_default() * 100.0,
        if holds { "" } else { "too much" },
    );
    Ok(holds.then_some(Most { pictures, gigabits }))
}
