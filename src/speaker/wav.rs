//! WAV files: 16 bits, stereo.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use super::Frame;

/// Bytes of the header.
const HEADER: u32 = 44;

/// A WAV file that is being written. Its header is right only after [`finish`](Self::finish), or when it is dropped.
#[derive(Debug)]
pub(super) struct WavFile {
    file: BufWriter<File>,
    rate: u32,
    /// Bytes of samples.
    bytes: u32,
}

impl WavFile {
    pub(super) fn create(path: &Path, rate: u32) -> io::Result<WavFile> {
        let mut wav = WavFile { file: BufWriter::new(File::create(path)?), rate, bytes: 0 };
        wav.write_header()?;
        Ok(wav)
    }

    /// Appends samples. A WAV file has at most 4 GiB, which is 6 hours: what comes after is dropped.
    pub(super) fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        for sample in frames.as_flattened() {
            let Some(bytes) = self.bytes.checked_add(2).filter(|bytes| *bytes < u32::MAX - HEADER) else {
                return Ok(());
            };
            self.file.write_all(&((sample * 32_767.0).round() as i16).to_le_bytes())?;
            self.bytes = bytes;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.write_header()?;
        self.file.seek(SeekFrom::End(0))?;
        self.file.flush()
    }

    fn write_header(&mut self) -> io::Result<()> {
        let mut header = Vec::with_capacity(HEADER as usize);
        header.extend(b"RIFF");
        header.extend((self.bytes + HEADER - 8).to_le_bytes());
        header.extend(b"WAVEfmt ");
        header.extend(16u32.to_le_bytes());
        header.extend(1u16.to_le_bytes()); // PCM
        header.extend(2u16.to_le_bytes());
        header.extend(self.rate.to_le_bytes());
        header.extend((self.rate * 4).to_le_bytes());
        header.extend(4u16.to_le_bytes());
        header.extend(16u16.to_le_bytes());
        header.extend(b"data");
        header.extend(self.bytes.to_le_bytes());
        self.file.write_all(&header)
    }
}

impl Drop for WavFile {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
