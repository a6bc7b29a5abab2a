//! Decoded pictures.

use std::fs;
use std::path::{Path, PathBuf};

use super::strip;

/// A decoded picture, planar.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Luma, then the two colour planes; no padding.
    pub(crate) planes: [Plane; 3],
}

/// One plane of a picture.
#[derive(Debug, Clone)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) samples: Vec<u8>,
}

impl Picture {
    /// The picture of a JPEG file.
    pub(crate) fn of_jpeg(file: &[u8]) -> Picture {
        let header = turbojpeg::read_header(file).expect("a JPEG header");
        let (across, down) = (header.subsamp.width(), header.subsamp.height());
        let yuv = turbojpeg::decompress_to_yuv(file).expect("a JPEG picture");
        let (width, height) = (header.width, header.height);
        assert!(width.is_multiple_of(yuv.align * across), "padded planes are not needed here");
        Picture::of_planes(&yuv.pixels, (width, height), (across, down))
    }

    /// A 4:2:0 picture, plane after plane.
    pub(crate) fn of_i420(planes: &[u8], width: usize, height: usize) -> Picture {
        Picture::of_planes(planes, (width, height), (2, 2))
    }

    /// The pictures of a file of such planes. An incomplete last one is left out: the program that wrote it was ended.
    pub(crate) fn all_of_i420(file: &Path, width: usize, height: usize) -> Vec<Picture> {
        let bytes = fs::read(file).unwrap();
        let pictures = bytes.chunks_exact(width * height * 3 / 2);
        pictures.map(|planes| Picture::of_i420(planes, width, height)).collect()
    }

    fn of_planes(bytes: &[u8], (width, height): (usize, usize), (across, down): (usize, usize)) -> Picture {
        let luma = width * height;
        let colour = (width / across) * (height / down);
        assert_eq!(bytes.len(), luma + 2 * colour, "bytes of {width}x{height}");
        let plane = |width: usize, bytes: &[u8]| Plane { width, samples: bytes.to_vec() };
        let (y, rest) = bytes.split_at(luma);
        let (u, v) = rest.split_at(colour);
        Picture {
            width,
            height,
            planes: [plane(width, y), plane(width / across, u), plane(width / across, v)],
        }
    }

    /// The station and the number in its strip.
    pub(crate) fn strip(&self) -> Option<(u8, u16)> {
        strip::read(&self.planes[0].samples, self.width, self.height, self.width)
    }

    /// As [`strip`](Self::strip), of a picture that stands between bars at its sides.
    pub(crate) fn strip_between(&self, left: usize, right: usize) -> Option<(u8, u16)> {
        strip::read(&self.planes[0].samples[left..], right - left, self.height, self.width)
    }

    /// Luma and colours at a place, given in thousandths of width and height: the mean of 8x8 samples of each.
    pub(crate) fn colour_at(&self, x: usize, y: usize) -> [u8; 3] {
        self.planes.each_ref().map(|plane| {
            let height = plane.samples.len() / plane.width;
            let (left, top) = (plane.width * x / 1000 - 4, height * y / 1000 - 4);
            let rows = (top..top + 8).map(|y| &plane.samples[y * plane.width + left..][..8]);
            (rows.flatten().map(|&v| u32::from(v)).sum::<u32>() / 64) as u8
        })
    }

    /// The peak signal-to-noise ratio of each plane against another picture's, in dB; infinite where they are equal.
    pub(crate) fn psnr(&self, other: &Picture) -> [f64; 3] {
        std::array::from_fn(|n| {
            let (a, b) = (&self.planes[n].samples, &other.planes[n].samples);
            assert_eq!(a.len(), b.len(), "planes {n} differ in size");
            let square = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b)).pow(2);
            let error = a.iter().zip(b).map(square).sum::<u64>() as f64 / a.len() as f64;
            10.0 * (255.0 * 255.0 / error).log10()
        })
    }
}

/// The JPEG files that `viewer --save-frames` has left in a folder, in their order.
pub(crate) fn saved(folder: &Path) -> Vec<Picture> {
    pictures_of(&saved_files(folder))
}

/// As [`saved`], for a viewer that was ended at any moment: the last file, which may be incomplete, is left out.
pub(crate) fn saved_whole(folder: &Path) -> Vec<Picture> {
    let mut files = saved_files(folder);
    files.pop();
    pictures_of(&files)
}

fn saved_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn pictures_of(files: &[PathBuf]) -> Vec<Picture> {
    files.iter().map(|file| Picture::of_jpeg(&fs::read(file).unwrap())).collect()
}

/// How many files `viewer --save-frames` has left so far.
pub(crate) fn count_saved(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}
