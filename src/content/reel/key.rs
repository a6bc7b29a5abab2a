//! What a reel is a reel of.

use std::fmt;
use std::time::Duration;

use crate::media::Size;
use crate::wire::payload::jpeg::MAX_SCAN;

/// Counts the changes of the path from film to JPEG that change its pictures: decoding, resizing, letterboxing,
/// the choice of quality. Raise it with such a change, and no reel of an older encoder is aired.
pub const ENCODER_VERSION: u16 = 2;

/// The bytes that a picture may have: it shapes every picture that is squeezed, and so is part of the key.
pub(super) const BUDGET: u32 = MAX_SCAN as u32;

/// The blake3 hash of a whole film file.
pub(super) type Content = [u8; 32];

/// What a station makes of a film.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// The size of its pictures.
    pub size: Size,
    /// The JPEG quality it aims at, 1..=99.
    pub quality: u8,
}

/// A film's content and how it is encoded; [`Store::key`](super::Store::key) makes it. The budget of a picture, the
/// kind of JPEG and [`ENCODER_VERSION`] belong to it too, and are the same for all reels that this program makes.
///
/// Displayed as the name of the reel's file, without its extension: enough of the hash to have no two alike, and
/// what the operator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReelKey {
    film: Content,
    encoding: Encoding,
}

impl ReelKey {
    pub(super) fn new(film: Content, encoding: Encoding) -> ReelKey {
        ReelKey { film, encoding }
    }

    pub(super) fn film(&self) -> &Content {
        &self.film
    }

    /// The key of the same picture, on for so long: the reel of a slide is another one for each length.
    pub fn of_slide(self, slide: Duration) -> ReelKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.film).update(b"slide").update(&slide.as_nanos().to_le_bytes());
        ReelKey { film: hasher.finalize().into(), ..self }
    }

    /// How the film is encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
}

impl fmt::Display for ReelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.film[..16] {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{}-q{}", self.encoding.size, self.encoding.quality)
    }
}
