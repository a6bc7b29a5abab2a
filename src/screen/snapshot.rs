//! Saves a picture as a PNG file.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::DecodedPicture;
use crate::media::{AirTime, StationId};

/// Most bytes of a file name that the station's name takes. File systems allow 255 in all.
const LONGEST_NAME: usize = 100;

/// Saves a picture as a new file in `dir`, named after its station and the time `at`:
/// `stationcast-02-Nature-2026-11-20T03-31-00.123Z.png`. Returns the path.
///
/// The file gets its name when it is complete, so a program that watches the folder never reads half a picture.
///
/// # Errors
/// The file cannot be written. An existing file is never overwritten.
pub fn save_png(
    dir: &Path,
    station: StationId,
    name: &str,
    at: AirTime,
    picture: &DecodedPicture,
) -> io::Result<PathBuf> {
    let stem = format!("stationcast-{:02}{}-{}", station.0, safe(name), file_time(at));
    // Less the umask, as for any new file; a temporary file is otherwise readable by its owner only.
    let mut file = tempfile::Builder::new()
        .prefix(".stationcast-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)?;
    file.write_all(&encode(picture)?)?;
    file.as_file().sync_all()?;
    for n in 1..1000 {
        let twin = if n > 1 { format!("-{n}") } else { String::new() };
        let path = dir.join(format!("{stem}{twin}.png"));
        match file.persist_noclobber(&path) {
            Ok(_) => return Ok(path),
            Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => file = taken.file,
            Err(failed) => return Err(failed.error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{stem}.png and 998 more exist")))
}

/// A time in RFC 3339 format, UTC, in milliseconds, with dashes for colons, which some file systems refuse:
/// `2026-11-20T03-31-00.123Z`.
fn file_time(at: AirTime) -> String {
    let text = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(at.0)).to_string();
    text.replace(':', "-")
}

/// A name as part of a file name: letters and digits of any alphabet are kept, each run of other characters becomes an
/// underscore, and a dash is put in front. Empty if nothing is left.
fn safe(name: &str) -> String {
    let mut safe = String::new();
    for c in name.chars() {
        let c = if c.is_alphanumeric() || c == '-' { c } else { '_' };
        if safe.len() + c.len_utf8() > LONGEST_NAME {
            break;
        }
        if c != '_' || !safe.is_empty() && !safe.ends_with('_') {
            safe.push(c);
        }
    }
    let safe = safe.trim_end_matches('_');
    if safe.is_empty() { String::new() } else { format!("-{safe}") }
}

fn encode(picture: &DecodedPicture) -> io::Result<Vec<u8>> {
    let rgb: Vec<u8> = picture
        .pixels
        .iter()
        .flat_map(|pixel| {
            let [_, r, g, b] = pixel.to_be_bytes();
            [r, g, b]
        })
        .collect();
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, picture.size.width.into(), picture.size.height.into());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // The window waits meanwhile. 640x368 takes 3 ms; the default compression takes 32 ms and saves a tenth.
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::media::Size;

    const AT: AirTime = AirTime(1_795_145_460_123_456_789);

    fn picture() -> DecodedPicture {
        DecodedPicture { size: Size { width: 2, height: 1 }, pixels: vec![0x00ff_8000, 0x0001_0203] }
    }

    #[test]
    fn the_file_has_its_name_and_holds_the_picture() {
        let dir = tempfile::tempdir().unwrap();
        let path = save_png(dir.path(), StationId(2), "Nature", AT, &picture()).unwrap();
        assert_eq!(path.file_name().unwrap(), "stationcast-02-Nature-2026-11-20T03-31-00.123Z.png");
        let mut reader =
            png::Decoder::new(io::BufReader::new(File::open(&path).unwrap())).read_info().unwrap();
        let mut rgb = [0; 6];
        reader.next_frame(&mut rgb).unwrap();
        assert_eq!(rgb, [255, 128, 0, 1, 2, 3]);
        // It has the permissions of any other new file.
        let mode = |file: &File| file.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&File::open(&path).unwrap()), mode(&File::create(dir.path().join("other")).unwrap()));
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let save = || save_png(dir.path(), StationId(2), "Nature", AT, &picture()).unwrap();
        let (first, second) = (save(), save());
        assert_ne!(first, second);
        assert!(second.ends_with("stationcast-02-Nature-2026-11-20T03-31-00.123Z-2.png"));
        assert!(first.exists() && second.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn names_become_safe() {
        for (name, part) in [
            ("Nature", "-Nature"),
            ("../../etc/passwd", "-etc_passwd"),
            ("a/b\\c:d\0e\n", "-a_b_c_d_e"),
            ("Kultur & Natur (ÖR)", "-Kultur_Natur_ÖR"),
            ("...", ""),
            ("", ""),
        ] {
            assert_eq!(safe(name), part, "{name:?}");
        }
        assert!(safe(&"電".repeat(200)).len() <= LONGEST_NAME + 1);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap().path().join("gone");
        assert_eq!(
            save_png(&dir, StationId(2), "", AT, &picture()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
