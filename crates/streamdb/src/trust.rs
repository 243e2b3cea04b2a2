//! Which certificates the client trusts over https: the system's, or those of a given file.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::outcome::{Failure, Kind};

/// How the client speaks TLS.
pub(crate) fn config(file: Option<&Path>) -> Result<TlsConfig, Failure> {
    let trusted = match file {
        Some(file) => given(file)?,
        None => system()?,
    };
    let trusted: Vec<_> = trusted.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&trusted))
        .build())
}

fn given(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(
            Kind::Wrong,
            format!("could not read certificates from {}: {error}", file.display()),
            "give a PEM file with the server's certificate, or with that of who signed it",
        )
    };
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let read = read.map_err(|error| wrong(&error))?;
    if read.is_empty() {
        return Err(wrong(&"there is none in it"));
    }
    Ok(read)
}

fn system() -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(Failure::new(
            Kind::Lacking,
            format!("this system has no certificates to trust{why}"),
            "install them (Debian: apt-get install ca-certificates), or name the server's with --cacert",
        ));
    }
    Ok(found.certs)
}
