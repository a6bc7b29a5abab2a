//! The client's side: a server is trusted by the fingerprint of its certificate. The one that it shows first is remembered, as ssh
//! does; another one later is refused.

use std::fmt::{self, Write as _};
use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::provider;

/// The SHA-256 of a certificate, as browsers and `openssl x509 -fingerprint -sha256` show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Fingerprint(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_char(':')?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = &'static str;

    /// Reads 64 hexadecimal digits, of either case, with colons or without, and what `openssl` prints before them.
    fn from_str(text: &str) -> Result<Fingerprint, &'static str> {
        let wrong = "write the SHA-256 of the certificate as the broadcaster prints it: 64 hexadecimal digits, colons or not";
        let digits = text.rsplit(['=', ' ']).next().unwrap_or_default();
        let digits: Vec<u8> = digits
            .chars()
            .filter(|&c| c != ':')
            .map(|c| c.to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()
            .ok_or(wrong)?;
        if digits.len() != 64 {
            return Err(wrong);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Fingerprint(bytes))
    }
}

/// The servers whose fingerprints a user knows, in a file with a line for each: its address, and the fingerprint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownServers {
    /// `None`: none is known, and none is remembered.
    file: Option<PathBuf>,
}

impl KnownServers {
    /// The user's own, in the folder for state of the XDG Base Directory Specification.
    pub fn of_this_user() -> KnownServers {
        let set = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let state = set.or_else(|| Some(home?.join(".local/state")));
        KnownServers { file: state.map(|state| state.join("stationcast/known_servers")) }
    }

    /// Those of a file, which need not exist yet.
    pub fn in_file(file: &Path) -> KnownServers {
        KnownServers { file: Some(file.to_owned()) }
    }

    /// The fingerprint of the server at `address`, if it is known.
    pub fn get(&self, address: SocketAddr) -> Option<Fingerprint> {
        let text = fs::read_to_string(self.file.as_ref()?).ok()?;
        text.lines().filter_map(entry).find(|(known, _)| *known == address).map(|(_, print)| print)
    }

    /// Remembers a fingerprint instead of the one that was known.
    ///
    /// # Errors
    /// The file cannot be written.
    fn remember(&self, address: SocketAddr, fingerprint: Fingerprint) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if let Some(folder) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let old = fs::read_to_string(file).unwrap_or_default();
        let others = old.lines().filter(|line| entry(line).is_none_or(|(known, _)| known != address));
        let mut text: String = others.map(|line| format!("{line}\n")).collect();
        let _ = writeln!(text, "{address} {fingerprint}");
        crate::private_file::replace(file, text.as_bytes())
    }
}

fn entry(line: &str) -> Option<(SocketAddr, Fingerprint)> {
    let (address, fingerprint) = line.split_once(' ')?;
    Some((address.parse().ok()?, fingerprint.trim().parse().ok()?))
}

/// The certificate that a server must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The one of the fingerprint that the user has named, or else the one that is known, or else, for the first time, any.
    User {
        /// Named by the user.
        named: Option<Fingerprint>,
        /// The fingerprints that are remembered.
        servers: KnownServers,
    },
    /// The one of this fingerprint, which the directory of the same broadcaster has shown.
    Directory(Fingerprint),
}

/// Why a connection is not secure.
#[derive(Debug, thiserror::Error)]
pub enum InsecureError {
    /// The server shows another certificate than before.
    #[error(
        "the server at {address} shows another certificate than before, of the fingerprint {shown}: somebody may be between you \
         and it. If the broadcaster prints this fingerprint when it starts, its certificate is new: pass --fingerprint {shown} once"
    )]
    Changed {
        /// The server.
        address: SocketAddr,
        /// The fingerprint that it shows.
        shown: Fingerprint,
    },
    /// The server does not show the certificate that the user named.
    #[error(
        "the server at {address} shows a certificate of the fingerprint {shown}, and not the one of --fingerprint: somebody may be \
         between you and it"
    )]
    NotNamed {
        /// The server.
        address: SocketAddr,
        /// The fingerprint that it shows.
        shown: Fingerprint,
    },
    /// The server does not show the certificate of its directory.
    #[error(
        "the server at {address} shows a certificate of the fingerprint {shown}, and not that of the directory: somebody may be \
         between you and it"
    )]
    NotOfDirectory {
        /// The server.
        address: SocketAddr,
        /// The fingerprint that it shows.
        shown: Fingerprint,
    },
    /// There is no handshake.
    #[error(
        "the server at {address} does not speak TLS as we do: {reason}. Is `tls` on in its line-up, and is this the port?"
    )]
    NoTls {
        /// The server.
        address: SocketAddr,
        /// The reason that the handshake failed.
        reason: io::Error,
    },
}

/// Finishes the handshake of a connection to `address`. Its caller puts a deadline on it. The server is trusted by the fingerprint
/// that the user has `named`, or else by the one that is known. One that is trusted for the first time is told to the user on
/// stderr.
///
/// # Errors
/// The server does not speak TLS, or it shows the wrong certificate.
pub(crate) async fn secure(
    tcp: TcpStream,
    address: SocketAddr,
    named: Option<Fingerprint>,
    servers: &KnownServers,
) -> Result<TlsStream<TcpStream>, InsecureError> {
    let trust = Trust::User { named, servers: servers.clone() };
    let handshake = Handshake::with(address, &trust)?;
    let connected = TlsConnector::from(handshake.config.clone()).connect(handshake.name(), tcp).await;
    handshake.finish(connected)
}

/// As [`secure`], on a connection that blocks, with the deadlines that it has.
///
/// # Errors
/// As [`secure`].
#[cfg(feature = "viewer")]
pub(crate) fn secure_blocking(
    mut tcp: std::net::TcpStream,
    address: SocketAddr,
    trust: &Trust,
) -> Result<rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>, InsecureError> {
    let handshake = Handshake::with(address, trust)?;
    let connect = || {
        let session = rustls::ClientConnection::new(handshake.config.clone(), handshake.name());
        let mut session = session.map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(rustls::StreamOwned::new(session, tcp))
    };
    let connected = connect();
    handshake.finish(connected)
}

/// A handshake with a server, before it and after it.
struct Handshake {
    address: SocketAddr,
    trust: Trust,
    /// The fingerprint that is known.
    known: Option<Fingerprint>,
    verifier: Arc<PinVerifier>,
    config: Arc<ClientConfig>,
}

impl Handshake {
    fn with(address: SocketAddr, trust: &Trust) -> Result<Handshake, InsecureError> {
        let (expected, known) = match trust {
            Trust::User { named, servers } => {
                let known = servers.get(address);
                (named.or(known), known)
            }
            Trust::Directory(fingerprint) => (Some(*fingerprint), None),
        };
        let verifier = Arc::new(PinVerifier { expected, shown: Mutex::default(), provider: provider() });
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| InsecureError::NoTls { address, reason: io::Error::other(error) })?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        Ok(Handshake { address, trust: trust.clone(), known, verifier, config: Arc::new(config) })
    }

    fn name(&self) -> ServerName<'static> {
        ServerName::IpAddress(self.address.ip().to_canonical().into())
    }

    /// The verdict on the certificate that the server has shown. Remembers a certificate that is trusted.
    fn finish<T>(self, connected: io::Result<T>) -> Result<T, InsecureError> {
        let Handshake { address, trust, known, verifier, .. } = self;
        let shown = *verifier.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = match (connected, shown) {
            (Ok(stream), _) => stream,
            (Err(_), Some(shown)) if verifier.expected.is_some_and(|expected| expected != shown) => {
                return Err(match trust {
                    Trust::User { named: Some(_), .. } => InsecureError::NotNamed { address, shown },
                    Trust::User { named: None, .. } => InsecureError::Changed { address, shown },
                    Trust::Directory(_) => InsecureError::NotOfDirectory { address, shown },
                });
            }
            (Err(reason), _) => return Err(InsecureError::NoTls { address, reason }),
        };
        if let (Trust::User { named, servers }, Some(shown)) =
            (trust, shown.filter(|&shown| known != Some(shown)))
        {
            let remembered = servers.remember(address, shown);
            if named.is_none() {
                eprintln!(
                    "the server at {address} is trusted from now on; its certificate has the fingerprint {shown}"
                );
            }
            if let Err(error) = remembered {
                eprintln!("the fingerprint of {address} cannot be remembered: {error}");
            }
        }
        Ok(stream)
    }
}

/// Accepts the certificate that is expected, whichever authority has signed it, and notes the one that was shown.
#[derive(Debug)]
struct PinVerifier {
    /// `None`: any.
    expected: Option<Fingerprint>,
    shown: Mutex<Option<Fingerprint>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Fingerprint::of(certificate);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        if self.expected.is_none_or(|expected| expected == shown) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
