//! TLS over real channels: who is served, who is not, what a change of files does to both, and
//! that handshakes which lead to nothing harm nobody else.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onced::config::{Settings, TlsClientAuth};
use onced::pb::v1::ReserveRequest;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};

use crate::certificates::{Authority, Issued};
use crate::server::{TestServer, settings};

type Client = IdempotencyServiceClient<Channel>;

/// A server with a certificate of `authority`, whose files are in the directory.
fn secured(directory: &Path, authority: &Authority, issued: &Issued) -> Settings {
    let (cert, key) = issued.write(directory, "server");
    std::fs::write(directory.join("ca.crt"), &authority.pem).unwrap();
    Settings { tls_cert: Some(cert), tls_key: Some(key), ..settings("memory:") }
}

/// The same, which asks clients for certificates of the authority.
fn mutual(directory: &Path, authority: &Authority, client_auth: TlsClientAuth) -> Settings {
    Settings {
        tls_client_ca: Some(directory.join("ca.crt")),
        tls_client_auth: client_auth,
        ..secured(directory, authority, &authority.server())
    }
}

pub async fn connect(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&Issued>,
) -> Result<Channel, Error> {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem.as_str()));
    if let Some(Issued { certificate, key }) = identity {
        tls = tls.identity(Identity::from_pem(certificate.as_str(), key.as_str()));
    }
    Endpoint::from_shared(format!("https://localhost:{}", address.port()))
        .unwrap()
        .timeout(Duration::from_secs(20))
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
}

/// A call, sent again for as long as the store is being opened.
async fn call(channel: Channel) -> Result<(), tonic::Status> {
    let mut client = Client::new(channel);
    loop {
        let request = ReserveRequest { key: "order-1".into(), ..Default::default() };
        match client.reserve(request).await {
            Err(status) if tells(&status, "STORE_UNAVAILABLE") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            answered => return answered.map(drop),
        }
    }
}

fn tells(status: &tonic::Status, reason: &str) -> bool {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().is_some_and(|info| info.reason == reason)
}

/// The certificate that a server shows to whoever speaks this version, and the protocol agreed.
async fn shown(
    address: SocketAddr,
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> std::io::Result<(Vec<u8>, Option<Vec<u8>>)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let socket = tokio::net::TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let (_, session) = stream.get_ref();
    assert_eq!(session.protocol_version(), Some(version.version));
    let certificate = session.peer_certificates().unwrap()[0].to_vec();
    Ok((certificate, session.alpn_protocol().map(<[u8]>::to_vec)))
}

fn der(issued: &Issued) -> Vec<u8> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_trusts_the_authority_is_served_and_nobody_else_connects() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let issued = authority.server();
    let server = TestServer::start(secured(dir.path(), &authority, &issued));

    call(connect(server.address, &authority, None).await.unwrap()).await.unwrap();
    // A certificate that nobody asks for does no harm.
    let client = authority.client(&["DNS:shop"]);
    call(connect(server.address, &authority, Some(&client)).await.unwrap()).await.unwrap();
    connect(server.address, &Authority::new("theirs"), None).await.unwrap_err();
    for version in [&TLS12, &TLS13] {
        let (certificate, protocol) =
            shown(server.address, &authority, version, &["h2"]).await.unwrap();
        assert_eq!((certificate, protocol.as_deref()), (der(&issued), Some(&b"h2"[..])));
        shown(server.address, &authority, version, &["http/1.1"]).await.unwrap_err();
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_a_client_ca_callers_need_a_certificate_of_it() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let server = TestServer::start(mutual(dir.path(), &authority, TlsClientAuth::Required));
    let ours = authority.client(&["DNS:shop"]);
    call(connect(server.address, &authority, Some(&ours)).await.unwrap()).await.unwrap();
    let theirs = Authority::new("theirs").client(&["DNS:shop"]);
    // For a server, not for a client.
    let of_server = authority.server();
    for stranger in [None, Some(&theirs), Some(&of_server)] {
        // With TLS 1.3 a client learns only from its first call that it was turned away.
        if let Ok(channel) = connect(server.address, &authority, stranger).await {
            assert_ne!(call(channel).await.unwrap_err().code(), Code::Ok);
        }
    }
    // The others never noticed.
    call(connect(server.address, &authority, Some(&ours)).await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn where_a_certificate_is_optional_none_will_do_but_not_a_wrong_one() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let server = TestServer::start(mutual(dir.path(), &authority, TlsClientAuth::Optional));
    call(connect(server.address, &authority, None).await.unwrap()).await.unwrap();
    let theirs = Authority::new("theirs").client(&["DNS:shop"]);
    if let Ok(channel) = connect(server.address, &authority, Some(&theirs)).await {
        call(channel).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_is_exchanged_and_a_broken_one_is_not_and_no_connection_is_dropped() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let first = authority.server();
    let server = TestServer::start(secured(dir.path(), &authority, &first));
    let mut before = Client::new(connect(server.address, &authority, None).await.unwrap());
    call(connect(server.address, &authority, None).await.unwrap()).await.unwrap();
    let shows = async || shown(server.address, &authority, &TLS13, &["h2"]).await.unwrap().0;
    let until = async |issued: &Issued| {
        while shows().await != der(issued) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let reserve = |key: &str| ReserveRequest { key: key.into(), ..Default::default() };

    // When the files change, new connections get what is new, and old ones stay.
    let second = authority.server();
    second.write(dir.path(), "server");
    until(&second).await;
    before.reserve(reserve("second")).await.unwrap();

    // When they are broken in any way, what is there stays.
    let cert = dir.path().join("server.crt");
    let third = authority.server();
    for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA", &third.certificate, "no PEM at all"] {
        std::fs::write(&cert, broken).unwrap();
        // Files are looked at each second.
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        assert_eq!(shows().await, der(&second), "{broken:?}");
    }
    std::fs::remove_file(&cert).unwrap();
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(shows().await, der(&second));
    before.reserve(reserve("third")).await.unwrap();

    // When they are whole again, they are taken.
    third.write(dir.path(), "server");
    until(&third).await;
    before.reserve(reserve("fourth")).await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_authority_of_clients_is_exchanged_as_well() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let server = TestServer::start(mutual(dir.path(), &authority, TlsClientAuth::Required));
    let ours = authority.client(&["DNS:shop"]);
    let old = connect(server.address, &authority, Some(&ours)).await.unwrap();
    call(old.clone()).await.unwrap();

    let next = Authority::new("next");
    let of_next = next.client(&["DNS:shop"]);
    std::fs::write(dir.path().join("ca.crt"), &next.pem).unwrap();
    loop {
        let connected = connect(server.address, &authority, Some(&of_next)).await;
        if let Ok(channel) = connected
            && call(channel).await.is_ok()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if let Ok(channel) = connect(server.address, &authority, Some(&ours)).await {
        call(channel).await.unwrap_err();
    }
    call(old).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn handshakes_that_never_end_take_their_places_for_so_long_only() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let server = TestServer::start(Settings {
        max_connections: 8,
        tls_handshake_timeout: Duration::from_millis(300),
        ..secured(dir.path(), &authority, &authority.server())
    });
    // While one connection is served, all others are held by those who say nothing, or begin and
    // stop, for longer than a handshake may take.
    let served = connect(server.address, &authority, None).await.unwrap();
    call(served.clone()).await.unwrap();
    for round in 0..3 {
        let mut held = Vec::new();
        for number in 0..7 {
            let mut socket = TcpStream::connect(server.address).unwrap();
            if number % 2 == 0 {
                socket.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
            }
            held.push(socket);
        }
        call(served.clone()).await.unwrap();
        tokio::task::spawn_blocking(move || {
            for mut socket in held {
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                // It is closed, whatever is said before.
                let _ = socket.read_to_end(&mut Vec::new());
                let mut byte = [0];
                assert!(!matches!(socket.read(&mut byte), Ok(1)), "round {round}");
            }
        })
        .await
        .unwrap();
    }
    call(connect(server.address, &authority, None).await.unwrap()).await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn handshakes_count_as_connections_and_do_not_hold_up_the_end() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let server = TestServer::start(Settings {
        max_connections: 2,
        tls_handshake_timeout: Duration::from_secs(300),
        drain_limit: Duration::from_secs(3_600),
        ..secured(dir.path(), &authority, &authority.server())
    });
    let silent = [(); 2].map(|()| TcpStream::connect(server.address).unwrap());
    connect(server.address, &authority, None).await.unwrap_err();
    // Whoever leaves makes room, also before its time.
    drop(silent);
    let served = loop {
        if let Ok(channel) = connect(server.address, &authority, None).await {
            break channel;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let silent = TcpStream::connect(server.address).unwrap();
    call(served.clone()).await.unwrap();
    drop(served);
    server.stop().await.unwrap();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_no_tls_is_turned_away_and_others_are_served() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let server = TestServer::start(Settings {
        max_connections: 8,
        ..secured(dir.path(), &authority, &authority.server())
    });
    let served = connect(server.address, &authority, None).await.unwrap();
    call(served.clone()).await.unwrap();
    let plain = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    if let Ok(channel) = plain.connect().await {
        call(channel).await.unwrap_err();
    }
    let address = server.address;
    tokio::task::spawn_blocking(move || {
        let record: Vec<u8> = [&[0x16, 3, 1, 0xff, 0xff][..], &[7; 70_000]].concat();
        for bytes in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            &[0; 100],
            &record,
        ] {
            for _ in 0..20 {
                let mut socket = TcpStream::connect(address).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let _ = socket.write_all(bytes);
                let _ = socket.read_to_end(&mut Vec::new());
            }
        }
    })
    .await
    .unwrap();
    call(served).await.unwrap();
    call(connect(server.address, &authority, None).await.unwrap()).await.unwrap();
}

#[test]
fn all_that_is_wrong_with_the_files_is_told_before_anything_is_opened() {
    let (dir, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
    let path = |name: &str| Some(dir.path().join(name));
    let (cert, key) = authority.server().write(dir.path(), "server");
    let (other, _) = authority.server().write(dir.path(), "other");
    std::fs::write(dir.path().join("empty"), "").unwrap();
    std::fs::write(dir.path().join("credentials"), "[principals.shop]\nrole = 'king'\n").unwrap();
    let faults = |settings: Settings| {
        let error = onced::server::check(&settings).unwrap_err();
        let faults: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
        faults.join("\n").replace(&format!("{}/", dir.path().display()), "")
    };
    let right =
        Settings { tls_cert: Some(cert.clone()), tls_key: Some(key), ..settings("memory:") };
    assert!(onced::server::check(&right).is_ok());

    let told = faults(Settings {
        tls_cert: path("none"),
        tls_key: Some(cert.clone()),
        tls_client_ca: path("empty"),
        credentials: path("credentials"),
        ..right.clone()
    });
    assert_eq!(
        told,
        "tls_cert (from none): cannot be read: No such file or directory (os error 2)\n\
         tls_key (from server.crt): has no private key in PEM that is not encrypted\n\
         tls_client_ca (from empty): has no certificate in PEM\n\
         principals.shop.role (from credentials:2): \"king\" is no role; give reader, writer or \
         operator\n\
         principals.shop.namespaces (from credentials:1): is missing; list names, prefixes such as \
         mail.* or \"*\"\n\
         principals.shop (from credentials:1): has neither tokens nor certificates, so nobody can \
         be it; give one"
    );
    let told = faults(Settings { tls_cert: Some(other), ..right.clone() });
    assert!(told.starts_with("tls_key (from server.key): does not go with other.crt: "), "{told}");
    // What was issued to one host issues nothing.
    let told = faults(Settings { tls_client_ca: Some(cert), ..right });
    assert_eq!(told, "tls_client_ca (from server.crt): certificate 1 is no CA");
}
