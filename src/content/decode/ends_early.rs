//! Detects a file that is shorter than its container says, as after a download that broke off or on a full disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Most top-level boxes or elements to read. Only a film of very many small fragments has more.
const MOST: usize = 10_000;

/// Whether `file` is shorter than its container says. A file whose container has no length never ends early.
pub(super) fn ends_early(mut file: File, container: &str) -> bool {
    let Ok(length) = file.seek(SeekFrom::End(0)) else { return false };
    let end = match container {
        "matroska" => segment_end(&mut file),
        "mov" => boxes_end(&mut file, length),
        "avi" => riff_end(&mut file),
        _ => return false,
    };
    end.is_ok_and(|end| end > length)
}

/// Where the first segment of a Matroska file ends (RFC 8794, RFC 9559); 0 if its size is unknown.
fn segment_end(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    const SEGMENT: u64 = 0x1853_8067;
    let mut at = 0u64;
    for _ in 0..MOST {
        file.seek(SeekFrom::Start(at))?;
        let (id, id_length) = number(file, true)?;
        let (size, size_length) = number(file, false)?;
        let begin = at.saturating_add(id_length + size_length);
        let unknown = size == (1 << (7 * size_length)) - 1;
        if id == SEGMENT {
            return Ok(if unknown { 0 } else { begin.saturating_add(size) });
        }
        if unknown {
            break;
        }
        at = begin.saturating_add(size);
    }
    Ok(0)
}

/// A variable-length integer of EBML and the number of its bytes. If `marked`, the value keeps its length marker, as an ID does.
fn number(file: &mut impl Read, marked: bool) -> io::Result<(u64, u64)> {
    let mut first = [0];
    file.read_exact(&mut first)?;
    let length = u64::from(first[0].leading_zeros()) + 1;
    if length > 8 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let kept = if marked { first[0] } else { first[0] & (0xffu16 >> length) as u8 };
    let mut value = u64::from(kept);
    for _ in 1..length {
        file.read_exact(&mut first)?;
        value = value << 8 | u64::from(first[0]);
    }
    Ok((value, length))
}

/// Where the last box of an MP4 file ends (ISO/IEC 14496-12).
fn boxes_end(file: &mut (impl Read + Seek), length: u64) -> io::Result<u64> {
    let mut at = 0u64;
    for _ in 0..MOST {
        // A rest too short for a box is padding.
        if at.saturating_add(8) > length {
            break;
        }
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let size = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
            // The box extends to the end of the file.
            0 => return Ok(0),
            1 => {
                file.read_exact(&mut head)?;
                u64::from_be_bytes(head)
            }
            size => size.into(),
        };
        if size < 8 {
            return Ok(0);
        }
        at = at.saturating_add(size);
    }
    Ok(at)
}

/// Where the first RIFF chunk of an AVI file ends.
fn riff_end(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    let mut head = [0; 8];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut head)?;
    let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    Ok(if head.starts_with(b"RIFF") && size < u32::MAX { 8 + u64::from(size) } else { 0 })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_segment_ends_where_its_size_says() {
        let header = [0x1a, 0x45, 0xdf, 0xa3, 0x82, 0, 0];
        let film = |size: &[u8]| [&header[..], &[0x18, 0x53, 0x80, 0x67], size, &[0; 4]].concat();
        let end = |bytes: Vec<u8>| segment_end(&mut Cursor::new(bytes)).unwrap_or(0);
        assert_eq!(end(film(&[0x84])), 16);
        assert_eq!(end(film(&[0x40, 100])), 113);
        assert_eq!(
            end(film(&[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
            0,
            "the size of a live recording is unknown"
        );
        assert_eq!(end(vec![0; 100]), 0);
        assert_eq!(end(vec![0xff; 100]), 0);
    }

    #[test]
    fn the_boxes_of_a_file_end_where_the_last_box_says() {
        let boxes = |sizes: &[u32]| {
            let mut bytes = Vec::new();
            for &size in sizes {
                bytes.extend(size.to_be_bytes());
                bytes.extend(b"free");
                bytes.resize(bytes.len() + (size as usize).clamp(8, 64) - 8, 0);
            }
            bytes
        };
        let end = |bytes: Vec<u8>| {
            let length = bytes.len() as u64;
            boxes_end(&mut Cursor::new(bytes), length).unwrap_or(0)
        };
        assert_eq!(end(boxes(&[16, 24])), 40);
        assert_eq!(end(boxes(&[16, 1000])), 1016);
        assert_eq!(end(boxes(&[16, 0])), 0);
        assert_eq!(end(boxes(&[16, 3])), 0);
        assert_eq!(end([boxes(&[16]), vec![0; 3]].concat()), 16);
    }
}
