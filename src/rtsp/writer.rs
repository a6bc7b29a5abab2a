//! The sending half of a connection. Responses and pictures share it, each as a whole: who writes has it until what it
//! writes is out, so a response waits for at most the picture that is being written. Whoever cannot wait may begin: what
//! the connection did not take goes out before anything else.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

/// How long a client may take nothing at all until its connection is closed.
pub(super) const STUCK: Duration = Duration::from_secs(10);

/// The connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// How much of a message a connection took at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TryWrite {
    Complete,
    /// The rest goes out with the next [`Writer::write`].
    Partial,
    /// It is full, or somebody else is writing.
    WouldBlock,
}

#[derive(Debug)]
pub(super) struct Writer {
    half: Mutex<Half>,
    gone: watch::Sender<bool>,
}

#[derive(Debug)]
struct Half {
    stream: OwnedWriteHalf,
    /// Of a message that was begun: of its head, and of its body.
    rest: (Vec<u8>, Bytes),
}

impl Writer {
    pub(super) fn new(stream: OwnedWriteHalf) -> Writer {
        Writer {
            half: Mutex::new(Half { stream, rest: Default::default() }),
            gone: watch::Sender::new(false),
        }
    }

    /// Writes what was begun, then `head` and `body`, one behind the other, nothing between them.
    ///
    /// # Errors
    /// The connection is over: now, or already.
    pub(super) async fn write(&self, head: &[u8], body: &[u8]) -> Result<(), Gone> {
        // As a rule nobody else writes.
        let mut half = match self.half.try_lock() {
            Ok(half) => half,
            Err(_) => self.half.lock().await,
        };
        if *self.gone.borrow() {
            return Err(Gone);
        }
        // Whoever is cancelled here leaves a part behind: nobody may write after it.
        let mut unfinished = Unfinished { gone: &self.gone, armed: true };
        let rest = std::mem::take(&mut half.rest);
        let mut slices = [&rest.0, &rest.1[..], head, body].map(IoSlice::new);
        let mut slices = &mut slices[..];
        while slices.iter().any(|slice| !slice.is_empty()) {
            match timeout(STUCK, half.stream.write_vectored(slices)).await {
                Ok(Ok(n @ 1..)) => IoSlice::advance_slices(&mut slices, n),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) => return Err(Gone),
                // Linux speaks of room only when a third of its queue is free: whether a slow client has taken anything shows
                // by trying.
                Err(_) => match SockRef::from(half.stream.as_ref()).send_vectored(slices) {
                    Ok(n @ 1..) => IoSlice::advance_slices(&mut slices, n),
                    _ => {
                        // What it has not fetched shall not stay in the kernel. If that fails, the close is an ordinary one.
                        let _ = half.stream.as_ref().set_zero_linger();
                        return Err(Gone);
                    }
                },
            }
        }
        unfinished.armed = false;
        Ok(())
    }

    /// Writes of `head` and `body` what the connection takes now; if that is only a part, the rest is remembered.
    ///
    /// # Errors
    /// The connection is over: now, or already.
    pub(super) fn begin(&self, head: &[u8], body: &Bytes) -> Result<TryWrite, Gone> {
        self.take(head, body).inspect_err(|_| self.close())
    }

    fn take(&self, head: &[u8], body: &Bytes) -> Result<TryWrite, Gone> {
        if *self.gone.borrow() {
            return Err(Gone);
        }
        let Ok(mut half) = self.half.try_lock() else { return Ok(TryWrite::WouldBlock) };
        if !(half.rest.0.is_empty() && half.rest.1.is_empty()) {
            return Ok(TryWrite::WouldBlock);
        }
        match half.stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
            Ok(n) if n == head.len() + body.len() => Ok(TryWrite::Complete),
            Ok(0) => Err(Gone),
            Ok(n) => {
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

    /// Ends our half of the connection: the client reads what was written, and then that there is no more.
    ///
    /// # Errors
    /// There is none any more.
    pub(super) async fn finish(&self) -> Result<(), Gone> {
        self.half.lock().await.stream.shutdown().await.map_err(|_| Gone)
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.gone.send_replace(true);
    }

    /// Is ready when the connection is over.
    pub(super) async fn closed(&self) {
        // The sender is ours: it is there.
        let _ = self.gone.subscribe().wait_for(|&gone| gone).await;
    }
}

struct Unfinished<'a> {
    gone: &'a watch::Sender<bool>,
    armed: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.gone.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpSocket, TcpStream};
    use tokio::time::{Instant, sleep_until};

    use super::*;
    use crate::rtsp::SEND_BUFFER;

    /// A client, and what writes to it. Packets are those of Ethernet, where windows are.
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
        (client, Writer::new(stream.into_split().1))
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_for_so_long_is_closed_and_who_takes_a_little_is_not() {
        let (client, writer) = pair().await;
        let mut client = client.into_std().unwrap();
        let begun = Instant::now();
        let write = async {
            while writer.write(&[0; 30_000], &[]).await.is_ok() {}
            begun.elapsed()
        };
        let minute = Duration::from_secs(60);
        // Far less than what Linux would call room again.
        let read = async {
            let mut read = 0;
            while begun.elapsed() < minute {
                sleep_until(Instant::now() + STUCK / 5).await;
                read += client.read(&mut [0; 10_000]).unwrap_or(0);
            }
            read
        };
        let (ended, read) = timeout(minute * 10, async { tokio::join!(write, read) }).await.unwrap();
        assert!(read > 0 && ended >= minute, "{read} bytes, {ended:?}");
        timeout(STUCK, writer.closed()).await.expect("it is closed");
    }

    #[tokio::test]
    async fn what_was_begun_goes_out_before_anything_else() {
        let (mut client, writer) = pair().await;
        let messages = 0..=u8::MAX;
        let message = |n| ([n; 7], Bytes::from(vec![n; 1_000_003]));
        let (mut begun, mut all) = (0, 0);
        for (head, body) in messages.clone().map(message) {
            match writer.begin(&head, &body).unwrap() {
                TryWrite::Complete => all += 1,
                TryWrite::Partial => begun += 1,
                TryWrite::WouldBlock => break,
            }
        }
        assert_eq!(begun, 1, "nothing is begun while another is not out, after {all}");
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
        assert_eq!(writer.begin(&head, &body), Ok(TryWrite::Complete));
        drop(client);
        while writer.begin(&head, &body).is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(writer.write(&head, &body).await, Err(Gone), "over is over");
    }
}
