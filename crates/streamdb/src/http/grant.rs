//! What a token lets its holder do: read or also write, everywhere or below a prefix.
//!
//! Requests are judged by method and address alone, before anything is looked up; what is not known
//! to stay below the prefix is refused to a token that has one.

use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use super::access::{Token, TokenError};
use super::reply::Refusal;
use crate::{Amount, AmountError};

/// A token and what it is good for.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The secret.
    pub token: Token,
    /// Whether its holder may put and delete.
    pub write: bool,
    /// What the keys must begin with; empty for all keys.
    pub prefix: String,
    /// The most bytes that values below the prefix may have together, whoever puts them.
    pub quota: Option<u64>,
}

/// A token file cannot be read as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// There is no token in it.
    #[error("there is no token in it")]
    Empty,
    /// What stands for the token is none.
    #[error("line {line}: {source}")]
    Token {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: TokenError,
    },
    /// The second word is no scope, or there are more than four words.
    #[error("line {line} is not TOKEN, or followed by read|write, or by that, PREFIX and QUOTA")]
    Scope {
        /// Counted from 1.
        line: usize,
    },
    /// The quota is no amount of bytes.
    #[error("line {line}: {source}")]
    Quota {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: AmountError,
    },
}

impl Grant {
    /// Reads a token file: a line each, `TOKEN [read|write [PREFIX [QUOTA]]]`, for example
    /// `0123456789abcdef write takes/ 10G`. A token alone is good for everything; empty lines and
    /// those that begin with `#` are passed over.
    ///
    /// # Errors
    /// [`GrantError`] names the line, and never what is in it.
    pub fn parse(text: &str) -> Result<Vec<Self>, GrantError> {
        let mut grants = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line_number = at + 1;
            let mut words = line.split_whitespace();
            let Some(token) = words.next().filter(|word| !word.starts_with('#')) else {
                continue;
            };
            let write = match words.next() {
                None | Some("write") => true,
                Some("read") => false,
                Some(_) => return Err(GrantError::Scope { line: line_number }),
            };
            let prefix = words.next().unwrap_or_default().to_owned();
            let quota = words.next().map(str::parse::<Amount>).transpose();
            let quota = quota.map_err(|source| GrantError::Quota { line: line_number, source })?;
            if words.next().is_some() {
                return Err(GrantError::Scope { line: line_number });
            }
            let token = Token::new(token)
                .map_err(|source| GrantError::Token { line: line_number, source })?;
            grants.push(Self { token, write, prefix, quota: quota.map(|quota| quota.0) });
        }
        if grants.is_empty() { Err(GrantError::Empty) } else { Ok(grants) }
    }

    /// Why the holder may not do what a request asks, if so.
    pub(super) fn refuses(&self, request: &Request) -> Option<Refusal> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
            || request.method().as_str() == "PROPFIND";
        if !self.write && !reads {
            return Some(Refusal::new(
                StatusCode::FORBIDDEN,
                "this token is for reading only",
                "use a token with the scope `write`",
            ));
        }
        if self.prefix.is_empty() || self.covers(request) {
            return None;
        }
        Some(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("this token is only good for keys that begin with {:?}", self.prefix),
            "name such a key, list with such a prefix, or use another token",
        ))
    }

    fn covers(&self, request: &Request) -> bool {
        let uri = request.uri();
        let path = uri.path();
        let sources = request.headers().iter().filter(|(name, _)| {
            name.as_str().starts_with("streamdb-") && name.as_str().ends_with("-from")
        });
        // A value made of another one reads that too.
        for (_, value) in sources {
            if !value.to_str().is_ok_and(|value| self.has(&decoded(value))) {
                return false;
            }
        }
        if matches!(path, "/v1/objects" | "/v1/objects/") {
            return self.has(&listed(uri));
        }
        if let Some(key) = path.strip_prefix("/v1/objects/") {
            return self.has(&decoded(key));
        }
        let destination = request
            .headers()
            .get("destination")
            .map(|to| to.to_str().ok().and_then(|to| to.parse::<Uri>().ok()).unwrap_or_default());
        self.has_file(path) && destination.is_none_or(|to| self.has_file(to.path()))
    }

    fn has(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
    }

    /// Whether a WebDAV address stays below the prefix, or is its very collection.
    fn has_file(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix("/dav/") else {
            return false;
        };
        let path = decoded(path);
        let path = path.strip_suffix('/').unwrap_or(&path);
        // The protocol's crate resolves these, so they could lead elsewhere.
        let plain = path.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        plain && (self.has(path) || format!("{path}/") == self.prefix)
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The prefix that a listing asks for.
fn listed(uri: &Uri) -> String {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let mut prefixes = pairs.filter(|(name, _)| decoded(name) == "prefix");
    let prefix = prefixes.next().map(|(_, value)| decoded(&value.replace('+', " ")));
    prefix.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn token_files_are_read_line_by_line() {
        let text = "# ours\n0123456789abcdef\n\n0123456789abcdeg read takes/\n";
        let grants = Grant::parse(text).unwrap();
        let told: Vec<_> = grants.iter().map(|grant| (grant.write, &*grant.prefix)).collect();
        assert_eq!(told, [(true, ""), (false, "takes/")]);
        assert_eq!(Grant::parse("# none\n").unwrap_err(), GrantError::Empty);
        assert!(matches!(Grant::parse("\nshort"), Err(GrantError::Token { line: 2, .. })));
        let quota = &Grant::parse("0123456789abcdef write takes/ 2K").unwrap()[0].quota;
        assert_eq!(*quota, Some(2048));
        let wrong = Grant::parse("0123456789abcdef write takes/ much");
        assert!(matches!(wrong, Err(GrantError::Quota { line: 1, .. })));
        for wrong in ["0123456789abcdef all", "0123456789abcdef read a 1 b"] {
            assert_eq!(Grant::parse(wrong).unwrap_err(), GrantError::Scope { line: 1 });
        }
    }

    #[test]
    fn a_prefix_is_not_left_by_any_address() {
        let grant = &Grant::parse("0123456789abcdef write takes/").unwrap()[0];
        let asks = |line: &str, header: (&str, &str)| {
            let (method, uri) = line.split_once(' ').unwrap();
            let request = Request::builder().method(method).uri(uri).header(header.0, header.1);
            grant.refuses(&request.body(Body::empty()).unwrap()).is_none()
        };
        let none = ("x", "x");
        for line in [
            "PUT /v1/objects/takes/1",
            "GET /v1/objects/takes%2F1",
            "GET /v1/objects?suffix=.wav&prefix=takes%2Fa",
            "PROPFIND /dav/takes/",
            "PROPFIND /dav/takes",
            "DELETE /dav/takes/1",
        ] {
            assert!(asks(line, none), "{line}");
        }
        for line in [
            "GET /v1/objects/other",
            "GET /v1/objects/take",
            "GET /v1/objects",
            "GET /v1/objects?suffix=takes/",
            "GET /v1/objects?prefix=a&prefix=takes/",
            "POST /v1/batch",
            "GET /v1/backup",
            "PROPFIND /dav/",
            "PROPFIND /dav",
            "GET /dav/takes/../other",
            "GET /dav/takes/%2e%2e/other",
            "GET /dav/takes//x",
        ] {
            assert!(!asks(line, none), "{line}");
        }
        let moves = "MOVE /dav/takes/1";
        assert!(asks(moves, ("destination", "http://localhost:1/dav/takes/2")));
        assert!(!asks(moves, ("destination", "http://localhost:1/dav/other")));
        assert!(!asks(moves, ("destination", "nonsense nonsense")));
        let put = "PUT /v1/objects/takes/2";
        assert!(asks(put, ("streamdb-copy-from", "takes/1")));
        assert!(!asks(put, ("streamdb-copy-from", "other")));
    }
}
