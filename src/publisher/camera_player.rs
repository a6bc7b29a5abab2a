//! A camera of this machine, and its microphone, as they come.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Appearance, NextUnit, Player};
use crate::content::live::camera_units::CameraUnits;
use crate::lineup::CameraDevice;
use crate::media::Unit;

/// Longest wait for a unit.
const GLANCE: Duration = Duration::from_millis(50);

/// Between two attempts to open a camera that is lost.
const RETRY: Duration = Duration::from_secs(1);

/// A camera that is published.
pub(super) struct CameraPlayer {
    units: CameraUnits,
    /// The camera is lost, and tried again then.
    again: Option<Instant>,
    /// Why it is lost, as last told.
    told: Option<String>,
}

impl CameraPlayer {
    /// A camera, which is opened with the first unit.
    ///
    /// # Errors
    /// The system has no room for it.
    pub(super) fn new(
        device: CameraDevice,
        has_sound: bool,
        appearance: Appearance,
    ) -> Result<CameraPlayer, String> {
        let Appearance { width, quality } = appearance;
        let units = CameraUnits::new(device, has_sound, width, quality);
        let units = units.map_err(|error| format!("the camera cannot be read: {error}"))?;
        Ok(CameraPlayer { units, again: None, told: None })
    }
}

impl Player for CameraPlayer {
    fn has_sound(&self) -> bool {
        self.units.has_sound()
    }

    fn begin(&mut self) {
        self.units.skip();
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a shell: a camera that is lost is tried again after a pause"
    )]
    fn next(&mut self) -> Result<NextUnit, String> {
        if self.again.is_some_and(|again| Instant::now() < again) {
            sleep(GLANCE);
            return Ok(NextUnit::Nothing);
        }
        self.again = None;
        match self.units.next(GLANCE) {
            Ok(unit) => {
                if unit.as_ref().is_some_and(|unit: &Unit| unit.jpeg().is_some()) {
                    self.told = None;
                }
                Ok(unit.map_or(NextUnit::Nothing, NextUnit::Unit))
            }
            Err(why) => {
                self.again = Some(Instant::now() + RETRY);
                if self.told.as_ref() == Some(&why) {
                    return Ok(NextUnit::Nothing);
                }
                self.told = Some(why.clone());
                Ok(NextUnit::Lost(why))
            }
        }
    }
}
