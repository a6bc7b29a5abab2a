//! Decodes a film with libavcodec if OpenCV would show it wrong. libavfilter turns and deinterlaces the pictures, converts their
//! colours and follows changes of their size, as a player does. Pictures that fill a station keep their planes, whose colours are
//! converted to those of JPEG.

mod planes;
mod seek;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use ac_ffmpeg::codec::video::filter::VideoFilter;
use ac_ffmpeg::codec::video::{PixelFormat, VideoDecoder, VideoFrame};
use ac_ffmpeg::codec::{Decoder, Filter};
use ac_ffmpeg::format::demuxer::{Demuxer, DemuxerWithStreamInfo, InputFormat};
use ac_ffmpeg::format::io::IO;
use ac_ffmpeg::format::stream::Stream;
use ac_ffmpeg::packet::Packet;
use ac_ffmpeg::time::{TimeBase, Timestamp};
use opencv::core::{CV_8UC3, Mat, Scalar};
use opencv::prelude::*;

use self::planes::{ToJpeg, has_planes};
use super::facts::{Colours, Facts, HighRange};
use super::{End, PictureSource, SourceError, SourcePicture, check_readable, display, open_file};
use crate::content::encode::{Pixels, STRETCHED, inner_size};
use crate::media::{FrameRate, Size};

/// Bytes that are read from a file at a time.
const READ: usize = 64 << 10;

/// Most durations of pictures that are kept until the pictures are decoded: more than any decoder holds back.
const LENGTHS: usize = 256;

/// Most threads of a decoder. One decodes 1080p in real time; larger pictures need more.
const THREADS: usize = 4;

/// Containers of broadcasts, in which the pixel aspect may change within a film.
const BROADCAST: [&str; 2] = ["mpegts", "mpeg"];

/// A film, opened by libavformat.
pub(crate) type FilmDemuxer = DemuxerWithStreamInfo<BufReader<File>>;

/// Opens the film at `path`, as one of format `container` if that is known.
pub(crate) fn demux(path: &Path, container: Option<&str>) -> io::Result<FilmDemuxer> {
    let other = |error: ac_ffmpeg::Error| io::Error::other(error.to_string());
    let file = BufReader::with_capacity(READ, open_file(path)?);
    Demuxer::builder()
        // A playlist that is named like a film must not open other files or connections.
        .set_option("protocol_whitelist", "none")
        .input_format(
            container.and_then(|name| InputFormat::find_by_name(name.split(',').next().unwrap_or(name))),
        )
        .build(IO::from_seekable_read_stream(file))
        .map_err(other)?
        .find_stream_info(None)
        .map_err(|(_, error)| other(error))
}

/// The index of a packet's track.
pub(super) fn track_of(packet: &Packet) -> usize {
    packet.stream_index()
}

/// Width, height and pixel format of a picture, which may change within a film.
pub(crate) type Shape = (usize, usize, PixelFormat);

/// The shape of a picture.
pub(crate) fn shape_of(frame: &VideoFrame) -> Shape {
    (frame.width(), frame.height(), frame.pixel_format())
}

/// How far the decoding of a film has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The file has more packets.
    Reading,
    /// All packets are in the decoder.
    Draining,
    /// All pictures are in the filter.
    Over,
}

/// A film that libavcodec decodes.
pub(super) struct LibavSource {
    path: PathBuf,
    facts: Facts,
    /// The size of the station that the pictures are made for, if that is known.
    station: Option<Size>,
    film: FilmDemuxer,
    decoder: VideoDecoder,
    /// The shape of the current pictures, and the filter for it.
    filter: Option<(Shape, VideoFilter)>,
    /// How the planes of pictures become those of JPEG, if that is known.
    to_jpeg: Option<ToJpeg>,
    phase: Phase,
    /// Packets before the next key picture are of no use: the pictures that they refer to were not read.
    awaits_key: bool,
    /// Filtered pictures in presentation order.
    ready: VecDeque<VideoFrame>,
    /// Durations of pictures by their stamps, both in microseconds.
    lengths: BTreeMap<i64, i64>,
    /// Stamp of the first picture, in microseconds.
    first: Option<i64>,
    /// Stamp of the picture that was decoded last, in microseconds.
    last: Option<i64>,
    end: End,
}

impl LibavSource {
    pub(super) fn open(path: &Path, facts: Facts) -> Result<LibavSource, SourceError> {
        let failed = |reason: String| SourceError::Decoder { path: display(path), reason };
        let film = demux(path, Some(&facts.container)).map_err(|error| failed(error.to_string()))?;
        let track = film.streams().get(facts.track);
        let Some(track) = track.filter(|track| track.codec_parameters().is_video_codec()) else {
            return Err(SourceError::NotAFilm { path: display(path) });
        };
        let decoder = new_decoder(track).map_err(|error| failed(error.to_string()))?;
        Ok(LibavSource {
            path: path.to_owned(),
            to_jpeg: ToJpeg::of(&shown_colours(&facts.colours)),
            facts,
            station: None,
            film,
            decoder,
            filter: None,
            phase: Phase::Reading,
            awaits_key: false,
            ready: VecDeque::new(),
            lengths: BTreeMap::new(),
            first: None,
            last: None,
            end: End::default(),
        })
    }

    /// The next filtered picture; `None` at the end of the film.
    fn next_frame(&mut self) -> Result<Option<VideoFrame>, SourceError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            match self.decoder.take() {
                Ok(Some(frame)) => {
                    let stamp = self.stamp_of(&frame);
                    self.show(frame, stamp)?;
                }
                // A picture that cannot be decoded is dropped, as players do.
                Ok(None) | Err(_) if self.phase == Phase::Reading => self.read(),
                Ok(None) | Err(_) => {
                    if std::mem::replace(&mut self.phase, Phase::Over) == Phase::Over {
                        return Ok(None);
                    }
                    self.drain_filter()?;
                }
            }
        }
    }

    /// Hands the next packet of the film to the decoder. A read error ends the film.
    fn read(&mut self) {
        match self.film.as_mut().take() {
            Ok(Some(packet)) if track_of(&packet) == self.facts.track => {
                if self.awaits_key && !packet.is_key() {
                    return;
                }
                self.awaits_key = false;
                if let (Some(stamp), length) = (packet.pts().as_micros(), packet.duration())
                    && let Some(length) = length.filter(|length| !length.is_zero())
                {
                    self.lengths.insert(stamp, length.as_micros() as i64);
                    if self.lengths.len() > LENGTHS {
                        self.lengths.pop_first();
                    }
                }
                let _ = self.decoder.try_push(packet);
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                self.phase = Phase::Draining;
                let _ = self.decoder.try_flush();
            }
        }
    }

    /// The stamp of the picture that was decoded last, in microseconds. One without a stamp follows the one before it.
    fn stamp_of(&mut self, frame: &VideoFrame) -> i64 {
        let interval = self.facts.rate.interval().as_micros() as i64;
        let stamp = frame.best_effort_timestamp().as_micros();
        let stamp = stamp.or(self.last.map(|last| last.saturating_add(interval))).unwrap_or(0);
        self.last = Some(stamp);
        stamp
    }

    /// Makes of a decoded picture what is shown.
    fn show(&mut self, frame: VideoFrame, stamp: i64) -> Result<(), SourceError> {
        let shape = shape_of(&frame);
        if self.filter.as_ref().is_none_or(|(made_for, _)| *made_for != shape) {
            self.drain_filter()?;
            self.filter = Some((shape, self.make_filter(shape)?));
        }
        if let Some((_, filter)) = &mut self.filter {
            let frame = frame.with_time_base(TimeBase::MICROSECONDS).with_pts(Timestamp::from_micros(stamp));
            filter.try_push(frame).map_err(|error| decoder_error(&self.path, &error))?;
        }
        self.take_filtered()
    }

    fn take_filtered(&mut self) -> Result<(), SourceError> {
        let Some((_, filter)) = &mut self.filter else { return Ok(()) };
        while let Some(frame) = filter.take().map_err(|error| decoder_error(&self.path, &error))? {
            self.ready.push_back(frame);
        }
        Ok(())
    }

    /// Takes the pictures that the filter holds back, and drops the filter.
    fn drain_filter(&mut self) -> Result<(), SourceError> {
        if let Some((_, filter)) = &mut self.filter {
            filter.try_flush().map_err(|error| decoder_error(&self.path, &error))?;
        }
        self.take_filtered()?;
        self.filter = None;
        Ok(())
    }

    /// How the scale filter makes the size of pictures that are decoded in this size and then turned.
    fn scaled_size(&self, width: usize, height: usize) -> String {
        let Some(station) = self.station else {
            return if is_broadcast(&self.facts) { "w=iw*sar:h=ih:eval=frame" } else { "w=iw:h=ih" }
                .to_owned();
        };
        // As OpenCV's INTER_AREA, this averages the pixels that it drops.
        let flags = "flags=area";
        if is_broadcast(&self.facts) {
            // The same as `inner_size`, which the filter computes anew if the pixel aspect changes (`eval=frame`).
            let side = |whole: u16, inner: String| {
                format!("'if(lte({whole}-{inner},{STRETCHED}),{whole},2*max(1,round({inner}/2)))'")
            };
            let w = side(station.width, format!("min({},{}*dar)", station.width, station.height));
            let h = side(station.height, format!("min({},{}/dar)", station.height, station.width));
            return format!("w={w}:h={h}:eval=frame:{flags}");
        }
        let (width, height) = if self.facts.turn.swaps { (height, width) } else { (width, height) };
        let side = |side| i32::try_from(side).unwrap_or(i32::MAX);
        let (w, h) = inner_size(side(width), side(height), self.facts.pixel_aspect, station);
        format!("w={w}:h={h}:{flags}")
    }

    /// Whether pictures of this shape are made for the station from their planes.
    fn keeps_planes(&self, (width, height, format): Shape) -> bool {
        let (width, height) = if self.facts.turn.swaps { (height, width) } else { (width, height) };
        // If the size changes within the film, the colours may, too. A film whose matrix changes without its size is taken for one whose
        // matrix is that of its beginning, since a frame does not tell its own here.
        let is_as_told = (width, height) == (self.facts.size.0 as usize, self.facts.size.1 as usize);
        self.station.is_some() && self.to_jpeg.is_some() && has_planes(format) && is_as_told
    }

    /// The pixels of a filtered picture.
    fn pixels(&self, frame: &VideoFrame) -> Result<Pixels, SourceError> {
        if let (Some(to_jpeg), Some(station)) = (&self.to_jpeg, self.station)
            && has_planes(frame.pixel_format())
        {
            return Ok(Pixels::Planes(to_jpeg.convert(frame, station)));
        }
        let pixels = mat(frame).map_err(|error| SourceError::Decoder {
            path: display(&self.path),
            reason: error.message.lines().next().unwrap_or_default().into(),
        })?;
        let pixel_aspect = if self.station.is_some() { 1.0 } else { self.pixel_aspect() };
        Ok(Pixels::Bgr { pixels, pixel_aspect })
    }

    fn make_filter(&self, shape: Shape) -> Result<VideoFilter, SourceError> {
        let (width, height, format) = shape;
        let (num, den) = self.facts.coded_aspect;
        let size = self.scaled_size(width, height);
        VideoFilter::builder(width, height, format)
            .pixel_aspect_ratio(num, den)
            .output_time_base(TimeBase::MICROSECONDS)
            .build(&filters(&self.facts, &size, self.station.is_some(), self.keeps_planes(shape)))
            .map_err(|error| decoder_error(&self.path, &error))
    }
}

/// The filters for each picture of a film, in the syntax of libavfilter. They make planes or BGR of the size `size`, which is the
/// station's if `for_station`, else the film's.
fn filters(facts: &Facts, size: &str, for_station: bool, planes: bool) -> String {
    let mut filters = Vec::new();
    if facts.interlaced || facts.may_interlace {
        // `send_frame` keeps the rate; pictures that are not marked as interlaced pass unchanged.
        filters.push("bwdif=mode=send_frame:deint=interlaced".to_owned());
    }
    filters.extend(facts.turn.filter.clone());
    let mut tagged = facts.colours.tagged;
    if let Some(kind) = facts.colours.high_range.filter(|_| maps_tones()) {
        // The mapping takes 49 ms for a picture of 1920x1080 on one core, where decoding it takes 9. No station shows a larger one.
        let first = if for_station {
            format!("scale={size}")
        } else {
            "scale=w='min(iw,1920)':h='min(ih,1080)':force_original_aspect_ratio=decrease:force_divisible_by=2"
                .to_owned()
        };
        filters.push(first);
        filters.extend(tone_mapping(kind, &facts.colours));
        tagged = true;
    }
    let format = if planes {
        // With equal matrices, libswscale changes no colours but those of frames whose range is not the film's.
        let range = if shown_colours(&facts.colours).full_range { "pc" } else { "tv" };
        filters.push(format!("scale={size}:in_color_matrix=bt601:out_color_matrix=bt601:out_range={range}"));
        "yuv420p|yuvj420p"
    } else {
        // libswscale takes all untagged colours for those of BT.601.
        let matrix = if tagged { "auto" } else { facts.colours.space.as_str() };
        filters.push(format!("scale={size}:in_color_matrix={matrix}"));
        "bgr24"
    };
    filters.push(format!("format={format},settb=AVTB"));
    filters.join(",")
}

/// The colours of pictures whose tones are mapped, if they are to be.
fn shown_colours(colours: &Colours) -> Colours {
    match colours.high_range.filter(|_| maps_tones()) {
        Some(_) => Colours { space: "bt709".into(), tagged: true, full_range: false, high_range: None },
        None => colours.clone(),
    }
}

/// The filters that make of pictures of high dynamic range such of BT.709.
fn tone_mapping(kind: HighRange, colours: &Colours) -> [String; 2] {
    let transfer = match kind {
        HighRange::Pq => "smpte2084",
        HighRange::Hlg => "arib-std-b67",
    };
    let matrix = if colours.space == "bt2020c" { "2020_cl" } else { "2020_ncl" };
    let range = if colours.full_range { "pc" } else { "tv" };
    [
        format!(
            "zscale=tin={transfer}:pin=2020:min={matrix}:rin={range}:t=linear:npl=203,format=gbrpf32le,zscale=p=709"
        ),
        // A white of 1,000 nits, which most films are made for, with all that is darker than a sheet of paper as it is.
        "tonemap=mobius:param=0.5:desat=2:peak=5,zscale=t=709:m=709:r=tv,format=yuv444p".to_owned(),
    ]
}

/// Whether libavfilter has the filters that map tones.
pub(super) fn maps_tones() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let format = ac_ffmpeg::codec::video::frame::get_pixel_format("yuv420p");
        let graph =
            "zscale=t=linear:npl=203,format=gbrpf32le,tonemap=mobius,zscale=t=709:m=709,format=yuv420p";
        VideoFilter::builder(64, 64, format).build(graph).is_ok()
    })
}

/// Whether each picture is scaled to square pixels, since the pixel aspect may change.
fn is_broadcast(facts: &Facts) -> bool {
    BROADCAST.contains(&facts.container.as_str())
}

impl PictureSource for LibavSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> (u32, u32) {
        let (width, height) = self.facts.size;
        if is_broadcast(&self.facts) {
            ((f64::from(width) * self.facts.pixel_aspect).round() as u32, height)
        } else {
            (width, height)
        }
    }

    fn pixel_aspect(&self) -> f64 {
        if is_broadcast(&self.facts) { 1.0 } else { self.facts.pixel_aspect }
    }

    fn rate(&self) -> FrameRate {
        self.facts.rate
    }

    fn announced(&self) -> u64 {
        self.facts.announced
    }

    fn facts(&self) -> Option<&Facts> {
        Some(&self.facts)
    }

    fn make_for(&mut self, station: Size) {
        self.station = Some(station);
    }

    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError> {
        let Some(frame) = self.next_frame()? else {
            return self.end.check(&self.path, &self.facts).map(|()| None);
        };
        let at = frame.pts().as_micros().unwrap_or(0);
        let first = *self.first.get_or_insert(at);
        let stamp = since(at, first);
        let lasts =
            self.lengths.remove(&at).and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros);
        let lasts = self.facts.stays.or(lasts);
        while self.lengths.first_key_value().is_some_and(|(stamp, _)| *stamp < at) {
            self.lengths.pop_first();
        }
        if self.end.note(stamp).is_multiple_of(self.facts.rate.as_f64().ceil() as u64) {
            check_readable(&self.path)?;
        }
        Ok(Some(SourcePicture { pixels: self.pixels(&frame)?, stamp, lasts }))
    }

    fn seek(&mut self, position: Duration) -> Result<(), SourceError> {
        if self.first.is_none() {
            let Some(frame) = self.next_frame()? else { return Ok(()) };
            self.first = frame.pts().as_micros();
            self.ready.push_front(frame);
            if position.is_zero() {
                return Ok(());
            }
        }
        let first = self.first.unwrap_or(0);
        self.end.pass(Duration::ZERO);
        let position = i64::try_from(position.as_micros()).unwrap_or(i64::MAX);
        self.go_to(first, first.saturating_add(position))
    }
}

/// The time from one stamp to another, in microseconds.
fn since(stamp: i64, first: i64) -> Duration {
    Duration::from_micros(u64::try_from(stamp.saturating_sub(first)).unwrap_or(0))
}

fn new_decoder(track: &Stream) -> Result<VideoDecoder, ac_ffmpeg::Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    VideoDecoder::from_stream(track)?.set_option("threads", threads).build()
}

/// A BGR picture as OpenCV's matrix.
pub(crate) fn mat(frame: &VideoFrame) -> opencv::Result<Mat> {
    let (width, height) = (frame.width(), frame.height());
    let side = |side| i32::try_from(side).unwrap_or(i32::MAX);
    let mut pixels = Mat::new_rows_cols_with_default(side(height), side(width), CV_8UC3, Scalar::default())?;
    let planes = frame.planes();
    for (to, from) in pixels.data_bytes_mut()?.chunks_exact_mut(3 * width).zip(planes[0].lines()) {
        to.copy_from_slice(&from[..3 * width]);
    }
    Ok(pixels)
}

fn decoder_error(path: &Path, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::Decoder { path: display(path), reason: error.to_string() }
}
