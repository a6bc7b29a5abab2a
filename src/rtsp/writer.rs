//! The sending half of a connection, shared by responses, pictures and RTCP packets. [`Writer::write`] holds it until the
//! whole message is out, so a response waits for at most the picture that is being written. [`Writer::try_write`] does not
//! wait: the part that the connection did not take goes out before the next message.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::tls::{Taken, WriteHalf};

/// How long a client may take no byte until its connection is closed.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// How much of a message [`Writer::try_write`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TryWrite {
    Complete,
    /// A part. The rest goes out with the next [`Writer::write`].
    Partial,
    /// Nothing: the send buffer is full, or another task writes.
    WouldBlock,
}

pub(super) struct Writer {
    half: Mutex<Half>,
    /// Turns true when the connection is over.
    gone: watch::Sender<bool>,
}

struct Half {
    stream: WriteHalf,
    /// The unwritten rest of a message: of its head, and of its body.
    rest: (Vec<u8>, Bytes),
}

impl Writer {
    pub(super) fn new(stream: WriteHalf) -> Writer {
        Writer {
            half: Mutex::new(Half { stream, rest: Default::default() }),
            gone: watch::Sender::new(false),
        }
    }

    /// Writes the rest of the previous message, then `head` and `body` as one message. Cancelled, it closes the connection.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) async fn write(&self, head: &[u8], body: &[u8]) -> Result<(), Gone> {
        // Most of the time no other task writes.
        let mut half = match self.half.try_lock() {
            Ok(half) => half,
            Err(_) => self.half.lock().await,
        };
        if *self.gone.borrow() {
            return Err(Gone);
        }
        // A cancelled write may have sent a part of the message, behind which nothing may follow.
        let mut guard = CloseOnDrop { gone: &self.gone, armed: true };
        let rest = std::mem::take(&mut half.rest);
        let mut slices = [&rest.0, &rest.1[..], head, body].map(IoSlice::new);
        let mut slices = &mut slices[..];
        while slices.iter().any(|slice| !slice.is_empty()) {
            match timeout(WRITE_TIMEOUT, half.stream.write_vectored(slices)).await {
                Ok(Ok(n @ 1..)) => IoSlice::advance_slices(&mut slices, n),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) => return Err(Gone),
                Err(_) => match half.stream.nudge(slices) {
                    Some(n) => IoSlice::advance_slices(&mut slices, n),
                    None => {
                        half.stream.discard_unsent();
                        return Err(Gone);
                    }
                },
            }
        }
        loop {
            match timeout(WRITE_TIMEOUT, half.stream.flush()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return Err(Gone),
                Err(_) if half.stream.nudge(&[]).is_some() => {}
                Err(_) => {
                    half.stream.discard_unsent();
                    return Err(Gone);
                }
            }
        }
        guard.armed = false;
        Ok(())
    }

    /// Writes as much of a message as the connection takes at once, and keeps the rest for the next [`write`](Self::write).
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn try_write(&self, head: &[u8], body: &Bytes) -> Result<TryWrite, Gone> {
        self.write_available(head, body).inspect_err(|_| self.close())
    }

    fn write_available(&self, head: &[u8], body: &Bytes) -> Result<TryWrite, Gone> {
        if *self.gone.borrow() {
            return Err(Gone);
        }
        let Ok(mut half) = self.half.try_lock() else { return Ok(TryWrite::WouldBlock) };
        if !(half.rest.0.is_empty() && half.rest.1.is_empty()) {
            return Ok(TryWrite::WouldBlock);
        }
        match half.stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
            Ok(Taken { bytes, held: false }) if bytes == head.len() + body.len() => Ok(TryWrite::Complete),
            Ok(Taken { bytes: 0, .. }) => Err(Gone),
            Ok(Taken { bytes: n, .. }) => {
                half.rest = match n.checked_sub(head.len()) {
                    Some(n) => (Vec::new(), body.slice(n..)),
                    None => (head[n..].to_vec(), body.clone()),
                };
                Ok(TryWrite::Partial)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(TryWrite::WouldBlock)
            }
            Err(_) => Err(Gone),
        }
    }

    /// Shuts down our half of the connection, behind all that was written.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) async fn finish(&self) -> Result<(), Gone> {
        self.half.lock().await.stream.shutdown().await.map_err(|_| Gone)
    }

    /// Marks the connection as over: all writes fail from now on.
    pub(super) fn close(&self) {
        self.gone.send_replace(true);
    }

    /// Waits until the connection is over.
    pub(super) async fn closed(&self) {
        // It cannot fail: `self` holds the sender.
        let _ = self.gone.subscribe().wait_for(|&gone| gone).await;
    }
}

/// Closes the connection if it is dropped while armed.
struct CloseOnDrop<'a> {
    gone: &'a watch::Sender<bool>,
    armed: bool,
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.gone.send_replace(true);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod tests {
    use std::io::Read;

    use socket2::SockRef;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpSocket, TcpStream};
    use tokio::time::{Instant, sleep_until};

    use super::*;
    use crate::rtsp::SEND_BUFFER;
    use crate::tls::Stream;

    /// A client, and the writer to it. The MSS is that of Ethernet, so that windows are as there.
    async fn pair() -> (TcpStream, Writer) {
        let [listener, client] = [(); 2].map(|()| TcpSocket::new_v4().unwrap());
        for socket in [&listener, &client] {
            SockRef::from(socket).set_tcp_mss(1400).unwrap();
            socket.set_recv_buffer_size(64 * 1024).unwrap();
        }
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let client = client.connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER).unwrap();
        (client, Writer::new(Stream::from(stream).into_split().1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_closed_and_a_slow_one_is_not() {
        let (client, writer) = pair().await;
        let mut client = client.into_std().unwrap();
        let begun = Instant::now();
        let write = async {
            while writer.write(&[0; 30_000], &[]).await.is_ok() {}
            begun.elapsed()
        };
        let minute = Duration::from_secs(60);
        // Far less than a third of the send buffer.
        let read = async {
            let mut read = 0;
            while begun.elapsed() < minute {
                sleep_until(Instant::now() + WRITE_TIMEOUT / 5).await;
                read += client.read(&mut [0; 10_000]).unwrap_or(0);
            }
            read
        };
        let (ended, read) = timeout(minute * 10, async { tokio::join!(write, read) }).await.unwrap();
        assert!(read > 0 && ended >= minute, "{read} bytes, {ended:?}");
        timeout(WRITE_TIMEOUT, writer.closed()).await.expect("it is closed");
    }

    #[tokio::test]
    async fn the_rest_of_a_message_goes_out_before_the_next() {
        let (mut client, writer) = pair().await;
        let messages = 0..=u8::MAX;
        let message = |n| ([n; 7], Bytes::from(vec![n; 1_000_003]));
        let (mut begun, mut all) = (0, 0);
        for (head, body) in messages.clone().map(message) {
            match writer.try_write(&head, &body).unwrap() {
                TryWrite::Complete => all += 1,
                TryWrite::Partial => begun += 1,
                TryWrite::WouldBlock => break,
            }
        }
        assert_eq!(begun, 1, "no message is begun while the rest of another waits, after {all}");
        let total = all + begun;
        let read = async {
            for n in messages.take(total + 1) {
                let mut bytes = vec![0; 7 + if usize::from(n) < total { 1_000_003 } else { 0 }];
                client.read_exact(&mut bytes).await.unwrap();
                assert!(bytes.iter().all(|&byte| byte == n), "message {n}");
            }
        };
        let end = [total as u8; 7];
        let (written, ()) = tokio::join!(writer.write(&end, &[]), read);
        written.unwrap();
        let (head, body) = ([1; 7], Bytes::from_static(b"again"));
        assert_eq!(writer.try_write(&head, &body), Ok(TryWrite::Complete));
        drop(client);
        while writer.try_write(&head, &body).is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(writer.write(&head, &body).await, Err(Gone), "it stays over");
    }
}
