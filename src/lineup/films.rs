//! The paths that `media` names: films and folders of films. Besides [`Lineup::load`](super::Lineup::load), only this file
//! of the room reads the disk.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use film_facts::TrackKind;
use rustix::fs::OFlags;

use super::{Media, SoundChoice};

/// Films of a programme that are asked for sound, if the line-up does not say whether the station has any: a folder on a network
/// share may have thousands.
const ASKED: usize = 16;

/// The extensions of films, in any case. They select the films in a folder; a file that `media` names itself may have any
/// extension.
pub const EXTENSIONS: [&str; 9] = ["mp4", "m4v", "mov", "mkv", "avi", "webm", "ts", "mpg", "mpeg"];

/// The extensions of pictures, in any case: in a folder they are slides.
pub const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Names of pictures that belong to the films in their folder, as media libraries call them.
const COVERS: [&str; 7] = ["cover", "folder", "poster", "fanart", "front", "back", "thumb"];

/// What is at a path that `media` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaKind {
    /// Nothing exists there.
    Missing,
    /// A file that can be opened. Only decoding shows whether it is a film.
    File,
    /// A folder.
    Folder {
        /// Number of films in it, without its subfolders.
        films: usize,
    },
    /// Something that cannot be read, and why.
    Unreadable(String),
}

/// What this machine has at `path`.
pub(super) fn kind(path: &Path) -> MediaKind {
    let look = || -> io::Result<MediaKind> {
        let found = fs::metadata(path)?;
        if found.is_dir() {
            return Ok(MediaKind::Folder { films: folder(path)?.len() });
        }
        if !found.is_file() {
            return Ok(MediaKind::Unreadable("it is neither a file nor a folder".into()));
        }
        // It may have become a pipe meanwhile, whose opening could block.
        fs::File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
        Ok(MediaKind::File)
    };
    look().unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => MediaKind::Missing,
        _ => MediaKind::Unreadable(error.to_string()),
    })
}

/// The films of one round of the programme: `media` in its order, with each folder replaced by its films and pictures, sorted by
/// name in natural order (2 before 10). Covers beside films, hidden files, other files and subfolders are left out. Stations call this for each round,
/// so that a film that is put into a folder goes on air in the next one.
///
/// A path that is not a folder is returned as it is, even if nothing exists there any more: opening it will report that,
/// and the other films still play. The result is empty if every entry is a folder that has become empty.
///
/// # Errors
///
/// The system's, with the path, if a folder cannot be read.
pub fn films(media: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut films = Vec::new();
    for path in media {
        if path.is_dir() {
            films.extend(folder(path).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot read folder {}: {error}", path.display()))
            })?);
        } else {
            films.push(path.clone());
        }
    }
    Ok(films)
}

/// Whether a station of these media has sound: as `choice` says, or if one of its first films has a sound track that can be
/// decoded. Blocks for some milliseconds a film.
pub fn has_sound(choice: &SoundChoice, media: &Media) -> bool {
    media.has_sound(choice, film_has_sound)
}

/// The same of films.
pub(super) fn have_sound(choice: &SoundChoice, media: &[PathBuf]) -> bool {
    has_sound_by(choice, media, film_has_sound)
}

fn film_has_sound(film: &Path) -> bool {
    film_facts::read(film)
        .is_ok_and(|film| film.tracks.iter().any(|track| track.kind == TrackKind::Sound && track.decodable))
}

/// Whether a station of these films has sound, where `of_film` tells whether a film has.
pub(super) fn has_sound_by(choice: &SoundChoice, media: &[PathBuf], of_film: impl Fn(&Path) -> bool) -> bool {
    match choice {
        SoundChoice::Off => false,
        SoundChoice::On | SoundChoice::Language(_) | SoundChoice::Track(_) => true,
        SoundChoice::Auto => {
            films(media).is_ok_and(|films| films.iter().take(ASKED).any(|film| of_film(film)))
        }
    }
}

fn folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut films = Vec::new();
    for entry in fs::read_dir(path)? {
        let film = entry?.path();
        // `is_file` follows links, and is false for a broken one.
        if (is_film(&film) || is_picture(&film)) && film.is_file() {
            films.push(film);
        }
    }
    if films.iter().any(|film| is_film(film)) {
        films.retain(|film| !is_cover(film));
    }
    films.sort_by(|a, b| natural(&name(a), &name(b)).then_with(|| a.cmp(b)));
    Ok(films)
}

/// The film that a client of the network names: an absolute path, or one that continues `folder`, which is that of the line-up, or a
/// folder of its media. It is one of `media`, or has the extension of a film or a picture and is in the folder of one of them or
/// beneath a folder among them. `None` if it is not, or not there: nobody learns from the difference which other files there are.
pub(crate) fn film_among(media: &[PathBuf], folder: &Path, film: &Path) -> Option<PathBuf> {
    let (mut trees, mut folders) = (Vec::new(), Vec::new());
    for path in media {
        let is_tree = path.is_dir();
        let of = if is_tree { Some(path.as_path()) } else { path.parent() };
        // Links are followed, and `..` is resolved, as when the film is opened.
        if let Some(real) = of.and_then(|of| fs::canonicalize(of).ok()) {
            if is_tree { &mut trees } else { &mut folders }.push(real);
        }
    }
    let is_allowed = |path: &PathBuf| {
        let Some(within) = path.parent().and_then(|parent| fs::canonicalize(parent).ok()) else {
            return false;
        };
        let is_beside = folders.contains(&within) || trees.iter().any(|tree| within.starts_with(tree));
        let is_named = media.contains(path);
        (is_named || is_beside && (is_film(path) || is_picture(path))) && path.is_file()
    };
    let bases = [folder].into_iter().chain(trees.iter().chain(&folders).map(PathBuf::as_path));
    bases.map(|base| base.join(film)).find(is_allowed)
}

/// The fault of a folder that has no films, and the fix.
pub(super) fn no_films() -> String {
    format!(
        "is a folder without films; put in one whose name ends in {}, or pictures: {}",
        EXTENSIONS.join(", "),
        PICTURES.join(", ")
    )
}

/// The name of a film without its ending, or that of a folder.
pub(super) fn stem(path: &Path) -> String {
    let has_ending = is_film(path) || is_picture(path);
    let stem = if has_ending { path.file_stem() } else { path.file_name() };
    stem.unwrap_or_default().to_string_lossy().into_owned()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_film(path: &Path) -> bool {
    has_extension(path, &EXTENSIONS)
}

fn is_picture(path: &Path) -> bool {
    has_extension(path, &PICTURES)
}

fn has_extension(path: &Path, of: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default();
    !name(path).starts_with('.') && of.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn is_cover(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default();
    is_picture(path) && COVERS.iter().any(|known| stem.eq_ignore_ascii_case(known))
}

/// Compares names in natural order: runs of digits by value, letters ignoring case.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (digits_a, digits_b) = (digits(a), digits(b));
        if !digits_a.is_empty() && !digits_b.is_empty() {
            let (value_a, value_b) = (digits_a.trim_start_matches('0'), digits_b.trim_start_matches('0'));
            // Without leading zeros the longer number is the greater. This has no limit, unlike parsing.
            let order = value_a.len().cmp(&value_b.len()).then_with(|| value_a.cmp(value_b));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[digits_a.len()..], &b[digits_b.len()..]);
            continue;
        }
        let (mut rest_a, mut rest_b) = (a.chars(), b.chars());
        match (rest_a.next(), rest_b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match x.to_lowercase().cmp(y.to_lowercase()) {
                Ordering::Equal => (a, b) = (rest_a.as_str(), rest_b.as_str()),
                order => return order,
            },
        }
    }
}

fn digits(text: &str) -> &str {
    &text[..text.bytes().take_while(u8::is_ascii_digit).count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_sort_by_value() {
        let mut names = ["e10.mp4", "E2.mp4", "e1.mp4", "e02b.mp4", "é1", "e", "e99999999999999999999999"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["e", "e1.mp4", "E2.mp4", "e02b.mp4", "e10.mp4", "e99999999999999999999999", "é1"]);
    }

    #[test]
    fn a_folder_is_replaced_by_its_films_in_order_and_may_grow() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            fs::write(dir.path().join(name), b"").unwrap();
            dir.path().join(name)
        };
        let (ten, two) = (make("10.MP4"), make("2.mkv"));
        for no_film in ["notes.txt", ".hidden.mp4", "mp4", "cover.jpg"] {
            make(no_film);
        }
        fs::create_dir(dir.path().join("folder.mp4")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("link.mp4")).unwrap();

        let named = PathBuf::from("gone.bin");
        let media = [named.clone(), dir.path().to_owned()];
        assert_eq!(films(&media).unwrap(), [named.clone(), two.clone(), ten.clone()]);
        assert_eq!(kind(dir.path()), MediaKind::Folder { films: 2 });

        // Pictures are slides, but covers are not.
        let five = make("5.JPG");
        assert_eq!(films(&media).unwrap(), [named.clone(), two.clone(), five.clone(), ten.clone()]);
        fs::remove_file(five).unwrap();

        let three = make("3.webm");
        assert_eq!(films(&media).unwrap(), [named, two, three, ten]);
    }

    #[test]
    fn a_film_that_the_network_names_is_of_the_line_up_or_beside_one() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        for folder in ["lists/media", "tree/below", "other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let files = [
            "lists/stations.toml",
            "lists/access.toml",
            "lists/beside.mp4",
            "lists/media/ocean.mp4",
            "lists/media/forest.MKV",
            "lists/media/playlist.m3u8",
            "tree/below/deep.mp4",
            "other/secret.mp4",
            "named.bin",
            "beside_named.bin",
        ];
        for file in files {
            fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("other"), root.join("tree/elsewhere")).unwrap();
        std::os::unix::fs::symlink(root.join("other/secret.mp4"), root.join("tree/linked.mp4")).unwrap();
        let media = ["lists/media/ocean.mp4", "tree", "named.bin"].map(|name| root.join(name));
        let found = |name: &str| {
            let found = film_among(&media, &root.join("lists"), Path::new(name))?;
            Some(fs::canonicalize(found).unwrap().strip_prefix(&root).unwrap().to_str().unwrap().to_owned())
        };
        let absolute = |name: &str| root.join(name).to_str().unwrap().to_owned();
        for (named, film) in [
            ("media/ocean.mp4", "lists/media/ocean.mp4"),
            ("ocean.mp4", "lists/media/ocean.mp4"),
            ("forest.MKV", "lists/media/forest.MKV"),
            ("below/deep.mp4", "tree/below/deep.mp4"),
            ("below/../below/deep.mp4", "tree/below/deep.mp4"),
            ("named.bin", "named.bin"),
            (&absolute("tree/below/deep.mp4"), "tree/below/deep.mp4"),
            // A link in the folder was made by a user that may write the folder.
            ("linked.mp4", "other/secret.mp4"),
        ] {
            assert_eq!(found(named).as_deref(), Some(film), "{named}");
        }
        for refused in [
            "beside.mp4",
            "stations.toml",
            "playlist.m3u8",
            "media/../beside.mp4",
            "../other/secret.mp4",
            "elsewhere/secret.mp4",
            "beside_named.bin",
            "gone.mp4",
            "below",
            "",
            "..",
            &absolute("other/secret.mp4"),
            &absolute("lists/access.toml"),
            "/etc/passwd",
        ] {
            assert_eq!(found(refused), None, "{refused}");
        }
    }

    #[test]
    fn the_kind_of_a_path_is_what_the_disk_has_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("film.bin");
        fs::write(&file, b"").unwrap();
        assert_eq!(kind(&file), MediaKind::File);
        assert_eq!(kind(&file.join("below")), MediaKind::Missing);
        assert_eq!(kind(&dir.path().join("none")), MediaKind::Missing);
        assert_eq!(
            kind(Path::new("/dev/null")),
            MediaKind::Unreadable("it is neither a file nor a folder".into())
        );
    }
}
