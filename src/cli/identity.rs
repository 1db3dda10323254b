//! Whom a client trusts, and who it is: the CAs of an https:// server, a client certificate, a
//! bearer token. Secrets come from files and the environment, never from the command line, where
//! every process of the machine can read them.

use std::path::PathBuf;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::args;
use super::failure::Failure;

/// The variable that may have the token itself.
const TOKEN: &str = "ONCED_TOKEN";

/// Whom to trust, and who to be.
#[derive(Clone, Debug, Args)]
pub(super) struct IdentityArgs {
    /// The CAs that the certificate of an https:// server may come from, in PEM
    #[arg(long, value_name = "FILE", env = "ONCED_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// The client certificate to show, in PEM
    #[arg(long, value_name = "FILE", env = "ONCED_CLIENT_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key to that certificate, in PEM
    #[arg(long, value_name = "FILE", env = "ONCED_CLIENT_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Send the bearer token in this file, or else the one in ONCED_TOKEN
    #[arg(long, value_name = "FILE", env = "ONCED_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl IdentityArgs {
    /// `endpoint` with what it takes to speak TLS, if its URL says so.
    pub(super) fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        if endpoint.uri().scheme_str() != Some("https") {
            return match (&self.tls_ca, &self.tls_cert) {
                (None, None) => Ok(endpoint),
                _ => Err(Failure::Usage(
                    "the server is an http:// one, for which --tls-ca and --tls-cert mean \
                     nothing; write https://"
                        .to_owned(),
                )),
            };
        }
        let Some(ca) = &self.tls_ca else {
            return Err(Failure::Usage(
                "an https:// server needs --tls-ca: the CAs that its certificate may come from \
                 (/etc/ssl/certs/ca-certificates.crt has those that Debian trusts)"
                    .to_owned(),
            ));
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(args::read(ca)?));
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            tls = tls.identity(Identity::from_pem(args::read(certificate)?, args::read(key)?));
        }
        endpoint.tls_config(tls).map_err(|error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            Failure::Usage(format!("--tls-ca, --tls-cert and --tls-key do not do: {cause}"))
        })
    }

    /// What goes with every call.
    pub(super) fn bearer(&self) -> Result<Bearer, Failure> {
        let (token, source) = match (&self.token_file, std::env::var(TOKEN)) {
            (Some(path), _) => {
                let bytes = args::read(path)?;
                let source = path.display().to_string();
                let text = String::from_utf8(bytes).map_err(|_| no_token(&source))?;
                (text.trim().to_owned(), source)
            }
            (None, Ok(token)) => (token, TOKEN.to_owned()),
            (None, Err(std::env::VarError::NotPresent)) => return Ok(Bearer(None)),
            (None, Err(std::env::VarError::NotUnicode(_))) => return Err(no_token(TOKEN)),
        };
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let header = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
        match header {
            Ok(mut header) if is_token => {
                header.set_sensitive(true);
                Ok(Bearer(Some(header)))
            }
            Ok(_) | Err(_) => Err(no_token(&source)),
        }
    }
}

fn no_token(source: &str) -> Failure {
    Failure::Usage(format!("{source} has no bearer token: one word of printable ASCII"))
}

/// Puts the token on every call, where there is one.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}
