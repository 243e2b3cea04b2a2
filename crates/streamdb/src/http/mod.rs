//! The HTTP door: the store as addresses under `/v1`, for curl, browsers and players alike.
//!
//! [`app`] is the whole door as a value that a test calls without a port; [`serve`] puts it behind
//! a socket. Nothing here decides anything about values: that is the store's.

mod access;
mod backup;
mod batch;
mod blocking;
mod condition;
mod connection;
mod dav;
mod grant;
mod health;
mod listing;
mod metrics;
mod object;
mod openapi;
mod origin;
mod page;
mod patience;
mod range;
mod rate;
mod reply;
mod serve;
mod stream;
mod tls;
mod together;
mod upload;
mod workers;

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::Store;

pub use access::{Access, Token, TokenError};
pub use grant::{Grant, GrantError};
pub use openapi::OPENAPI;
pub use serve::{Limits, serve, serve_with};
pub use tls::{Tls, TlsError};

/// How the door behaves.
#[derive(Clone)]
pub struct Settings {
    /// Who may come in.
    pub access: Access,
    /// How many requests a second a client may make, by its token or else by its address; twice as
    /// many at once. No limit if not told.
    pub rate: Option<NonZeroU32>,
    /// How long a client may pause within the body that it sends.
    pub stall: Duration,
    /// The origin whose pages may use the door from a browser, besides the page of its own.
    pub cors_origin: Option<HeaderValue>,
    /// Told of what an operator should know: damage, and failures of the disk.
    pub notice: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access: Access::Open,
            rate: None,
            stall: Duration::from_secs(30),
            cors_origin: None,
            notice: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("access", &self.access)
            .field("stall", &self.stall)
            .finish_non_exhaustive()
    }
}

/// What all requests share. Each of them takes it several times.
#[derive(Clone)]
struct Door(Arc<Within>);

struct Within {
    store: Store,
    settings: Settings,
    // Commits are made one after the other, so a crowd of writers would only fill the threads that
    // readers need.
    commits: Semaphore,
    small: together::Together,
    locks: dav::Leases,
    tally: metrics::Tally,
}

impl Deref for Door {
    type Target = Within;

    fn deref(&self) -> &Within {
        &self.0
    }
}

/// The door to a store, open to whoever reaches it.
pub fn app(store: Store) -> App {
    app_with(store, Settings::default())
}

/// The door to a store.
pub fn app_with(store: Store, settings: Settings) -> App {
    let gate = access::Gate::new(&settings);
    let door = Door(Arc::new(Within {
        store,
        settings,
        commits: Semaphore::new(4),
        small: together::Together::default(),
        locks: dav::Leases::new(),
        tally: metrics::Tally::default(),
    }));
    let guarded = Router::new()
        .route("/v1/objects", get(listing::list))
        .route("/v1/objects/", get(listing::list))
        .route("/v1/batch", axum::routing::post(batch::batch))
        .route("/v1/usage", get(batch::usage))
        .route("/v1/backup", get(backup::backup))
        .route("/dav", any(dav::handle))
        .route("/dav/", any(dav::handle))
        .route("/dav/{*path}", any(dav::handle));
    let open = Router::new()
        .route("/v1/openapi.json", get(openapi::openapi))
        .route("/metrics", get(metrics::metrics))
        .route("/", get(page::page))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready));
    let [guarded, open] = [guarded, open].map(|routes| {
        routes
            .fallback(nowhere)
            .method_not_allowed_fallback(no_such_method)
            // The store's own limit holds, and it counts while the bytes come.
            .layer(DefaultBodyLimit::disable())
            .with_state(door.clone())
    });
    App(Arc::new(Whole { door, gate, guarded, open }))
}

/// The whole door as a value.
#[derive(Clone)]
pub struct App(Arc<Whole>);

struct Whole {
    door: Door,
    gate: access::Gate,
    guarded: Router,
    open: Router,
}

/// What is behind the gate: all that is at these addresses or under them. A guarded route elsewhere would
/// not be found at all.
const GUARDED: [&str; 5] = ["/v1/objects", "/v1/batch", "/v1/usage", "/v1/backup", "/dav"];

impl App {
    /// Answers one request.
    pub async fn answer(&self, request: Request) -> Response {
        let Some(origin) = &self.0.door.settings.cors_origin else {
            return self.counted(request).await;
        };
        let asks = origin::asks(origin, &request);
        let early = if asks { origin::preflight(&request) } else { None };
        let response = match early {
            Some(response) => response,
            None => self.counted(request).await,
        };
        origin::share(origin, asks, response)
    }

    async fn counted(&self, request: Request) -> Response {
        let counted = self.0.door.tally.begin(request.method());
        let response = self.admitted(request).await;
        counted.end(response.status());
        response
    }

    async fn admitted(&self, request: Request) -> Response {
        let path = request.uri().path();
        let under = |at: &str| {
            path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !GUARDED.into_iter().any(under) {
            return route(&self.0.open, request).await;
        }
        if let Some(refusal) = self.0.gate.refuses(&request) {
            return refusal.into_response();
        }
        // Values are what nearly all requests are for. A router, as good as it is, takes as long to find
        // the way as the store takes to find the value.
        match path.strip_prefix("/v1/objects/") {
            Some(key) if !key.is_empty() => object::handle(self.0.door.clone(), request).await,
            _ => route(&self.0.guarded, request).await,
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("settings", &self.0.door.settings).finish_non_exhaustive()
    }
}

async fn route(routes: &Router, request: Request) -> Response {
    let Ok(response) = routes.clone().oneshot(request).await;
    response
}

async fn nowhere() -> reply::Refusal {
    reply::Refusal::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this address",
        "values are under /v1/objects/KEY, listings at /v1/objects, the state at /health",
    )
}

async fn no_such_method() -> reply::Refusal {
    reply::Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this address does not know that method",
        "use PUT, GET, HEAD, DELETE or POST on /v1/objects/KEY, POST on /v1/batch, and GET elsewhere",
    )
}
