//! A server under attack, and what has to be true of it afterwards.

use std::future::Future;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use tempfile::TempDir;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::bystander::{Bystander, Served};
use crate::process::Process;
use crate::proof::Row;

pub struct Target {
    pub server: Process,
    _dir: TempDir,
}

impl Target {
    pub fn start(more: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let server = Process::serve(&dir.path().join("data"), more);
        Self { server, _dir: dir }
    }

    /// Attacks twice. A bystander is unharmed, and at no moment does the server hold more than
    /// `mebibytes` above what it held before; `attack` says how often it struck.
    pub async fn withstands<F: Future<Output = u64>>(
        self,
        name: &str,
        mebibytes: u64,
        attack: impl Fn() -> F,
    ) {
        let (mut strikes, mut served, mut grown) = (0, Served::default(), 0);
        // What the first calls of all cost is not the attacker's doing.
        Bystander::start(self.server.address).await.stop().await;
        let before = self.server.peak_bytes();
        for _ in 0..2 {
            let bystander = Bystander::start(self.server.address).await;
            strikes += attack().await;
            // The kernel counts it in parts for each thread, and may say a little less later.
            grown = self.server.peak_bytes().saturating_sub(before) >> 20;
            served = served.and(bystander.stop().await);
        }
        println!("{name}: {strikes} strikes, {served:?}, {grown} MiB grown");
        assert!(grown <= mebibytes, "{name}: grown by {grown} MiB");
        let address = format!("http://{}", self.server.address);
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        let health = HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
        assert_eq!(self.server.lines_with("panicked"), Vec::<String>::new());
        Row {
            promise: "7 everything is bounded, and other callers are unharmed",
            attack: name,
            times: &format!(
                "{strikes} times, {} operations of others, the slowest in {} ms, {grown} MiB of memory",
                served.operations,
                served.slowest.as_millis(),
            ),
            lost: 0,
        }
        .report();
    }
}

pub struct Attacker(pub TcpStream);

impl Attacker {
    pub fn connect(address: std::net::SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        // A server that reads no further has defended itself.
        socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(socket)
    }

    /// Sends; says whether the server still took it.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }
}
