//! Shows a canvas by memory that the display server can read (MIT-SHM 1.2, "AttachFd"). minifb sends all pixels to the server
//! through a socket: of a window of 640x368 at 24 pictures a second, that was a fifth of what the viewer costs.
//!
//! Two buffers take turns, and none is written while the server may read it.

use std::os::fd::AsFd;

use rustix::net::{AddressFamily, getsockname};
use shared_pixels::SharedPixels;
use x11rb::connection::{Connection, RequestConnection};
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{ConnectionExt as _, CreateGCAux, ImageFormat, ImageOrder};
use x11rb::rust_connection::RustConnection;

use super::display::DisplayError;
use crate::paint::Canvas;

/// The first version of the extension whose memory is handed over as a file.
const VERSION: (u16, u16) = (1, 2);

/// Buffers of pixels that the server reads.
pub(super) struct SharedCanvas {
    window: u32,
    context: u32,
    depth: u8,
    buffers: [Option<Buffer>; 2],
}

struct Buffer {
    segment: u32,
    memory: SharedPixels,
    len: usize,
    /// Whether the server may still read it.
    shown: bool,
}

impl SharedCanvas {
    /// Buffers for a window; `None` if the display is on another machine, or does not have pixels of our kind.
    ///
    /// # Errors
    /// The display refuses.
    pub(super) fn new(x: &RustConnection, window: u32) -> Result<Option<SharedCanvas>, DisplayError> {
        // No descriptor can be sent to another machine, and to try it would end the connection.
        let is_here = getsockname(x.stream().as_fd())
            .is_ok_and(|address| address.address_family() == AddressFamily::UNIX);
        if !is_here || x.extension_information(shm::X11_EXTENSION_NAME)?.is_none() {
            return Ok(None);
        }
        let version = x.shm_query_version()?.reply()?;
        let depth = x.get_geometry(window)?.reply()?.depth;
        let order = if cfg!(target_endian = "big") { ImageOrder::MSB_FIRST } else { ImageOrder::LSB_FIRST };
        let is_ours = x.setup().image_byte_order == order
            && x.setup()
                .pixmap_formats
                .iter()
                .any(|format| (format.depth, format.bits_per_pixel) == (depth, 32));
        if (version.major_version, version.minor_version) < VERSION || !is_ours {
            return Ok(None);
        }
        let context = x.generate_id()?;
        x.create_gc(context, window, &CreateGCAux::new())?.check()?;
        Ok(Some(SharedCanvas { window, context, depth, buffers: [None, None] }))
    }

    /// Has the server forget the buffers.
    pub(super) fn free(self, x: &RustConnection) {
        // A connection that is lost has nothing to be freed on.
        for buffer in self.buffers.into_iter().flatten() {
            let _ = x.shm_detach(buffer.segment);
        }
        let _ = x.free_gc(self.context);
        let _ = x.flush();
    }

    /// Whether no buffer can be written before the server [has read](Self::has_read) one.
    pub(super) fn is_busy(&self) -> bool {
        self.buffers.iter().all(|buffer| buffer.as_ref().is_some_and(|buffer| buffer.shown))
    }

    /// The server has read the pixels of this segment.
    pub(super) fn has_read(&mut self, segment: u32) {
        let buffers = self.buffers.iter_mut().flatten();
        buffers.filter(|buffer| buffer.segment == segment).for_each(|buffer| buffer.shown = false);
    }

    /// Has the server show a canvas in the upper left corner of the window. Not to be called while it [is busy](Self::is_busy).
    ///
    /// # Errors
    /// The display refuses, or there is no memory.
    pub(super) fn show(&mut self, x: &RustConnection, canvas: &Canvas) -> Result<(), DisplayError> {
        let len = canvas.pixels.len();
        let free = self.buffers.iter().position(|buffer| buffer.as_ref().is_none_or(|buffer| !buffer.shown));
        let Some(free) = free else { return Ok(()) };
        let buffer = match self.buffers[free].take() {
            Some(buffer) if buffer.len == len => buffer,
            old => {
                if let Some(old) = old {
                    x.shm_detach(old.segment)?;
                }
                Buffer::new(x, len)?
            }
        };
        let buffer = self.buffers[free].insert(buffer);
        buffer.memory.pixels().copy_from_slice(&canvas.pixels);
        let side = |side: usize| u16::try_from(side).unwrap_or(u16::MAX);
        let (width, height) = (side(canvas.width), side(canvas.height));
        let format = ImageFormat::Z_PIXMAP.into();
        x.shm_put_image(
            self.window,
            self.context,
            width,
            height,
            0,
            0,
            width,
            height,
            0,
            0,
            self.depth,
            format,
            true,
            buffer.segment,
            0,
        )?;
        x.flush()?;
        buffer.shown = true;
        Ok(())
    }
}

impl Buffer {
    fn new(x: &RustConnection, len: usize) -> Result<Buffer, DisplayError> {
        let (memory, file) = SharedPixels::new(len).map_err(DisplayError::Memory)?;
        let segment = x.generate_id()?;
        x.shm_attach_fd(segment, file, true)?.check()?;
        Ok(Buffer { segment, memory, len, shown: false })
    }
}
