//! Who may come in: anyone, anyone on this machine, or whoever has a token.
//!
//! Which of these a listening address calls for is the command line's to decide.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use base64::Engine;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Settings;
use super::grant::Grant;
use super::rate::{Client, Rates};
use super::reply::Refusal;

/// Who may come in.
#[derive(Debug, Clone)]
pub enum Access {
    /// Whoever reaches the port.
    Open,
    /// Whoever reaches the port and calls this machine by address or `localhost`. A page from
    /// elsewhere that has its own name point here (DNS rebinding) is thereby refused.
    Local,
    /// Whoever sends `Authorization: Bearer` with the token, or the token as the password of
    /// `Authorization: Basic`, which is all that many WebDAV clients can send.
    Token(Token),
    /// The same with several tokens, each as far as it is good for.
    Tokens(Vec<Grant>),
}

/// A secret that lets its holder in. Only its hash is kept, and it is never printed.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// The text cannot be a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token has at least {} visible ASCII characters and no spaces; this one has not",
    Token::MIN_LEN
)]
pub struct TokenError;

impl Token {
    /// The fewest characters of a token.
    pub const MIN_LEN: usize = 16;

    /// Takes a text as a token.
    ///
    /// # Errors
    /// [`TokenError`] if it is too short or cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if text.len() < Self::MIN_LEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError);
        }
        Ok(Self(Sha256::digest(text).into()))
    }

    /// Compares in a time that tells nothing about where, or by how much, the text differs.
    fn is(&self, text: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(text).into();
        self.0.ct_eq(&given).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Where a request comes from, as the socket tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// What is asked of every request before anything is looked up.
pub(super) struct Gate {
    access: Access,
    rates: Option<Rates>,
}

impl Gate {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { access: settings.access.clone(), rates: settings.rate.map(Rates::new) }
    }

    /// Why the request does not come in, if so.
    pub(super) fn refuses(&self, request: &Request) -> Option<Refusal> {
        let holder = match &self.access {
            Access::Open | Access::Local => None,
            Access::Token(token) => shows(token, request).then_some(0),
            Access::Tokens(grants) => grants.iter().position(|grant| shows(&grant.token, request)),
        };
        if let Some(refusal) = self.rate(request, holder) {
            return Some(refusal);
        }
        match &self.access {
            Access::Open => None,
            Access::Local => (!calls_this_machine(request)).then(|| {
                Refusal::new(
                    StatusCode::FORBIDDEN,
                    "this store answers only to localhost and addresses of this machine",
                    "use http://127.0.0.1 in the address, or start the server with --token-file or --open",
                )
            }),
            Access::Token(_) => holder.is_none().then(|| unknown(request)),
            Access::Tokens(grants) => match holder.and_then(|holder| grants.get(holder)) {
                Some(grant) => grant.refuses(request),
                None => Some(unknown(request)),
            },
        }
    }

    /// Counts the request for whoever makes it, and refuses it if it is one too many.
    fn rate(&self, request: &Request, holder: Option<usize>) -> Option<Refusal> {
        let client = match (holder, request.extensions().get::<Peer>()) {
            (Some(holder), _) => Client::Holder(holder),
            (None, Some(Peer(address))) => Client::from(*address),
            (None, None) => Client::Anyone,
        };
        let wait = self.rates.as_ref()?.admit(client, Instant::now()).err()?;
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Some(
            Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "more requests came than this store lets one client make",
                "wait as long as the header retry-after says, in seconds; batches and larger pages need fewer requests",
            )
            .with(header::RETRY_AFTER, seconds.into()),
        )
    }
}

fn unknown(request: &Request) -> Refusal {
    // File managers ask for a password only when they are asked for one; a browser that is asked
    // would put a window of its own before the page.
    let challenge = if request.uri().path().starts_with("/dav") {
        "Basic realm=\"streamdb\", Bearer realm=\"streamdb\""
    } else {
        "Bearer realm=\"streamdb\""
    };
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "this store wants a token, and none or another one came",
        "send `Authorization: Bearer TOKEN`; `streamdb` takes it with --token-file",
    )
    .with(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn shows(token: &Token, request: &Request) -> bool {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        return false;
    };
    let value = value.as_bytes();
    if let Some((scheme, text)) = value.split_at_checked(7) {
        if scheme.eq_ignore_ascii_case(b"bearer ") {
            return token.is(text.trim_ascii());
        }
    }
    match value.split_at_checked(6) {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case(b"basic ") => {
            let pair = base64::engine::general_purpose::STANDARD.decode(text.trim_ascii());
            let pair = pair.unwrap_or_default();
            // Whatever the user is called.
            let password = pair.splitn(2, |byte| *byte == b':').nth(1);
            password.is_some_and(|password| token.is(password))
        }
        _ => false,
    }
}

fn calls_this_machine(request: &Request) -> bool {
    let host = match (request.headers().get(header::HOST), request.uri().authority()) {
        (Some(host), _) => host.to_str().ok(),
        // HTTP/2 tells it with the address.
        (None, Some(authority)) => Some(authority.as_str()),
        // Browsers always tell one; what does not is no page from elsewhere.
        (None, None) => return true,
    };
    let Some(host) = host else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_visible() {
        for text in ["", "short", "has a space in it", "0123456789abcde\n"] {
            assert!(Token::new(text).is_err(), "{text:?}");
        }
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        assert!(!token.is(b"0123456789abcdeg") && !token.is(b""));
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn only_this_machines_own_names_are_local() {
        let calls = |host: &str| {
            let request = Request::builder().header("host", host);
            calls_this_machine(&request.body(axum::body::Body::empty()).unwrap())
        };
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"] {
            assert!(calls(host), "{host}");
        }
        let request = Request::builder().uri("https://example.org/v1/objects");
        assert!(!calls_this_machine(&request.body(axum::body::Body::empty()).unwrap()));
        for host in ["example.org", "example.org:8080", "localhost.example.org", ""] {
            assert!(!calls(host), "{host}");
        }
    }
}
