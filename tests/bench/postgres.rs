//! PostgreSQL 15 with everything synced, and with more memory than Debian gives it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::contestant::{Contestant, Running, free_port, is_root, kept, loopback};
use crate::place::{output, text};

/// The user that Debian's package makes.
const USER: &str = "postgres";

const TABLE: &str = "CREATE TABLE reservation (key text PRIMARY KEY, owner_token text NOT NULL, \
                     fingerprint bytea NOT NULL, expire_time timestamptz NOT NULL)";

pub struct Postgres {
    running: Running,
    port: u16,
}

impl Postgres {
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        let programs = programs()?;
        if is_root() {
            let id = |flag| -> anyhow::Result<u32> { Ok(output("id", &[flag, USER])?.parse()?) };
            chown(directory, Some(id("-u")?), Some(id("-g")?))?;
        }
        let cluster = directory.join("cluster");
        let mut init = kept(&programs.join("initdb"), Some(USER));
        init.args(["-D", text(&cluster), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale"]);
        let made = init.output()?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port()?;
        let mut command = kept(&programs.join("postgres"), Some(USER));
        command.args(["-D", text(&cluster)]);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
            &format!("unix_socket_directories={}", cluster.display()),
            "fsync=on",
            "synchronous_commit=on",
            "full_page_writes=on",
            "max_connections=300",
            "shared_buffers=1GB",
            "max_wal_size=8GB",
        ] {
            command.args(["-c", setting]);
        }
        let mut postgres = Self { running: Running::start(command, directory)?, port };
        postgres.running.until(|| sql(port, "SELECT 1").is_ok())?;
        sql(port, TABLE)?;
        Ok(postgres)
    }
}

impl Contestant for Postgres {
    fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    fn id(&self) -> u32 {
        self.running.id()
    }

    fn keys(&self) -> anyhow::Result<u64> {
        Ok(sql(self.port, "SELECT count(*) FROM reservation")?.parse()?)
    }

    fn durability(&self) -> anyhow::Result<String> {
        let show = |setting: &str| sql(self.port, &format!("SHOW {setting}"));
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let value = show(setting)?;
            ensure!(value == "on", "{setting} is {value:?}");
        }
        let method = show("wal_sync_method")?;
        Ok(format!("fsync, synchronous_commit and full_page_writes on, by {method}"))
    }
}

fn sql(port: u16, statement: &str) -> anyhow::Result<String> {
    let port = port.to_string();
    let place = ["-h", "127.0.0.1", "-p", &port, "-U", USER, "-d", USER];
    output("psql", &[&place[..], &["-qtAX", "-c", statement]].concat())
}

/// Where Debian keeps the programs of the server.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let mut programs: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|programs| programs.join("postgres").exists())
        .collect();
    programs.sort();
    programs.pop().context("PostgreSQL's server is not installed")
}
