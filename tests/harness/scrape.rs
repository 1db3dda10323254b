//! What a scraper sees: one GET of a server's port for metrics, and the samples in it.

// Each test binary takes the part that it needs.
#![allow(dead_code)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// When a test gives up and fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends `request` as it is, and reads until the server closes.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that refuses early may not read all of it.
    let _ = socket.write_all(request);
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// GETs `path`.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())
}

/// What `/metrics` shows.
pub struct Samples(pub String);

/// Scrapes a server.
pub fn scrape(address: SocketAddr) -> Samples {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    Samples(answer.body)
}

impl Samples {
    /// The sum of all samples of `name` that have all of `labels`; `None` where there is none.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = None;
        for line in self.0.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (its_name, its_labels) = series.split_once('{').unwrap_or((series, ""));
            let has = |(label, value): &(&str, &str)| {
                its_labels
                    .trim_end_matches('}')
                    .split(',')
                    .any(|it| it == format!("{label}=\"{value}\""))
            };
            if its_name == name && labels.iter().all(has) {
                *found.get_or_insert(0.0) += value.parse::<f64>().unwrap();
            }
        }
        found
    }

    /// The same, where there has to be one.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name}{labels:?} in:\n{}", self.0))
    }

    /// The names of all metrics, as the lines about their types have them.
    pub fn names(&self) -> Vec<&str> {
        let of_type = |line: &'_ str| line.strip_prefix("# TYPE ").map(str::len);
        let lines = self.0.lines().filter(|line| of_type(line).is_some());
        lines.map(|line| line["# TYPE ".len()..].split(' ').next().unwrap()).collect()
    }
}

/// Scrapes until what is seen is as wanted.
pub fn scrape_until(address: SocketAddr, wanted: impl Fn(&Samples) -> bool) -> Samples {
    let began_at = std::time::Instant::now();
    loop {
        let samples = scrape(address);
        if wanted(&samples) {
            return samples;
        }
        assert!(began_at.elapsed() < PATIENCE, "not as wanted:\n{}", samples.0);
        std::thread::sleep(Duration::from_millis(50));
    }
}
