//! The key of a reel: which film it is of, and how the film is encoded.

use std::fmt;
use std::time::Duration;

use crate::media::Size;
use crate::wire::payload::jpeg::MAX_SCAN;

/// The version of the path from film to JPEG: decoding, resizing, letterboxing, the choice of quality. Raise it with a
/// change that alters pictures, so that no reel of an older encoder is aired.
pub const ENCODER_VERSION: u16 = 4;

/// Most bytes of a scan. A part of the key, since it determines the quality of every picture that is squeezed.
pub(super) const BUDGET: u32 = MAX_SCAN as u32;

/// The blake3 hash of all bytes of a film file.
pub(super) type FilmHash = [u8; 32];

/// How a film is encoded for a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// The size of all pictures.
    pub size: Size,
    /// The JPEG quality, 1..=99. A picture that would not fit a datagram has a lower one.
    pub quality: u8,
}

/// The hash of a film and its encoding; [`Store::key`](super::Store::key) makes it. The budget of a picture, the type
/// of JPEG and [`ENCODER_VERSION`] belong to the key too. They are the same for all reels that this program makes.
///
/// Its `Display` is the name of the reel's file without the extension: half of the hash, which suffices to tell films
/// apart, the size and the quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReelKey {
    film_hash: FilmHash,
    encoding: Encoding,
}

impl ReelKey {
    pub(super) fn new(film_hash: FilmHash, encoding: Encoding) -> ReelKey {
        ReelKey { film_hash, encoding }
    }

    pub(super) fn film_hash(&self) -> &FilmHash {
        &self.film_hash
    }

    /// The key of the same picture, on for so long: the reel of a slide is another one for each length.
    pub fn of_slide(self, slide: Duration) -> ReelKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.film_hash).update(b"slide").update(&slide.as_nanos().to_le_bytes());
        ReelKey { film_hash: hasher.finalize().into(), ..self }
    }

    /// How the film is encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
}

impl fmt::Display for ReelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.film_hash[..16] {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{}-q{}", self.encoding.size, self.encoding.quality)
    }
}
