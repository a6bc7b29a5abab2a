//! Live Matroska (RFC 9559): an EBML document (RFC 8794) of unknown size, with pictures as JPEG and sound. Pure.
//!
//! There is no index, and clusters end where the next one begins, so nothing is known of what follows, and nothing is held back. Of
//! the crates that write Matroska, `webm` links libwebm, under the MPL, and others are for files.

use std::time::Duration;

use crate::media::{AirTime, FrameRate, LINEAR_SAMPLE, SOUND_CHANNELS, SOUND_CLOCK, Size, SoundCodec, Track};

/// Nanoseconds of a tick of the timestamps. The usual millisecond would move packets of 2.5 ms.
const TICK: u64 = 100_000;

/// Time from one cluster to the next, at the next picture. A player that comes in the middle of a recording begins at a cluster.
const CLUSTER: Duration = Duration::from_secs(1);

/// The size of an element that ends where its parent ends, or an element of a higher level begins: all data bits are 1.
const UNKNOWN: &[u8] = &[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// How long a decoder takes to converge after a seek: 80 ms, as RFC 9559 section 5.1.4.1.27 has for Opus.
const SEEK_PRE_ROLL: u64 = 80_000_000;

/// What the beginning of a document says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    pub(super) title: &'a str,
    pub(super) size: Size,
    /// Pictures a second, if that is known.
    pub(super) rate: Option<FrameRate>,
    /// The codec of the sound; `None` if there is none.
    pub(super) sound: Option<SoundCodec>,
}

impl Header<'_> {
    /// The document before its first cluster.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let head = [
            uint(0x4286, 1), // EBMLVersion
            uint(0x42f7, 1), // EBMLReadVersion
            uint(0x42f2, 4), // EBMLMaxIDLength
            uint(0x42f3, 8), // EBMLMaxSizeLength
            element(0x4282, b"matroska"),
            uint(0x4287, 4), // DocTypeVersion
            uint(0x4285, 2), // DocTypeReadVersion
        ];
        bytes.extend(element(0x1a45_dfa3, &head.concat()));
        bytes.extend(id(0x1853_8067)); // Segment
        bytes.extend(UNKNOWN);
        let app = concat!("stationcast ", env!("CARGO_PKG_VERSION")).as_bytes();
        let info = [
            uint(0x2a_d7b1, TICK), // TimestampScale
            element(0x7ba9, self.title.as_bytes()),
            element(0x4d80, app), // MuxingApp
            element(0x5741, app), // WritingApp
        ];
        bytes.extend(element(0x1549_a966, &info.concat()));
        let sound = self.sound.map(sound_entry).unwrap_or_default();
        bytes.extend(element(0x1654_ae6b, &[self.picture_entry(), sound].concat())); // Tracks
        bytes
    }

    fn picture_entry(self) -> Vec<u8> {
        let video = [
            uint(0x9a, 2), // FlagInterlaced: progressive
            uint(0xb0, self.size.width.into()),
            uint(0xba, self.size.height.into()),
        ];
        let interval = self.rate.map(|rate| uint(0x23_e383, rate.interval().as_nanos() as u64));
        let entry = [
            entry(Track::Picture, 1, "V_MJPEG"),
            interval.unwrap_or_default(), // DefaultDuration
            element(0xe0, &video.concat()),
        ];
        element(0xae, &entry.concat())
    }
}

fn sound_entry(codec: SoundCodec) -> Vec<u8> {
    let rate = f64::from(SOUND_CLOCK).to_be_bytes();
    let audio = [element(0xb5, &rate), uint(0x9f, SOUND_CHANNELS as u64)].concat(); // SamplingFrequency, Channels
    match codec {
        SoundCodec::Opus => opus_entry(&audio),
        SoundCodec::L16 => {
            let depth = uint(0x6264, (LINEAR_SAMPLE / SOUND_CHANNELS * 8) as u64); // BitDepth
            let audio = element(0xe1, &[audio, depth].concat());
            element(0xae, &[entry(Track::Sound, 2, "A_PCM/INT/BIG"), audio].concat())
        }
    }
}

fn opus_entry(audio: &[u8]) -> Vec<u8> {
    // OpusHead (RFC 7845 section 5.1). Timestamps are those of what is heard, so no samples are to be skipped.
    let mut opus = b"OpusHead\x01\x02\0\0".to_vec();
    opus.extend(SOUND_CLOCK.to_le_bytes());
    opus.extend([0, 0, 0]); // gain, mapping family
    let entry = [
        entry(Track::Sound, 2, "A_OPUS"),
        element(0x63a2, &opus), // CodecPrivate
        uint(0x56aa, 0),        // CodecDelay
        uint(0x56bb, SEEK_PRE_ROLL),
        element(0xe1, audio),
    ];
    element(0xae, &entry.concat())
}

/// The part of a TrackEntry that all tracks have.
fn entry(track: Track, kind: u64, codec: &str) -> Vec<u8> {
    let number = number(track).into();
    [
        uint(0xd7, number),
        uint(0x73c5, number), // TrackUID
        uint(0x83, kind),
        uint(0x9c, 0),              // FlagLacing
        element(0x22_b59c, b"und"), // Language
        element(0x86, codec.as_bytes()),
    ]
    .concat()
}

const fn number(track: Track) -> u8 {
    match track {
        Track::Picture => 1,
        Track::Sound => 2,
    }
}

/// Where a document is.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The moment of timestamp 0: the first picture.
    origin: Option<AirTime>,
    /// The ticks at which the cluster began; `None`: the next picture begins one.
    cluster: Option<i64>,
}

impl Position {
    /// Ends the cluster: the next picture begins another.
    pub(super) fn end_cluster(&mut self) {
        self.cluster = None;
    }

    /// The bytes before the `length` bytes of a unit that is due at `at`. `None` if the unit is left out: sound before the first
    /// picture, or before the picture at which the next cluster begins.
    pub(super) fn block(&mut self, track: Track, at: AirTime, length: usize) -> Option<Vec<u8>> {
        let is_picture = track == Track::Picture;
        let origin = match self.origin {
            Some(origin) => origin,
            None if is_picture => *self.origin.insert(at),
            None => return None,
        };
        let ticks = at.signed_since(origin).div_euclid(TICK as i64);
        if ticks < 0 || !is_picture && self.cluster.is_none() {
            return None;
        }
        let mut head = Vec::new();
        let in_cluster = |begin: i64| i16::try_from(ticks - begin).ok();
        let second = (CLUSTER.as_nanos() as u64 / TICK) as i64;
        let relative = match self.cluster {
            Some(begin) if !(is_picture && ticks - begin >= second) => in_cluster(begin),
            _ => None,
        };
        let relative = relative.unwrap_or_else(|| {
            self.cluster = Some(ticks);
            head.extend(id(0x1f43_b675)); // Cluster
            head.extend(UNKNOWN);
            head.extend(uint(0xe7, ticks as u64)); // Timestamp
            0
        });
        let [high, low] = relative.to_be_bytes();
        head.push(0xa3); // SimpleBlock
        head.extend(size(length as u64 + 4));
        head.extend([0x80 | number(track), high, low, 0x80]); // a keyframe, without lacing
        Some(head)
    }
}

fn element(name: u32, content: &[u8]) -> Vec<u8> {
    [id(name), size(content.len() as u64), content.to_vec()].concat()
}

/// An unsigned integer, in as few bytes as it needs.
fn uint(name: u32, value: u64) -> Vec<u8> {
    element(name, significant(&value.to_be_bytes()))
}

/// An element's ID, with its marker.
fn id(name: u32) -> Vec<u8> {
    significant(&name.to_be_bytes()).to_vec()
}

fn significant(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    &bytes[zeros.min(bytes.len() - 1)..]
}

/// An element's size (RFC 8794 section 4): as many bytes as it has leading zeros, and one. All data bits 1 would mean unknown.
fn size(value: u64) -> Vec<u8> {
    let length = (1..8).find(|&length| value < (1 << (7 * length)) - 1).unwrap_or(8);
    let marked = value | 1 << (7 * length);
    marked.to_be_bytes()[8 - length as usize..].to_vec()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    const BEGIN: AirTime = AirTime(1_790_000_000_000_000_000);

    #[test]
    fn sizes_have_as_few_bytes_as_they_need() {
        for (value, bytes) in [
            (0, &[0x80][..]),
            (126, &[0xfe]),
            (127, &[0x40, 0x7f]),
            (16_382, &[0x7f, 0xfe]),
            (16_383, &[0x20, 0x3f, 0xff]),
            (22_004, &[0x20, 0x55, 0xf4]),
        ] {
            assert_eq!(size(value), bytes, "{value}");
        }
        assert_eq!(uint(0x9a, 0), [0x9a, 0x81, 0]);
        assert_eq!(uint(0x4286, 256), [0x42, 0x86, 0x82, 1, 0]);
    }

    #[test]
    fn a_cluster_begins_at_the_first_picture_after_a_second() {
        let mut position = Position::default();
        let mut clusters = |track, ms: u64| {
            let block = position.block(track, BEGIN + Duration::from_millis(ms), 100)?;
            Some((
                block.starts_with(&id(0x1f43_b675)),
                i16::from_be_bytes(block[block.len() - 3..][..2].try_into().unwrap()),
            ))
        };
        assert_eq!(clusters(Track::Sound, 0), None, "there is no picture yet");
        assert_eq!(clusters(Track::Picture, 1000), Some((true, 0)));
        assert_eq!(clusters(Track::Sound, 990), None, "before the beginning");
        assert_eq!(clusters(Track::Sound, 1010), Some((false, 100)));
        assert_eq!(clusters(Track::Picture, 1960), Some((false, 9600)));
        assert_eq!(clusters(Track::Sound, 2010), Some((false, 10_100)));
        assert_eq!(clusters(Track::Picture, 2000), Some((true, 0)));
        assert_eq!(clusters(Track::Sound, 1990), Some((false, -100)), "it came after the picture");
        assert_eq!(clusters(Track::Sound, 60_000), Some((true, 0)), "pictures fail");
        position.end_cluster();
        let mut clusters = |track, ms: u64| {
            Some(position.block(track, BEGIN + Duration::from_millis(ms), 100)?.starts_with(&id(0x1f43_b675)))
        };
        assert_eq!(clusters(Track::Sound, 70_000), None);
        assert_eq!(clusters(Track::Picture, 70_000), Some(true));
    }

    #[test]
    fn ffmpeg_reads_what_is_written() {
        let size = Size { width: 64, height: 48 };
        let title = "Café & Töne";
        let rate = FrameRate::new(25, 1);
        let mut film = Header { title, size, rate, sound: Some(SoundCodec::Opus) }.to_bytes();
        let mut encoder =
            opus::Encoder::new(SOUND_CLOCK, opus::Channels::Stereo, opus::Application::Audio).unwrap();
        let grey = turbojpeg::Image {
            pixels: vec![90_u8; 64 * 48 * 3],
            width: 64,
            pitch: 64 * 3,
            height: 48,
            format: turbojpeg::PixelFormat::RGB,
        };
        let jpeg = turbojpeg::compress(grey.as_deref(), 80, turbojpeg::Subsamp::Sub2x2).unwrap();
        let mut position = Position::default();
        for ms in (0..3000_u64).step_by(20) {
            let at = BEGIN + Duration::from_millis(ms);
            if ms % 40 == 0 {
                film.extend(position.block(Track::Picture, at, jpeg.len()).unwrap());
                film.extend(&jpeg[..]);
            }
            let packet = encoder.encode_vec_float(&[0.25; 2 * 960], 1275).unwrap();
            film.extend(position.block(Track::Sound, at, packet.len()).unwrap());
            film.extend(packet);
        }
        let mut ffprobe = Command::new("ffprobe")
            .args(["-v", "error", "-count_packets", "-show_entries"])
            .arg("format_tags=title:stream=codec_name,width,height,r_frame_rate,channels,start_pts,nb_read_packets")
            .args(["-of", "csv=p=0", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ffprobe runs");
        ffprobe.stdin.take().unwrap().write_all(&film).unwrap();
        let output = ffprobe.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let expected = "mjpeg,64,48,25/1,0,75\nopus,2,0/0,0,150\nCafé & Töne\n";
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}
