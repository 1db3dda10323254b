//! A nonblocking socket, in the clear or under TLS.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Whom a client trusts, and by which name the server has to show itself.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// Trusts the certificates in the PEM file at `path`, if the server is the one with `name`.
    pub fn new(path: &Path, name: &str) -> anyhow::Result<Self> {
        let unreadable = || format!("cannot read certificates from {}", path.display());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).with_context(unreadable)? {
            roots.add(certificate.with_context(unreadable)?).with_context(unreadable)?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(name.to_owned())?;
        Ok(Self { config: Arc::new(config), name })
    }
}

/// A socket.
pub struct Channel {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Channel {
    /// Over a connected socket; with a `trust` under TLS, whose handshake goes along with what is
    /// read and written.
    pub fn new(socket: TcpStream, trust: Option<&Trust>) -> anyhow::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let tls = match trust {
            Some(Trust { config, name }) => {
                let mut tls = ClientConnection::new(Arc::clone(config), name.clone())?;
                // What is written during the handshake waits for its end.
                tls.set_buffer_limit(None);
                Some(Box::new(tls))
            }
            None => None,
        };
        Ok(Self { socket, tls })
    }

    /// Whether there may be more to read than the socket tells: under TLS a record that was
    /// received may be read in parts.
    pub fn has_more(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads what has come.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(into) };
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Takes what is to be sent, or a part of it.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.writer().write(bytes),
            None => self.socket.write(bytes),
        }
    }

    /// Sends what TLS has made of what was written, and of the handshake.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
