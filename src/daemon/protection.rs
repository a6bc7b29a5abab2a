//! The protection of a broadcaster: its certificate, and its tokens and passwords. Their files are followed while they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::access::Gatekeeper;
use crate::headend::HeadEnd;
use crate::lineup::{CertificateSpec, Lineup};
use crate::tls::identity::{Identity, files_in, make};
use crate::tls::pin::Fingerprint;
use crate::tls::{Door, Security};

/// How often the files are looked at. A look takes some microseconds.
const LOOK: Duration = Duration::from_secs(1);

/// The protection of a broadcaster's connections.
pub(super) struct Protection {
    /// `None` if no connection is TLS.
    identity: Option<Identity>,
    /// Lets clients in.
    pub(super) gatekeeper: Arc<Gatekeeper>,
}

impl Protection {
    /// Reads the certificate of `lineup`, or makes one, and tells its fingerprint.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    pub(super) fn open(lineup: &Lineup) -> Result<Protection, String> {
        let gatekeeper = Arc::new(gatekeeper(lineup)?);
        if !lineup.security.is_on() {
            return Ok(Protection { identity: None, gatekeeper });
        }
        let (certificate, key) = match &lineup.security.certificate {
            CertificateSpec::Files { certificate, key } => (certificate.clone(), key.clone()),
            CertificateSpec::Made { folder } => {
                let folder = folder.clone().ok_or("there is no folder for a certificate")?;
                let cannot = |error| format!("cannot make a certificate in {}: {error}", folder.display());
                make(&folder, names(lineup)).map_err(cannot)?
            }
        };
        let (identity, fingerprint) = Identity::open(&certificate, &key)?;
        info!("tls: the certificate in {} has the fingerprint {fingerprint}", certificate.display());
        Ok(Protection { identity: Some(identity), gatekeeper })
    }

    /// The door of a listener. `refusal` is its answer to a client that speaks no TLS where it must.
    pub(super) fn door(&self, name: &'static str, security: Security, refusal: Vec<u8>) -> Door {
        Door::new(name, security, self.identity.as_ref().map(Identity::config), refusal)
    }

    /// Follows the files for ever. A wrong one changes nothing. When somebody is let in no more, the stations that are encrypted for a few
    /// take other keys.
    #[expect(clippy::disallowed_methods, reason = "a shell: it looks again and again")]
    pub(super) async fn keep_current(self, head_end: Arc<HeadEnd>) {
        let protection = Arc::new(self);
        if protection.identity.is_none() && protection.gatekeeper.file().is_none() {
            return;
        }
        loop {
            sleep(LOOK).await;
            let looked = protection.clone();
            // A panic has said why.
            if let Ok(true) = spawn_blocking(move || looked.look()).await {
                let stations = head_end.stations();
                let closed = stations.values().filter(|station| !station.spec().access.is_empty());
                closed.for_each(|station| station.keys.wish_for_others());
            }
        }
    }

    /// Reads the files that have changed. Returns whether somebody is let in no more. Blocks.
    fn look(&self) -> bool {
        let somebody_is_out = self.gatekeeper.refresh();
        match self.identity.as_ref().and_then(Identity::refresh) {
            Some(Ok(fingerprint)) => {
                info!("tls: the certificate has changed; its fingerprint is {fingerprint}")
            }
            Some(Err(sentence)) => warn!("tls: the certificate stays as it was: {sentence}"),
            None => {}
        }
        somebody_is_out
    }
}

/// The files of the certificate of `lineup` and of its key; `None` if no connection is TLS.
fn files(lineup: &Lineup) -> Option<(PathBuf, PathBuf)> {
    let is_on = lineup.security.is_on();
    match &lineup.security.certificate {
        CertificateSpec::Files { certificate, key } => Some((certificate.clone(), key.clone())),
        CertificateSpec::Made { folder } => folder.as_deref().map(files_in),
    }
    .filter(|_| is_on)
}

/// Lets in the tokens and passwords of the file of `lineup`.
fn gatekeeper(lineup: &Lineup) -> Result<Gatekeeper, String> {
    let Some(file) = &lineup.access else { return Ok(Gatekeeper::default()) };
    Gatekeeper::open(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Checks the files of `lineup`. Returns the fingerprint of its certificate. `None` if no connection is TLS, or if the certificate will be made at the first
/// start.
///
/// # Errors
/// A sentence that names the file and what is wrong with it.
pub fn check(lineup: &Lineup) -> Result<Option<Fingerprint>, String> {
    gatekeeper(lineup)?;
    let Some((certificate, key)) = files(lineup) else { return Ok(None) };
    let is_made = matches!(lineup.security.certificate, CertificateSpec::Made { .. });
    if is_made && !(certificate.exists() && key.exists()) {
        return Ok(None);
    }
    Identity::open(&certificate, &key).map(|(_, fingerprint)| Some(fingerprint))
}

/// The names and addresses by which clients know this machine.
fn names(lineup: &Lineup) -> Vec<String> {
    let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let plain = |name: &String| !name.is_empty() && name.is_ascii();
    let mut names: Vec<String> = ["localhost".into(), "127.0.0.1".into(), "::1".into()].into();
    names.extend([own.clone(), format!("{}.local", own.split('.').next().unwrap_or_default())]);
    names.extend(lineup.hosts.iter().cloned());
    for interface in lineup.interfaces.iter().filter(|interface| !interface.loopback) {
        names.extend(interface.v4.iter().map(ToString::to_string));
        names.extend(interface.v6.iter().map(ToString::to_string));
    }
    names.retain(plain);
    names.sort();
    names.dedup();
    names
}
