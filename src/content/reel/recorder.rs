//! Records a reel: writes a part beside the reels, which becomes a reel when it is complete.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::format::{ENTRY_LEN, HEADER_LEN, IndexEntry, MAX_PICTURES, ReelHeader};
use super::key::{BUDGET, ReelKey};
use super::store::{RecordPermit, Store};
use super::{GrowingReel, Reel, ReelError, times};
use crate::content::lock;
use crate::media::jpeg::{Chroma, Jpeg, Tables};
use crate::media::{AirTime, FrameRate, Size};

/// Bytes of one write: half a second of film.
const BUFFER: usize = 256 << 10;

/// Why a pass of a film makes no reel.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The part cannot be written, for example because the disk is full.
    #[error("cannot record a reel: {0}")]
    Io(#[from] io::Error),
    /// The film's reel alone exceeds the store's limit, or will by the size of its pictures so far.
    #[error(
        "the film's reel alone takes about {needed} bytes, and all reels together may take {limit}; raise [reel] bytes \
         above that, or set `reel = false` for the stations that play it"
    )]
    TooLarge {
        /// Bytes of the film's reel, estimated.
        needed: u64,
        /// Most bytes of all reels.
        limit: u64,
    },
    /// Reels that are on air fill the store.
    #[error(
        "reels on air leave no room for another in {limit} bytes; raise [reel] bytes, or set `reel = false` for \
         stations that can do without reels"
    )]
    NoRoom {
        /// Most bytes of all reels.
        limit: u64,
    },
    /// A reel cannot hold this film.
    #[error("cannot record a reel: {0}")]
    Unsuitable(&'static str),
    /// The film is no longer the one that the key was made of.
    #[error("cannot record a reel: the film was changed meanwhile")]
    FilmChanged,
    /// The part does not read back as it was written: a bad disk, or our bug.
    #[error("cannot record a reel: {0}")]
    Unreadable(ReelError),
    /// The recording failed earlier, and that error was reported.
    #[error("recording a reel was given up")]
    GivenUp,
}

/// Records a film's pictures. If it is dropped before it is finished, it leaves nothing on the disk. After an error, it
/// refuses all further pictures.
///
/// A film can be recorded in [sections](Self::section), by a recorder each, in any order and at the same time. All of
/// them write the same file.
#[derive(Debug)]
pub struct Recorder {
    /// `None` after an error.
    section: Option<SectionWriter>,
}

impl Recorder {
    pub(super) fn begin(permit: RecordPermit, film: &Path) -> io::Result<Recorder> {
        Recorder::of(PartFile::begin(permit, film)?)
    }

    /// The same with the permit for the key of a glance at the film, which is on for `slide` if it is a picture.
    pub(super) fn begin_file(
        permit: RecordPermit,
        film: &Path,
        slide: Option<Duration>,
    ) -> io::Result<Recorder> {
        let mut part = PartFile::begin(permit, film)?;
        (part.hashed, part.slide) = (false, slide);
        Recorder::of(part)
    }

    fn of(part: PartFile) -> io::Result<Recorder> {
        let part = Arc::new(Mutex::new(part));
        Ok(Recorder { section: Some(SectionWriter::begin(part, None)?) })
    }

    /// A recorder of a section of the same film. The stamps of its pictures count from the film's first picture.
    ///
    /// # Errors
    /// The system has no descriptor to give, or the recorder has failed.
    pub fn section(&self) -> Result<Recorder, RecordError> {
        let section = self.section.as_ref().ok_or(RecordError::GivenUp)?;
        let section = SectionWriter::begin(section.part.clone(), Some(Duration::ZERO))?;
        Ok(Recorder { section: Some(section) })
    }

    /// Tells the recorder how many pictures the film's container announces. With that it can predict that a reel is too
    /// large by itself before others are evicted for it.
    pub fn expect(&mut self, pictures: u64) {
        if let Some(section) = &mut self.section {
            lock(&section.part).announced = pictures;
        }
    }

    /// Adds the next picture of the film, or of the section. `stamp` may have any origin if the whole film is recorded in
    /// one section: the reel keeps the time since the first picture. The caller must add every picture of the film, also
    /// those that are too late for the air.
    ///
    /// Writes to the disk about every half second of film, and then blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The reel is given up, and its part removed once no other section is recorded.
    pub fn add(&mut self, stamp: Duration, jpeg: &Jpeg) -> Result<(), RecordError> {
        let added = self.section.as_mut().ok_or(RecordError::GivenUp)?.add(stamp, jpeg);
        if added.is_err() {
            self.section = None;
        }
        added
    }

    /// Writes all pictures so far, so that the [growing reel](Self::growing) has them. Blocks for as long as the disk
    /// takes.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn flush(&mut self) -> Result<(), RecordError> {
        let written = self.section.as_mut().ok_or(RecordError::GivenUp)?.write();
        if written.is_err() {
            self.section = None;
        }
        written
    }

    /// The pictures of this section that were written so far, for stations that play them meanwhile; `None` after an
    /// error.
    pub fn growing(&self) -> Option<Arc<GrowingReel>> {
        self.section.as_ref().map(|section| section.growing.clone())
    }

    /// Makes a reel of the pictures after the film's last one, which was recorded in one section. `length` is the time
    /// from the first picture to the end of the last. The reel counts as aired at `now`.
    ///
    /// Blocks until the reel is on the disk.
    ///
    /// # Errors
    /// There is no reel, and its part is removed.
    pub fn finish(
        mut self,
        rate: FrameRate,
        length: Duration,
        now: AirTime,
    ) -> Result<Arc<Reel>, RecordError> {
        self.flush()?;
        let sections = Vec::from_iter(self.growing());
        self.finish_sections(&sections, rate, length, now)
    }

    /// Makes a reel of these sections, which are the whole film in its order. They are [written](Self::flush).
    ///
    /// # Errors
    /// As for [`finish`](Self::finish).
    pub fn finish_sections(
        self,
        sections: &[Arc<GrowingReel>],
        rate: FrameRate,
        length: Duration,
        now: AirTime,
    ) -> Result<Arc<Reel>, RecordError> {
        let section = self.section.ok_or(RecordError::GivenUp)?;
        let index: Vec<u8> = sections.iter().flat_map(|section| section.index()).collect();
        lock(&section.part).finish(index, rate, length, now)
    }

    /// Writes to `file` from now on.
    #[cfg(test)]
    pub(super) fn redirect(&mut self, file: File) {
        lock(&self.section.as_ref().unwrap().part).file = file;
    }
}

/// A section of a film that is being recorded.
#[derive(Debug)]
struct SectionWriter {
    part: Arc<Mutex<PartFile>>,
    /// Bytes that are not in the file yet.
    buffer: Vec<u8>,
    /// The index entries of the pictures in the buffer. Their offsets are in the buffer.
    entries: Vec<IndexEntry>,
    /// The pictures that are in the file.
    growing: Arc<GrowingReel>,
    /// The stamp of the film's first picture.
    first: Option<Duration>,
    /// The time from the film's first picture to the last one so far.
    last: Duration,
}

impl SectionWriter {
    fn begin(part: Arc<Mutex<PartFile>>, first: Option<Duration>) -> io::Result<SectionWriter> {
        let growing = {
            let part = lock(&part);
            Arc::new(GrowingReel::new(&part.permit.key, &part.file)?)
        };
        let (buffer, entries) = (Vec::new(), Vec::new());
        Ok(SectionWriter { part, buffer, entries, growing, first, last: Duration::ZERO })
    }

    fn add(&mut self, stamp: Duration, jpeg: &Jpeg) -> Result<(), RecordError> {
        let (Chroma::Yuv420, Tables::Standard(q), None) = (jpeg.chroma, &jpeg.tables, jpeg.restart_interval)
        else {
            return Err(RecordError::Unsuitable("a picture is not of type 1 with standard tables"));
        };
        let length = u32::try_from(jpeg.scan.len()).unwrap_or(u32::MAX);
        if !(1..=BUDGET).contains(&length) {
            return Err(RecordError::Unsuitable("a picture is empty, or larger than a datagram"));
        }
        let stamp = stamp.checked_sub(*self.first.get_or_insert(stamp)).filter(|&stamp| stamp >= self.last);
        self.last = stamp.ok_or(RecordError::Unsuitable("the film's stamps go backwards"))?;
        lock(&self.part).count(jpeg.size, length)?;

        let crc = crc32fast::hash(&jpeg.scan);
        let offset = self.buffer.len() as u64;
        self.entries.push(IndexEntry { offset, length, stamp: self.last, q: *q, crc });
        self.buffer.extend_from_slice(&jpeg.scan);
        if self.buffer.len() >= BUFFER { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), RecordError> {
        let mut part = lock(&self.part);
        let base = part.write(&self.buffer)?;
        drop(part);
        self.buffer.clear();
        let placed = |entry: IndexEntry| IndexEntry { offset: base + entry.offset, ..entry }.emit();
        let entries: Vec<u8> = self.entries.drain(..).flat_map(placed).collect();
        self.growing.append(&entries);
        Ok(())
    }
}

/// The file of a reel that is being recorded. Dropping this removes the file, unless it was renamed.
#[derive(Debug)]
struct PartFile {
    permit: RecordPermit,
    /// Whether the permit is for the key of the film, not that of a glance at it.
    hashed: bool,
    /// How long the film is on, if it was not hashed and is a picture.
    slide: Option<Duration>,
    film: PathBuf,
    path: PathBuf,
    /// Locked, so that other processes do not take the part for a stale one.
    file: File,
    /// Bytes of the header and all scans in the file.
    written: u64,
    /// Bytes of the header and all scans so far, including those in the buffers.
    len: u64,
    /// Pictures so far, including those in the buffers.
    count: usize,
    /// Pictures that the film's container announces, or 0.
    announced: u64,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl PartFile {
    fn begin(permit: RecordPermit, film: &Path) -> io::Result<PartFile> {
        let (path, file) = create(&permit)?;
        Ok(PartFile {
            permit,
            hashed: true,
            slide: None,
            film: film.to_owned(),
            path,
            file,
            // The header is written when all its values are known.
            written: HEADER_LEN as u64,
            len: HEADER_LEN as u64,
            count: 0,
            announced: 0,
        })
    }

    /// Counts a picture of `length` bytes that is in a buffer.
    fn count(&mut self, size: Size, length: u32) -> Result<(), RecordError> {
        if size != self.permit.key.encoding().size {
            return Err(RecordError::Unsuitable("a picture has another size than the reel"));
        }
        if self.count >= MAX_PICTURES as usize {
            return Err(RecordError::Unsuitable("the film has too many pictures"));
        }
        self.count += 1;
        self.len += u64::from(length);
        if self.so_far() > self.permit.store.limit() { Err(self.too_large()) } else { Ok(()) }
    }

    /// Writes the bytes of a buffer behind all others. Returns where they begin.
    fn write(&mut self, buffer: &[u8]) -> Result<u64, RecordError> {
        self.reserve(buffer.len() as u64)?;
        let base = self.written;
        self.file.write_all_at(buffer, base)?;
        self.written += buffer.len() as u64;
        Ok(base)
    }

    fn reserve(&self, bytes: u64) -> Result<(), RecordError> {
        self.permit.store.reserve(bytes, self.expected()).map_err(|error| match error {
            RecordError::NoRoom { limit } if self.expected() > limit => self.too_large(),
            error => error,
        })
    }

    /// Bytes of a reel of the pictures so far.
    fn so_far(&self) -> u64 {
        self.len + (self.count * ENTRY_LEN) as u64
    }

    /// Bytes of the whole reel if the remaining pictures are as large as those so far.
    fn expected(&self) -> u64 {
        let pictures = self.count.max(1) as u64;
        let all = u128::from(self.so_far()) * u128::from(self.announced.max(pictures)) / u128::from(pictures);
        all.try_into().unwrap_or(u64::MAX)
    }

    fn too_large(&self) -> RecordError {
        self.permit.store.mark_too_large(self.permit.key);
        RecordError::TooLarge { needed: self.expected(), limit: self.permit.store.limit() }
    }

    fn finish(
        &mut self,
        index: Vec<u8>,
        rate: FrameRate,
        length: Duration,
        now: AirTime,
    ) -> Result<Arc<Reel>, RecordError> {
        let store = self.permit.store.clone();
        let (entries, _) = index.as_chunks();
        let stamps: Vec<Duration> = entries.iter().map(|entry| IndexEntry::parse(entry).stamp).collect();
        let Some(&last) = stamps.last() else {
            return Err(RecordError::Unsuitable("the film has no pictures"));
        };
        if length <= last {
            return Err(RecordError::Unsuitable("the film ends before its last picture"));
        }
        if stamps[0] != Duration::ZERO || !stamps.is_sorted() || stamps.len() != self.count {
            return Err(RecordError::Unsuitable("its sections do not fit together"));
        }
        let key = self.key(length, now)?;
        // Another film with the same content may have made it.
        if !self.hashed
            && let Some(reel) = Store::of(store.clone()).find(&key, now)
        {
            return Ok(reel);
        }
        self.announced = 0;
        // The header is in the file, too.
        self.reserve(HEADER_LEN as u64)?;
        let index_at = self.write(&index)?;
        let header = ReelHeader {
            key,
            rate,
            length,
            count: self.count as u32, // at most MAX_PICTURES
            index_crc: crc32fast::hash(&index),
            index_at,
        };
        self.file.write_all_at(&header.emit(), 0)?;
        self.file.set_times(times(now))?;
        // The content is on the disk before the name, so that after a power failure there is a complete reel or none.
        self.file.sync_all()?;
        let reel = Reel::open(&self.path, &key).map_err(|error| match error {
            ReelError::Io { error, .. } => RecordError::Io(error),
            damaged => RecordError::Unreadable(damaged),
        })?;
        fs::rename(&self.path, store.path(&key))?;
        // If the name is lost in a power failure, the film is encoded again.
        let _ = File::open(store.dir()).and_then(|dir| dir.sync_all());
        Ok(store.share(reel))
    }
}

impl PartFile {
    /// The key of the film that was recorded, which is `length` long. Hashes the film if need be.
    fn key(&self, length: Duration, now: AirTime) -> Result<ReelKey, RecordError> {
        let (store, permit) = (&self.permit.store, self.permit.key);
        let plain = ReelKey::new(store.hashes.film_hash(&self.film, now)?, permit.encoding());
        let of_slide = |key: ReelKey| self.slide.map_or(key, |slide| key.of_slide(slide));
        // The key was made before the decoder opened the film, so another film may have had the name by then.
        let (same, key) = if self.hashed {
            // The key of a slide has its length in it.
            ([plain, plain.of_slide(length)].contains(&permit), permit)
        } else {
            let (of_version, _) = store.hashes.glance(&self.film, now)?;
            let again = of_version.map(|hash| of_slide(ReelKey::new(hash, permit.encoding())));
            (again == Some(permit), of_slide(plain))
        };
        if same { Ok(key) } else { Err(RecordError::FilmChanged) }
    }
}

/// Creates the file of a part, and locks it.
fn create(permit: &RecordPermit) -> io::Result<(PathBuf, File)> {
    // The user may have cleared the cache by removing the folder.
    fs::create_dir_all(permit.store.dir())?;
    loop {
        let name = format!("{}.{:016x}.part", permit.key, fastrand::u64(..));
        let path = permit.store.dir().join(name);
        // Read by the stations that play the film meanwhile.
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        match file.try_lock() {
            // Before it was locked, a process that has just started may have removed the file as a stale part.
            Ok(()) if file.metadata()?.nlink() > 0 => return Ok((path, file)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            // This file system has no locks, so processes tell stale parts by their age.
            Err(TryLockError::Error(_)) => return Ok((path, file)),
        }
    }
}
