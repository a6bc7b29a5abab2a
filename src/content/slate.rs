//! The slate: the still that a station sends while its film cannot be played. A viewer must see at a glance which
//! station this is, that it should be on air, and why it is not.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::encode::{EncodeError, Encoder, station_size};
use super::timeline::Timeline;
use super::worker::{BlockingWorker, STUCK_AFTER, Threads};
use super::{ContentEvent, ContentKind, Fault, OutputState, earliest_due};
use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, Policy, REPEAT_RATE, Size, Unit};
use crate::paint::style::{ACCENT, QUIET, TEXT};
use crate::paint::{Canvas, Colour, Type, area, mix};

/// The background, from top to bottom: a dark blue that JPEG compresses well.
const TOP: Colour = 0x1b_2533;
const BOTTOM: Colour = 0x0c_1119;
const CLOCK: Colour = 0x8a_98a6;

/// The colour bars of ITU-R BT.471, muted, from bright to dark. They check the colours all the way to the screen.
const BARS: [Colour; 7] = [0xb8_bcc0, 0xb0_a850, 0x58_a0a8, 0x56_9c5c, 0xa0_5c9c, 0xa4_5450, 0x4c_5ca4];

/// The heading of a slate: that something is wrong, or that it is an operator's.
const OFF_AIR: &str = "OFF AIR";
const ON_HOLD: &str = "ON HOLD";

/// Most lines of the reason.
const REASON_LINES: usize = 4;

/// The lead of the slate of a station whose content may come at any moment.
const SHORT_LEAD: Duration = Duration::from_millis(100);

/// A station's slate. A picture is painted each second, since it shows a clock, and sent until the next.
pub(crate) struct Slate {
    spec: Arc<StationSpec>,
    clock: AirClock,
    worker: BlockingWorker,
    /// `None` before the first picture, while a blocking thread has it, or after it crashed or hung there.
    encoder: Option<Box<Encoder>>,
    /// The last picture, and the time that it shows. `None` if the next one differs in more than its time.
    drawn: Option<(String, Jpeg)>,
    timeline: Timeline,
    size: Size,
    reason: String,
    /// Whether it is an operator's, and nothing is wrong.
    on_hold: bool,
    /// Whether [`ContentEvent::Begin`] was given.
    begun: bool,
    /// The number of the next picture, from 0.
    next: u64,
    /// The number of pictures for this reason.
    pictures: u64,
    /// How long before it is due a picture is painted at most. `None`: as long as the station likes.
    lead: Option<Duration>,
}

impl Slate {
    /// A slate without a reason, which has no pictures yet.
    pub(crate) fn new(spec: Arc<StationSpec>, clock: AirClock, threads: Threads) -> Slate {
        let timeline = Timeline::new(AirTime::default(), REPEAT_RATE);
        // Until a film is known, the shape that most films have.
        let size = station_size((1920, 1080), 1.0, spec.width);
        let (worker, reason) = (BlockingWorker::new(threads), String::new());
        let (on_hold, begun, next, pictures) = (false, false, 0, 0);
        // Published pictures are shown at once when they come, so little of the slate may be on its way.
        let lead = (!spec.media.is_films()).then_some(SHORT_LEAD);
        Slate {
            spec,
            clock,
            worker,
            encoder: None,
            drawn: None,
            timeline,
            size,
            reason,
            on_hold,
            begun,
            next,
            pictures,
            lead,
        }
    }

    /// From the next picture on, this configuration of the same station holds.
    pub(crate) fn set_spec(&mut self, spec: Arc<StationSpec>) {
        self.spec = spec;
        self.drawn = None;
    }

    /// The size of all pictures.
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Sets the slate to show `reason` for `span`, in pictures of `size` if the station has a size already; `on_hold` if the
    /// reason is an operator's, and nothing is wrong.
    pub(crate) fn set_reason(&mut self, reason: String, span: Duration, size: Option<Size>, on_hold: bool) {
        (self.reason, self.on_hold) = (reason, on_hold);
        (self.begun, self.next, self.pictures) = (false, 0, REPEAT_RATE.nearest(span));
        self.size = size.unwrap_or(self.size);
        self.drawn = None;
    }

    /// The next event; `None` at the end of the span.
    ///
    /// # Errors
    /// A picture cannot be encoded.
    pub(crate) async fn next(&mut self, output: OutputState) -> Result<Option<ContentEvent>, Fault> {
        if self.next >= self.pictures {
            return Ok(None);
        }
        if !self.begun {
            self.begun = true;
            self.timeline.begin_film(REPEAT_RATE, earliest_due(&self.clock, &self.spec, output));
            let kind = ContentKind::Slate(self.reason.clone());
            return Ok(Some(ContentEvent::Begin { kind, size: self.size, rate: REPEAT_RATE }));
        }
        let unit = self.draw(self.next).await?;
        self.next += 1;
        Ok(Some(ContentEvent::Unit { unit, squeezed: false }))
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: a slate begins now")]
    async fn draw(&mut self, n: u64) -> Result<Unit, Fault> {
        let now = self.clock.now();
        let stamp = REPEAT_RATE.nth(n);
        let mut due = self.timeline.next(stamp);
        if due.policy(now) != Policy::Air {
            self.timeline.reanchor(now);
            due = self.timeline.next(stamp);
        }
        if let Some(lead) = self.lead {
            sleep(self.clock.until(due.at).saturating_sub(lead)).await;
        }
        let clock = clock_text(due.at);
        if let Some((_, jpeg)) = self.drawn.as_ref().filter(|(text, _)| *text == clock) {
            return Ok(Unit::picture(due, jpeg.clone()));
        }
        let (size, quality) = (self.size, self.spec.quality);
        let text = clock.clone();
        let (name, reason) = (self.spec.name.clone(), self.reason.clone());
        let tag = if self.on_hold { ON_HOLD } else { OFF_AIR };
        let known = self.encoder.take().filter(|encoder| encoder.size() == size);
        let draw = move || {
            let mut encoder = match known {
                Some(encoder) => encoder,
                None => Box::new(Encoder::new(size, quality)?),
            };
            let canvas = paint_slate(size, tag, &name, &reason, &text);
            let encoded = encoder.encode_rgb32(&canvas.pixels)?;
            Ok::<_, EncodeError>((encoder, encoded.jpeg))
        };
        let (encoder, jpeg) = self.worker.call(STUCK_AFTER, draw).await??;
        self.encoder = Some(encoder);
        self.drawn = Some((clock, jpeg.clone()));
        Ok(Unit::picture(due, jpeg))
    }
}

/// The time of day in UTC.
pub(super) fn clock_text(at: AirTime) -> String {
    let seconds = at.0 / 1_000_000_000;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Paints the slate of the station `name`: the `tag`, the `reason` in a few lines, and the text `clock`. Legible from
/// 160x96 up; a smaller slate has the parts that fit.
pub fn paint_slate(size: Size, tag: &str, name: &str, reason: &str, clock: &str) -> Canvas {
    let mut canvas = Canvas::of(size);
    let (width, height) = (i32::from(size.width), i32::from(size.height));
    paint_background(&mut canvas, width, height);

    let unit = height.min(width * 2 / 3);
    let margin = (width / 12).min(unit / 8).max(2);
    let small = Type::regular((unit / 18).max(12));
    let text = Type::regular((unit / 14).max(12));
    let room = width - 2 * margin;
    // A long name gets smaller letters before it is cut.
    let mut heading = Type::bold((unit / 6).max(16));
    let wide = heading.width(name);
    if wide > room {
        heading = Type::bold((heading.height() * room.max(0) / wide).max(text.height().max(16)));
    }
    let gap = (unit / 24).max(3);
    let strip = (unit / 60).max(2);

    // From the bottom: the bars, then the clock.
    let bars_top = height - margin.max(strip * 2) / 2 - strip;
    for (n, &colour) in BARS.iter().enumerate() {
        let at = |n: usize| margin + room * n as i32 / BARS.len() as i32;
        canvas.fill(area(at(n), bars_top, at(n + 1) - at(n), strip), colour);
    }
    let clock_top = bars_top - gap - small.height();
    small.paint(&mut canvas, margin, clock_top, CLOCK, &small.cut(clock, room));

    // The block of tag, name and reason is in the middle of the space above the clock.
    let fixed = small.height() + gap + heading.height() + gap;
    let line = text.height() + text.height() / 6;
    let fitting = ((clock_top - gap - margin / 2 - fixed) / line).clamp(1, REASON_LINES as i32);
    let lines = text.wrap(reason, room - gap, fitting as usize);
    let block = fixed + line * lines.len() as i32;
    let mut y = ((clock_top - gap - block) * 9 / 20).max(margin / 2);

    let dot = small.height() * 11 / 20;
    canvas.panel(area(margin, y + (small.height() - dot) / 2, dot, dot), dot, ACCENT, 255);
    let tag_left = margin + dot * 2;
    small.paint(&mut canvas, tag_left, y, ACCENT, &small.cut(tag, width - margin - tag_left));
    y += small.height() + gap / 2;
    heading.paint(&mut canvas, margin, y, TEXT, &heading.cut(name, room));
    y += heading.height() + gap;
    let rule = (unit / 120).max(1);
    canvas.fill(area(margin, y + line / 16, rule, line * lines.len() as i32 - line / 8), ACCENT);
    for text_line in lines {
        text.paint(&mut canvas, margin + gap, y, QUIET, &text_line);
        y += line;
    }
    canvas
}

/// Paints a vertical gradient, with an ordered dither so that its steps do not show as bands.
fn paint_background(canvas: &mut Canvas, width: i32, height: i32) {
    const DITHER: [u32; 4] = [0, 2, 3, 1];
    for y in 0..height {
        // In quarters of a step between the two colours.
        let place = (y * 255 * 4 / height.max(1)) as u32;
        for (x, threshold) in (0..width).zip(DITHER.iter().cycle().skip(y as usize % 4)) {
            let alpha = ((place + threshold) / 4).min(255) as u8;
            canvas.pixels[(y * width + x) as usize] = mix(TOP, BOTTOM, alpha);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(width: u16, height: u16) -> Size {
        Size { width, height }
    }

    /// The number of pixels that have about this colour: the strokes of small letters cover no pixel wholly.
    fn count(canvas: &Canvas, colour: Colour) -> usize {
        let near = |pixel: &u32| {
            pixel.to_be_bytes().iter().zip(colour.to_be_bytes()).all(|(a, b)| a.abs_diff(b) < 32)
        };
        canvas.pixels.iter().filter(|pixel| near(pixel)).count()
    }

    #[test]
    fn every_part_is_visible_at_every_usual_size() {
        for (width, height) in [(160, 96), (320, 176), (640, 368), (1280, 720), (1920, 1088), (368, 640)] {
            let full =
                paint_slate(size(width, height), OFF_AIR, "Nature", "the film is missing", "03:31:00 UTC");
            for colour in [ACCENT, TEXT, QUIET, CLOCK, BARS[0], BARS[6]] {
                assert!(count(&full, colour) > 15, "{colour:06x} at {width}x{height}");
            }
            let (bare, name) = (paint_slate(size(width, height), OFF_AIR, "", "", ""), "Nature");
            assert_eq!(count(&bare, TEXT), 0);
            for (name, reason, clock) in [(name, "", ""), ("", name, ""), ("", "", name)] {
                assert_ne!(paint_slate(size(width, height), OFF_AIR, name, reason, clock), bare);
            }
        }
    }

    #[test]
    fn another_time_changes_only_the_clock() {
        let one = paint_slate(size(640, 368), OFF_AIR, "Nature", "the film is missing", "03:31:00 UTC");
        let two = paint_slate(size(640, 368), OFF_AIR, "Nature", "the film is missing", "03:31:01 UTC");
        let changed: Vec<usize> =
            (0..368).filter(|y| one.pixels[y * 640..][..640] != two.pixels[y * 640..][..640]).collect();
        assert!(!changed.is_empty() && changed.len() < 24 && changed[0] > 280, "{changed:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_text_fits_any_size(w in 0u16..300, h in 0u16..300, name in ".{0,80}", reason in "\\PC{0,400}") {
            let canvas = paint_slate(size(w, h), ON_HOLD, &name, &reason, &name);
            prop_assert_eq!(canvas.pixels.len(), usize::from(w) * usize::from(h));
        }
    }
}
