//! Borders: where one message of a stream ends and the next begins.

use std::marker::PhantomData;

use bytes::{Buf, BytesMut};

use super::{Message, MessageError, PREFIX, decode};

/// Cuts a stream of bytes into messages. Holds one message under way, never much more.
#[derive(Debug)]
pub struct Inbox<M> {
    buffer: BytesMut,
    kind: PhantomData<fn() -> M>,
}

impl<M> Default for Inbox<M> {
    fn default() -> Self {
        Inbox { buffer: BytesMut::new(), kind: PhantomData }
    }
}

impl<M: Message> Inbox<M> {
    /// Where the bytes that arrive next are to be appended. Has spare capacity: for the rest of the
    /// message under way, but at most 64 KiB at a time, so that memory follows what has arrived
    /// and not what a prefix claims.
    pub fn room(&mut self) -> &mut BytesMut {
        let whole = match self.buffer.first_chunk::<PREFIX>() {
            Some(prefix) => PREFIX + M::MAX_BODY.min(u32::from_le_bytes(*prefix) as usize),
            None => PREFIX,
        };
        let missing = whole.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.clamp(256, 64 * 1024));
        &mut self.buffer
    }

    /// The next message, when all of it is here; `None` when more bytes are needed.
    ///
    /// # Errors
    /// Those of [`decode`]; a prefix beyond the limit is one as soon as it is here. After an error
    /// the stream has no borders any more: close it.
    pub fn take(&mut self) -> Result<Option<M>, MessageError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > M::MAX_BODY {
            return Err(MessageError::TooLong { kind: M::KIND, length, limit: M::MAX_BODY });
        }
        let Some(body) = self.buffer.get(PREFIX..PREFIX + length) else { return Ok(None) };
        let message = decode(body)?;
        self.buffer.advance(PREFIX + length);
        Ok(Some(message))
    }

    /// Whether a message has begun to arrive and is not complete (after [`take`](Self::take) has
    /// returned `None`).
    pub fn is_midway(&self) -> bool {
        !self.buffer.is_empty()
    }
}
