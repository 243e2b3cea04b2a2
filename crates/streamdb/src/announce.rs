//! Announcing a server on the local network (mDNS, DNS-SD), so that it is found by name.
//!
//! Told are the page, the WebDAV folder and the store itself, each under the type that programs of
//! its kind look for. What is announced is the command line's to decide.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};

use crate::outcome::{Failure, Kind};

/// What stands under the services' names until it is dropped, which takes it back.
pub(crate) struct Announced {
    daemon: ServiceDaemon,
    services: Vec<String>,
}

/// Announces a server under a name. `secure` tells whether it speaks TLS.
pub(crate) fn announce(
    name: &str,
    address: SocketAddr,
    secure: bool,
) -> Result<Announced, Failure> {
    let lacking = |error: mdns_sd::Error| {
        Failure::new(
            Kind::Lacking,
            format!("could not announce the store as {name:?}: {error}"),
            "see that this host has a network with multicast, or leave out --announce",
        )
    };
    let daemon = ServiceDaemon::new().map_err(lacking)?;
    if address.ip().is_loopback() {
        daemon.enable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6]).map_err(lacking)?;
    }
    let mut announced = Announced { daemon, services: Vec::new() };
    let host = format!("{}.local.", host_label());
    let kinds = if secure {
        [("_https._tcp", "/"), ("_webdavs._tcp", "/dav/"), ("_streamdb._tcp", "/v1")]
    } else {
        [("_http._tcp", "/"), ("_webdav._tcp", "/dav/"), ("_streamdb._tcp", "/v1")]
    };
    for (kind, path) in kinds {
        let properties = [("path", path), ("tls", if secure { "1" } else { "0" })];
        // Listening on every address, it is reached by every address of the host.
        let given = if address.ip().is_unspecified() { vec![] } else { vec![address.ip()] };
        let all = given.is_empty();
        let info = ServiceInfo::new(
            &format!("{kind}.local."),
            name,
            &host,
            &*given as &[IpAddr],
            address.port(),
            &properties[..],
        );
        let info = info.map_err(lacking)?;
        let info = if all { info.enable_addr_auto() } else { info };
        announced.services.push(info.get_fullname().to_owned());
        announced.daemon.register(info).map_err(lacking)?;
    }
    Ok(announced)
}

/// The host's own name as one label, with what cannot stand in one replaced.
fn host_label() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = name.split('.').next().unwrap_or_default();
    let label: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    match label.trim_matches('-') {
        "" => "streamdb".to_owned(),
        label => label.to_owned(),
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // What is left after these moments runs out by itself in two minutes.
        for service in &self.services {
            if let Ok(done) = self.daemon.unregister(service) {
                let _ = done.recv_timeout(Duration::from_millis(500));
            }
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _ = done.recv_timeout(Duration::from_millis(500));
        }
    }
}
