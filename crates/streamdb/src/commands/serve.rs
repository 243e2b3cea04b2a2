//! `streamdb serve`: the store behind its HTTP door, until SIGTERM.

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use clap::Args;
use streamdb::http::{self, Access, Grant, Limits, Settings, Tls};
use streamdb::{Amount, Options, Quota, Store};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::print;
use crate::announce;
use crate::client::read_tokens;
use crate::outcome::{Failure, Kind};

/// Serve a store over HTTP
///
/// Prints the address it listens on. Ends on SIGTERM or Ctrl-C, after the requests under way.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Directory of the store; made if it is missing
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Ask every client for a token of this file: lines of TOKEN [read|write [PREFIX [QUOTA]]]
    ///
    /// A token with a prefix is only good for keys that begin so. A quota, for example 10G, is the
    /// most bytes that values below the prefix may have together; one that would be more is refused
    /// with status 507.
    #[arg(long, value_name = "FILE", conflicts_with = "open")]
    token_file: Option<PathBuf>,
    /// Let in whoever reaches the port, without a token
    #[arg(long)]
    open: bool,
    /// Serve over TLS with the certificates of this PEM file, the server's own first
    ///
    /// One for a network of your own, which clients take with --cacert: openssl req -x509 -newkey ec
    /// -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=HOST -addext
    /// subjectAltName=DNS:HOST -addext basicConstraints=critical,CA:FALSE -out cert.pem -keyout key.pem
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Announce the server on the local network, so that it is found by this name (mDNS)
    ///
    /// File managers and browsers that look for services find it as a WebDAV folder and as a page.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "StreamDB",
          value_parser = service_name)]
    announce: Option<String>,
    /// Announce also a server that only this machine can reach
    #[arg(long, requires = "announce")]
    announce_loopback: bool,
    /// Let pages of this origin use the store from a browser, for example https://example.org
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    cors_origin: Option<HeaderValue>,
    /// Seconds that a client may take nothing of an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    write_timeout: u64,
    /// Longest value accepted, for example 10G; a longer one is refused with status 413
    ///
    /// No limit but quota and disk if not given.
    #[arg(long, value_name = "BYTES")]
    max_object: Option<Amount>,
    /// Most bytes of all values together, for example 100G; what would be more is refused with 507
    ///
    /// No limit but the disk if not given.
    #[arg(long, value_name = "BYTES")]
    quota: Option<Amount>,
    /// Most requests a second of one client; what is more is refused with status 429
    ///
    /// Twice as many may come at once. A client is a token, or else an address. No limit if not
    /// given.
    #[arg(long, value_name = "PER_SECOND")]
    max_requests: Option<NonZeroU32>,
    /// Disk space set aside so that deletes work on a full disk
    #[arg(long, value_name = "BYTES", default_value = "8M")]
    reserve: Amount,
    /// Memory for pages of the index
    #[arg(long, value_name = "BYTES", default_value = "64M")]
    cache: Amount,
    /// Most bytes of a request's head
    #[arg(long, value_name = "BYTES", default_value = "64K")]
    max_head: Amount,
    /// Seconds that a client may take for a request's head, or pause within a body
    #[arg(long, value_name = "SECONDS", default_value_t = 20,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    client_timeout: u64,
    /// Most connections at a time
    #[arg(long, value_name = "COUNT", default_value_t = 1024,
          value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let access = self.access()?;
        let tls = self.tls()?;
        if self.announce.is_some() && self.listen.ip().is_loopback() && !self.announce_loopback {
            return Err(Failure::new(
                Kind::Wrong,
                format!("{} cannot be reached by those who would find it", self.listen),
                "listen on an address of the network, or give --announce-loopback too",
            ));
        }
        let defaults = Options::default();
        let options = Options {
            create: true,
            max_object: self.max_object.map_or(defaults.max_object, |bytes| bytes.0),
            reserve: self.reserve.0,
            cache: usize::try_from(self.cache.0).unwrap_or(defaults.cache),
            quotas: self.quotas(&access),
        };
        let store = Store::open(&self.data, &options)?;
        // Connections have threads of their own; this one accepts them.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(threads)?;
        runtime.block_on(self.serve(store, access, tls))
    }

    /// Beyond this machine a store is only served on the operator's word.
    fn access(&self) -> Result<Access, Failure> {
        match &self.token_file {
            Some(path) => Grant::parse(&read_tokens(path)?).map(Access::Tokens).map_err(|error| {
                Failure::new(
                    Kind::Wrong,
                    format!("the token file {}: {error}", path.display()),
                    "make one with: head -c 24 /dev/urandom | base64 > FILE",
                )
            }),
            None if self.open => Ok(Access::Open),
            None if self.listen.ip().is_loopback() => Ok(Access::Local),
            None => Err(Failure::new(
                Kind::Wrong,
                format!(
                    "{} can be reached from other machines, and there is no token",
                    self.listen
                ),
                "give --token-file FILE, or --open if everyone there may read and delete everything",
            )),
        }
    }

    fn quotas(&self, access: &Access) -> Vec<Quota> {
        let whole = self.quota.map(|quota| Quota { prefix: String::new(), bytes: quota.0 });
        let grants = if let Access::Tokens(grants) = access { &**grants } else { &[] };
        let of_prefixes = grants.iter().filter_map(|grant| {
            grant.quota.map(|bytes| Quota { prefix: grant.prefix.clone(), bytes })
        });
        whole.into_iter().chain(of_prefixes).collect()
    }

    fn tls(&self) -> Result<Option<Tls>, Failure> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let wrong = |path: &Path, error: &dyn std::fmt::Display| {
            Failure::new(
                Kind::Wrong,
                format!("could not use {} for TLS: {error}", path.display()),
                "give a certificate with --tls-cert and its key with --tls-key, both as PEM",
            )
        };
        let read = |path: &Path| std::fs::read(path).map_err(|error| wrong(path, &error));
        let (chain, secret) = (read(certificate)?, read(key)?);
        Tls::from_pem(&chain, &secret).map(Some).map_err(|error| wrong(certificate, &error))
    }

    async fn serve(&self, store: Store, access: Access, tls: Option<Tls>) -> Result<(), Failure> {
        let limits = Limits {
            head: Duration::from_secs(self.client_timeout),
            write: Duration::from_secs(self.write_timeout),
            head_bytes: usize::try_from(self.max_head.0).unwrap_or(usize::MAX),
            connections: self.connections.into(),
            ..Limits::default()
        };
        let settings = Settings {
            access,
            rate: self.max_requests,
            stall: Duration::from_secs(self.client_timeout),
            cors_origin: self.cors_origin.clone(),
            // To the journal, where there is one.
            notice: Arc::new(|line| {
                let _ = writeln!(std::io::stderr().lock(), "streamdb: {line}");
            }),
        };
        let lacking = |error: std::io::Error| {
            Failure::new(
                Kind::Lacking,
                format!("could not listen on {}: {error}", self.listen),
                "stop what holds the address (ss -ltnp shows it), or listen elsewhere with --listen",
            )
        };
        let end = end().map_err(lacking)?;
        let listener = TcpListener::bind(self.listen).await.map_err(lacking)?;
        let address = listener.local_addr().map_err(lacking)?;
        let sweeper = tokio::spawn(sweep(store.clone()));
        let app = http::app_with(store, settings);
        let scheme = if tls.is_some() { "https" } else { "http" };
        // Kept until the server ends, and then taken back.
        let announced = match &self.announce {
            Some(name) => Some(announce::announce(name, address, tls.is_some())?),
            None => None,
        };
        print(format_args!("listening on {scheme}://{address}"))?;
        // Without a service manager there is nobody to notify, and that is no failure.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let all_done = http::serve_with(listener, app, &limits, tls, end).await.map_err(threads)?;
        sweeper.abort();
        // Told by the time that the last request ends: this waits for the network.
        let _ = tokio::task::spawn_blocking(move || drop(announced)).await;
        if !all_done {
            print("ended although requests were still under way")?;
        }
        Ok(())
    }
}

/// Frees the space of values that have expired, which nobody sees any more, now and then.
async fn sweep(store: Store) {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let store = store.clone();
        // What fails now is tried again at the next turn.
        let _ = tokio::task::spawn_blocking(move || store.sweep_expired()).await;
    }
}

fn threads(error: std::io::Error) -> Failure {
    Failure::new(
        Kind::Lacking,
        format!("could not start the server's threads: {error}"),
        "see that this user may start threads (ulimit -u)",
    )
}

fn origin(text: &str) -> Result<HeaderValue, String> {
    let plain = text.split_once("://").is_some_and(|(scheme, host)| {
        matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', '*', ' '])
    });
    HeaderValue::from_str(text).ok().filter(|_| plain).ok_or_else(|| {
        "an origin is a scheme and a host, for example https://example.org".to_owned()
    })
}

/// A name of a service is one label of at most 63 bytes (RFC 6763, 4.1.1).
fn service_name(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len()) && !text.chars().any(char::is_control);
    // The crate that sends it takes a dot for the end of a label.
    if fits && !text.contains('.') {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 63 bytes and no dots".to_owned())
    }
}

fn end() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    })
}
