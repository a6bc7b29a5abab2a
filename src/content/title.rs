//! The title of a film: the one that its file has for itself, or else its file's name, tidied.

use std::path::Path;
use std::sync::Arc;

use super::decode;
use crate::directory::message::{MAX_NAME, plain_text};

/// Words in the name of a file that tell how a film was encoded, not what it is. The title ends before the first of them.
const ENCODING_WORDS: [&str; 32] = [
    "480i", "480p", "576i", "576p", "720p", "1080i", "1080p", "1440p", "2160p", "4320p", "x264", "x265",
    "h264", "h265", "h 264", "h 265", "hevc", "av1", "vp9", "xvid", "divx", "bluray", "blu-ray", "bdrip",
    "brrip", "dvdrip", "hdtv", "hdrip", "webrip", "web-dl", "webdl", "remux",
];

/// The title of the film at `path`. Blocks: it reads the beginning of the file.
pub(super) fn read(path: &Path) -> Arc<str> {
    let own = decode::title(path).map(|title| plain_text(title.trim(), MAX_NAME));
    match own {
        Some(title) if !title.is_empty() => title.into(),
        _ => by_name(path),
    }
}

/// The title by the file's name: `big_buck_bunny.1080p.mp4` is "Big buck bunny". Does not block.
pub(super) fn by_name(path: &Path) -> Arc<str> {
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    // Where a name has spaces or underscores, its dots are those of abbreviations.
    let spaced = stem.contains([' ', '_']);
    let is_gap = |c: char| c == '_' || c.is_control() || c.is_whitespace() || (c == '.' && !spaced);
    let words: Vec<&str> = stem.split(is_gap).filter(|word| !word.is_empty()).collect();
    let title = without_encoding(&words).join(" ");
    let mut letters = title.chars();
    let is_small = |word: &str| !word.chars().any(char::is_uppercase);
    let title = match letters.next() {
        // Files are named in small letters, titles are not. But `iPhone` is written so.
        Some(first) if title.split(' ').next().is_some_and(is_small) => {
            first.to_uppercase().chain(letters).collect()
        }
        _ => title,
    };
    let title = plain_text(&title, MAX_NAME);
    // A name of dots and underscores alone has no words.
    if title.is_empty() { plain_text(&stem, MAX_NAME).into() } else { title.into() }
}

/// The words before the first that tells how the film was encoded; all of them if that is the first.
fn without_encoding<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    let is_encoding = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        ENCODING_WORDS.contains(&word.as_str())
            || word.split(['-', '+']).next().is_some_and(|first| ENCODING_WORDS.contains(&first))
    };
    let pair = |n: usize| format!("{} {}", words[n], words.get(n + 1).unwrap_or(&"")).to_lowercase();
    let is_end = |n: &usize| is_encoding(words[*n]) || ENCODING_WORDS.contains(&pair(*n).as_str());
    match (0..words.len()).find(is_end) {
        Some(end) if end > 0 => &words[..end],
        _ => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_becomes_a_title() {
        for (name, title) in [
            ("nature.mp4", "Nature"),
            ("big_buck_bunny_1080p_h264.mov", "Big buck bunny"),
            ("The.Third.Man.1949.1080p.BluRay.x264-GRP.mkv", "The Third Man 1949"),
            ("The.Third.Man.1949.H.264.mkv", "The Third Man 1949"),
            ("Mr. Hulot's holiday (1953).avi", "Mr. Hulot's holiday (1953)"),
            ("2001.a.space.odyssey.webm", "2001 a space odyssey"),
            ("x264.mp4", "X264"),
            ("iPhone_clip.mov", "iPhone clip"),
            ("自然.mp4", "自然"),
            ("été__à   Nice.mp4", "Été à Nice"),
            ("a\u{1b}[2Jb.mp4", "A [2Jb"),
            ("noextension", "Noextension"),
            ("...mp4", ".."),
            ("_.mp4", "_"),
        ] {
            assert_eq!(&*by_name(&Path::new("/films").join(name)), title, "{name}");
        }
        let long = by_name(Path::new(&"é".repeat(1000)));
        assert!(long.len() <= MAX_NAME && long.starts_with('É'), "{long}");
    }

    #[test]
    fn a_file_that_is_no_film_has_the_title_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("holiday_film.mp4");
        assert_eq!(&*read(&film), "Holiday film", "it is not there");
        std::fs::write(&film, "not a film").unwrap();
        assert_eq!(&*read(&film), "Holiday film");
        let media = Path::new(env!("CARGO_MANIFEST_DIR")).join("media");
        assert_eq!(&*read(&media.join("nature.mp4")), "Nature");
    }
}
