//! Origins: scheme, host and port of a request, compared exactly.
//!
//! One strict reader for the pipeline file and for the URLs of guests, so that no two readers can disagree about where a
//! request goes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The longest name that DNS can hold.
const HOST_BYTES_MAX: usize = 253;

/// Where an HTTP request goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    /// `https`.
    pub secure: bool,
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// In lower case.
    Name(String),
    /// In its one form: an IPv4 address within IPv6 is the IPv4 address.
    Address(IpAddr),
}

impl Origin {
    /// `https://api.example.com`, `http://127.0.0.1:9009`.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (origin, rest) = Self::split(text)?;
        if rest.is_empty() || rest == "/" {
            return Ok(origin);
        }
        Err(format!(
            "an origin is a scheme, a host and a port, without a path: write `{origin}`"
        ))
    }

    /// The origin of a URL, and what follows it: nothing, or from the `/`, `?` or `#` on.
    ///
    /// # Errors
    /// What is wrong with the URL up to there.
    pub fn split(url: &str) -> Result<(Self, &str), String> {
        let lower = |prefix: &str| url.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix));
        let (secure, scheme) = match (lower("https://"), lower("http://")) {
            (true, _) => (true, "https://"),
            (_, true) => (false, "http://"),
            _ => return Err("it must begin with `https://` or `http://`".into()),
        };
        let rest = url.get(scheme.len()..).unwrap_or_default();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err("it may not hold a user or a password: put credentials into `headers` of the grant".into());
        }
        let (host, port) = host_and_port(authority)?;
        let port = match port {
            Some(port) => port
                .parse::<u16>()
                .ok()
                .filter(|number| *number > 0 && port.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| format!("`{port}` is no port"))?,
            None => default_port(secure),
        };
        Ok((Self { secure, host, port }, path))
    }

    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// As it stands in a `Host` header: without the scheme's own port.
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        };
        if self.port == default_port(self.secure) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn host_and_port(authority: &str) -> Result<(Host, Option<&str>), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or("`[` is not closed by `]`")?;
        let address: Ipv6Addr = address.parse().map_err(|_| format!("`{address}` is no IPv6 address"))?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(format!("`{after}` follows the address")),
        };
        return Ok((known_address(IpAddr::V6(address))?, port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    Ok((named_host(host)?, port))
}

fn named_host(host: &str) -> Result<Host, String> {
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return known_address(IpAddr::V4(address));
    }
    if host.is_empty() {
        return Err("it names no host".into());
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let labels = || host.split('.');
    if host.len() > HOST_BYTES_MAX || labels().any(|label| label.is_empty() || !label.bytes().all(legal)) {
        return Err(format!(
            "`{host}` is no host: letters, digits, `-` and `_`, with dots between (write other letters as punycode)"
        ));
    }
    // Resolvers read `127.1`, `2130706433` and `0x7f.1` as addresses.
    let last = labels().next_back().unwrap_or_default();
    let hex = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    if last.bytes().all(|b| b.is_ascii_digit()) || hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(format!("`{host}` is no host; write an address like `127.0.0.1`"));
    }
    Ok(Host::Name(host.to_ascii_lowercase()))
}

fn known_address(address: IpAddr) -> Result<Host, String> {
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("nobody can be asked at {address}"));
    }
    Ok(Host::Address(address))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_one_place() {
        let cases = [
            ("https://API.example.com", "https://api.example.com"),
            ("HTTPS://api.example.com:443/", "https://api.example.com"),
            ("http://api.example.com:443", "http://api.example.com:443"),
            ("http://127.0.0.1:9009", "http://127.0.0.1:9009"),
            ("http://[::ffff:127.0.0.1]:80", "http://127.0.0.1"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("http://risk_api:9009", "http://risk_api:9009"),
        ];
        for (text, form) in cases {
            assert_eq!(
                Origin::parse(text).map(|o| o.to_string()),
                Ok(form.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let cases = [
            "",
            "ftp://a",
            "https:/a",
            "//a",
            "https://",
            "https://:80",
            "http://a:0",
            "http://a:65536",
            "http://a:+80",
            "http://a:80:80",
            "http://a..b",
            "http://a.",
            "http://a b",
            "http://a\\@b",
            "http://a@b",
            "http://a:p@b",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.0.0.1",
            "http://0x7f000001",
            "http://1.2.3.4.5",
            "http://0.0.0.0",
            "http://[::]",
            "http://[::1%25lo]",
            "http://[::1",
            "http://[::1]x",
            "http://bücher.example",
            "http://a/path",
            "http://a?q",
            "http://a\n",
            "http://224.0.0.1",
        ];
        for text in cases {
            assert!(Origin::parse(text).is_err(), "{text:?} is read as an origin");
        }
    }

    #[test]
    fn a_url_is_its_origin_and_the_rest() {
        let split = |url| Origin::split(url).map(|(origin, rest)| (origin.to_string(), rest));
        assert_eq!(split("https://a.b/c?d#e"), Ok(("https://a.b".to_owned(), "/c?d#e")));
        assert_eq!(split("http://a?x=@b"), Ok(("http://a".to_owned(), "?x=@b")));
        assert!(split("http://a\\b/").is_err());
    }
}
