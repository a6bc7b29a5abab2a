//! Films of a simulation, without container or decoder. Each coded picture is unique, so that a receiver recognises it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use opencv::core::Mat;
use opencv::prelude::*;

use crate::content::decode::{PictureSource, SourceError, SourcePicture};
use crate::content::encode::Encoder;
use crate::media::{FrameRate, Size};

/// Size of all pictures. One of noise takes some 3,000 bytes, which are three packets.
pub(super) const SIZE: Size = Size { width: 64, height: 48 };

/// Two and a half pictures a second: the lowest rate whose intervals do not count as pauses.
pub(super) const RATE: FrameRate = FrameRate::new(5, 2).unwrap();

/// Number of pictures of each film.
pub(super) const FILMS: [u64; 2] = [75, 50];

/// Length of a round: both films.
pub(super) const ROUND: Duration = Duration::from_secs(50);

/// The films, and all their pictures as coded.
pub(super) struct SimulatedFilms {
    folder: PathBuf,
    /// Film and picture number by the scan of the coded picture.
    pub(super) known: HashMap<Vec<u8>, (usize, u64)>,
    /// One bit for each film: whether its decoding fails.
    broken: Arc<AtomicUsize>,
    /// Number of times that a film was opened.
    passes: AtomicU64,
}

impl SimulatedFilms {
    pub(super) fn new(folder: &Path) -> SimulatedFilms {
        let folder = folder.join("films");
        fs::create_dir(&folder).unwrap();
        let mut encoder = Encoder::new(SIZE, 80).unwrap();
        let mut known = HashMap::new();
        for (film, pictures) in FILMS.into_iter().enumerate() {
            // The key of a film's reel is a hash of the file's content.
            fs::write(folder.join(format!("{film}.mp4")), format!("film {film}")).unwrap();
            for n in 0..pictures {
                let coded = encoder.encode_bgr(&pixels(film, n), 1.0).unwrap();
                assert!(!coded.squeezed && coded.jpeg.scan.len() > 2000);
                known.insert(coded.jpeg.scan.to_vec(), (film, n));
            }
        }
        assert_eq!(known.len() as u64, FILMS.iter().sum::<u64>(), "all pictures differ");
        SimulatedFilms { folder, known, broken: Arc::default(), passes: AtomicU64::new(0) }
    }

    /// The path of film `n`.
    pub(super) fn film(&self, n: usize) -> PathBuf {
        self.folder.join(format!("{n}.mp4"))
    }

    /// Sets whether decoding fails.
    pub(super) fn break_decoder(&self, broken: bool) {
        self.broken.store(if broken { usize::MAX } else { 0 }, Relaxed);
    }

    /// Makes decoding of this film fail, and of no other.
    pub(super) fn break_film(&self, film: usize) {
        self.broken.store(1 << film, Relaxed);
    }

    /// Number of times that a film was opened.
    pub(super) fn passes(&self) -> u64 {
        self.passes.load(Relaxed)
    }

    pub(super) fn open(&self, path: &Path) -> Result<Box<dyn PictureSource>, SourceError> {
        let name = || path.file_name().unwrap().to_string_lossy().into_owned();
        let unreadable =
            |error: std::io::Error| SourceError::Unreadable { path: name(), reason: error.to_string() };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let film = text.strip_prefix("film ").and_then(|n| n.parse().ok());
        self.passes.fetch_add(1, Relaxed);
        let broken = self.broken.clone();
        Ok(Box::new(SimulatedFilm { path: path.to_owned(), film: film.unwrap(), next: 0, broken }))
    }
}

/// The pixels of picture `n` of a film: noise, the same at each call.
fn pixels(film: usize, n: u64) -> Mat {
    let mut rng = fastrand::Rng::with_seed(film as u64 * 1000 + n);
    let (rows, cols) = (i32::from(SIZE.height), i32::from(SIZE.width));
    let mut mat = Mat::new_rows_cols_with_default(rows, cols, opencv::core::CV_8UC3, 0.into()).unwrap();
    mat.data_bytes_mut().unwrap().fill_with(|| rng.u8(..));
    mat
}

/// An open film.
struct SimulatedFilm {
    path: PathBuf,
    film: usize,
    next: u64,
    broken: Arc<AtomicUsize>,
}

impl PictureSource for SimulatedFilm {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> (u32, u32) {
        (SIZE.width.into(), SIZE.height.into())
    }

    fn pixel_aspect(&self) -> f64 {
        1.0
    }

    fn rate(&self) -> FrameRate {
        RATE
    }

    fn announced(&self) -> u64 {
        FILMS[self.film]
    }

    fn length(&self) -> Option<Duration> {
        Some(RATE.nth(FILMS[self.film]))
    }

    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError> {
        if self.broken.load(Relaxed) >> self.film & 1 == 1 {
            return Err(SourceError::Decoder { path: "film".into(), reason: "a mishap".into() });
        }
        if self.next == FILMS[self.film] {
            return Ok(None);
        }
        let stamp = RATE.nth(self.next);
        self.next += 1;
        Ok(Some(SourcePicture { pixels: pixels(self.film, self.next - 1).into(), stamp, lasts: None }))
    }

    fn seek(&mut self, position: Duration) -> Result<(), SourceError> {
        let is_on = |&n: &u64| RATE.nth(n + 1) > position;
        self.next = (0..FILMS[self.film]).find(is_on).unwrap_or(FILMS[self.film]);
        Ok(())
    }
}

/// Overwrites a file with `bytes` in place, without changing its length or inode, as a failing disk would.
pub(super) fn overwrite(file: &Path, bytes: &[u8]) {
    File::options().write(true).open(file).unwrap().write_all_at(bytes, 0).unwrap();
}
