//! Receives a station with the library alone: no window, no decoder, no OpenCV.
//!
//! ```sh
//! cargo run --no-default-features --example receive -- 2                  # directory on this machine
//! cargo run --no-default-features --example receive -- 2 192.0.2.7:9688   # directory elsewhere
//! ```
//!
//! Prints a line for each of 100 pictures.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use stationcast::directory;
use stationcast::tuner::receiver::{ReceiveFrom, Receiver};

/// Timeout for the directory, and for each picture.
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let number: u16 = arguments.next().context("usage: receive STATION [DIRECTORY]")?.parse()?;
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:9688").parse()?;

    // The directory lists the stations with their multicast groups. Its client needs a tokio runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stations = runtime.block_on(directory::list(address, TIMEOUT))?;
    let station = stations.iter().find(|station| station.id.0 == number);
    let station = station.with_context(|| format!("the line-up has no station {number}"))?;
    println!("station {number} \"{}\" on {}", station.name, station.group);

    // A receiver joins the group, puts packets in order and pictures together, on a thread of its own, until it is
    // dropped. It calls the closure on that thread with every whole picture. The closure must return at once, since the
    // socket is not read meanwhile: here it queues the picture, or drops it if 25 are waiting already.
    let (queue, pictures) = mpsc::sync_channel(25);
    let from = ReceiveFrom::group_of(station, address)?;
    let receiver = Receiver::start(from, 100, move |picture| drop(queue.try_send(picture)))?;

    for n in 1..=100 {
        let Ok(picture) = pictures.recv_timeout(TIMEOUT) else {
            bail!("no picture for 5 s: {}", receiver.status().problem.as_deref().unwrap_or("is it on air?"));
        };
        // A picture is a JPEG file without what RTP/JPEG leaves out; to_jfif writes the whole file. Its RTP timestamp
        // is the moment it was due on the sender's clock, so lateness is as good as the two machines' clocks agree.
        let (size, file) = (picture.jpeg.size, picture.jpeg.to_jfif());
        let late = picture.lateness() as f64 / 1e6;
        println!(
            "{n:3}  {size}  {} bytes  RTP timestamp {}  {late:.3} ms late",
            file.len(),
            picture.timestamp
        );
    }
    let counters = receiver.status().counters;
    println!("{} pictures and {} packets lost", counters.pictures_lost, counters.packets_lost);
    Ok(())
}
