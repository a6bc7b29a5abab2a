//! How the RTSP server of a broadcaster is reached, for a viewer that knows its directory.

use std::io;
use std::net::SocketAddr;

use crate::access::Secret;
use crate::directory::Endpoint;
use crate::tls::pin::{InsecureError, Trust};
use crate::tuner::rtsp_client::RtspServer;
use crate::wire::rtsp::basic;

/// The RTSP server at `address` of the broadcaster of `directory`, and whether it is reached less safely than that. The directory does
/// not tell whether it speaks TLS. If the directory does, TLS is tried, and the server must show the certificate of the directory. If
/// there is none, the connection is plain, for stations that are open to all: a token is never shown there. Called after the directory
/// has answered, so that its certificate is known. Blocks.
///
/// # Errors
/// The server cannot be reached, or shows another certificate; or it speaks no TLS, and a token would have to be shown.
pub fn reach(directory: &Endpoint, address: SocketAddr) -> io::Result<(RtspServer, bool)> {
    let Endpoint { reach, .. } = directory;
    let authorization = reach.token.as_ref().map(|token| Secret::new(basic("viewer", token.reveal())));
    let is_safe = address.ip().to_canonical().is_loopback();
    let plain = RtspServer { address, tls: None, authorization: authorization.clone().filter(|_| is_safe) };
    if !directory.is_tls() {
        return Ok((plain, false));
    }
    let trust = match reach.fingerprint.or_else(|| reach.known.get(directory.address)) {
        Some(fingerprint) => Trust::Directory(fingerprint),
        // It could not be remembered.
        None => Trust::User { named: None, servers: reach.known.clone() },
    };
    let by_tls = RtspServer { address, tls: Some(trust), authorization };
    match by_tls.try_out() {
        Ok(()) => Ok((by_tls, false)),
        Err(error) if speaks_no_tls(&error) => match (&reach.token, is_safe) {
            (Some(_), false) => Err(io::Error::other(format!(
                "RTSP at {address} speaks no TLS, and a token is not shown there: turn `tls` on under [rtsp] of the line-up, or \
                 leave the token out"
            ))),
            _ => Ok((plain, true)),
        },
        Err(error) => Err(io::Error::new(error.kind(), format!("RTSP at {address}: {error}"))),
    }
}

/// Whether the server has answered the handshake with something else. One that only does not answer may speak TLS.
fn speaks_no_tls(error: &io::Error) -> bool {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(InsecureError::NoTls { reason, .. }) => reason.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

#[cfg(all(test, feature = "broadcaster"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};

    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;
    use crate::directory::Reach;
    use crate::tls::pin::{Fingerprint, KnownServers};
    use crate::tls::provider;

    /// A server that finishes the handshake of as many connections, and ends them. Returns its fingerprint too.
    fn server(connections: usize) -> (SocketAddr, Fingerprint, JoinHandle<()>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let fingerprint = Fingerprint::of(&certificate);
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .unwrap();
        let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(config));
        let address = listener.local_addr().unwrap();
        let serving = thread::spawn(move || {
            for _ in 0..connections {
                let (mut tcp, _) = listener.accept().unwrap();
                let mut session = ServerConnection::new(config.clone()).unwrap();
                while session.is_handshaking() && session.complete_io(&mut tcp).is_ok() {}
            }
        });
        (address, fingerprint, serving)
    }

    fn directory(reach: Reach) -> Endpoint {
        Endpoint { address: "127.0.0.1:9688".parse().unwrap(), reach }
    }

    #[test]
    fn a_server_beside_a_plain_directory_is_reached_plainly() {
        let token = Some(Secret::new("sct_1".into()));
        let of = |address: &str| {
            let directory = directory(Reach { token: token.clone(), ..Reach::default() });
            reach(&directory, address.parse().unwrap()).unwrap()
        };
        let (far, is_less_safe) = of("192.0.2.7:8554");
        assert_eq!((far.tls, far.authorization, is_less_safe), (None, None, false));
        assert_eq!(of("127.0.0.1:8554").0.authorization, Some(Secret::new(basic("viewer", "sct_1"))));
    }

    #[test]
    fn a_server_beside_a_directory_by_tls_must_show_its_certificate() {
        let (address, fingerprint, serving) = server(3);
        let token = Some(Secret::new("sct_1".into()));
        let named = Reach { fingerprint: Some(fingerprint), token, ..Reach::default() };
        let (server, is_less_safe) = reach(&directory(named), address).unwrap();
        assert_eq!((server.tls, is_less_safe), (Some(Trust::Directory(fingerprint)), false));
        assert!(server.authorization.is_some());

        // The directory is known, and the certificate is not its own.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known");
        std::fs::write(&file, format!("127.0.0.1:9688 {}\n", "7A".repeat(32))).unwrap();
        let known = Reach { known: KnownServers::in_file(&file), ..Reach::default() };
        let wrong = reach(&directory(known), address).unwrap_err().to_string();
        assert!(wrong.contains("and not that of the directory"), "{wrong}");

        // Nothing could be remembered.
        let (server, _) = reach(&directory(Reach { tls: true, ..Reach::default() }), address).unwrap();
        assert!(matches!(server.tls, Some(Trust::User { named: None, .. })));
        serving.join().unwrap();
    }

    #[test]
    fn a_server_that_speaks_no_tls_is_reached_plainly_and_that_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"RTSP/1.0 400 Bad Request\r\n\r\n").unwrap();
        });
        let (server, is_less_safe) =
            reach(&directory(Reach { tls: true, ..Reach::default() }), address).unwrap();
        assert_eq!((server, is_less_safe), (address.into(), true));
        serving.join().unwrap();
        let closed = reach(&directory(Reach { tls: true, ..Reach::default() }), address).unwrap_err();
        assert_eq!(
            closed.kind(),
            io::ErrorKind::ConnectionRefused,
            "a server that is not there is not reached plainly"
        );
        // One that hangs up may be somebody between.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(reach(&directory(Reach { tls: true, ..Reach::default() }), address).is_err());
        serving.join().unwrap();
    }
}
