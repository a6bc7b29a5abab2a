//! Pixels in memory that another process can map, too: a display server, which reads them there instead of from its socket.

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Pixels of 32 bits, in a file that has no name.
#[derive(Debug)]
pub struct SharedPixels {
    memory: NonNull<u32>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone, as that of a `Vec` does.
unsafe impl Send for SharedPixels {}

impl SharedPixels {
    /// `len` black pixels, and the file that they are in, which is for the process that is to read them.
    ///
    /// # Errors
    /// `len` is 0, there is not so much memory, or the kernel is older than Linux 5.1.
    pub fn new(len: usize) -> io::Result<(SharedPixels, OwnedFd)> {
        let bytes = len.checked_mul(size_of::<u32>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let file = memfd_create("pixels", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        // Memory that is missing is an error here, and would be a signal when it is written to.
        fallocate(&file, FallocateFlags::empty(), 0, bytes as u64)?;
        // A process that makes the file shorter would have this one killed when it writes there.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        // SAFETY: the address is the kernel's choice, so that no other memory is replaced.
        let memory = unsafe {
            mmap(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)?
        };
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let pixels = SharedPixels { memory, len };
        // From now on nobody can write but by the mapping that there is.
        fcntl_add_seals(&file, SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
        Ok((pixels, file))
    }

    /// The pixels.
    pub fn pixels(&mut self) -> &mut [u32] {
        // SAFETY: `new` has mapped `len` pixels there, aligned to a page, and they stay until `drop`; any bytes are a `u32`. The file is
        // sealed: it cannot become shorter, and is written by this mapping alone, which is borrowed as `self` is.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl Drop for SharedPixels {
    fn drop(&mut self) {
        // SAFETY: this is what `new` has mapped, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.len * size_of::<u32>()) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_written_is_in_the_file_which_keeps_its_length() {
        let (mut pixels, file) = SharedPixels::new(3000).unwrap();
        let file = File::from(file);
        assert!(pixels.pixels().iter().all(|&pixel| pixel == 0));
        pixels.pixels()[2999] = 0x12_3456;
        let mut last = [0; 4];
        file.read_exact_at(&mut last, 4 * 2999).unwrap();
        assert_eq!(u32::from_ne_bytes(last), 0x12_3456);
        assert!(file.set_len(4).is_err());
        assert!(file.write_at(&[1], 0).is_err());
        drop(pixels);
        assert_eq!(file.metadata().unwrap().len(), 12_000);
        assert!(SharedPixels::new(0).is_err());
        assert!(SharedPixels::new(usize::MAX / 2).is_err());
    }
}
