//! How to watch a station, in command lines that work as they are printed.

use std::fmt::Write;
use std::path::Path;

use crate::lineup::Lineup;

/// How to watch the first station of `lineup`, which is on air and whose services listen on the addresses that it names. `viewer` is
/// the viewer's command.
pub fn text(lineup: &Lineup, viewer: &str) -> String {
    let Some(station) = lineup.stations.first() else { return String::new() };
    let mut text = format!(
        "On air: \"{}\", on {} by {}. Watch it with any of these:\n  {viewer} --directory {}\n",
        station.name, station.group, station.interface.name, lineup.directory
    );
    if let Some(rtsp) = lineup.rtsp {
        // By TCP it needs neither a route for multicast nor an SDP file.
        let _ = writeln!(text, "  ffplay -rtsp_transport tcp rtsp://{rtsp}/{}", station.id);
    }
    if let Some(http) = lineup.http {
        let _ = writeln!(text, "  xdg-open http://{http}/");
    }
    text + "Ctrl-C ends it.\n"
}

/// The command of the viewer that was built with the broadcaster `program`, as typed: `target/release/viewer`. If a program was
/// found by its name alone, so is the viewer.
pub fn viewer_beside(program: &Path) -> String {
    let beside = program.with_file_name("viewer");
    let is_a_path = program.parent().is_some_and(|folder| !folder.as_os_str().is_empty());
    match beside.to_str() {
        Some(path) if is_a_path && beside.is_file() => {
            let is_plain = path.chars().all(|c| c.is_alphanumeric() || "/._-+".contains(c));
            if is_plain { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
        }
        _ => "viewer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_that_is_not_beside_the_broadcaster_is_called_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let quoted = folder.path().join("a b");
        std::fs::create_dir(&quoted).unwrap();
        for folder in [folder.path(), &quoted] {
            assert_eq!(viewer_beside(&folder.join("broadcaster")), "viewer");
            std::fs::write(folder.join("viewer"), "").unwrap();
        }
        let beside = folder.path().join("viewer");
        assert_eq!(viewer_beside(&folder.path().join("broadcaster")), beside.to_str().unwrap());
        let beside = quoted.join("viewer");
        assert_eq!(viewer_beside(&quoted.join("broadcaster")), format!("'{}'", beside.display()));
        assert_eq!(viewer_beside(Path::new("broadcaster")), "viewer");
    }
}
