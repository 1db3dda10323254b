//! Redis 7 with an append-only file that is synced before every answer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use anyhow::ensure;

use crate::contestant::{Contestant, Running, free_port, kept, loopback};
use crate::place::text;

pub struct Redis {
    running: Running,
    port: u16,
}

impl Redis {
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = kept("redis-server".as_ref(), None);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--dir", text(directory), "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always"]);
        let mut redis = Self { running: Running::start(command, directory)?, port };
        redis.running.until(|| ask(port, "PING").is_ok_and(|answer| answer == "+PONG"))?;
        Ok(redis)
    }
}

impl Contestant for Redis {
    fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    fn id(&self) -> u32 {
        self.running.id()
    }

    fn keys(&self) -> anyhow::Result<u64> {
        Ok(ask(self.port, "DBSIZE")?.trim_start_matches(':').parse()?)
    }

    fn durability(&self) -> anyhow::Result<String> {
        // An array of the name and the value, each behind its length.
        let value = lines(self.port, "CONFIG GET appendfsync", 5)?.remove(4);
        ensure!(value == "always", "appendfsync is {value:?}");
        Ok(format!("appendfsync {value}"))
    }
}

fn ask(port: u16, command: &str) -> anyhow::Result<String> {
    Ok(lines(port, command, 1)?.remove(0))
}

/// The first lines of an answer.
fn lines(port: u16, command: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let mut socket = TcpStream::connect(loopback(port))?;
    socket.write_all(format!("{command}\r\n").as_bytes())?;
    let lines: Vec<_> = BufReader::new(socket).lines().take(count).collect::<Result<_, _>>()?;
    ensure!(lines.len() == count, "Redis ended its answer to {command}");
    Ok(lines)
}
