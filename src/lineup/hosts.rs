//! `hosts` of `[http]`: the names by which clients may address the web, besides this machine's own.

use std::net::IpAddr;

use toml::de::DeValue;

use super::fields::{Section, kind};
use super::report::Report;

/// Reads the list. Each entry is in lower case and without a dot at its end, or an address without brackets.
pub(super) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Vec<String> {
    let fix = "write a list of host names, as in [\"tv.example.org\"]";
    let Some(value) = section.get("hosts") else { return Vec::new() };
    let entries = match value.get_ref() {
        DeValue::Array(list) => list.iter().collect(),
        DeValue::String(_) => vec![value],
        other => {
            section.wrong::<()>(report, "hosts", format_args!("is {}; {fix}", kind(other)));
            return Vec::new();
        }
    };
    section.texts(report, "hosts", entries, fix, |text| host(text).map_err(|sentence| format!(" {sentence}")))
}

/// One entry, or what is wrong with it.
fn host(text: &str) -> Result<String, &'static str> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address.to_canonical().to_string());
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && host_name(host.trim_start_matches('[').trim_end_matches(']'))
    {
        return Err("has a port; leave the port out: a host name holds for every port");
    }
    if text.contains("://") {
        return Err("is a URL; write the host name alone, as in \"tv.example.org\"");
    }
    if text.contains('*') {
        return Err("has a *; write each host name in full, as in \"tv.example.org\"");
    }
    if !text.is_ascii() {
        return Err("is not ASCII; write the name as browsers send it, as in \"xn--bcher-kva.example\"");
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if !host_name(name) {
        return Err("is not a host name; write one, as in \"tv.example.org\"");
    }
    Ok(name.to_ascii_lowercase())
}

/// Whether `text` is a host name or an address: RFC 1123 section 2.1, and the underscores that are in use.
fn host_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(label))
}
