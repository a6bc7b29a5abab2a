//! The content of a station that is published to: pictures and sound that come by themselves, passed on unchanged where RTP/JPEG
//! and Opus carry them.
//!
//! While nobody publishes, the station shows its slate. It is asked to go on as soon as somebody does.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::arrivals::{Arrival, PictureBody, Stamped};
use super::pacing::{Pacing, Place};
use super::picture;
use super::publication::{Publication, PublishSlot};
use super::rate::RateMeter;
use super::{HOLD, MOST_DAMAGED};
use crate::clock::AirClock;
use crate::content::encode::{Encoded, Encoder};
use crate::content::slate::clock_text;
use crate::content::worker::{BlockingWorker, STUCK_AFTER, Threads};
use crate::content::{ContentEvent, ContentKind, Fault};
use crate::lineup::{StationSpec, publish_name};
use crate::media::jpeg::{Chroma, Jpeg};
use crate::media::{AirTime, Due, FrameRate, Policy, REPEAT_RATE, Size, Unit};

/// What publishers send to a station.
pub(crate) struct Published {
    spec: Arc<StationSpec>,
    clock: AirClock,
    slot: Arc<PublishSlot>,
    /// `None` while nobody publishes.
    publication: Option<Publication>,
    /// What has come while the slate was shown.
    first: Option<Arrival>,
    pacing: Pacing,
    rate: RateMeter,
    /// Events that are already known, in order.
    events: VecDeque<ContentEvent>,
    /// The size and the rate that were told; `None` before the first picture, and after a slate.
    told: Option<(Size, FrameRate)>,
    /// The size of the last picture.
    size: Option<Size>,
    /// When the last good picture came, or the first unit after a slate. `None` while a slate is shown.
    last_good: Option<Instant>,
    /// Who has left, and when nothing came any more.
    gone: Option<(String, AirTime)>,
    /// Whether a picture was given since this was asked last.
    played: bool,
    /// Pictures in a row that could not be shown.
    damaged: u32,
    /// How its pictures come on air, as last logged.
    logged: Option<String>,
    /// Decodes and encodes.
    worker: BlockingWorker,
    /// `None` before the first picture that is encoded, while a blocking thread has it, or after it crashed or hung there.
    encoder: Option<Box<Encoder>>,
}

impl Published {
    /// The content of the station of `spec`, which finds what is published to it in `slot`.
    pub(crate) fn new(
        spec: Arc<StationSpec>,
        slot: Arc<PublishSlot>,
        clock: AirClock,
        threads: Threads,
    ) -> Published {
        Published {
            spec,
            clock,
            slot,
            publication: None,
            first: None,
            pacing: Pacing::default(),
            rate: RateMeter::default(),
            events: VecDeque::new(),
            told: None,
            size: None,
            last_good: None,
            gone: None,
            played: false,
            damaged: 0,
            logged: None,
            worker: BlockingWorker::new(threads),
            encoder: None,
        }
    }

    /// From the next picture on, this configuration of the same station holds.
    pub(crate) fn set_spec(&mut self, spec: Arc<StationSpec>) {
        self.spec = spec;
    }

    /// The size of the last picture.
    pub(crate) fn size(&self) -> Option<Size> {
        self.size
    }

    /// Whether a picture was on air since this was asked last.
    pub(crate) fn take_played(&mut self) -> bool {
        std::mem::take(&mut self.played)
    }

    /// Waits until a publisher sends something. Cancel-safe.
    #[expect(clippy::disallowed_methods, reason = "a shell: something has come now")]
    pub(crate) async fn revived(&mut self) {
        while self.first.is_none() {
            self.first = self.arrival().await;
        }
        self.last_good = Some(Instant::now());
    }

    /// The next event. There always is one, or a fault.
    ///
    /// # Errors
    /// Nobody publishes, or nothing comes. The next call tells the same until something [has come](Self::revived).
    pub(crate) async fn next(&mut self) -> Result<ContentEvent, Fault> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let Some(last_good) = self.last_good else { return Err(self.fault()) };
            let arrival = match self.first.take() {
                Some(arrival) => Some(arrival),
                None => tokio::select! {
                    biased;
                    arrival = self.arrival() => arrival,
                    () = sleep_until(last_good + HOLD) => {
                        self.rest();
                        return Err(self.fault());
                    }
                },
            };
            match arrival {
                Some(Arrival::Picture(picture)) => self.take_picture(picture).await?,
                Some(Arrival::Sound(_) | Arrival::Tracks { .. }) | None => {}
            }
        }
    }

    /// The next that arrives; `None` if the publisher has left, or is another one. Cancel-safe.
    #[expect(clippy::disallowed_methods, reason = "a shell: a publisher leaves now")]
    async fn arrival(&mut self) -> Option<Arrival> {
        let arrival = async {
            match &mut self.publication {
                Some(publication) => publication.arrivals.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.slot.changed() => {
                if let Some(publication) = self.slot.take() {
                    self.publication = Some(publication);
                    self.begin_anew();
                }
                None
            }
            arrival = arrival => match arrival {
                Ok(arrival) => {
                    let dropped = self.publication.as_ref().map_or(0, |it| it.arrivals.take_dropped());
                    if dropped > 0 {
                        self.events.push_back(ContentEvent::Skipped(dropped));
                    }
                    Some(arrival)
                }
                Err(_) => {
                    let who = self.publication.take().map(|publication| publication.who).unwrap_or_default();
                    self.gone = Some((who, self.clock.now()));
                    None
                }
            },
        }
    }

    /// A publisher begins: its clock is another one.
    fn begin_anew(&mut self) {
        (self.pacing, self.rate, self.damaged) = (Pacing::default(), RateMeter::default(), 0);
    }

    /// Nothing has come for so long that the slate is shown.
    #[expect(clippy::disallowed_methods, reason = "a shell: nothing has come until now")]
    fn rest(&mut self) {
        if let Some(publication) = &self.publication {
            self.gone = Some((publication.who.clone(), self.clock.now() - HOLD));
        }
        (self.told, self.last_good) = (None, None);
        self.begin_anew();
    }

    /// Why the slate is shown.
    fn fault(&self) -> Fault {
        Fault::NotPublished(match (&self.gone, &self.publication) {
            (Some((who, since)), Some(_)) => format!("nothing from {who} since {}", clock_text(*since)),
            (Some((who, since)), None) => format!("{who} has left at {}", clock_text(*since)),
            (None, _) => format!("nobody publishes to /publish/{} yet", publish_name(&self.spec.name)),
        })
    }

    /// Puts a picture on air, unless it is late or cannot be shown.
    #[expect(clippy::disallowed_methods, reason = "a shell: it asks whether a picture is late")]
    async fn take_picture(&mut self, picture: Stamped<PictureBody>) -> Result<(), Fault> {
        let Stamped { at, stamp, body, .. } = picture;
        let (PictureBody::Jpeg(jpeg), Some(stamp)) = (body, stamp) else { return Ok(()) };
        self.rate.count(stamp);
        let interval = self.rate.interval();
        let place = self.pacing.place(at, Some(stamp), interval, self.spec.buffer);
        // Its first pictures tell the rate.
        if self.told.is_none() && !self.rate.is_known() {
            return Ok(());
        }
        let due = match place {
            Place::Due(at) => Due { at, interval: interval.min(REPEAT_RATE.interval()) },
            Place::Missed => return self.skip(),
        };
        if due.policy(self.clock.now()) != Policy::Air {
            return self.skip();
        }
        let (jpeg, squeezed) = match self.coded(jpeg).await {
            Ok(coded) => coded,
            Err(reason) => {
                debug!("station {}: a picture cannot be shown: {reason}", self.spec.id);
                self.damaged += 1;
                if self.damaged >= MOST_DAMAGED {
                    self.rest();
                    return Err(Fault::NotPublished(format!("the pictures cannot be shown: {reason}")));
                }
                return self.skip();
            }
        };
        (self.damaged, self.last_good, self.gone, self.played) = (0, Some(Instant::now()), None, true);
        let rate = self.rate.rate();
        if self.told != Some((jpeg.size, rate)) {
            self.told = Some((jpeg.size, rate));
            self.size = Some(jpeg.size);
            self.events.push_back(ContentEvent::Begin { kind: ContentKind::Film, size: jpeg.size, rate });
        }
        self.events.push_back(ContentEvent::Unit { unit: Unit::picture(due, jpeg), squeezed });
        Ok(())
    }

    fn skip(&mut self) -> Result<(), Fault> {
        self.events.push_back(ContentEvent::Skipped(1));
        Ok(())
    }

    /// The picture as it is sent, and whether it has a lower quality than the station's.
    ///
    /// # Errors
    /// Why there is none.
    async fn coded(&mut self, jpeg: Jpeg) -> Result<(Jpeg, bool), String> {
        let (width, quality) = (self.spec.width, self.spec.quality);
        let reason = match reason_to_encode(&jpeg, width) {
            None => {
                self.log("passed on as they are".into());
                return Ok((jpeg, false));
            }
            Some(reason) => reason,
        };
        let encoder = self.encoder.take();
        let encode = move || picture::encode_anew(&jpeg.to_jfif(), encoder, width, quality);
        let encoded = self.worker.call(STUCK_AFTER, encode).await.map_err(|fault| fault.to_string())?;
        let (encoder, Encoded { jpeg, squeezed }) = encoded?;
        self.encoder = Some(encoder);
        self.log(format!("encoded anew: {reason}"));
        Ok((jpeg, squeezed))
    }

    /// Logs how pictures come on air, unless that is known.
    fn log(&mut self, how: String) {
        if self.logged.as_ref() != Some(&how) {
            let StationSpec { id, name, .. } = &*self.spec;
            info!("station {id} \"{name}\": the pictures that are published are {how}");
            self.logged = Some(how);
        }
    }
}

/// Why a picture of a publisher cannot be sent as it is; `None` if it can.
fn reason_to_encode(jpeg: &Jpeg, width: u16) -> Option<String> {
    if jpeg.chroma == Chroma::Grey {
        return Some("they have no colours".into());
    }
    if jpeg.size.width > width {
        return Some(format!("they are {} wide, and the station's at most {width}", jpeg.size.width));
    }
    (!jpeg.fits_datagram()).then(|| format!("one of {} bytes does not fit one datagram", jpeg.scan.len()))
}
