//! The servers of one round: each is started when it is first needed, on an empty directory, and
//! all but the one that is measured sleep.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;

use crate::contestant::{Contestant, freeze, thaw};
use crate::etcd::Etcd;
use crate::load::{Load, Run, Window};
use crate::onced::Onced;
use crate::options::Options;
use crate::place::Place;
use crate::postgres::Postgres;
use crate::redis::Redis;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    Onced,
    Redis,
    Postgres,
    Etcd,
    /// With TLS on all connections.
    OncedTls,
    /// With its metrics served, and asked for once a second.
    OncedMetrics,
    /// On the store with many records, which is kept from round to round.
    OncedLarge,
}

impl Subject {
    /// As people know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Onced => "onced",
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
            Self::Etcd => "etcd",
            Self::OncedTls => "onced with TLS",
            Self::OncedMetrics => "onced with metrics",
            Self::OncedLarge => "onced, large store",
        }
    }

    /// Whether it is a server of this project.
    pub fn is_onced(self) -> bool {
        self.server() == "onced"
    }

    /// As `onced bench` calls what listens there.
    fn server(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Etcd => "etcd",
            Self::Onced | Self::OncedTls | Self::OncedMetrics | Self::OncedLarge => "onced",
        }
    }
}

/// The servers.
pub struct Stage<'a> {
    options: &'a Options,
    place: &'a Place,
    /// Arguments of the server and of the load, for subjects that need some.
    pub extras: BTreeMap<Subject, Extra>,
    running: BTreeMap<Subject, Box<dyn Contestant>>,
    /// New keys that each has acknowledged since it was started on its empty directory.
    acknowledged: BTreeMap<Subject, Window>,
}

/// What a subject needs besides.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    pub serve: Vec<String>,
    pub bench: Vec<String>,
    /// Where metrics are asked for once a second while it is measured.
    pub scraped: Option<SocketAddr>,
}

impl<'a> Stage<'a> {
    pub fn new(options: &'a Options, place: &'a Place) -> Self {
        let (extras, running) = (BTreeMap::new(), BTreeMap::new());
        Self { options, place, extras, running, acknowledged: BTreeMap::new() }
    }

    /// The directory of a subject.
    pub fn directory(&self, subject: Subject) -> PathBuf {
        self.place.directory.join(format!("{subject:?}").to_lowercase())
    }

    /// Measures a load on a subject once, while all others sleep.
    pub fn measure(&mut self, subject: Subject, load: Load) -> anyhow::Result<Window> {
        self.wake(subject)?;
        let extra = self.extras.get(&subject).cloned().unwrap_or_default();
        let run = Run {
            binary: &self.options.binary,
            server: subject.server(),
            place: self.place,
            load,
            length: self.options.window(),
            rate: None,
            more: &extra.bench,
        };
        let contestant = &*self.running[&subject];
        let window = match extra.scraped {
            Some(address) => scraping(address, || run.on(contestant))?,
            None => run.on(contestant)?,
        };
        let sum = self.acknowledged.entry(subject).or_default();
        sum.stored_keys += window.stored_keys;
        sum.faults += window.faults;
        Ok(window)
    }

    /// Lets a subject run and all others sleep.
    pub fn wake(&mut self, subject: Subject) -> anyhow::Result<&dyn Contestant> {
        if !self.running.contains_key(&subject) {
            let contestant = self.start(subject)?;
            self.running.insert(subject, contestant);
        }
        for (other, contestant) in &self.running {
            if *other != subject {
                freeze(&**contestant);
            }
        }
        thaw(&*self.running[&subject]);
        Ok(&*self.running[&subject])
    }

    fn start(&self, subject: Subject) -> anyhow::Result<Box<dyn Contestant>> {
        let directory = self.directory(subject);
        if subject != Subject::OncedLarge {
            empty(&directory)?;
        }
        Ok(match subject {
            Subject::Redis => Box::new(Redis::start(&directory)?),
            Subject::Postgres => Box::new(Postgres::start(&directory)?),
            Subject::Etcd => Box::new(Etcd::start(&directory)?),
            Subject::Onced | Subject::OncedTls | Subject::OncedMetrics | Subject::OncedLarge => {
                let extra = self.extras.get(&subject).cloned().unwrap_or_default();
                Box::new(Onced::start(&self.options.binary, &directory, &extra.serve)?)
            }
        })
    }

    /// Ends the round: asks each server whether it has what it acknowledged, and how it syncs,
    /// and stops it.
    pub fn close(&mut self) -> anyhow::Result<Vec<(Subject, Kept)>> {
        let mut kept = Vec::new();
        for (subject, sum) in std::mem::take(&mut self.acknowledged) {
            let contestant = self.wake(subject)?;
            let durability = contestant.durability()?;
            let keys = contestant.keys()?;
            if subject != Subject::OncedLarge {
                ensure!(
                    (sum.stored_keys..=sum.stored_keys + sum.faults).contains(&keys),
                    "{} acknowledged {} new keys and has {keys}",
                    subject.name(),
                    sum.stored_keys
                );
            }
            kept.push((subject, Kept { acknowledged: sum.stored_keys, keys, durability }));
        }
        self.running.clear();
        Ok(kept)
    }
}

/// Asks for metrics once a second while `measure` runs.
fn scraping<T>(
    address: SocketAddr,
    measure: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (stop, stopped) = mpsc::channel::<()>();
    let scraper = thread::spawn(move || -> anyhow::Result<()> {
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            let mut socket = TcpStream::connect(address)?;
            socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "no metrics: {answer}");
        }
        Ok(())
    });
    let measured = measure();
    drop(stop);
    scraper.join().expect("it does not panic")?;
    measured
}

/// What a server says that it has, at the end of a round.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// New keys that it acknowledged in this round.
    pub acknowledged: u64,
    /// How many it has.
    pub keys: u64,
    /// How it syncs.
    pub durability: String,
}

/// Makes a directory with nothing in it.
pub fn empty(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    Ok(())
}
