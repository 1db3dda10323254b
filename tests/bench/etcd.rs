//! etcd 3.4, a cluster of one: no answer waits for the network between members.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::contestant::{Contestant, Running, free_port, kept, loopback};
use crate::place::text;

pub struct Etcd {
    running: Running,
    port: u16,
}

impl Etcd {
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let (clients, peers) =
            (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()?));
        let mut command = kept("etcd".as_ref(), None);
        command.args(["--data-dir", text(&directory.join("member"))]);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        // By default it takes no more writes once it has 2 GB.
        command.args(["--quota-backend-bytes", "8589934592", "--log-level", "error"]);
        let mut etcd = Self { running: Running::start(command, directory)?, port };
        etcd.running.until(|| {
            http(port, "GET", "/health", "").is_ok_and(|health| health["health"] == "true")
        })?;
        Ok(etcd)
    }
}

impl Contestant for Etcd {
    fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    fn id(&self) -> u32 {
        self.running.id()
    }

    fn keys(&self) -> anyhow::Result<u64> {
        // From the first possible key on, whatever it is.
        let all = r#"{"key": "AA==", "range_end": "AA==", "count_only": true}"#;
        let found = http(self.port, "POST", "/v3/kv/range", all)?;
        let count = found["count"].as_str().unwrap_or("0");
        Ok(count.parse()?)
    }

    fn durability(&self) -> anyhow::Result<String> {
        // This version has no setting that switches it off.
        Ok("it always syncs its log".to_owned())
    }
}

fn http(port: u16, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
    let mut socket = TcpStream::connect(loopback(port))?;
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("etcd ended its answer")?;
    ensure!(head.contains(" 200 "), "etcd answered {head:?}");
    Ok(serde_json::from_str(body)?)
}
