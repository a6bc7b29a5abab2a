//! `tls` of `[directory]`, `[rtsp]` and `[http]`, and `[tls]`: which connections are TLS, and the certificate that they show; and
//! `encrypt` of a station.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{Field, Section, kind, located};
use super::report::Report;
use super::sections::section;
use super::{CertificateSpec, StationSpec, World};
use crate::tls::Security;
use crate::wire::srtp::Profile;

impl Section<'_, '_> {
    /// The key `tls`.
    pub(super) fn security(&self, report: &mut Report<'_>) -> Security {
        let fix = "choose true (TLS only), \"both\" (TLS and plain connections, on the same port) or false";
        let security = match self.get("tls").map(Spanned::get_ref) {
            None => Field::Absent,
            Some(DeValue::Boolean(true)) => Field::Is(Security::Tls),
            Some(DeValue::Boolean(false)) => Field::Is(Security::Plain),
            Some(DeValue::String(text)) if text == "both" => Field::Is(Security::Both),
            Some(DeValue::String(_)) => self.wrong(report, "tls", format_args!("is not known; {fix}")),
            Some(other) => self.wrong(report, "tls", format_args!("is {}; {fix}", kind(other))),
        };
        security.value().unwrap_or_default()
    }
}

impl Section<'_, '_> {
    /// The key `encrypt`.
    pub(super) fn encrypt(&self, report: &mut Report<'_>) -> Field<Option<Profile>> {
        let fix = "choose true (for our viewer), \"compat\" (for FFmpeg and GStreamer too) or false";
        match self.get("encrypt").map(Spanned::get_ref) {
            None => Field::Absent,
            Some(DeValue::Boolean(true)) => Field::Is(Some(Profile::Gcm)),
            Some(DeValue::Boolean(false)) => Field::Is(None),
            Some(DeValue::String(text)) if text == "compat" => Field::Is(Some(Profile::CounterMode)),
            Some(DeValue::String(_)) => self.wrong(report, "encrypt", format_args!("is not known; {fix}")),
            Some(other) => self.wrong(report, "encrypt", format_args!("is {}; {fix}", kind(other))),
        }
    }
}

/// Reports an encrypted station if the directory tells its key to no client on another machine, for want of TLS.
pub(super) fn refuse_without_keys(
    stations: &[StationSpec],
    (directory, security): (SocketAddr, Security),
    report: &mut Report<'_>,
) {
    let Some(encrypted) = stations.iter().find(|station| station.encrypt.is_some()) else { return };
    if security == Security::Plain && !directory.ip().is_loopback() {
        report.fault_on(
            encrypted.line,
            format_args!(
                "station \"{}\" has `encrypt`, and the directory tells its key by TLS only; write tls = true under [directory]",
                encrypted.name
            ),
        );
    }
}

/// Reads `[tls]`. `is_on`: some output is served by TLS.
pub(super) fn certificate(
    root: &DeTable<'_>,
    report: &mut Report<'_>,
    folder: &Path,
    world: &World,
    is_on: bool,
) -> CertificateSpec {
    let made = CertificateSpec::Made { folder: world.state.as_ref().map(|state| state.join("tls")) };
    let section = section(root, "tls", report);
    let Some(section) = section else {
        if is_on && made == (CertificateSpec::Made { folder: None }) {
            let sentence = "TLS needs a certificate, and without a home folder none is made: name the files of one, `cert` and \
                            `key`, under [tls]";
            report.fault_of_file(sentence);
        }
        return made;
    };
    section.unknown_keys(report, &["cert", "key"], "[tls]");
    let cert = path(&section, report, "cert", "name the file of the certificate, in PEM", folder, world);
    let key = path(&section, report, "key", "name the file of the certificate's key, in PEM", folder, world);
    match (cert, key) {
        (Field::Is(certificate), Field::Is(key)) => return CertificateSpec::Files { certificate, key },
        (Field::Is(_), Field::Absent) => {
            section.missing(report, "key", "name the file of the certificate's key, in PEM")
        }
        (Field::Absent, Field::Is(_)) => {
            section.missing(report, "cert", "name the file of the certificate, in PEM")
        }
        _ => {}
    }
    made
}

/// The path of a file; a relative one starts at the folder of the line-up.
pub(super) fn path(
    section: &Section<'_, '_>,
    report: &mut Report<'_>,
    key: &str,
    fix: &str,
    folder: &Path,
    world: &World,
) -> Field<PathBuf> {
    section.text(report, key, fix).and_then(|text| {
        if text.is_empty() || text.chars().any(char::is_control) {
            return section.wrong(report, key, format_args!("is not a path; {fix}"));
        }
        match located(text, folder, world) {
            Ok(path) => Field::Is(path),
            Err(sentence) => section.wrong(report, key, sentence),
        }
    })
}
