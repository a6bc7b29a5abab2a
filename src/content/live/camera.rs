//! A camera of this machine. A thread of its own reads it, since reading blocks, and some drivers block for ever when a camera is
//! pulled out: a camera has one thread, however often its station tries again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;
use opencv::core::Mat;
use opencv::prelude::*;
use opencv::videoio::{self, VideoCapture};

use super::arrivals::{ArrivalSender, Arrivals, PictureBody, arrivals};
use super::microphone::Microphone;
use crate::clock::AirClock;
use crate::content::lock;
use crate::lineup::CameraDevice;

/// After so many reads in a row without a picture the camera is given up.
const MOST_EMPTY: u32 = 25;

/// The devices that have a thread.
static BUSY: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

/// Something that takes pictures.
pub(super) trait Camera {
    /// The next picture, when it has been taken; `None` if this one failed.
    ///
    /// # Errors
    /// The sentence, behind the name of the camera, that says why there are no more.
    fn read(&mut self) -> Result<Option<PictureBody>, String>;
}

/// Begins to read the camera, and its microphone if the station has sound.
pub(crate) fn begin(device: CameraDevice, microphone: Option<Microphone>, clock: AirClock) -> Arrivals {
    let path = device.path.clone();
    read_on_thread(path, microphone, clock, move || OpenCvCamera::open(&device))
}

/// Reads the camera that `open` opens, until nobody takes its pictures. The microphone is opened once the camera is.
fn read_on_thread<C: Camera>(
    path: PathBuf,
    microphone: Option<Microphone>,
    clock: AirClock,
    open: impl FnOnce() -> Result<C, String> + Send + 'static,
) -> Arrivals {
    let (mut sender, arrivals) = arrivals(clock);
    let read = move || {
        let name = path.display().to_string();
        let reason = match Claim::of(&path) {
            None => {
                format!("{name} is not closed yet: its driver does not answer, or another station has it")
            }
            Some(_claim) => {
                let reason = open().and_then(|mut camera| {
                    if let Some(microphone) = microphone {
                        microphone.begin(&sender);
                    }
                    watch(&mut camera, &mut sender)
                });
                reason.map_or_else(|fault| format!("{name} {fault}"), |()| "nobody takes the pictures".into())
            }
        };
        sender.end_blocking(reason);
    };
    // Without a thread the way is closed at once, and the station tries again.
    let _ = std::thread::Builder::new().name("camera".into()).spawn(read);
    arrivals
}

/// Passes on what a camera takes, until nobody wants it.
fn watch(camera: &mut impl Camera, sender: &mut ArrivalSender) -> Result<(), String> {
    let mut empty = 0;
    while !sender.is_closed() {
        match camera.read()? {
            Some(picture) => {
                if let PictureBody::File(file) = &picture {
                    sender.count(file.len())?;
                }
                sender.picture(picture, None);
                empty = 0;
            }
            None => {
                empty += 1;
                if empty >= MOST_EMPTY {
                    return Err("takes no pictures any more".into());
                }
            }
        }
    }
    Ok(())
}

/// A device whose thread this is.
pub(super) struct Claim(PathBuf);

impl Claim {
    /// Claims the device; `None` if a thread has it.
    pub(super) fn of(path: &Path) -> Option<Claim> {
        lock(&BUSY).insert(path.to_owned()).then(|| Claim(path.to_owned()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&BUSY).remove(&self.0);
    }
}

/// A camera by Video4Linux.
struct OpenCvCamera {
    capture: VideoCapture,
    frame: Mat,
    /// Whether it gives JPEG files instead of pixels.
    is_jpeg: bool,
}

impl OpenCvCamera {
    fn open(device: &CameraDevice) -> Result<OpenCvCamera, String> {
        // OpenCV says no more than that it failed.
        std::fs::metadata(&device.path).map_err(|error| format!("is not there: {error}"))?;
        let failed = |error: opencv::Error| format!("cannot be opened: {}", error.message);
        let path = device.path.display().to_string();
        let mut capture = VideoCapture::from_file(&path, videoio::CAP_V4L2).map_err(failed)?;
        if !capture.is_opened().map_err(failed)? {
            return Err("cannot be opened as a camera; another program may have it".into());
        }
        let mut set = |property, value: f64| capture.set(property, value).map_err(failed);
        set(videoio::CAP_PROP_FOURCC, u32::from_le_bytes(device.format).into())?;
        if let Some((width, height)) = device.size {
            set(videoio::CAP_PROP_FRAME_WIDTH, width.into())?;
            set(videoio::CAP_PROP_FRAME_HEIGHT, height.into())?;
        }
        if let Some(rate) = device.rate {
            set(videoio::CAP_PROP_FPS, rate.into())?;
        }
        // A camera that has no such format takes another one.
        let jpeg = u32::from_le_bytes(CameraDevice::JPEG);
        let is_jpeg = capture.get(videoio::CAP_PROP_FOURCC).map_err(failed)? as u32 == jpeg;
        if is_jpeg {
            capture.set(videoio::CAP_PROP_CONVERT_RGB, 0.0).map_err(failed)?;
        }
        Ok(OpenCvCamera { capture, frame: Mat::default(), is_jpeg })
    }
}

impl Camera for OpenCvCamera {
    fn read(&mut self) -> Result<Option<PictureBody>, String> {
        let failed = |error: opencv::Error| format!("cannot be read: {}", error.message);
        if !self.capture.read(&mut self.frame).map_err(failed)? || self.frame.empty() {
            return Ok(None);
        }
        if self.is_jpeg && self.frame.rows() == 1 {
            let file = self.frame.data_bytes().map_err(failed)?;
            return Ok(Some(PictureBody::File(Bytes::copy_from_slice(file))));
        }
        if self.frame.typ() != opencv::core::CV_8UC3 {
            return Err(
                "gives pictures in a format that is not supported; set camera_format to \"MJPG\" or \"YUYV\""
                    .into(),
            );
        }
        Ok(Some(PictureBody::Pixels(std::mem::take(&mut self.frame))))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a camera takes its time")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::live::arrivals::Arrival;

    /// Gives the files of a list, one after the other, as fast as a camera does.
    struct Replay(std::vec::IntoIter<Option<Vec<u8>>>);

    impl Camera for Replay {
        fn read(&mut self) -> Result<Option<PictureBody>, String> {
            std::thread::sleep(Duration::from_millis(1));
            let next = self.0.next().ok_or("was pulled out")?;
            Ok(next.map(|file| PictureBody::File(file.into())))
        }
    }

    fn replay(path: &str, files: Vec<Option<Vec<u8>>>) -> Arrivals {
        read_on_thread(path.into(), None, AirClock::start(), move || Ok(Replay(files.into_iter())))
    }

    #[tokio::test]
    async fn the_pictures_of_a_camera_come_until_it_is_pulled_out() {
        let mut arrivals = replay("/dev/video-a", vec![Some(vec![1]), None, Some(vec![2])]);
        for n in [1, 2] {
            let Ok(Arrival::Picture(picture)) = arrivals.next().await else { panic!("no picture") };
            assert!(matches!(&picture.body, PictureBody::File(file) if file[..] == [n]));
        }
        assert_eq!(arrivals.next().await.unwrap_err(), "/dev/video-a was pulled out");
        let mut broken = replay("/dev/video-b", vec![None; 100]);
        assert_eq!(broken.next().await.unwrap_err(), "/dev/video-b takes no pictures any more");
    }

    #[tokio::test]
    async fn a_camera_has_one_thread_and_is_free_when_nobody_wants_it() {
        let files = || (0..100_000).map(|_| Some(vec![7])).collect();
        let mut first = replay("/dev/video-c", files());
        first.next().await.unwrap();
        let busy = replay("/dev/video-c", files()).next().await.unwrap_err();
        assert!(busy.starts_with("/dev/video-c is not closed yet"), "{busy}");
        drop(first);
        while replay("/dev/video-c", files()).next().await.is_err() {}
    }

    #[test]
    fn what_is_no_camera_is_told() {
        let device = |path: &str| CameraDevice {
            path: path.into(),
            size: None,
            rate: None,
            format: CameraDevice::JPEG,
            microphone: "default".into(),
        };
        let fault = OpenCvCamera::open(&device("/dev/video-none")).err().unwrap();
        assert!(fault.starts_with("is not there: "), "{fault}");
        let fault = OpenCvCamera::open(&device("/dev/null")).err().unwrap();
        assert_eq!(fault, "cannot be opened as a camera; another program may have it");
    }
}
