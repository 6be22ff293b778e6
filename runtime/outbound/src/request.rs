//! A guest's request, checked and made ready for its grant.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use sandbox::{Cause, Problem, Request};
use topology::{HeaderPart, HttpGrant, Origin};

use crate::secrets::Secrets;

/// Of one request: far beyond what APIs take.
const URL_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 32 << 10;

const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// The host writes them, or they would change how the message is cut.
const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a guest may give without the origin that it was meant for seeing to it.
const CREDENTIALS: [&str; 2] = ["authorization", "cookie"];

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(Cause::InvalidRequest, message)
}

/// Where a request goes: an origin of the list, and the path from the `/` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub origin: Origin,
    pub path: String,
}

impl Target {
    /// `only`: the step's origin when it has one, for URLs without.
    pub(crate) fn read(url: &str, only: Option<&Origin>) -> Result<Self, Problem> {
        if url.len() > URL_BYTES_MAX {
            return Err(invalid(format!("a URL has at most {URL_BYTES_MAX} bytes")));
        }
        let relative = url.starts_with('/') && !url.starts_with("//");
        let (origin, rest) = match (relative, only) {
            (true, Some(origin)) => (origin.clone(), url),
            (true, None) => {
                let message = format!(
                    "`{}` names no origin, and the step has several grants of `http`",
                    shown(url)
                );
                return Err(invalid(message));
            }
            (false, _) => Origin::split(url).map_err(|why| invalid(format!("the URL `{}`: {why}", shown(url))))?,
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let path = if rest.starts_with('/') {
            rest.to_owned()
        } else {
            format!("/{rest}")
        };
        // `Uri` lets more through than a request line may hold.
        if !path.bytes().all(|b| (b'!'..=b'~').contains(&b)) {
            let message = format!(
                "the URL `{}` must be ASCII without spaces: percent-encode it",
                shown(url)
            );
            return Err(invalid(message));
        }
        Ok(Self { origin, path })
    }

    /// Where a redirect leads; `location` may be relative.
    pub(crate) fn redirected(&self, location: &str) -> Result<Self, Problem> {
        let location = location.trim();
        if let Some(rest) = location.strip_prefix("//") {
            return Self::read(&format!("{}://{rest}", self.origin.scheme()), None);
        }
        let has_scheme = location.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
        });
        if location.starts_with('/') || has_scheme {
            return Self::read(location, Some(&self.origin));
        }
        let (before, _) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let path = match location.starts_with('?') {
            true => format!("{before}{location}"),
            false => {
                let folder = before.rfind('/').and_then(|at| before.get(..=at)).unwrap_or("/");
                format!("{folder}{location}")
            }
        };
        Self::read(&path, Some(&self.origin))
    }

    pub(crate) fn url(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }
}

/// A guest's text in a message: short, and in one line.
fn shown(text: &str) -> String {
    const SHOWN: usize = 200;
    let mut short: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}

/// A request without its target: what a redirect takes along.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Message {
    pub(crate) fn read(request: Request) -> Result<Self, Problem> {
        let known = METHODS.iter().find(|method| method.as_str() == request.method);
        let method = known.cloned().ok_or_else(|| {
            let words: Vec<&str> = METHODS.iter().map(Method::as_str).collect();
            invalid(format!(
                "the method `{}` is none of {}",
                shown(&request.method),
                words.join(", ")
            ))
        })?;
        Ok(Self {
            method,
            headers: headers(request.headers)?,
            body: Bytes::from(request.body),
        })
    }

    /// To another origin: without what was meant for the first.
    pub(crate) fn without_credentials(&mut self) {
        for name in CREDENTIALS {
            self.headers.remove(name);
        }
    }

    /// The message for one grant, with the headers that it adds, and the secrets in them.
    pub(crate) fn with_grant(
        &self,
        target: &Target,
        grant: &HttpGrant,
        secrets: &Secrets,
    ) -> Result<(http::Request<Full<Bytes>>, Vec<Injected>), Problem> {
        if self.body.len() as u64 > grant.request_bytes {
            let message = format!(
                "the body has {} bytes, and {} takes at most {} (`request-bytes`)",
                self.body.len(),
                grant.origin,
                grant.request_bytes
            );
            return Err(Problem::new(Cause::TooLarge, message));
        }
        let mut headers = self.headers.clone();
        let mut injected = Vec::new();
        for (name, parts) in &grant.headers {
            let name: HeaderName = name.parse().map_err(|_| invalid(format!("`{name}` is no header")))?;
            if headers.contains_key(&name) {
                let message = format!(
                    "the grant for {} gives the header `{name}`, a module may not",
                    grant.origin
                );
                return Err(invalid(message));
            }
            headers.insert(name, value(parts, secrets, &mut injected)?);
        }
        let uri: Uri = target
            .url()
            .parse()
            .map_err(|e| invalid(format!("the URL `{}`: {e}", shown(&target.url()))))?;
        let mut request = http::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok((request, injected))
    }
}

/// A secret that a request carries.
pub(crate) struct Injected {
    pub name: String,
    pub value: Arc<str>,
}

fn value(parts: &[HeaderPart], secrets: &Secrets, injected: &mut Vec<Injected>) -> Result<HeaderValue, Problem> {
    let mut text = String::new();
    for part in parts {
        match part {
            HeaderPart::Text(part) => text.push_str(part),
            HeaderPart::Secret(name) => {
                // It may be there again in a moment: a rotation, a volume that is not mounted yet.
                let missing = |message| Problem {
                    cause: Cause::Other,
                    transient: true,
                    message,
                };
                let value = secrets.get(name).map_err(missing)?;
                text.push_str(&value);
                injected.push(Injected {
                    name: name.clone(),
                    value,
                });
            }
        }
    }
    let mut value = HeaderValue::from_str(&text).map_err(|_| invalid("a header of the grant cannot be sent"))?;
    value.set_sensitive(!injected.is_empty());
    Ok(value)
}

fn headers(given: Vec<(String, Vec<u8>)>) -> Result<HeaderMap, Problem> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        let message = format!("a request has at most {HEADERS_MAX} headers of {HEADER_BYTES_MAX} bytes together");
        return Err(invalid(message));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        if OF_THE_CONNECTION.contains(&lower.as_str()) || lower.starts_with("proxy-") {
            return Err(invalid(format!(
                "the header `{lower}` belongs to the connection, and the host writes it"
            )));
        }
        let name: HeaderName = lower
            .parse()
            .map_err(|_| invalid(format!("`{}` is no name of a header", shown(&name))))?;
        let value = HeaderValue::from_bytes(&value)
            .map_err(|_| invalid(format!("the value of header `{name}` holds bytes that no header can")))?;
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn only() -> Origin {
        Origin::parse("https://a.example").unwrap()
    }

    #[test]
    fn a_url_is_taken_apart_in_one_way() {
        let url = |text: &str| Target::read(text, Some(&only())).map(|target| target.url());
        let cases = [
            ("/x?q=1#frag", "https://a.example/x?q=1"),
            ("https://A.example:443", "https://a.example/"),
            ("https://a.example?x=/", "https://a.example/?x=/"),
            ("http://b.example:81/%20", "http://b.example:81/%20"),
        ];
        for (text, expected) in cases {
            assert_eq!(url(text).unwrap(), expected);
        }
        for text in [
            "//b.example/x",
            "x",
            "https://a.example/ü",
            "https://a.example/a b",
            "https://a@b/",
            "/a\r\nb: c",
        ] {
            assert_eq!(url(text).unwrap_err().cause, Cause::InvalidRequest, "{text}");
        }
        assert!(Target::read("/x", None).is_err());
    }

    #[test]
    fn redirects_are_resolved_against_where_they_come_from() {
        let from = Target::read("/a/b?c", Some(&only())).unwrap();
        let cases = [
            ("/x", "https://a.example/x"),
            ("x", "https://a.example/a/x"),
            ("?y", "https://a.example/a/b?y"),
            ("//b.example/x", "https://b.example/x"),
            ("http://b.example", "http://b.example/"),
        ];
        for (location, expected) in cases {
            assert_eq!(from.redirected(location).unwrap().url(), expected, "{location}");
        }
        for location in ["ftp://a/x", "javascript:alert(1)", "https://u:p@b.example"] {
            assert!(from.redirected(location).is_err(), "{location}");
        }
    }

    #[test]
    fn headers_of_the_connection_are_the_hosts() {
        for name in [
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Proxy-Authorization",
            "a b",
            "",
        ] {
            assert!(headers(vec![(name.into(), b"x".to_vec())]).is_err(), "{name}");
        }
        assert!(headers(vec![("x-a".into(), b"a\r\nb".to_vec())]).is_err());
        assert_eq!(headers(vec![("X-A".into(), b"a".to_vec())]).unwrap().len(), 1);
    }
}
