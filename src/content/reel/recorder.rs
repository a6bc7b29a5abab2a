//! A reel in the making.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::format::{ENTRY_LEN, Entry, HEADER_LEN, Header, MAX_PICTURES};
use super::key::BUDGET;
use super::store::Turn;
use super::{Reel, ReelError, times};
use crate::media::jpeg::{Chroma, Jpeg, Tables};
use crate::media::{AirTime, FrameRate};

/// Written at once: half a second of film.
const BUFFER: usize = 256 << 10;

/// Why there will be no reel of a film this time.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be written: the disk is full, say.
    #[error("cannot record a reel: {0}")]
    Io(#[from] io::Error),
    /// The film's reel alone is over the store's limit, or will be by what its pictures have taken so far.
    #[error(
        "the film's reel alone takes some {needed} bytes, and all reels together may take {limit}; raise [reel] bytes \
         above that, or set `reel = false` for the stations that play it"
    )]
    TooLarge {
        /// Bytes.
        needed: u64,
        /// Bytes.
        limit: u64,
    },
    /// Reels that are on air fill the store.
    #[error(
        "reels on air leave no room for another in {limit} bytes; raise [reel] bytes, or set `reel = false` for \
         stations that can do without"
    )]
    NoRoom {
        /// Bytes.
        limit: u64,
    },
    /// A reel cannot hold this.
    #[error("cannot record a reel: {0}")]
    Unsuitable(&'static str),
    /// What was recorded is not of the film that the key is of.
    #[error("cannot record a reel: the film was changed meanwhile")]
    FilmChanged,
    /// What was written does not read back as written: a bad disk, or our bug.
    #[error("cannot record a reel: {0}")]
    Unreadable(ReelError),
    /// Pictures wait to be written for longer than they can be kept.
    #[error("cannot record a reel: the disk that reels are on does not keep up")]
    SlowDisk,
    /// Encoding each picture takes longer than it is on air.
    #[error(
        "this machine is too slow to record it while it is on air; `broadcaster prepare` makes the reel beforehand"
    )]
    SlowMachine,
    /// It failed before, and said so then.
    #[error("recording a reel was given up")]
    GivenUp,
}

/// Records a film's pictures. Dropped unfinished, it leaves nothing behind; and after an error there is nothing to
/// be had from it any more.
#[derive(Debug)]
pub struct Recorder {
    /// `None` after an error.
    part: Option<Part>,
}

impl Recorder {
    pub(super) fn begin(turn: Turn, film: &Path) -> io::Result<Recorder> {
        Ok(Recorder { part: Some(Part::begin(turn, film)?) })
    }

    /// The film's container announces so many pictures. By that a reel that is too large by itself is known before
    /// others are removed to make room for it.
    pub fn expect(&mut self, pictures: u64) {
        if let Some(part) = &mut self.part {
            part.announced = pictures;
        }
    }

    /// Adds the film's next picture. `stamp` counts from anywhere; what is kept is its distance from the first
    /// picture's. Every picture of the film must come, also those too late for the air.
    ///
    /// Writes every half second of film, and then blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The reel is given up, and what was written of it removed.
    pub fn add(&mut self, stamp: Duration, jpeg: &Jpeg) -> Result<(), RecordError> {
        let added = self.part.as_mut().ok_or(RecordError::GivenUp)?.add(stamp, jpeg);
        if added.is_err() {
            self.part = None;
        }
        added
    }

    /// The film is over: makes a reel of it. `length` runs from the first picture to the end of the last. The reel
    /// counts as aired at `now`.
    ///
    /// Blocks until it is on the disk.
    ///
    /// # Errors
    /// There is no reel, and what was written of it is removed.
    pub fn finish(self, rate: FrameRate, length: Duration, now: AirTime) -> Result<Arc<Reel>, RecordError> {
        self.part.ok_or(RecordError::GivenUp)?.finish(rate, length, now)
    }

    /// Writes go here from now on.
    #[cfg(test)]
    pub(super) fn redirect(&mut self, file: File) {
        self.part.as_mut().unwrap().file = file;
    }
}

/// The file beside the reel. Removed when this is dropped, unless it was renamed by then.
#[derive(Debug)]
struct Part {
    turn: Turn,
    film: PathBuf,
    path: PathBuf,
    /// Locked, so that other processes know that it is alive.
    file: File,
    /// What is not in the file yet.
    buffer: Vec<u8>,
    /// Bytes so far, those in the buffer included.
    len: u64,
    index: Vec<u8>,
    /// Pictures to expect; fewer than there are where that is not known.
    announced: u64,
    /// The stamp of the first picture.
    first: Option<Duration>,
    /// The last picture's, counted from the first.
    last: Duration,
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Part {
    fn begin(turn: Turn, film: &Path) -> io::Result<Part> {
        let (path, file) = create(&turn)?;
        Ok(Part {
            turn,
            film: film.to_owned(),
            path,
            file,
            // The header's place: it is written when all of it is known.
            buffer: vec![0; HEADER_LEN],
            len: HEADER_LEN as u64,
            index: Vec::new(),
            announced: 0,
            first: None,
            last: Duration::ZERO,
        })
    }

    fn add(&mut self, stamp: Duration, jpeg: &Jpeg) -> Result<(), RecordError> {
        let (Chroma::Yuv420, Tables::Standard(q), None) = (jpeg.chroma, &jpeg.tables, jpeg.restart_interval)
        else {
            return Err(RecordError::Unsuitable("a picture is not of type 1 with standard tables"));
        };
        if jpeg.size != self.turn.key.encoding().size {
            return Err(RecordError::Unsuitable("a picture has another size than the reel"));
        }
        let length = u32::try_from(jpeg.scan.len()).unwrap_or(u32::MAX);
        if !(1..=BUDGET).contains(&length) {
            return Err(RecordError::Unsuitable("a picture is empty, or larger than a datagram"));
        }
        if self.index.len() / ENTRY_LEN >= MAX_PICTURES as usize {
            return Err(RecordError::Unsuitable("the film has too many pictures"));
        }
        let stamp = stamp.checked_sub(*self.first.get_or_insert(stamp)).filter(|&stamp| stamp >= self.last);
        self.last = stamp.ok_or(RecordError::Unsuitable("the film's stamps go backwards"))?;

        let crc = crc32fast::hash(&jpeg.scan);
        let entry = Entry { offset: self.len, length, stamp: self.last, q: *q, crc };
        self.index.extend(entry.emit());
        self.buffer.extend_from_slice(&jpeg.scan);
        self.len += u64::from(length);
        let limit = self.turn.shelf.limit();
        if self.len + self.index.len() as u64 > limit {
            return Err(self.too_large());
        }
        if self.buffer.len() >= BUFFER { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), RecordError> {
        let shelf = &self.turn.shelf;
        shelf.make_room(self.buffer.len() as u64, self.expected()).map_err(|error| match error {
            RecordError::NoRoom { limit } if self.expected() > limit => self.too_large(),
            error => error,
        })?;
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Bytes of the whole reel, if pictures go on as they are.
    fn expected(&self) -> u64 {
        let so_far = self.len + self.index.len() as u64;
        let pictures = (self.index.len() / ENTRY_LEN).max(1) as u64;
        let all = u128::from(so_far) * u128::from(self.announced.max(pictures)) / u128::from(pictures);
        all.try_into().unwrap_or(u64::MAX)
    }

    fn too_large(&self) -> RecordError {
        self.turn.shelf.never_again(self.turn.key);
        RecordError::TooLarge { needed: self.expected(), limit: self.turn.shelf.limit() }
    }

    fn finish(mut self, rate: FrameRate, length: Duration, now: AirTime) -> Result<Arc<Reel>, RecordError> {
        let (shelf, key) = (self.turn.shelf.clone(), self.turn.key);
        if self.index.is_empty() {
            return Err(RecordError::Unsuitable("the film has no pictures"));
        }
        if length <= self.last {
            return Err(RecordError::Unsuitable("the film ends before its last picture"));
        }
        // The film's name was hashed first and opened by the decoder later: it may have been another film by then.
        if shelf.memo.content(&self.film, now)? != *key.film() {
            return Err(RecordError::FilmChanged);
        }
        self.announced = 0;
        let index_at = self.len;
        self.buffer.extend_from_slice(&self.index);
        self.write()?;
        let header = Header {
            key,
            rate,
            length,
            count: (self.index.len() / ENTRY_LEN) as u32, // at most MAX_PICTURES
            index_crc: crc32fast::hash(&self.index),
            index_at,
        };
        self.file.write_all_at(&header.emit(), 0)?;
        self.file.set_times(times(now))?;
        // Its content before its name: after a loss of power there is a whole reel or none.
        self.file.sync_all()?;
        let reel = Reel::open(&self.path, &key).map_err(|error| match error {
            ReelError::Io { error, .. } => RecordError::Io(error),
            damaged => RecordError::Unreadable(damaged),
        })?;
        fs::rename(&self.path, shelf.path(&key))?;
        // Without this a loss of power may cost the name, which costs an encoding.
        let _ = File::open(shelf.dir()).and_then(|dir| dir.sync_all());
        Ok(shelf.share(reel))
    }
}

/// Makes the file of a part, and locks it.
fn create(turn: &Turn) -> io::Result<(PathBuf, File)> {
    // Who clears a cache removes its folder too.
    fs::create_dir_all(turn.shelf.dir())?;
    loop {
        let name = format!("{}.{:016x}.part", turn.key, fastrand::u64(..));
        let path = turn.shelf.dir().join(name);
        let file = File::create_new(&path)?;
        match file.try_lock() {
            // Between its making and its locking, another process that just started may have taken it for left over.
            Ok(()) if file.metadata()?.nlink() > 0 => return Ok((path, file)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            // There are no locks here; parts are told by their age then.
            Err(TryLockError::Error(_)) => return Ok((path, file)),
        }
    }
}
