//! What the server proves itself with, and which client certificates it takes: read from PEM
//! files, and exchanged as a whole while connections go on.
//!
//! rustls does TLS, with the cryptography of aws-lc: versions 1.2 and 1.3 with its own choice of
//! suites, and h2 alone by ALPN. Handshakes are in `server/handshake.rs`.
//!
//! # What a change of files means
//!
//! A connection keeps what it began with, and a new handshake gets the files as they are. So a CA
//! that is taken away lets nobody in any more, and who is in already stays until the connection
//! ends (`connection_max_age`); the file of credentials is what ends somebody's rights at once.
//! Sessions are resumed only with what they were begun with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::parse_x509_certificate;

use crate::config::{Fault, Settings, TlsClientAuth, read_named};

/// The files, and how client certificates are asked for.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_auth: TlsClientAuth,
}

impl TlsFiles {
    /// The files that the settings name; `None` where the port speaks no TLS.
    pub fn of(settings: &Settings) -> Option<Self> {
        let (cert, key) = (settings.tls_cert.is_some(), settings.tls_key.is_some());
        assert_eq!(cert, key, "settings that were resolved have both or neither");
        Some(Self {
            cert: settings.tls_cert.clone()?,
            key: settings.tls_key.clone()?,
            client_ca: settings.tls_client_ca.clone(),
            client_auth: settings.tls_client_auth,
        })
    }

    /// Where they are.
    pub fn paths(&self) -> Vec<PathBuf> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Reads them, or says all that is wrong with them.
    pub fn read(&self) -> Result<Arc<ServerConfig>, Vec<Fault>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut faults = Vec::new();
        let chain = kept(&mut faults, certificates("tls_cert", &self.cert));
        let key = kept(&mut faults, private_key(&self.key));
        let verifier = match &self.client_ca {
            Some(ca) => kept(&mut faults, self.verifier(ca, &provider)),
            None => Some(WebPkiClientVerifier::no_client_auth()),
        };
        let certified = chain.zip(key).and_then(|(chain, key)| {
            let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
                let remedy = "give the key that the certificate was made for";
                let problem =
                    format!("does not go with {}: {error}; {remedy}", self.cert.display());
                Fault::of_file("tls_key", &self.key, problem)
            });
            kept(&mut faults, certified)
        });
        let (Some(verifier), Some(certified)) = (verifier, certified) else { return Err(faults) };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows both versions")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn verifier(
        &self,
        ca: &Path,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
        let setting = "tls_client_ca";
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates(setting, ca)?.into_iter().enumerate() {
            // rustls would take anything for a root: also what was issued to a single host.
            let is_ca = parse_x509_certificate(&certificate).is_ok_and(|(_, it)| it.is_ca());
            if !is_ca || roots.add(certificate).is_err() {
                let problem = format!("certificate {} is no CA", index + 1);
                return Err(Fault::of_file(setting, ca, problem));
            }
        }
        let provider = Arc::clone(provider);
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if self.client_auth == TlsClientAuth::Optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map_err(|error| Fault::of_file(setting, ca, error.to_string()))
    }
}

/// What is right; of what is wrong the fault is kept.
fn kept<T>(faults: &mut Vec<Fault>, read: Result<T, Fault>) -> Option<T> {
    read.map_err(|fault| faults.push(fault)).ok()
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = read_named(setting, path)?;
    let wrong = |problem: &str| Fault::of_file(setting, path, problem);
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(read) if read.is_empty() => Err(wrong("has no certificate in PEM")),
        Ok(read) => Ok(read),
        Err(_) => Err(wrong("is not PEM")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let text = read_named("tls_key", path)?;
    // What the parser says of a key is not repeated: it is a secret.
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let problem = match error {
            pem::Error::NoItemsFound => "has no private key in PEM that is not encrypted",
            _ => "is not PEM",
        };
        Fault::of_file("tls_key", path, problem)
    })
}

/// TLS as it is in force.
pub struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    /// TLS with these files.
    pub fn new(files: TlsFiles) -> Result<Self, Vec<Fault>> {
        let config = ArcSwap::new(files.read()?);
        Ok(Self { files, config })
    }

    /// What the next handshake is to begin with.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// The files.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Reads the files anew; what is wrong with them leaves everything as it was.
    pub fn reload(&self) -> Result<(), Vec<Fault>> {
        self.config.store(self.files.read()?);
        Ok(())
    }
}
