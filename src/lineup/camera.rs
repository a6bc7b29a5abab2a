//! A camera of this machine, in `media` and the keys beside it. Pure.

use std::fmt;
use std::path::PathBuf;

use super::fields::{Field, Section};
use super::report::Report;

/// The keys of a camera.
pub(super) const CAMERA_KEYS: [&str; 4] = ["size", "rate", "camera_format", "microphone"];

/// A camera of this machine, by Video4Linux.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CameraDevice {
    /// Its device, as in `/dev/video0`.
    pub path: PathBuf,
    /// Width and height that it is asked for; `None` for its own choice.
    pub size: Option<(u16, u16)>,
    /// Pictures a second that it is asked for; `None` for its own choice.
    pub rate: Option<u16>,
    /// The code of the format that it is asked for, as in `MJPG`.
    pub format: [u8; 4],
    /// ALSA's name of the microphone that is heard with it, if the station has sound.
    pub microphone: String,
}

/// The microphone unless the line-up names another: the system's own choice.
pub const DEFAULT_MICROPHONE: &str = "default";

/// Most bytes of the name of a microphone.
const LONGEST_MICROPHONE: usize = 255;

impl CameraDevice {
    /// Motion JPEG, which is passed on as it is.
    pub const JPEG: [u8; 4] = *b"MJPG";

    /// The device that an entry of `media` means: `/dev/video0`, or `camera:0`.
    pub(super) fn device(text: &str) -> Option<PathBuf> {
        let number = text.strip_prefix("camera:").or_else(|| text.strip_prefix("/dev/video"));
        if let Some(number) = number {
            let is_number =
                (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
            return is_number.then(|| format!("/dev/video{}", number.parse::<u16>().unwrap_or(0)).into());
        }
        // Links that tell cameras apart, however they were plugged in.
        text.starts_with("/dev/v4l/").then(|| text.into())
    }

    /// The camera at `path`, with the keys beside `media`; `None` if one is wrong.
    pub(super) fn read(
        path: PathBuf,
        section: &Section<'_, '_>,
        report: &mut Report<'_>,
    ) -> Option<CameraDevice> {
        let size_fix = "write width and height, as in \"1280x720\"";
        let size = section.text(report, "size", size_fix).and_then(|text| match size(text) {
            Some(size) => Field::Is(size),
            None => section.wrong(report, "size", format_args!("is no size of pictures; {size_fix}")),
        });
        let rate_fix = "choose a whole number from 1 to 240 (pictures a second)";
        let rate = section.number(report, "rate", 1..=240, rate_fix);
        let format_fix = "write the four letters of a format of Video4Linux, as in \"MJPG\" or \"YUYV\"";
        let format = section.text(report, "camera_format", format_fix).and_then(|text| match format(text) {
            Some(format) => Field::Is(format),
            None => section.wrong(report, "camera_format", format_args!("is no format; {format_fix}")),
        });
        let microphone_fix = "name a capture device of ALSA, as in \"default\" or \"plughw:1\"";
        let microphone = section.text(report, "microphone", microphone_fix).and_then(|text| {
            if is_microphone(text) {
                Field::Is(text.to_owned())
            } else {
                section.wrong(
                    report,
                    "microphone",
                    format_args!("cannot be the name of a device of ALSA; {microphone_fix}"),
                )
            }
        });
        let is_wrong = matches!(size, Field::Wrong)
            || matches!(rate, Field::Wrong)
            || matches!(format, Field::Wrong)
            || matches!(microphone, Field::Wrong);
        let format = format.value().unwrap_or(CameraDevice::JPEG);
        let microphone = microphone.value().unwrap_or_else(|| DEFAULT_MICROPHONE.to_owned());
        (!is_wrong).then(|| CameraDevice { path, size: size.value(), rate: rate.value(), format, microphone })
    }

    /// The camera that an argument of a command line means, as an entry of `media` does, asked for motion JPEG in its own size and
    /// rate, with the system's microphone.
    pub fn of_argument(text: &str) -> Option<CameraDevice> {
        let path = CameraDevice::device(text)?;
        let microphone = DEFAULT_MICROPHONE.to_owned();
        Some(CameraDevice { path, size: None, rate: None, format: CameraDevice::JPEG, microphone })
    }
}

/// Whether ALSA could have a device of this name.
pub fn is_microphone(text: &str) -> bool {
    (1..=LONGEST_MICROPHONE).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Width and height of `1280x720`, each 16 to 8192.
pub fn size(text: &str) -> Option<(u16, u16)> {
    let (width, height) = text.split_once('x')?;
    let side = |text: &str| text.parse().ok().filter(|side| (16..=8192).contains(side));
    Some((side(width)?, side(height)?))
}

fn format(text: &str) -> Option<[u8; 4]> {
    let code: [u8; 4] = text.to_ascii_uppercase().as_bytes().try_into().ok()?;
    code.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b' ').then_some(code)
}

impl fmt::Display for CameraDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_camera_is_a_device_or_a_number() {
        for (text, device) in [
            ("/dev/video0", Some("/dev/video0")),
            ("camera:2", Some("/dev/video2")),
            ("/dev/v4l/by-id/usb-046d_C920-index0", Some("/dev/v4l/by-id/usb-046d_C920-index0")),
            ("camera:", None),
            ("camera:x", None),
            ("camera:+1", None),
            ("/dev/video", None),
            ("/dev/video0/../sda", None),
            ("films/camera:0", None),
        ] {
            assert_eq!(CameraDevice::device(text).as_deref(), device.map(Path::new), "{text}");
        }
        assert_eq!(
            (size("1280x720"), size("0x0"), size("1280"), size("99999x1")),
            (Some((1280, 720)), None, None, None)
        );
        assert_eq!((format("mjpg"), format("H264x"), format("é12")), (Some(*b"MJPG"), None, None));
    }
}
