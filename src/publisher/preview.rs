//! A viewer on this machine that shows what is on air. The publisher has no window of its own: it starts our `viewer`, if there is one.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The viewer, which is started at most once, and is ended when this is dropped.
#[derive(Default)]
pub(super) struct Preview {
    is_begun: bool,
    viewer: Option<Child>,
}

impl Preview {
    /// Shows the stream at `url`, unless that was tried before. `tell` gets the sentence that says why it cannot be shown.
    pub(super) fn show(&mut self, url: Option<&str>, tell: &mut impl FnMut(&str)) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        match start(url, std::env::var_os("DISPLAY")) {
            Ok(viewer) => self.viewer = Some(viewer),
            Err(why) => tell(&format!("no preview: {why}")),
        }
    }
}

impl Drop for Preview {
    fn drop(&mut self) {
        if let Some(viewer) = &mut self.viewer {
            // It may have been closed.
            let _ = viewer.kill();
            let _ = viewer.wait();
        }
    }
}

fn start(url: Option<&str>, display: Option<OsString>) -> Result<Child, String> {
    if display.is_none_or(|display| display.is_empty()) {
        return Err("there is no display ($DISPLAY is not set)".into());
    }
    let url = url.ok_or("the server does not say where the stream is watched")?;
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("viewer")));
    let program = beside.filter(|viewer| viewer.is_file()).unwrap_or_else(|| PathBuf::from("viewer"));
    let mut viewer = Command::new(program);
    viewer.args(["--sdp", url]).stdin(Stdio::null()).stdout(Stdio::null());
    viewer.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no program `viewer` beside this one or on the PATH; install stationcast-viewer"
                .to_owned()
        }
        _ => format!("the program `viewer` cannot be started: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_display_or_a_place_there_is_a_sentence() {
        assert_eq!(start(Some("rtsp://h/1"), None).unwrap_err(), "there is no display ($DISPLAY is not set)");
        let why = start(None, Some(":0".into())).unwrap_err();
        assert_eq!(why, "the server does not say where the stream is watched");
    }

    #[test]
    fn a_preview_that_fails_is_told_once() {
        let (mut preview, mut told) = (Preview::default(), Vec::new());
        for _ in 0..3 {
            preview.show(None, &mut |line| told.push(line.to_owned()));
        }
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("no preview: "), "{told:?}");
    }
}
