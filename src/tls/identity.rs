//! The certificate of a broadcaster and its key: read from files, and read again when these change, or made.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use super::pin::Fingerprint;
use super::provider;
use crate::private_file::{self, Stamp, stamp};

/// The names of the files that [`make`] makes.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// The certificate that a broadcaster shows, and its key.
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    config: watch::Sender<Arc<ServerConfig>>,
    /// The files as they were when they were read last.
    read: Mutex<Stamps>,
}

type Stamps = [Stamp; 2];

impl Identity {
    /// Reads the files, which are in PEM: the certificate, with those between it and its root behind it, and the key.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    pub fn open(certificate: &Path, key: &Path) -> Result<(Identity, Fingerprint), String> {
        let stamps = stamps(certificate, key);
        let (config, fingerprint) = load(certificate, key)?;
        let identity = Identity {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            config: watch::Sender::new(config),
            read: Mutex::new(stamps),
        };
        Ok((identity, fingerprint))
    }

    /// The newest configuration: a connection that arrives is served with it.
    pub(crate) fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// Reads the files again if they have changed; `None` if they have not. Connections that are open stay.
    ///
    /// # Errors
    /// As [`open`](Self::open). The old certificate then stays.
    pub fn refresh(&self) -> Option<Result<Fingerprint, String>> {
        let stamps = stamps(&self.certificate, &self.key);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *read, stamps) == stamps {
            return None;
        }
        Some(load(&self.certificate, &self.key).map(|(config, fingerprint)| {
            self.config.send_replace(config);
            fingerprint
        }))
    }
}

fn stamps(certificate: &Path, key: &Path) -> Stamps {
    [certificate, key].map(stamp)
}

fn load(certificate: &Path, key: &Path) -> Result<(Arc<ServerConfig>, Fingerprint), String> {
    let wrong = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let read = |path: &Path, bytes: io::Result<Vec<u8>>| bytes.map_err(|error| wrong(path, &error));
    let chain = read(certificate, fs::read(certificate))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.map_err(|error| wrong(certificate, &format_args!("it is not PEM: {error}")))?;
    let first = chain.first().ok_or_else(|| wrong(certificate, &"it has no certificate (PEM)"))?;
    let fingerprint = Fingerprint::of(first);
    let secret = read(key, private_file::read(key))?;
    let secret = PrivateKeyDer::from_pem_slice(&secret)
        .map_err(|_| wrong(key, &"it has no private key (PEM, without a password)"))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, secret);
    let config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            wrong(key, &format_args!("it is not the key of the certificate in {}", certificate.display()))
        }
        error => wrong(certificate, &error),
    })?;
    Ok((Arc::new(config), fingerprint))
}

/// The certificate and the key in `folder`. If they are not there, they are made, for a machine of these names and addresses; the
/// certificate then signs itself, and never expires. Returns their files.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn make(folder: &Path, names: Vec<String>) -> io::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = files_in(folder);
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (certificate_text, key_text) = self_signed(names).map_err(io::Error::other)?;
    // The key comes first: a certificate without its key would be taken for complete.
    private_file::replace(&key, key_text.as_bytes())?;
    private_file::replace(&certificate, certificate_text.as_bytes())?;
    Ok((certificate, key))
}

/// A certificate for these names and addresses, which signs itself, and its key, in PEM.
fn self_signed(names: Vec<String>) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "stationcast");
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// The files of a certificate that is made, and its key.
pub fn files_in(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join(CERTIFICATE), folder.join(KEY))
}
