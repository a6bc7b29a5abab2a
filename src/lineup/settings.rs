//! The keys that `[defaults]` and every station may have.

use std::net::SocketAddr;
use std::time::Duration;

use super::fields::{Field, Section, interface};
use super::report::Report;
use super::{
    DEFAULT_BUFFER, DEFAULT_SLIDE, DEFAULT_SOUND_BITRATE, Datagram, Media, SoundChoice, Spread, StationSpec,
    World,
};
use crate::interface::Choice;
use crate::media::{SoundCodec, StationId};
use crate::wire::srtp::Profile;

/// The interface of a station that names none and has no default: nothing leaves this machine.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// The keys that `[defaults]` and every station may have.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) interface: Field<Choice>,
    ttl: Field<u8>,
    width: Field<u16>,
    quality: Field<u8>,
    datagram: Field<Datagram>,
    reel: Field<bool>,
    spread: Field<Spread>,
    /// In seconds.
    slide: Field<u32>,
    /// In milliseconds.
    buffer: Field<u32>,
    pub(super) sound: Field<SoundChoice>,
    sound_bitrate: Field<u32>,
    sound_codec: Field<SoundCodec>,
    loudness: Field<bool>,
    encrypt: Field<Option<Profile>>,
    pub(super) sign: Field<bool>,
}

impl Settings {
    /// Those of a station for which the file has none.
    pub(super) fn without_a_key(world: &World) -> Settings {
        Settings::on(interface(LOOPBACK, world).map_or(Field::Absent, Field::Is))
    }

    /// Those of a station of which only the interface has been chosen.
    pub(super) fn on(interface: Field<Choice>) -> Settings {
        Settings {
            interface,
            ttl: Field::Is(1),
            width: Field::Is(640),
            quality: Field::Is(80),
            datagram: Field::Is(Datagram::Auto),
            reel: Field::Is(true),
            spread: Field::Is(Spread::DEFAULT),
            slide: Field::Is(DEFAULT_SLIDE.as_secs() as u32),
            buffer: Field::Is(DEFAULT_BUFFER.as_millis() as u32),
            sound: Field::Is(SoundChoice::Auto),
            sound_bitrate: Field::Is(DEFAULT_SOUND_BITRATE),
            sound_codec: Field::Is(SoundCodec::Opus),
            loudness: Field::Is(true),
            encrypt: Field::Is(None),
            sign: Field::Is(false),
        }
    }

    /// The station with these settings; `None` if one of them is wrong.
    pub(super) fn station(
        &self,
        id: StationId,
        name: String,
        media: Media,
        group: SocketAddr,
        line: usize,
    ) -> Option<StationSpec> {
        let settings = self.clone();
        Some(StationSpec {
            id,
            name,
            media,
            fallback: Vec::new(),
            at: Vec::new(),
            group,
            interface: settings.interface.value()?,
            ttl: settings.ttl.value()?,
            width: settings.width.value()?,
            quality: settings.quality.value()?,
            datagram: settings.datagram.value()?,
            reel: settings.reel.value()?,
            spread: settings.spread.value()?,
            slide: Duration::from_secs(settings.slide.value()?.into()),
            buffer: Duration::from_millis(settings.buffer.value()?.into()),
            sound: settings.sound.value()?,
            sound_bitrate: settings.sound_bitrate.value()?,
            sound_codec: settings.sound_codec.value()?,
            loudness: settings.loudness.value()?,
            sign: settings.sign.value()?,
            access: Vec::new(),
            encrypt: settings.encrypt.value()?,
            from_start: false,
            line,
        })
    }

    pub(super) fn read(section: &Section<'_, '_>, report: &mut Report<'_>, world: &World) -> Settings {
        let ttl = "choose a whole number from 0 to 255 (0 stays on this machine, 1 on this network)";
        let width = "choose a whole number from 16 to 2040 (pixels; RTP/JPEG carries no more)";
        let quality = "choose a whole number from 1 to 99 (JPEG quality, the Q of RTP/JPEG)";
        let slide = "choose a whole number from 1 to 86400 (seconds for which a picture file is on)";
        let buffer =
            "choose a whole number from 0 to 2000 (milliseconds for which pictures of a live source wait)";
        let bitrate = "choose a whole number from 32000 to 510000 (bits a second of sound)";
        let loudness = "choose true or false (whether films are brought to one loudness)";
        let sign = "choose true or false (whether pictures are signed)";
        let reel = "choose true or false (whether encoded pictures are kept, to be sent again)";
        Settings {
            interface: section.interface(report, world),
            ttl: section.number(report, "ttl", 0..=255, ttl),
            width: section.number(report, "width", 16..=2040, width),
            quality: section.number(report, "quality", 1..=99, quality),
            datagram: section.datagram(report),
            reel: section.flag(report, "reel", reel),
            spread: section.spread(report),
            slide: section.number(report, "slide", 1..=86_400, slide),
            buffer: section.number(report, "buffer", 0..=2000, buffer),
            sound: section.sound(report),
            sound_bitrate: section.number(report, "sound_bitrate", 32_000..=510_000, bitrate),
            sound_codec: section.sound_codec(report),
            loudness: section.flag(report, "loudness", loudness),
            encrypt: section.encrypt(report),
            sign: section.flag(report, "sign", sign),
        }
    }

    pub(super) fn or(self, other: &Settings) -> Settings {
        let other = other.clone();
        Settings {
            interface: self.interface.or(other.interface),
            ttl: self.ttl.or(other.ttl),
            width: self.width.or(other.width),
            quality: self.quality.or(other.quality),
            datagram: self.datagram.or(other.datagram),
            reel: self.reel.or(other.reel),
            spread: self.spread.or(other.spread),
            slide: self.slide.or(other.slide),
            buffer: self.buffer.or(other.buffer),
            sound: self.sound.or(other.sound),
            sound_bitrate: self.sound_bitrate.or(other.sound_bitrate),
            sound_codec: self.sound_codec.or(other.sound_codec),
            loudness: self.loudness.or(other.loudness),
            encrypt: self.encrypt.or(other.encrypt),
            sign: self.sign.or(other.sign),
        }
    }
}
