use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::identity::{Identity, make};
use super::pin::{Fingerprint, InsecureError, KnownServers, secure};
use super::*;
use crate::limits::Accept;

/// A server that repeats what it reads, to one client after the other.
async fn echo(security: Security, identity: Option<&Identity>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::new("test", security, identity.map(Identity::config), b"only TLS".into());
    let mut listener = Secured::new(listener, door);
    let task = tokio::spawn(async move {
        loop {
            let (arriving, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Some(stream) = arriving.secure().await else { return };
                let (mut read, mut write) = stream.into_split();
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = read.read(&mut bytes).await {
                    write.write_all(&bytes[..length]).await.unwrap();
                    write.flush().await.unwrap();
                }
            });
        }
    });
    (address, task)
}

fn made(folder: &TempDir) -> (Identity, Fingerprint) {
    let (certificate, key) = make(folder.path(), vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    Identity::open(&certificate, &key).unwrap()
}

async fn hello(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    stream.write_all(b"hello").await.unwrap();
    let mut answer = [0; 100];
    match stream.read(&mut answer).await {
        Ok(length) => String::from_utf8_lossy(&answer[..length]).into_owned(),
        Err(error) => error.to_string(),
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn a_certificate_is_remembered_and_another_one_is_refused() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (identity, fingerprint) = made(&folder);
    let (address, _task) = echo(Security::Tls, Some(&identity)).await;
    let known = KnownServers::in_file(&folder.path().join("new/known"));
    let wrong = made(&other).1;

    let named = secure(connect(address).await, address, Some(wrong), &known).await.err().unwrap();
    assert!(matches!(named, InsecureError::NotNamed { shown, .. } if shown == fingerprint), "{named}");
    assert_eq!(known.get(address), None);

    let stream = secure(connect(address).await, address, None, &known).await.unwrap();
    assert_eq!(hello(stream).await, "hello");
    assert_eq!(known.get(address), Some(fingerprint));

    // The broadcaster has another certificate from now on.
    fs::remove_file(folder.path().join("key.pem")).unwrap();
    make(folder.path(), vec!["localhost".into()]).unwrap();
    let changed = identity.refresh().unwrap().unwrap();
    assert_ne!(changed, fingerprint);
    assert!(identity.refresh().is_none());
    let refused = secure(connect(address).await, address, None, &known).await.err().unwrap();
    assert!(refused.to_string().contains(&format!("pass --fingerprint {changed} once")), "{refused}");
    assert_eq!(known.get(address), Some(fingerprint));
    let stream = secure(connect(address).await, address, Some(changed), &known).await.unwrap();
    assert_eq!(hello(stream).await, "hello");
    assert_eq!(known.get(address), Some(changed), "the one that the user named is the one that is known");
    secure(connect(address).await, address, None, &known).await.unwrap();
}

#[tokio::test]
async fn a_port_takes_tls_or_plain_connections_or_both_and_tells_the_other() {
    let folder = TempDir::new().unwrap();
    let (identity, _) = made(&folder);
    let known = KnownServers::default();
    let (tls, _task) = echo(Security::Tls, Some(&identity)).await;
    assert_eq!(hello(connect(tls).await).await, "only TLS");

    let (both, _task) = echo(Security::Both, Some(&identity)).await;
    assert_eq!(hello(connect(both).await).await, "hello");
    assert_eq!(hello(secure(connect(both).await, both, None, &known).await.unwrap()).await, "hello");

    let (plain, _task) = echo(Security::Plain, None).await;
    assert_eq!(hello(connect(plain).await).await, "hello");
    let refused = secure(connect(plain).await, plain, None, &known).await.err().unwrap();
    assert!(matches!(&refused, InsecureError::NoTls { .. }), "{refused}");
    assert!(refused.to_string().contains("HandshakeFailure"), "it is told by an alert: {refused}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_finish_its_handshake_is_closed() {
    let folder = TempDir::new().unwrap();
    let (identity, _) = made(&folder);
    for security in [Security::Tls, Security::Both] {
        let (address, _task) = echo(security, Some(&identity)).await;
        // Nothing, too little to tell, and the beginning of a handshake.
        for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
            let mut client = connect(address).await;
            client.write_all(begun).await.unwrap();
            let mut rest = Vec::new();
            match client.read_to_end(&mut rest).await {
                Ok(_) => assert_eq!(rest, b""),
                // Bytes that nobody has read.
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
    }
}

#[tokio::test]
async fn much_goes_through_tls_in_both_directions_at_one_time() {
    let folder = TempDir::new().unwrap();
    let (identity, _) = made(&folder);
    let (address, _task) = echo(Security::Tls, Some(&identity)).await;
    let stream = secure(connect(address).await, address, None, &KnownServers::default()).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let mut received = vec![0; sent.len()];
    let (written, filled) = tokio::join!(
        async {
            write.write_all(&sent).await.unwrap();
            write.flush().await
        },
        read.read_exact(&mut received)
    );
    written.unwrap();
    filled.unwrap();
    assert!(sent == received);
}

#[test]
fn wrong_files_are_told_and_change_nothing() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (identity, fingerprint) = made(&folder);
    made(&other);
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    let open = |certificate: &Path, key: &Path| Identity::open(certificate, key).err().unwrap();
    let at = |path: &Path, sentence: &str| format!("{}: {sentence}", path.display());
    let missing = folder.path().join("missing.pem");
    assert_eq!(open(&missing, &key), at(&missing, "No such file or directory (os error 2)"));
    assert_eq!(open(&key, &key), at(&key, "it has no certificate (PEM)"));
    assert_eq!(
        open(&certificate, &certificate),
        at(&certificate, "it has no private key (PEM, without a password)")
    );
    let wrong = other.path().join("key.pem");
    assert_eq!(
        open(&certificate, &wrong),
        at(&wrong, &format!("it is not the key of the certificate in {}", certificate.display()))
    );
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let sentence = "its mode is 644, so that other users can get at it: chmod 600 it";
    assert_eq!(open(&certificate, &key), at(&key, sentence));
    // A change of the mode alone is one, too.
    assert_eq!(identity.refresh().unwrap().unwrap_err(), at(&key, sentence));
    assert!(identity.refresh().is_none(), "it is told once");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(identity.refresh().unwrap().unwrap(), fingerprint);
}

#[test]
fn a_fingerprint_is_read_as_it_is_printed_and_as_openssl_prints_it() {
    let fingerprint = Fingerprint::of(b"a certificate");
    let text = fingerprint.to_string();
    assert_eq!(text.len(), 95);
    let plain = text.replace(':', "").to_lowercase();
    for text in [&text[..], &plain, &format!("sha256 Fingerprint={text}")] {
        assert_eq!(text.parse(), Ok(fingerprint), "{text}");
    }
    for wrong in ["", "AA", &plain[1..], &format!("{plain}0"), &plain.replace('a', "g"), &format!("{plain}é")]
    {
        assert!(wrong.parse::<Fingerprint>().is_err() || !plain.contains('a'), "{wrong}");
    }
}
