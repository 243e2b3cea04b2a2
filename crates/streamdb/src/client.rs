//! The client's end of the HTTP door: addresses, the token, and refusals as failures of a verb.
//!
//! What is asked for is each verb's own.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use streamdb::Key;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::outcome::{Failure, Kind};
use crate::trust;

/// Everything but what an address may carry as it is; the slash keeps keys readable in logs.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'~');

/// Which server a verb talks to.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Address of the server
    #[arg(
        long,
        value_name = "URL",
        env = "STREAMDB_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    server: String,
    /// File with the token that the server wants
    #[arg(long, value_name = "FILE", env = "STREAMDB_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the certificates to trust instead of the system's, for https
    #[arg(long, value_name = "FILE", env = "STREAMDB_CACERT")]
    cacert: Option<PathBuf>,
}

/// A server, ready to be asked.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Server {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let base = self.server.trim_end_matches('/').to_owned();
        let secure = base.starts_with("https://");
        if !secure && !base.starts_with("http://") {
            return Err(Failure::new(
                Kind::Wrong,
                format!("{:?} is not an address that this client can reach", self.server),
                "give it as http://HOST:PORT or https://HOST:PORT",
            ));
        }
        let token = self.token_file.as_deref().map(read_token).transpose()?;
        let mut config = Agent::config_builder();
        if secure {
            config = config.tls_config(trust::config(self.cacert.as_deref())?);
        }
        let agent = config
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(10)))
            .user_agent(concat!("streamdb/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Client { agent, base, token })
    }
}

/// The first token of a token file.
fn read_token(path: &std::path::Path) -> Result<String, Failure> {
    let text = read_tokens(path)?;
    let mut words = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(words.find(|word| !word.starts_with('#')).unwrap_or_default().to_owned())
}

/// The text of a token file.
pub(crate) fn read_tokens(path: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::new(
            Kind::Wrong,
            format!("could not read the token file {}: {error}", path.display()),
            "give a file whose first line is the token",
        )
    })
}

impl Client {
    /// The address of a value.
    pub(crate) fn object(&self, key: &Key) -> String {
        format!("{}/v1/objects/{}", self.base, utf8_percent_encode(key.as_str(), ESCAPED))
    }

    /// The address of something that is no value.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The address of a listing.
    pub(crate) fn listing(&self, parameters: &[(&str, &str)]) -> String {
        let pairs: Vec<_> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        format!("{}/v1/objects?{}", self.base, pairs.join("&"))
    }

    pub(crate) fn send(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: Option<&mut dyn Read>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = ureq::http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let wrong = |error: ureq::http::Error| Failure::new(Kind::Wrong, error.to_string(), "");
        let response = match body {
            Some(mut body) => {
                let body = ureq::SendBody::from_reader(&mut body);
                self.agent.run(request.body(body).map_err(wrong)?)
            }
            None => self.agent.run(request.body(()).map_err(wrong)?),
        };
        let response = response.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response))
    }

    /// A failure of the connection rather than an answer.
    pub(crate) fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::new(
            Kind::Lacking,
            format!("could not talk to the server {}: {error}", self.base),
            match error {
                ureq::Error::Rustls(_) | ureq::Error::Tls(_) => {
                    "give the certificate that the server shows, or that of who signed it, with --cacert"
                }
                // Certificates are checked while the connection is made, which is told as its failure.
                ureq::Error::Io(error) if error.to_string().contains("certificate") => {
                    "give the certificate that the server shows, or that of who signed it, with --cacert"
                }
                _ => "start it with `streamdb serve --data DIR`, or give its address with --server",
            },
        )
    }
}

fn refusal(mut response: Response<Body>) -> Failure {
    let status = response.status().as_u16();
    let told: Value = response
        .body_mut()
        .with_config()
        .limit(64 * 1024)
        .read_to_string()
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let field = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind = match status {
        304 | 404 | 409 | 412 => Kind::No,
        401 | 403 | 500.. => Kind::Lacking,
        _ => Kind::Wrong,
    };
    Failure::new(
        kind,
        field("error").unwrap_or_else(|| format!("the server answered with status {status}")),
        field("remedy").unwrap_or_default(),
    )
}
