//! The host of a request: every request names one, as RFC 9112 section 3.2 has it, and it is one of this machine's.
//!
//! A page of another site can make its own name resolve to this machine (DNS rebinding). The browser then takes the API for
//! a part of that site, and lets the page read it. But the request names the other site as its host.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Extension, Request, State};
use axum::http::header::{ALLOW, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use super::Refusal;
use super::server::Admitted;
use crate::interface::netlink::Interfaces;
use crate::log::RateLimit;

/// Methods that every resource has.
pub(super) const METHODS: &str = "GET, HEAD, OPTIONS";

/// The names and addresses by which clients may address this machine.
pub(crate) struct Hosts {
    /// Its own names, in lower case, without a dot at the end.
    names: BTreeSet<String>,
    /// Further names and addresses, which a reload may change.
    more: watch::Receiver<Vec<String>>,
    interfaces: Interfaces,
    /// Limits the log lines about requests for other hosts.
    refused: Mutex<RateLimit>,
}

impl Hosts {
    /// This machine's own names and those of `more`, which are in lower case and have no dot at the end; the addresses of its
    /// `interfaces` and those of `more`.
    pub(crate) fn of_this_machine(more: watch::Receiver<Vec<String>>, interfaces: Interfaces) -> Hosts {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let own = rustix::system::uname();
        let names =
            own_names(&own.nodename().to_string_lossy(), &read("/etc/hosts"), &read("/etc/resolv.conf"));
        Hosts { names, more, interfaces, refused: Mutex::default() }
    }

    /// Whether `host` is this machine. `local` is the address that the client connected to.
    fn has(&self, host: &Authority, local: IpAddr) -> bool {
        let name = host.host();
        if let Ok(address) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            let address = address.to_canonical();
            return address == local
                || address.is_loopback()
                || address.is_unspecified()
                || self.more.borrow().iter().any(|host| host.parse() == Ok(address))
                || self.interfaces.borrow().iter().any(|interface| interface.has(address));
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        // RFC 6761 section 6.3: these never leave the client's machine.
        name == "localhost"
            || name.ends_with(".localhost")
            || self.names.contains(&name)
            || self.more.borrow().contains(&name)
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: names are asked for again after a time")]
    fn report(&self, admitted: &Admitted, host: &Authority) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = refused.note(Instant::now()) {
            info!(peer = %admitted.peer, count, "http: refused a request for host \"{host}\"; [http] hosts adds names");
        }
    }
}

/// This machine's names: its host name, the first part of it alone, in `.local` (mDNS), and in the domains that its
/// resolver searches; and the names that stand on one line with any of these in its hosts file, as the full one does. Other
/// names of the hosts file are not its own: lists of advertisers to block are kept there.
fn own_names(host_name: &str, hosts_file: &str, resolver_file: &str) -> BTreeSet<String> {
    let plain = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let whole = plain(host_name);
    let first = whole.split('.').next().unwrap_or_default().to_owned();
    if first.is_empty() {
        return BTreeSet::new();
    }
    let mut names = BTreeSet::from([whole, format!("{first}.local"), first.clone()]);
    for line in resolver_file.lines() {
        let mut words = line.split_whitespace();
        if matches!(words.next(), Some("search" | "domain")) {
            names.extend(
                words.filter(|&domain| domain != ".").map(|domain| format!("{first}.{}", plain(domain))),
            );
        }
    }
    for line in hosts_file.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let on_line: Vec<String> = line.split_whitespace().skip(1).map(plain).collect();
        if on_line.iter().any(|name| names.contains(name)) {
            names.extend(on_line);
        }
    }
    names
}

/// The host that a request names; `None` in a request by HTTP/1.0 that names none.
#[derive(Debug, Clone)]
pub(super) struct RequestHost(pub(super) Option<Authority>);

/// Refuses requests that name no host, several, or another one than this machine, and answers `OPTIONS *`. Gives the rest
/// their [`RequestHost`].
pub(super) async fn check(
    State(hosts): State<Arc<Hosts>>,
    Extension(admitted): Extension<Admitted>,
    mut request: Request,
    next: Next,
) -> Response {
    let host = match request_host(request.version(), request.uri(), request.headers()) {
        Ok(host) => host,
        Err(sentence) => return Refusal(StatusCode::BAD_REQUEST, sentence.into()).into_response(),
    };
    if let Some(host) = host.as_ref().filter(|host| !hosts.has(host, admitted.local)) {
        hosts.report(&admitted, host);
        let sentence = format!(
            "this machine is not known as {}: ask for one of its own addresses or names; `hosts` under [http] in the \
             line-up adds names",
            host.host()
        );
        return Refusal(StatusCode::MISDIRECTED_REQUEST, sentence).into_response();
    }
    if request.method() == Method::CONNECT {
        let refusal = Refusal(StatusCode::METHOD_NOT_ALLOWED, "this is not a proxy".into());
        return ([(ALLOW, METHODS)], refusal).into_response();
    }
    if request.uri().path() == "*" {
        return match *request.method() {
            Method::OPTIONS => [(ALLOW, METHODS)].into_response(),
            _ => Refusal(StatusCode::BAD_REQUEST, "* is for OPTIONS only".into()).into_response(),
        };
    }
    request.extensions_mut().insert(RequestHost(host));
    next.run(request).await
}

/// The host of a request, which its target names, if it is a whole URL, else its header; or what is wrong with it.
fn request_host(
    version: Version,
    target: &Uri,
    headers: &HeaderMap,
) -> Result<Option<Authority>, &'static str> {
    let mut given = headers.get_all(HOST).iter();
    let header = match (given.next(), given.next()) {
        (None, _) if version >= Version::HTTP_11 => return Err("a request by HTTP/1.1 needs a Host header"),
        (None, _) => None,
        (Some(_), Some(_)) => return Err("a request may have only one Host header"),
        (Some(host), None) => Some(host_of(host.as_bytes()).ok_or("the Host header names no host")?),
    };
    match target.authority() {
        None => Ok(header),
        Some(authority) => host_of(authority.as_str().as_bytes()).map(Some).ok_or("the URL names no host"),
    }
}

/// `bytes` as a host and perhaps a port.
fn host_of(bytes: &[u8]) -> Option<Authority> {
    let host = Authority::try_from(bytes).ok()?;
    let port = host.as_str().strip_prefix(host.host())?;
    let port = port.strip_prefix(':').unwrap_or(port);
    let right = port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    (right && !host.host().is_empty()).then_some(host)
}

/// Whether the page that sends the request, if it is a page, comes from `host`. Browsers let any page open a WebSocket to any
/// host, and name the page's host in `Origin` (RFC 6455 section 10.2).
pub(super) fn same_site(headers: &HeaderMap, host: &RequestHost) -> bool {
    let mut given = headers.get_all(ORIGIN).iter();
    let origin = match (given.next(), given.next()) {
        (None, _) => return true,
        (Some(origin), None) => origin,
        (Some(_), Some(_)) => return false,
    };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let (Some(origin), Some(host)) = (origin, &host.0) else { return false };
    let default = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
    origin
        .authority()
        .is_some_and(|origin| origin.host().eq_ignore_ascii_case(host.host()) && port(origin) == port(host))
}

/// For the fuzzer: the text has a target, a host and an origin, in a line each.
#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str) {
    let mut lines = text.split('\n');
    let mut value = || axum::http::HeaderValue::from_str(lines.next().unwrap_or_default()).ok();
    let (target, host, origin) = (value(), value(), value());
    let mut headers = HeaderMap::new();
    headers.extend(
        [(HOST, host), (ORIGIN, origin)].into_iter().filter_map(|(name, value)| Some((name, value?))),
    );
    let target = target.and_then(|target| Uri::try_from(target.as_bytes()).ok()).unwrap_or_default();
    for version in [Version::HTTP_10, Version::HTTP_11] {
        if let Ok(host) = request_host(version, &target, &headers) {
            let _ = same_site(&headers, &RequestHost(host));
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use tokio::sync::watch;

    use super::*;
    use crate::interface::Interface;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let name = axum::http::HeaderName::from_static(name);
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_request_names_one_host() {
        let host = |version, target: &str, hosts: &[&'static str]| {
            let host = request_host(version, &target.parse().unwrap(), &headers("host", hosts));
            host.map(|host| host.map(|host| host.as_str().to_owned()))
        };
        let is = |host: &str| Ok(Some(host.to_owned()));
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        assert_eq!(host(new, "/", &["tv:8088"]), is("tv:8088"));
        assert_eq!(host(new, "/", &["[2001:db8::7]:80"]), is("[2001:db8::7]:80"));
        assert_eq!(host(old, "/", &[]), Ok(None));
        assert_eq!(host(new, "/", &[]), Err("a request by HTTP/1.1 needs a Host header"));
        for version in [old, new] {
            assert_eq!(host(version, "/", &["tv", "tv"]), Err("a request may have only one Host header"));
            for wrong in ["", "a b", "user@a", "a\"b", "a:b", "a:99999", ":80", "a:80:80", "http://a", "a/"] {
                assert_eq!(host(version, "/", &[wrong]), Err("the Host header names no host"), "{wrong}");
            }
        }
        // RFC 9112 section 3.2.2: the target counts, and the header has to be there all the same.
        assert_eq!(host(new, "http://tv/wall", &["other"]), is("tv"));
        assert_eq!(host(new, "http://tv/wall", &[]), Err("a request by HTTP/1.1 needs a Host header"));
        assert_eq!(host(new, "http://user@tv/", &["tv"]), Err("the URL names no host"));
    }

    #[test]
    fn own_names_are_those_of_the_machine_and_no_other_of_its_hosts_file() {
        let hosts_file = "127.0.0.1 localhost\n127.0.1.1\tTower.example.org tower # alias\n\
                          127.0.0.1 ads.example.net\n::1 tower.local books.local\n#192.0.2.7 tower old";
        let names = own_names("Tower", hosts_file, "nameserver 192.0.2.1\nsearch lan Home.Arpa. .\n");
        let expected =
            ["books.local", "tower", "tower.example.org", "tower.home.arpa", "tower.lan", "tower.local"];
        assert_eq!(names.iter().collect::<Vec<_>>(), expected);
        assert_eq!(own_names("", "127.0.0.1  x", ""), BTreeSet::new());
        let whole = own_names("tower.example.org", "", "domain lan");
        assert_eq!(
            whole.iter().collect::<Vec<_>>(),
            ["tower", "tower.example.org", "tower.lan", "tower.local"]
        );
    }

    #[test]
    fn own_addresses_names_and_those_of_the_line_up_are_this_machine_and_no_others() {
        let eth0 = Interface {
            name: "eth0".into(),
            index: 2,
            mtu: 1500,
            up: true,
            loopback: false,
            v4: vec!["192.0.2.7".parse().unwrap()],
            v6: vec!["2001:db8::7".parse().unwrap()],
        };
        let (_current, interfaces) = watch::channel(vec![eth0].into());
        let (more, named) = watch::channel(["tv.example.org", "192.0.2.80"].map(str::to_owned).to_vec());
        let mut hosts = Hosts::of_this_machine(named, interfaces);
        hosts.names.insert("tower".into());
        let local: IpAddr = "198.51.100.4".parse().unwrap();
        let has = |host: &str| hosts.has(&host.parse().unwrap(), local);
        for own in [
            "198.51.100.4:8088",
            "192.0.2.7",
            "[2001:db8::7]:80",
            "[::ffff:192.0.2.7]",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]",
            "0.0.0.0:8088",
            "localhost",
            "LocalHost:8088",
            "tv.localhost",
            "tower",
            "TOWER.:80",
            "TV.example.org:443",
            "192.0.2.80",
        ] {
            assert!(has(own), "{own}");
        }
        for other in [
            "rebind.example",
            "tower.evil.example",
            "xtower",
            "192.0.2.8",
            "[2001:db8::8]",
            "localhost.evil.example",
            "evillocalhost",
            "example.org",
            "2130706433",
            "127.1",
        ] {
            assert!(!has(other), "{other}");
        }
        more.send_replace(vec!["neu.example.org".into()]);
        assert!(has("neu.example.org:80") && !has("TV.example.org:443") && !has("192.0.2.80"));
    }

    #[test]
    fn a_page_is_of_this_site_if_its_origin_is_the_host() {
        let same = |origins: &[&'static str], host: &str| {
            same_site(&headers("origin", origins), &RequestHost(Some(host.parse().unwrap())))
        };
        for (origin, host) in [
            ("http://tv:8088", "tv:8088"),
            ("http://TV", "tv:80"),
            ("https://tv", "tv"),
            ("https://tv:443", "tv"),
            ("http://[::1]:8088", "[::1]:8088"),
        ] {
            assert!(same(&[origin], host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://tv:8089", "tv:8088"),
            ("http://tv", "tv:8088"),
            ("https://tv", "tv:80"),
            ("http://elsewhere.example", "tv"),
            ("null", "tv"),
            ("", "tv"),
            ("tv", "tv"),
            ("ftp://tv", "tv"),
            ("http://elsewhere.example/tv", "tv"),
        ] {
            assert!(!same(&[origin], host), "{origin} at {host}");
        }
        assert!(same(&[], "tv"), "no page");
        assert!(!same(&["http://tv", "http://tv"], "tv"));
        assert!(!same_site(&headers("origin", &["http://tv"]), &RequestHost(None)));
    }
}
